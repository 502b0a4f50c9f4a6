"""`cascade record`: demonstrations into a LeRobotDataset v3."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.progress import bar_with_note
from cascade.contracts.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress

    from cascade.dataset.recording import Job, Outcome, RecordingPlan


class Kind(StrEnum):
    """Who moves the arm."""

    EXPERT = "expert"
    PLAY = "play"


def record(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the set; continued if it is one.")
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="expert: scripted, solves the task. play: wanders and grasps, task-agnostic.")
    ] = Kind.EXPERT,
    tasks: Annotated[str, typer.Option(help="A suite, or task names separated by commas.")] = "metaworld-11",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task; of play, episodes in total.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="First seed; a seed is a layout. Evaluate on others.")] = 1000,
    cameras: Annotated[str | None, typer.Option(help="Views to keep instead of the suite's or `corner`.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Keep every n-th control step (80 Hz): 2 is 40 images/s.")] = 2,
    rig: Annotated[str, typer.Option(help="Rig by name, or its YAML file.")] = "sim",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Rig option, such as options.renderer=egl.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, each with a rig of its own.")] = 1,
    recover: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only merge what an interrupted recording left in DIR.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Record demonstrations as a LeRobotDataset v3, ready for `cascade train` and for LeRobot's own tools.

    Failed episodes are kept and labelled. The same command again continues an interrupted set, more episodes or other
    tasks extend it; the same seeds always give the same data and the same digest.

    Examples:
        cascade record --tasks metaworld-11 --episodes 100 --jobs 2 -o data/expert

        cascade record --kind play --episodes 360 --jobs 2 -o data/play

        cascade record --tasks metaworld-11-avdc --episodes 75 --jobs 2 -o data/avdc

        cascade record --recover data/expert
    """
    from cascade.dataset.recording import record_set
    from cascade.dataset.recording import recover as recover_set

    begun = time.perf_counter()
    if recover is not None:
        _report(recover, recover_set(recover), recorded=0, seconds=time.perf_counter() - begun, as_json=as_json)
        return
    if output is None:
        raise ConfigError("cascade record: expected a folder for the set, found none.", "Add -o data/NAME.")
    plan = _plan(kind, rig, tasks, cameras, every, settings or [])
    todo = _jobs(kind, tasks, episodes, seed)
    with _display(kind, len(todo)) as display:
        manifest = record_set(output, plan, todo, processes=jobs, on_start=display.start, on_outcome=display.show)
    seconds = time.perf_counter() - begun
    _report(output, manifest, recorded=display.recorded, seconds=seconds, as_json=as_json)


def _plan(kind: Kind, rig: str, tasks: str, cameras: str | None, every: int, settings: Sequence[str]) -> RecordingPlan:
    from cascade.config import load_rig
    from cascade.dataset.recording import RecordingPlan
    from cascade.plugins import load_plugin, plugin_options
    from cascade.suites import SUITES, suite_settings

    suite = SUITES.get(tasks)  # a suite's conditions hold for its recordings too
    settings = [*(text for text in (suite_settings(suite) if suite else ()) if text.startswith("rig.")), *settings]
    config = load_rig(rig, [text.removeprefix("rig.") for text in settings])
    wanted = (",".join(suite.cameras) if suite else "") or "corner" if cameras is None else cameras
    names = tuple(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    if not names:
        raise ConfigError("--cameras: expected at least one camera, found none.", "For example --cameras corner.")
    known = load_plugin("rig", config.plugin).config.model_fields
    options: dict[str, Any] = {key: False for key in ("depth", "segmentation") if key in known}  # colour is all we keep
    options |= {**config.options, "cameras": list(names)}
    plugin_options("rig", config.plugin, options, where="rig options")  # a wrong key is found before workers start
    return RecordingPlan(kind=kind.value, rig=config.plugin, rig_options=options, cameras=names, every=every)


def _jobs(kind: Kind, tasks: str, episodes: int, seed: int) -> list[Job]:
    from cascade.dataset.recording import Job
    from cascade.suites import expand_tasks

    names = expand_tasks(tasks)
    if kind is Kind.PLAY:
        return [Job(names[i % len(names)], seed + i) for i in range(episodes)]
    return [Job(task, seed + i) for i in range(episodes) for task in names]


class _Display:
    """A bar on stderr, and how many episodes this run has recorded."""

    def __init__(self, progress: Progress, kind: Kind, total: int) -> None:
        self.recorded = 0
        self._progress, self._kind, self._total = progress, kind, total
        self._bar = progress.add_task(f"record {kind.value}", total=total, note="")

    def start(self, missing: int) -> None:
        """Begin at what the set holds already."""
        self._progress.update(self._bar, completed=self._total - missing)

    def show(self, outcome: Outcome) -> None:
        """Count one episode."""
        self.recorded += 1
        label = "" if self._kind is Kind.PLAY else (" succeeded" if outcome.success else " failed")
        note = f"{outcome.task} {outcome.seed}{label}, {outcome.seconds:.1f} s"
        self._progress.update(self._bar, advance=1, note=note)


@contextmanager
def _display(kind: Kind, total: int) -> Iterator[_Display]:
    with bar_with_note() as progress:
        yield _Display(progress, kind, total)


def _report(root: Path, manifest: Mapping[str, Any], *, recorded: int, seconds: float, as_json: bool) -> None:
    tasks: dict[str, dict[str, int]] = {}
    for episode in manifest["episodes"]:
        row = tasks.setdefault(episode["task"], {"episodes": 0, "successes": 0})
        row["episodes"] += 1
        row["successes"] += int(episode["success"])
    kinds = sorted({episode["kind"] for episode in manifest["episodes"]})
    document = {
        "schema_version": 1,
        "path": str(root),
        "digest": manifest["digest"],
        "kind": ",".join(kinds),
        "episodes": len(manifest["episodes"]),
        "frames": sum(episode["length"] for episode in manifest["episodes"]),
        "recorded": recorded,
        "seconds": round(seconds, 1),
        "tasks": tasks,
    }
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    if "expert" in kinds:
        for task, row in tasks.items():
            typer.echo(f"  {task:<24}{row['successes']:>5} of {row['episodes']} succeeded", err=True)
    typer.echo(
        f"{document['episodes']} episodes, {document['frames']} frames, digest {manifest['digest'][:12]}", err=True
    )
    typer.echo(str(root))
    stage = "idm" if kinds == ["play"] else "planner"
    typer.echo(f"Next: cascade train {stage} --data {root}", err=True)
