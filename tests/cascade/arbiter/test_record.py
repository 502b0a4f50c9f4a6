"""An arbiter's decision is told where runs and episodes are read."""

from pathlib import Path

import numpy as np

from cascade.contracts import ActionChunk
from cascade.episodes import _Notes
from cascade.report.run_folder import RunRecord, StoredChunk, Trajectory
from cascade.report.sections import facts
from cascade.testing import tabletop_plan

SAID = {"branch": "disagree", "chosen": "hand", "why": "contacts 120.0 mm apart, allowed <52.0>"}


def chunk(**told) -> ActionChunk:
    empty = np.zeros(0)
    return ActionChunk(values=np.zeros((0, 7)), gripper=empty, times_s=empty, provenance=told)


def run_of(chunks) -> RunRecord:
    rows, none = np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    track = Trajectory(
        step=rows, plan=rows, chunk=rows, target=rows, t_s=none[:, 0], sent_m=none, measured_m=none,
        gripper_target=none[:, 0], opening=none[:, 0],
    )  # fmt: skip
    return RunRecord(
        folder=Path("run"),
        facts={},
        config="",
        events=(),
        plans={0: tabletop_plan()},
        chunks=chunks,
        trajectory=track,
        executed=np.zeros((0, 1, 1, 3), np.uint8),
        executed_step=rows,
        problems=(),
    )


def stored(**told) -> StoredChunk:
    return StoredChunk(plan=0, position_m=np.zeros((0, 3)), gripper=np.zeros(0), final=True, provenance=told)


def test_the_report_says_whom_the_arbiter_follows_and_why() -> None:
    page = facts(run_of({0: stored(arbiter=SAID)}))

    assert "<dt>Arbiter, plan 0</dt>" in page
    assert "disagree, follows the hand: contacts 120.0 mm apart, allowed &lt;52.0&gt;" in page
    assert "Arbiter" not in facts(run_of({0: stored(extractor="idm")}))


def test_a_row_has_one_decision_per_plan() -> None:
    notes, plain = _Notes(), _Notes()
    for number, plan in enumerate((0, 0, 1)):
        notes.chunk(number, plan, chunk(arbiter=SAID))
        plain.chunk(number, plan, chunk(extractor="idm"))

    assert [decision["plan"] for decision in notes.decisions] == [0, 1]
    assert notes.decisions[0]["chosen"] == "hand"
    assert plain.decisions == []
