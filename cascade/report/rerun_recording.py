"""A run as a Rerun recording with its blueprint: a disposable view, made again from the run folder at any time.

Rerun is the optional extra `rerun`. Nothing is sent anywhere: the recording is a file, and the viewer is told to listen
on loopback only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts import ConfigError, DataError
from cascade.report.age import action_age_s
from cascade.report.images import as_plan_sees
from cascade.report.numbers import gate_tables, verdict_words
from cascade.report.run_folder import read_run
from cascade.report.story import Story, tell
from cascade.report.tracks import tracks_of

STEP = "control_step"
TIME = "time"
COLOURS = {
    "imagined": (230, 159, 0),
    "second": (204, 121, 167),
    "flow": (120, 112, 100),
    "commanded": (0, 158, 115),
    "measured": (0, 114, 178),
    "workspace": (150, 150, 150),
}
KEPT, LOST = (86, 180, 233), (213, 94, 0)
QUALITY = 90


def write_recording(run_dir: Path, target: Path) -> Path:
    """Write a run as an .rrd file and return its path.

    Args:
        run_dir: a run folder.
        target: file to write.

    Raises:
        DataError: `run_dir` is no run folder, or `target` cannot be written.
        ConfigError: Rerun is not installed.
    """
    rr = _rerun()
    story = tell(read_run(run_dir))
    partial = target.with_name(target.name + ".partial")
    stream = rr.RecordingStream("cascade", recording_id=run_dir.resolve().name)
    try:
        stream.save(str(partial), default_blueprint=_blueprint(_origins(story)))
        _log_run(rr, stream, story)
        stream.flush()
        stream.disconnect()
        partial.replace(target)
    except OSError as error:
        raise DataError(f"{target}: expected to write the recording, found that it cannot be ({error}).") from error
    return target


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise ConfigError(
            "--rerun: expected the package rerun-sdk, found none.",
            "pip install 'cascade-wam[rerun]' (some 500 MB); the report does without.",
        ) from error
    return rerun


def _origins(story: Story) -> set[str]:
    """Return the roots of what this run's recording holds: a view of anything else would stay empty."""
    filmed = {"imagined": story.timeline.frame, "executed": story.timeline.executed}
    found = {name for name, frames in filmed.items() if (np.asarray(frames) >= 0).any()}
    series = {name.split("/")[0] for name, values in _series(story).items() if np.isfinite(values).any()}
    return {"base", "verdict"} | found | series


def _blueprint(origins: set[str]) -> Any:
    import rerun.blueprint as rrb

    rows = (
        (
            5,
            (
                (rrb.Spatial2DView, "imagined", "Imagined"),
                (rrb.Spatial2DView, "executed", "Executed"),
                (rrb.Spatial3DView, "base", "Where the hand went"),
            ),
        ),
        (
            3,
            (
                (rrb.TimeSeriesView, "gripper", "Gripper opening"),
                (rrb.TimeSeriesView, "distance", "From the imagined path [mm]"),
                (rrb.TimeSeriesView, "age", "Age of the action [s]"),
            ),
        ),
        (2, ((rrb.TextDocumentView, "verdict", "Verdict"),)),
    )
    views = [(share, [view(origin=f"/{o}", name=name) for view, o, name in row if o in origins]) for share, row in rows]
    shown = [(share, row) for share, row in views if row]
    return rrb.Blueprint(
        rrb.Vertical(*(rrb.Horizontal(*row) for _, row in shown), row_shares=[share for share, _ in shown]),
        rrb.TimePanel(timeline=STEP, state="expanded"),
        collapse_panels=True,
    )


def _log_run(rr: Any, stream: Any, story: Story) -> None:
    stream.log("verdict", rr.TextDocument(_words(story), media_type="text/markdown"), static=True)
    _log_paths(rr, stream, story)
    _log_pictures(rr, stream, story)
    _log_numbers(rr, stream, story)


def _words(story: Story) -> str:
    run = story.run
    lines = [f"# {verdict_words(run.facts)}", str(run.facts.get("instruction") or "")]
    if story.trial is not None:
        lines.append(f"At fault: **{story.trial.get('stage')}**. {story.trial.get('verdict')}")
    for table in gate_tables(run.events):
        tight = table.tightest
        near = f", tightest: {tight.check} {tight.value:.3g} {tight.unit}" if tight is not None else ""
        lines.append(f"- gate, {table.subject} {table.index}: {table.verdict}{near}")
    return "\n\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:])


def _log_paths(rr: Any, stream: Any, story: Story) -> None:
    stream.log("base", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    track = story.run.trajectory
    lines = {f"imagined/{index}": ("imagined", path.position_m) for index, path in story.paths.items()}
    lines |= {f"read_by_{name}": ("flow" if name == "flow" else "second", path) for name, path in story.others.items()}
    lines |= {"commanded": ("commanded", track.sent_m), "measured": ("measured", track.measured_m)}
    for name, (kind, path) in lines.items():
        points = path[np.isfinite(path).all(axis=1)]
        if len(points) > 1:
            stream.log(f"base/{name}", rr.LineStrips3D([points], colors=[COLOURS[kind]], radii=[0.002]), static=True)
    if story.workspace_m is not None:
        low, high = story.workspace_m
        box = rr.Boxes3D(mins=[low], sizes=[high - low], colors=[COLOURS["workspace"]])
        stream.log("base/workspace", box, static=True)


def _log_pictures(rr: Any, stream: Any, story: Story) -> None:
    run, timeline = story.run, story.timeline
    tracks = {index: tracks_of(run, index) for index in run.plans}
    first = next(iter(run.plans.values()), None)
    shown = (-1, -1)
    for at in range(len(timeline)):
        _at(stream, int(timeline.step[at]), float(timeline.t_s[at]))
        plan, frame = int(timeline.plan[at]), int(timeline.frame[at])
        if plan in run.plans and frame >= 0 and (plan, frame) != shown:
            shown = plan, frame
            stream.log("imagined", rr.Image(run.plans[plan].frames[frame]).compress(jpeg_quality=QUALITY))
            followed = tracks[plan]
            if followed is not None:
                colours = np.where(followed.kept[frame][:, None], KEPT, LOST).astype(np.uint8)
                stream.log("imagined/tracks", rr.Points2D(followed.uv[frame], colors=colours, radii=[0.8]))
        if timeline.executed[at] >= 0:
            picture = run.executed[int(timeline.executed[at])][None]
            seen = as_plan_sees(picture, first.transform) if first is not None else picture
            stream.log("executed", rr.Image(seen[0]).compress(jpeg_quality=QUALITY))


def _series(story: Story) -> dict[str, Any]:
    """Return entity -> (N,) values, one per control step; NaN where there is none."""
    track = story.run.trajectory
    return {
        "gripper/measured": track.opening,
        "gripper/commanded": track.gripper_target,
        "distance/measured": story.distance_m * 1000,
        "age/action": action_age_s(story.run),
    }


def _log_numbers(rr: Any, stream: Any, story: Story) -> None:
    track, series = story.run.trajectory, _series(story)
    for row in range(len(track)):
        _at(stream, int(track.step[row]), float(track.t_s[row]))
        stream.log("base/hand", rr.Points3D([track.measured_m[row]], colors=[COLOURS["measured"]], radii=[0.008]))
        for name, values in series.items():
            if np.isfinite(values[row]):
                stream.log(name, rr.Scalars(float(values[row])))


def _at(stream: Any, step: int, t_s: float) -> None:
    stream.set_time(STEP, sequence=max(step, 0))
    if np.isfinite(t_s):
        stream.set_time(TIME, duration=t_s)
