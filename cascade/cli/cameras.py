"""`cascade cameras`: which cameras are there, and what they see."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade.contracts import Camera, CameraImage, Rig

app = typer.Typer(help="Which cameras are there, and what they see.", no_args_is_help=True)

REMEDIES = {
    "realsense": "none connected: plug one into a USB 3 port",
    "opencv": "none connected: plug a webcam in; inside a container pass /dev/video0 through",
    "playback": "plays a file: cascade cameras view playback --set path=FILE.db3",
}
DEPTH_RANGE_M = (0.2, 2.0)
LATEST_S = 1.0


@app.command("list")
def list_cameras(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List every kind of camera and what is connected; opens none and answers at once.

    Examples:
        cascade cameras list
    """
    rows = _found()
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "cameras": rows}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name in ("kind", "camera", "what"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["kind"], row["camera"] or "-", row["model"] or row["remedy"])
    Console().print(table)
    typer.echo("Next: cascade cameras view KIND", err=True)


@app.command()
def view(
    name: Annotated[str, typer.Argument(help="Kind of camera as `cascade cameras list` names it, or a rig.")],
    camera: Annotated[str | None, typer.Option("--camera", help="Which camera of the rig; default: the first.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write a picture (PNG) instead of a window.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to watch before the picture.")] = 1.0,
    task: Annotated[str, typer.Option("--task", help="Scene of a simulated rig.")] = "door-open",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Option of the camera or rig as key=value; repeatable.")
    ] = None,
) -> None:
    """Show what a camera sees: colour, depth, and how it is doing. The arm is not touched.

    Without a display, or with --save, one picture is written.

    Examples:
        cascade cameras view synthetic --save seen.png

        cascade cameras view realsense --set width=848
    """
    with ExitStack() as stack:
        device = _open(stack, name, camera, task, settings or [])
        if save is None and _has_display():
            _window(device)
            return
        path = save or Path(f"{device.name}.png")
        refused = _watch(device, seconds)
        line = _write(path, device)
        typer.echo(line, err=True)
        typer.echo(str(path))
        if refused is not None:
            raise refused


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="Kind of camera as `cascade cameras list` names it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.db3 (RealSense) or NAME.mp4 (any camera).")],
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long to record.")] = 10.0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Option of the camera as key=value.")] = None,
) -> None:
    """Record what a camera sees, to play it later as a camera.

    Examples:
        cascade cameras record realsense -o table.db3

        cascade cameras view playback --set path=table.db3
    """
    from cascade.contracts.errors import ConfigError

    device, _ = find_camera(name, None, settings or [])
    take = getattr(device, "record", None)
    if not callable(take):
        raise ConfigError(f"camera {name!r}: cannot record.", "Choose a kind that `cascade cameras list` names.")
    typer.echo(str(take(output, seconds)))
    typer.echo(f"Next: cascade cameras view playback --set path={output}", err=True)


def _found() -> list[dict[str, str]]:
    from cascade.contracts.errors import CascadeError
    from cascade.plugins import list_plugins, load_plugin

    rows = []
    for info in list_plugins("camera"):
        found: list[tuple[str, str]] = []
        remedy = REMEDIES.get(info.name, "cannot be listed; see its documentation")
        try:
            discover = getattr(load_plugin("camera", info.name).config, "discover", None)
            found = discover() if callable(discover) else []
        except CascadeError as error:
            remedy = str(error)
        for camera, model in found:
            rows.append({"kind": info.name, "camera": camera, "model": model, "remedy": ""})
        if not found:
            rows.append({"kind": info.name, "camera": "", "model": "", "remedy": remedy})
    return rows


def _open(stack: ExitStack, name: str, camera: str | None, task: str, settings: list[str]) -> Camera:
    """Open one camera, of a kind or of a rig; a real rig's arm stays unconnected."""
    from cascade.contracts.hardware import HardwareRig

    device, rig = find_camera(name, camera, settings)
    drawn = rig is not None and (rig.monitor is not None or (isinstance(rig, HardwareRig) and rig.hardware is None))
    if rig is not None and drawn:  # nothing real behind it, and nothing to see before a scene is built
        if isinstance(rig, HardwareRig):
            rig.permit_motion()
        stack.enter_context(rig)
        rig.reset(task=task, seed=0)
        return device
    return stack.enter_context(device)


