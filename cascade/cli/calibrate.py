"""`cascade calibrate`: the board, the lens of a camera, where it is, how late its images are; a hobby arm's servos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from cascade.contracts import Camera, Rig

app = typer.Typer(
    help="Print the board; calibrate a lens, a camera's place, its delay, the servos of an arm.", no_args_is_help=True
)

WORD = "move"
FOLDER = Path("calibration")

Where = Annotated[str | None, typer.Argument(help="A rig; for the lens also a kind of camera, such as realsense.")]
Views = Annotated[Path | None, typer.Option("--views", help="Folder of saved views; no device is opened.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Calibration file; default calibration/CAMERA.yaml.")
]
CameraName = Annotated[str | None, typer.Option("--camera", help="Which camera of the rig; default: the first.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Option as key=value, such as board.square_m=0.0348; repeatable. camera.KEY and rig.KEY are the device's.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class Calibrator(Protocol):
    """What an entry point of group `cascade.calibrators` builds."""

    needs_camera: bool
    needs_arm: bool

    @property
    def moves(self) -> bool:
        """Whether the arm moves by itself while it collects."""
        ...

    def collect(self, device: Camera, rig: Rig | None, folder: Path, say: Any) -> None:
        """Collect into a folder; opens camera and rig itself."""
        ...

    def solve(self, folder: Path | None, output: Path) -> Mapping[str, Any]:
        """Solve from the folder, write the file `output`, and return what is to be told."""
        ...


@app.command()
def board(
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to print (PNG).")] = Path("board.png"),
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write the board as a picture that prints at its true size.

    Examples:
        cascade calibrate board

        cascade calibrate board --set columns=9 --set rows=6 --set square_m=0.028 --set marker_m=0.021
    """
    told = _build("board", settings).solve(None, output)
    _tell(told, as_json, "print it at 100 %, glue it on something flat, measure a square: cascade calibrate camera")


