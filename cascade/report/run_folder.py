"""What a run folder holds, read so that a run that was killed half-way still shows what there is.

Only `run.json` is required. Everything else may be missing or cut off: each such part becomes one sentence in
`RunRecord.problems`, never an exception.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import CascadeError, DataError, VideoPlan
from cascade.contracts.plan_file import load_plan
from cascade.contracts.video import read_video

SCHEMA_VERSION = 1
Floats = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class StoredChunk:
    """One action chunk as the extractor asked for it.

    Attributes:
        plan: index of the plan it was read from.
        position_m: (H, 3) targets in the base frame, empty when the chunk is not in end-effector space.
        gripper: (H,) commanded opening 0..1.
        final: whether it exhausts its plan.
        provenance: extractor and reasons.
        confidence: (H,) 0..1, empty when the extractor gives none.
    """

    plan: int
    position_m: Floats
    gripper: Floats
    final: bool
    provenance: Mapping[str, Any]
    confidence: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The control loop, one row per control step; numbers that were not written are NaN (or -1 for indices).

    Attributes:
        step, plan, chunk, target: (N,) int64; `target` is the index of the chunk's active target.
        t_s: (N,) time from the start of the episode [s].
        sent_m, measured_m: (N, 3) commanded (after the arm's limits) and measured end-effector position, base frame.
        gripper_target, opening: (N,) commanded and measured opening 0..1.
    """

    step: NDArray[np.int64]
    plan: NDArray[np.int64]
    chunk: NDArray[np.int64]
    target: NDArray[np.int64]
    t_s: Floats
    sent_m: Floats
    measured_m: Floats
    gripper_target: Floats
    opening: Floats

    def __len__(self) -> int:
        """Number of control steps."""
        return len(self.step)


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """Everything a run folder holds.

    Attributes:
        folder: the run folder.
        facts: contents of run.json.
        config: text of config.yaml, empty when there is none.
        events: rows of events.jsonl in order.
        plans, chunks: by index.
        trajectory: the control loop.
        executed: (N, H, W, 3) uint8 frames of the executed video, N may be 0.
        executed_step: (N,) control step at which each frame was taken.
        problems: one sentence per part that is missing or broken.
    """

    folder: Path
    facts: Row
    config: str
    events: tuple[Row, ...]
    plans: Mapping[int, VideoPlan]
    chunks: Mapping[int, StoredChunk]
    trajectory: Trajectory
    executed: NDArray[np.uint8]
    executed_step: NDArray[np.int64]
    problems: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end and wrote its outcome."""
        return self.facts.get("status") == "done"

    def chunks_of(self, plan: int) -> list[int]:
        """Return the chunks read from a plan in order; what follows its final chunk (going back to start) is not."""
        found = []
        for index, chunk in sorted(self.chunks.items()):
            if chunk.plan == plan:
                found.append(index)
                if chunk.final:
                    break
        return found

    def rows_of(self, plan: int) -> NDArray[np.bool_]:
        """Return the (N,) mask of control steps that followed a plan."""
        track, known = self.trajectory, self.chunks_of(plan)
        of_plan = np.asarray(track.plan == plan, dtype=np.bool_)
        return np.asarray(of_plan & np.isin(track.chunk, known), dtype=np.bool_) if known else of_plan


def read_facts(folder: Path) -> dict[str, Any]:
    """Return run.json of a run folder.

    Raises:
        DataError: the folder or its run.json is missing, broken or of another version.
    """
    path = folder / "run.json"
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a run folder, found {'a file' if folder.exists() else 'nothing'}.",
            "Name a folder that `cascade run` wrote.",
        )
    if not path.is_file():
        raise DataError(
            f"{folder}: expected run.json inside, found none.", "Name a folder that `cascade run` wrote, such as runs/…"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: expected JSON, found something unreadable ({error}).", "The run cannot be shown; run it again."
        ) from error
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(facts).__name__}.")
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, found {version!r}.",
            "Inspect it with the version of cascade that wrote it.",
        )
    return facts


def read_rows(path: Path, problems: list[str]) -> list[Row]:
    """Return the JSON objects of a .jsonl file, leaving out lines that are cut off or broken (noted in `problems`)."""
    if not path.is_file():
        problems.append(f"{path.name} is missing.")
        return []
    rows: list[Row] = []
    broken = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            broken += 1
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += 1
    if broken:
        problems.append(f"{path.name} has {broken} unreadable line{'s' if broken > 1 else ''}, left out here.")
    return rows


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        DataError: the folder or its run.json is missing or broken; any other damage is listed in `problems`.
    """
    facts = read_facts(folder)
    problems: list[str] = []
    config = folder / "config.yaml"
    events = read_rows(folder / "events.jsonl", problems)
    plans = _plans(folder, problems)
    chunks = _chunks(folder, problems)
    moved = (folder / "trajectory.jsonl").is_file()
    trajectory = _trajectory(read_rows(folder / "trajectory.jsonl", problems) if moved else [])
    executed, executed_step = _executed(folder, problems, moved)
    return RunRecord(
        folder=folder,
        facts=facts,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        events=tuple(events),
        plans=plans,
        chunks=chunks,
        trajectory=trajectory,
        executed=executed,
        executed_step=executed_step,
        problems=tuple(problems),
    )


