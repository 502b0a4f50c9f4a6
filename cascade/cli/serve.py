"""`cascade serve`: a planner or a recipe for robots on other machines."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.contracts.errors import ConfigError


def serve(
    name: Annotated[
        str, typer.Argument(help="A planner (see `cascade plugins planner`), or a recipe for its actions too.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback want a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the token; else CASCADE_TOKEN.")] = None,
    rig: Annotated[str | None, typer.Option(help="Rig whose calibration policy requests are read with.")] = None,
    max_mib: Annotated[int, typer.Option(min=1, help="Largest request [MiB].")] = 64,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as planner.options.steps=4.")
    ] = None,
) -> None:
    """Serve a planner over a websocket, for `--planner remote` and for clients of openpi.

    On the server: cascade serve embedded. On the robot: cascade run "open the door" --planner remote. The health page
    is at /healthz. Messages are msgpack and numpy, never pickles.
    """
    from cascade.pipeline import closing
    from cascade.serving import PlanServer

    token = _token(token_file)
    served = _served(name, settings or [], rig)
    with closing(served.planner), closing(served.extractor):
        server = PlanServer(served, host=host, port=port, token=token, max_bytes=max_mib * 2**20)
        stopping = threading.Event()

        def stop(*_: Any) -> None:
            if not stopping.is_set():
                stopping.set()
                threading.Thread(target=server.close).start()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        typer.echo(f"Serving {name} at {server.address} (health: /healthz). Ctrl-C ends it.", err=True)
        typer.echo(f"  cascade run ... --planner remote --set planner.options.url={server.address}", err=True)
        server.run()


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("CASCADE_TOKEN") or None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: expected the file of a token, found none ({error}).") from error


def _served(name: str, settings: list[str], rig_name: str | None) -> Any:
    """Build what is served: a planner by its name, else a recipe."""
    from cascade.config import load_recipe
    from cascade.pipeline import build_stages
    from cascade.plugins import build_plugin, list_plugins
    from cascade.serving import Served

    K = T_base_cam = None
    planners = {info.name for info in list_plugins("planner")}
    if name in planners:
        options = _planner_options(settings)
        planner = build_plugin("planner", name, options)
        return Served(name=name, planner=planner, camera=_camera(planner))
    recipe = load_recipe(name, settings)
    stages = build_stages(recipe)
    camera = _camera(stages.planner)
    if rig_name is not None:
        K, T_base_cam = _calibration(rig_name, camera)
    return Served(
        name=recipe.planner.name,
        planner=stages.planner,
        extractor=stages.extractor,
        reader=stages.reader,
        camera=camera,
        K=K,
        T_base_cam=T_base_cam,
    )


def _camera(planner: Any) -> str:
    cameras = planner.needs.cameras
    return str(cameras[0]) if cameras else "corner"


def _planner_options(settings: list[str]) -> dict[str, Any]:
    from cascade.config import Loaded, override

    values = override(Loaded({"planner": {"options": {}}}), settings).values
    options: dict[str, Any] = values["planner"]["options"]
    return options


def _calibration(rig_name: str, camera: str) -> tuple[Any, Any]:
    """Return K and pose of a rig's camera, read from one image of it."""
    from cascade.config import load_rig
    from cascade.contracts.interfaces import Rig
    from cascade.plugins import build_plugin

    config = load_rig(rig_name)
    rig: Rig = build_plugin("rig", config.plugin, config.options)
    with rig:
        task = None if rig.monitor is None else "door-open"
        rig.reset(task=task, seed=0)
        image = rig.observe().image(camera)
    return image.K, image.T_base_cam