@app.command()
def camera(
    where: Where = None,
    views: Views = None,
    output: Output = None,
    name: CameraName = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find focal length, centre and distortion, while you show the board to the camera.

    Examples:
        cascade calibrate camera realsense

        cascade calibrate camera --views photos --set serial=12345678 -o calibration/front.yaml
    """
    _run("camera", where, views, output, name, settings, as_json, "cascade calibrate hand-eye RIG, same --output")


@app.command("hand-eye")
def hand_eye(
    where: Where = None,
    views: Views = None,
    output: Output = None,
    name: CameraName = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find where the camera is: beside the arm (board on the hand), or on the hand (mount=eye-in-hand).

    You move the arm, or with --set visit=true it moves by itself after you agreed.

    Examples:
        cascade calibrate hand-eye my-rig.yaml

        cascade calibrate hand-eye --views calibration/front-hand-eye -o calibration/front.yaml
    """
    _run(
        "hand-eye",
        where,
        views,
        output,
        name,
        settings,
        as_json,
        "name the file as `calibration` of the camera in "
        "the rig; if images may come late: cascade calibrate latency RIG",
    )


@app.command()
def latency(
    where: Where = None,
    views: Views = None,
    output: Output = None,
    name: CameraName = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find how late the images are against the arm, and note it in the camera's calibration file.

    Examples:
        cascade calibrate latency my-rig.yaml -o calibration/front.yaml
    """
    _run("latency", where, views, output, name, settings, as_json, "run as usual: the delay is taken off the stamps")


@app.command()
def servos(
    port: Annotated[str, typer.Argument(help="Serial port of the arm, such as /dev/ttyACM0.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = FOLDER / "so101.yaml",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Find zero and range of a hobby arm's servos, while you move its joints by hand.

    Torque goes off: hold the arm. The file is what `calibration` of an SO-100 or SO-101 in a rig names.

    Examples:
        cascade calibrate servos /dev/ttyACM0 -o calibration/so101.yaml

        cascade calibrate servos /dev/ttyACM0 --set model=so100 --set overwrite=true
    """
    from cascade.cli.at_the_arm import TerminalOperator

    told = _build("servos", [f"port={port}", *(settings or [])]).calibrate(TerminalOperator(), output)
    _tell(told, as_json, "name the file as `calibration` of the arm in the rig: cascade doctor RIG")


def _run(
    kind: str,
    where: str | None,
    views: Path | None,
    output: Path | None,
    name: str | None,
    settings: list[str] | None,
    as_json: bool,
    then: str,
) -> None:
    from cascade.contracts.errors import ConfigError

    if (where is None) == (views is None):
        raise ConfigError(
            f"cascade calibrate {kind}: expected a rig (or camera), or --views DIR, found "
            f"{'neither' if where is None else 'both'}.",
            "Give one of them.",
        )
    own, device_settings = _split(settings or [])
    calibrator: Calibrator = _build(kind, own)
    if where is not None:
        device, rig = _device(where, name, device_settings)
        output = output or FOLDER / f"{device.name}.yaml"
        views = _fresh(output.parent / f"{device.name}-{kind}")
        if calibrator.moves and rig is not None:
            _consent(rig, kind)
        calibrator.collect(device, rig, views, lambda line: typer.echo(line, err=True))
        typer.echo(f"Kept in {views}; to solve again: cascade calibrate {kind} --views {views} -o {output}", err=True)
    told = calibrator.solve(views, output or FOLDER / "camera.yaml")
    _tell(told, as_json, then)


def _build(kind: str, settings: list[str] | None) -> Any:
    from cascade.config import Loaded, override
    from cascade.plugins import build_plugin

    return build_plugin("calibrator", kind, override(Loaded({}), settings or []).values)


def _split(settings: list[str]) -> tuple[list[str], list[str]]:
    """Return the settings of the calibration and those of the device (camera.KEY, rig.KEY)."""
    device = [text for text in settings if text.startswith(("camera.", "rig."))]
    return [text for text in settings if text not in device], [text.split(".", 1)[1] for text in device]


def _device(where: str, name: str | None, settings: list[str]) -> tuple[Camera, Rig | None]:
    """Return the camera to calibrate and its rig, both closed."""
    from cascade.cli.cameras import find_camera

    return find_camera(where, name, settings)


def _fresh(folder: Path) -> Path:
    """Return a folder that does not exist yet, so that no earlier views get mixed in."""
    number, fresh = 1, folder
    while fresh.exists():
        number += 1
        fresh = folder.with_name(f"{folder.name}-{number}")
    return fresh


def _consent(rig: Rig, kind: str) -> None:
    """Ask before a real arm moves by itself.

    Raises:
        OperatorStop: the answer was no, or there is nobody to ask.
    """
    from cascade.contracts.errors import OperatorStop
    from cascade.contracts.hardware import HardwareRig

    if not isinstance(rig, HardwareRig):
        return
    hardware = rig.hardware
    if hardware is None:  # nothing real is behind it
        rig.permit_motion()
        return
    typer.echo(
        f"{hardware.arm} at {hardware.address} is about to move slowly around where it stands, for: {kind}.\n"
        "Everybody out of its reach? Emergency stop in hand? This program is neither.",
        err=True,
    )
    answer = ""
    with suppress(typer.Abort, EOFError):
        answer = str(typer.prompt(f'Type "{WORD}" to let the arm move; anything else stops', default="", err=True))
    if answer.strip().lower() != WORD:
        raise OperatorStop("calibrate: nobody agreed to the motion; nothing has moved.", "Or move the arm by hand.")
    rig.permit_motion()


def _tell(told: Mapping[str, Any], as_json: bool, then: str) -> None:
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, **told}, indent=2))
        return
    for key, value in told.items():
        if key != "file":
            typer.echo(f"  {key:<14}{value}", err=True)
    typer.echo(str(told["file"]))
    typer.echo(f"Next: {then}", err=True)