def find_camera(name: str, camera: str | None, settings: list[str]) -> tuple[Camera, Rig | None]:
    """Return a camera, and the rig it belongs to, both closed.

    Args:
        name: a kind of camera, or the name or path of a rig.
        camera: which camera of the rig; None: the first.
        settings: options of the camera or rig as `key=value`.

    Raises:
        ConfigError: there is no such kind, rig or camera.
    """
    from cascade.config import Loaded, load_rig, override
    from cascade.contracts.errors import ConfigError, did_you_mean
    from cascade.plugins import build_plugin, list_plugins

    kinds = {info.name for info in list_plugins("camera")}
    if name in kinds:
        options = override(Loaded({}), settings).values
        built: Camera = build_plugin("camera", name, options)
        return built, None
    try:
        config = load_rig(name, [text if text.startswith("options.") else f"options.{text}" for text in settings])
    except ConfigError as error:
        if name.endswith((".yaml", ".yml")) or "expected" not in error.problem:
            raise
        raise ConfigError(f"{name!r}: expected a kind of camera or a rig.", did_you_mean(name, kinds)) from error
    rig: Rig = build_plugin("rig", config.plugin, config.options)
    if camera is not None and camera not in rig.cameras:
        raise ConfigError(f"camera {camera!r}: not on rig {rig.name!r}.", did_you_mean(camera, rig.cameras))
    chosen: Camera = rig.cameras[camera] if camera is not None else next(iter(rig.cameras.values()))
    return chosen, rig


def _watch(device: Camera, seconds: float) -> Exception | None:
    """Look for a while; return why the last image must not be used, or None."""
    from cascade.contracts.errors import DeviceError

    refused: Exception | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
        try:
            device.read(max_age_s=LATEST_S)
            refused = None
        except DeviceError as error:
            refused = error
    return refused


def _write(path: Path, device: Camera) -> str:
    """Write the picture and return the health line."""
    import cv2

    from cascade.contracts.errors import DataError

    line = _health(device)
    picture = compose(_latest(device), line)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), picture[..., ::-1])
    except (OSError, cv2.error) as error:
        raise DataError(f"{path}: cannot be written ({error}).", "Choose another place.") from error
    if not written:
        raise DataError(f"{path}: cannot be written.", "Choose a name ending in .png in a folder you may write to.")
    return line


def _window(device: Camera) -> None:
    import cv2

    typer.echo("q or Esc closes the window.", err=True)
    while cv2.waitKey(15) not in (ord("q"), 27):
        cv2.imshow(device.name, compose(_latest(device), _health(device))[..., ::-1])
    cv2.destroyAllWindows()


def _latest(device: Camera) -> CameraImage:
    """Return the newest image, also one that a policy would not get."""
    peek = getattr(device, "peek", None)
    frame = peek() if callable(peek) else None
    return frame.image if frame is not None else device.read(max_age_s=LATEST_S)


def _health(device: Camera) -> str:
    health: Any = getattr(device, "health", None)
    return f"{device.name}: {health()}" if callable(health) else f"{device.name}: always fresh"


def compose(image: CameraImage, line: str) -> NDArray[np.uint8]:
    """Return a picture (H', W', 3) RGB: colour, beside it depth where there is any, below a line of text."""
    import cv2
    import numpy as np

    parts = [np.asarray(image.rgb)]
    if image.depth_m is not None:
        parts.append(_coloured(image.depth_m))
    picture = np.hstack(parts)
    scale = max(1, round(640 / picture.shape[1]))
    picture = np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1)
    rows = _wrapped(line, picture.shape[1] // 8)
    strip = np.full((18 * len(rows) + 8, picture.shape[1], 3), 24, np.uint8)
    for number, row in enumerate(rows):
        cv2.putText(strip, row, (6, 18 * (number + 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def _coloured(depth_m: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return depth as colours from near (red) to far (blue); black where there is none."""
    import cv2
    import numpy as np

    near, far = DEPTH_RANGE_M
    share = np.clip((far - np.nan_to_num(depth_m, nan=far)) / (far - near), 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].copy()
    colours[~(depth_m > 0)] = 0
    return np.asarray(colours, dtype=np.uint8)


def _wrapped(line: str, width: int) -> list[str]:
    from textwrap import wrap

    return wrap(line, max(20, width)) or [""]


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