def _plans(folder: Path, problems: list[str]) -> dict[int, VideoPlan]:
    plans: dict[int, VideoPlan] = {}
    for path in sorted((folder / "plans").glob("[0-9]*")):
        try:
            plans[int(path.name)] = load_plan(path)
        except (CascadeError, ValueError, KeyError, TypeError) as error:
            problems.append(f"Plan {path.name} cannot be read ({_short(error)}).")
    return plans


def _chunks(folder: Path, problems: list[str]) -> dict[int, StoredChunk]:
    chunks: dict[int, StoredChunk] = {}
    for path in sorted((folder / "chunks").glob("[0-9]*.json")):
        try:
            row = json.loads(path.read_text(encoding="utf-8"))
            values = np.asarray(row["values"], dtype=np.float64)
            in_ee_space = values.ndim == 2 and values.shape[1] == 7
            chunks[int(path.stem)] = StoredChunk(
                plan=int(row.get("plan", 0)),
                position_m=values[:, :3] if in_ee_space else np.zeros((0, 3)),
                gripper=np.asarray(row.get("gripper", []), dtype=np.float64).reshape(-1),
                final=bool(row.get("final", True)),
                provenance=row.get("provenance") or {},
                confidence=np.asarray(row.get("confidence") or [], dtype=np.float64).reshape(-1),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            problems.append(f"Chunk {path.stem} cannot be read ({_short(error)}).")
    return chunks


def _trajectory(rows: list[Row]) -> Trajectory:
    rows = [row for row in rows if _vector(row.get("ee"), 3) is not None]
    sent = [_vector(row.get("sent"), 3) or _vector(row.get("target"), 3) or [np.nan] * 3 for row in rows]
    return Trajectory(
        step=np.array([_index(row.get("step"), number) for number, row in enumerate(rows)], dtype=np.int64),
        plan=np.array([_index(row.get("plan"), 0) for row in rows], dtype=np.int64),
        chunk=np.array([_index(row.get("chunk"), -1) for row in rows], dtype=np.int64),
        target=np.array([_index(row.get("index"), -1) for row in rows], dtype=np.int64),
        t_s=np.array([_number(row.get("t_s")) for row in rows]),
        sent_m=np.array(sent, dtype=np.float64).reshape(-1, 3),
        measured_m=np.array([_vector(row["ee"], 3) for row in rows], dtype=np.float64).reshape(-1, 3),
        gripper_target=np.array([_number(row.get("gripper_target")) for row in rows]),
        opening=np.array([_number(row.get("opening")) for row in rows]),
    )


def _executed(folder: Path, problems: list[str], moved: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    none = np.zeros((0, 2, 2, 3), dtype=np.uint8), np.zeros(0, dtype=np.int64)
    path = folder / "executed.mp4"
    if not path.is_file():
        if moved:
            problems.append("executed.mp4 is missing: the arm moved, but its video was not written.")
        return none
    try:
        frames, _ = read_video(path)
    except CascadeError:
        problems.append("executed.mp4 cannot be read; the run may have been cut off while writing it.")
        return none
    rows = read_rows(folder / "executed.jsonl", problems)
    steps = np.array([_index(row.get("step"), number) for number, row in enumerate(rows)], dtype=np.int64)
    if not len(steps):
        steps = np.arange(len(frames), dtype=np.int64)
    count = min(len(frames), len(steps))
    return frames[:count], np.maximum.accumulate(steps[:count])


def _vector(value: Any, width: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) < width:
        return None
    numbers = [_number(v) for v in value[:width]]
    return numbers if all(np.isfinite(numbers)) else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _index(value: Any, default: int) -> int:
    return int(value) if isinstance(value, int | float) and np.isfinite(value) else default


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 160 else text[:157] + "…"
