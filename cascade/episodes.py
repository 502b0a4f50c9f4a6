"""Episodes in numbers: one row of JSON values each, kept line by line, so that what was interrupted can go on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.contracts.errors import ConfigError
from cascade.contracts.interfaces import Rig
from cascade.contracts.records import ActionChunk, VideoPlan
from cascade.events import Both, Look, NoRecord, Recorder, weights_of
from cascade.follower import ControlStep
from cascade.pipeline import Stages
from cascade.runtime import run_episode

WRONG_LAYOUT = "wrong-layout"
WRONG_LAYOUT_OFFSET = 1000  # added to an episode's seed: far outside the seeds of any evaluation
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
LINES = "episodes.jsonl"
MOST_VIOLATIONS = 20  # kept of one episode
Row = dict[str, Any]


def episode_row(
    rig: Rig, stages: Stages, *, task: str, seed: int, control: str | None = None, recorder: Recorder | None = None
) -> Row:
    """Run one episode on a connected rig and return what is kept of it; errors of stages are part of it.

    Args:
        rig: simulated, connected.
        stages: from `build_stages`.
        task: its name.
        seed: of the layout and of the plans.
        control: None, or `WRONG_LAYOUT`: plans are made from the first frame of another layout of the task.
        recorder: is told everything too.
    """
    notes = _Notes()
    told = notes if recorder is None else Both(notes, recorder)
    layout = seed + WRONG_LAYOUT_OFFSET if control == WRONG_LAYOUT else None
    result = run_episode(rig, stages, instruction=None, task=task, seed=seed, recorder=told, plan_layout=layout)
    return {
        "task": task,
        "seed": seed,
        "success": bool(result.success),
        "outcome": result.outcome,
        "failure_stage": result.failure_stage,
        "verdict": result.verdict,
        "steps": result.steps,
        "plans": result.plans,
        "plan_steps": [notes.plan_steps[index] for index in range(result.plans)],
        "chunks": notes.chunks,
        "motion_end": notes.motion_end,
        "gates": {subject: dict(counts) for subject, counts in notes.gates.items()},
        "violations": notes.violations,
        "stage_ms": {stage: [round(ms, 3) for ms in values] for stage, values in result.stage_ms.items()},
        "plan": notes.facts,
        "weights": notes.weights,
        **({"decisions": notes.decisions} if notes.decisions else {}),
        "error": str(result.error) if result.error else None,
    }


def open_log(
    values: Mapping[str, Any], folder: Path, *, kind: str, resume: bool, grows: str | None = None
) -> list[Row]:
    """Make a folder of rows, or check that it holds the same measurement; return the rows it has.

    Args:
        values: what is measured, as JSON values; kept as `<kind>.json`.
        folder: made if need be.
        kind: 'evaluation' or 'study'.
        resume: whether a folder that holds something may be continued.
        grows: name of a number that may be larger than in the folder: more of the same.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
    """
    header, lines = folder / f"{kind}.json", folder / LINES
    try:
        if not header.exists():
            folder.mkdir(parents=True, exist_ok=True)
            header.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
            lines.write_text("", encoding="utf-8")
            return []
        found, wanted = json.loads(header.read_text(encoding="utf-8")), json.loads(json.dumps(values))
        more = grows is not None and found | {grows: wanted[grows]} == wanted and found.get(grows, 0) < wanted[grows]
        if resume and more:
            header.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
            return read_rows(lines)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: cannot be used for results ({error}).", "Choose another folder with -o."
        ) from error
    article = "an" if kind[0] in "aeiou" else "a"
    if not resume:
        raise ConfigError(f"{folder}: expected a new folder, found {article} {kind}.", "Add --resume to go on with it.")
    if found != wanted:
        differs = [key for key, value in wanted.items() if found.get(key) != value]
        raise ConfigError(
            f"{folder}: holds another {kind} (different: {', '.join(differs)}).", "Choose another folder with -o."
        )
    return read_rows(lines)


def read_rows(path: Path) -> list[Row]:
    """Read finished episodes; a last line cut off by a kill is dropped from the file."""
    if not path.is_file():
        return []
    rows: list[Row] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    if len(rows) < len(lines):  # only then, since another process may be writing to a whole file
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let child processes start with one thread each; more only get in each other's way."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def ignore_interrupts() -> None:
    """Let workers finish their episode on Ctrl-C, as the parent decides what comes after; without it they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    """A pool's worker would wait for work from its dead parent for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Notes(NoRecord):
    """Keeps what the result does not say of an episode (a Recorder).

    Attributes:
        facts: scalar facts of the first plan; `weights`: name -> digest.
        plan_steps: plan -> control steps that it and the way back from it took.
        chunks: how many were read in all plans.
        motion_end: why the last motion ended, empty when nothing moved.
        gates: 'plan', 'chunk' or 'motion' -> verdict -> how often.
        violations: what the gate found wrong, the first of them.
        decisions: of an arbiter, one per plan.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.weights: dict[str, str] = {}
        self.plan_steps: Counter[int] = Counter()
        self.chunks = 0
        self.motion_end = ""
        self.gates: dict[str, Counter[str]] = {"plan": Counter(), "chunk": Counter(), "motion": Counter()}
        self.violations: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []

    def event(self, kind: str, **values: Any) -> None:
        """Note verdicts of the gate and ends of motions."""
        if kind == "motion":
            self.motion_end = str(values["end"])
        elif kind == "gate":
            self.gates[values["subject"]][values["verdict"]] += 1
            where = {"subject": values["subject"], "index": values["index"], "verdict": values["verdict"]}
            found = [where | {key: v[key] for key in ("check", "value", "limit", "unit")} for v in values["violations"]]
            self.violations += found[: MOST_VIOLATIONS - len(self.violations)]

    def plan(self, index: int, plan: VideoPlan) -> None:
        """Note the scalar facts of its provenance."""
        if index == 0:
            scalars = (bool, int, float, str)
            self.facts = {key: value for key, value in plan.provenance.items() if isinstance(value, scalars)}
        self.weights |= weights_of(plan.provenance)

    def chunk(self, index: int, plan: int, chunk: ActionChunk) -> None:
        """Note the weights it was read with, and an arbiter's decision."""
        self.chunks += 1
        if "arbiter" in chunk.provenance and all(told["plan"] != plan for told in self.decisions):
            self.decisions.append({"plan": plan, **chunk.provenance["arbiter"]})
        self.weights |= weights_of(chunk.provenance)

    def step(self, number: int, t_s: float, plan: int, chunk: int, step: ControlStep, look: Look) -> None:
        """Count it."""
        self.plan_steps[plan] += 1
