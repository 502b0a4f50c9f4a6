"""Run folders written by the real recorder, with a small drawn world in place of a simulator."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import (
    ActionChunk,
    ArmMode,
    ArmState,
    EeReadout,
    GateReport,
    ImageTransform,
    Verdict,
    VideoPlan,
    Violation,
)
from cascade.contracts.keyframes import keyframe_indices
from cascade.events import gate_values
from cascade.follower import ControlStep
from cascade.recorder import RunRecorder

SIZE = 128
BOX = [[-0.5, 0.4, 0.05], [0.5, 1.0, 0.5]]
WAYPOINTS = np.array(
    [
        [0.0, 0.6, 0.2, 1],
        [0.1, 0.7, 0.18, 1],
        [0.12, 0.72, 0.06, 1],
        [0.12, 0.72, 0.06, 0.4],
        [0.1, 0.7, 0.2, 0.4],
        [-0.2, 0.75, 0.25, 0.4],
    ]
)


def motion(per_leg: int = 36) -> tuple[np.ndarray, np.ndarray]:
    """A reach, a grasp and a carry: (N, 3) positions and (N,) openings."""
    along = np.linspace(0, 1, per_leg, endpoint=False)
    ease = 0.5 - 0.5 * np.cos(np.pi * along)
    legs = [a + ease[:, None] * (b - a) for a, b in pairwise(WAYPOINTS)]
    path = np.concatenate([*legs, WAYPOINTS[-1:]])
    return path[:, :3], path[:, 3]


def picture(position: np.ndarray, opening: float, block: np.ndarray) -> np.ndarray:
    """A drawn view of a table, a block and a hand."""
    import cv2

    def pixel(p: np.ndarray) -> tuple[int, int]:
        return int(64 + 95 * p[0] + 25 * (p[1] - 0.7)), int(105 - 40 * (p[1] - 0.4) - 160 * p[2])

    image = np.full((SIZE, SIZE, 3), (206, 202, 196), dtype=np.uint8)
    table = np.array([pixel(np.array(c)) for c in ([-0.5, 0.4, 0], [0.5, 0.4, 0], [0.5, 1, 0], [-0.5, 1, 0])])
    cv2.fillPoly(image, [table.astype(np.int32)], (150, 112, 82))
    u, v = pixel(block)
    cv2.rectangle(image, (u - 4, v - 6), (u + 4, v + 2), (40, 140, 60), -1)
    x, y = pixel(position)
    cv2.line(image, (x, y - 14), (60, 4), (140, 30, 40), 7, cv2.LINE_AA)
    half = round(2 + 5 * opening)
    cv2.rectangle(image, (x - half - 2, y - 16), (x + half + 2, y - 11), (50, 50, 58), -1)
    for side in (-half, half):
        cv2.line(image, (x + side, y - 12), (x + side, y), (50, 50, 58), 2)
    return image


def film(position: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) pictures; the block goes with the hand once it is held."""
    held = np.flatnonzero(opening <= 0.45)
    first = held[0] if len(held) else len(position)
    blocks = [WAYPOINTS[2, :3] if i < first else position[i] for i in range(len(position))]
    return np.stack([picture(p, o, b) for p, o, b in zip(position, opening, blocks, strict=True)])


@cache
def executed_film() -> np.ndarray:
    """Pictures of the whole motion."""
    return film(*motion())


def make_plan(
    *, readout: bool = True, bend_m: float = 0.015, instruction: str = "pick up the green block"
) -> VideoPlan:
    """16 future frames of the motion, seen a little wrong."""
    position, opening = motion()
    position = position + bend_m * np.sin(np.linspace(0, 3, len(position)))[:, None] * np.array([1, -0.5, 0.6])
    keep = keyframe_indices(position, opening, 16)
    read = EeReadout(
        position_m=position[keep],
        opening=opening[keep],
        position_std_m=np.full(17, 0.008),
        opening_std=np.full(17, 0.1),
        source="idm",
    )
    return VideoPlan(
        instruction=instruction,
        camera="corner",
        transform=ImageTransform(crop_px=(0, 0, SIZE, SIZE), size_px=(SIZE, SIZE)),
        frames=film(position[keep], opening[keep]),
        readout=read if readout else None,
        provenance={"planner": "oracle", "weights": {"planner": "5a" * 32}},
        plan_id="p0",
    )


def make_chunk(plan: VideoPlan, final: bool = True) -> ActionChunk:
    """The plan's keyframes as targets."""
    position, opening = motion()
    keep = keyframe_indices(position, opening, 16)
    values = np.column_stack([position[keep], np.tile([1.0, 0, 0, 0], (17, 1))])
    return ActionChunk(
        values=values,
        gripper=np.where(opening[keep] > 0.7, 1.0, 0.0),
        times_s=np.arange(17) * 0.2,
        final=final,
        provenance={"extractor": "idm", "plan": plan.plan_id},
    )


def judged(*, held: bool = True, step: int = 3) -> GateReport:
    """A chunk's gate report."""
    checks = (
        Violation(check="step size", value=0.046 if held else 0.31, limit=0.15, unit="m", step=step),
        Violation(check="workspace", value=-0.012, limit=0.0, unit="m", step=1),
        Violation(check="first frame", value=31.4, limit=20.0, unit="dB"),
        Violation(check="finite numbers", value=0, limit=0, unit="values"),
    )
    failed = () if held else (replace(checks[0], message="Two consecutive targets are too far apart."),)
    return GateReport(verdict=Verdict.PASS if held else Verdict.REJECT, violations=failed, measured=checks)


def state(position: np.ndarray, opening: float, t_s: float) -> ArmState:
    T = np.eye(4)
    T[:3, 3] = position
    return ArmState(q=np.zeros(7), T_base_ee=T, gripper_opening=float(opening), stamp_s=t_s, mode=ArmMode.MOVING)


RunMaker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """Write a run folder and return it."""

    def make(
        *,
        name: str = "20261120-120000-pick-unipi",
        instruction: str = "pick up the green block",
        plans: int = 1,
        readout: bool = True,
        outcome: str = "success",
        verdict: str = "Done: the goal was reached after 181 control steps.",
        execute: bool = True,
        finish: bool = True,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        facts = {
            "command": "cascade run pick",
            "replay_command": f"cascade replay {folder.name}",
            "instruction": instruction,
            "task": "pick-place",
            "seed": 7,
            "rig": "sim",
            "recipe": "unipi",
            "planner": "oracle",
            "extractor": "idm",
            "reader": "idm",
            "rig_description": {"renderer": "raster", "limits": {"workspace_m": BOX}},
        }
        recorder = RunRecorder(folder, facts=facts, config="recipe: unipi\nseed: 7\n", control_hz=80.0, video_every=4)
        position, opening = motion()
        pictures = executed_film()
        number = 0
        for index in range(plans):
            plan = make_plan(readout=readout, bend_m=0.015 + 0.01 * index, instruction=instruction)
            recorder.event("stage", stage="plan", ms=142.5 + index, plan=index)
            if readout:
                recorder.event("stage", stage="readout", ms=18.25, plan=index)
            recorder.plan(index, plan)
            recorder.event("plan", plan=index, plan_id=plan.plan_id, seed=7)
            recorder.event("gate", subject="plan", index=index, **gate_values(judged()))
            chunk = make_chunk(plan)
            recorder.event("stage", stage="extract", ms=6.5, plan=index, chunk=index)
            recorder.chunk(index, index, chunk)
            recorder.event("chunk", chunk=index, plan=index, targets=len(chunk))
            report = judged(held=execute)
            recorder.event("stage", stage="gate_chunk", ms=0.4, plan=index, chunk=index)
            recorder.event("gate", subject="chunk", index=index, **gate_values(report))
            if not execute:
                continue
            if number == 0:
                recorder.picture(0, 0.0, lambda: pictures[0])
            for i, (p, o) in enumerate(zip(position, opening, strict=True)):
                number += 1
                active = min(i * 17 // len(position), 16)
                step = ControlStep(
                    index=active,
                    target=chunk.values[active],
                    sent=chunk.values[active],
                    gripper=float(chunk.gripper[active]),
                    state=state(p, o, number / 80),
                    t_s=number / 80,
                    success=False,
                )
                recorder.step(number, number / 80, index, index, step, lambda i=i: pictures[i])
            recorder.event("stage", stage="motion", ms=2300.0, plan=index, chunk=index)
            recorder.event("motion", chunk=index, steps=len(position), end="done")
        killed = folder.with_name(folder.name + "-killed")
        if not finish:
            shutil.copytree(folder, killed)  # what is on the disk while the run is going on
        recorder.event("outcome", outcome=outcome, failure_stage="none", verdict=verdict)
        recorder.finish(outcome=outcome, verdict=verdict, failure_stage=None if outcome == "success" else "gate")
        return folder if finish else killed

    return make


@pytest.fixture
def data_of() -> Callable[[Path], dict]:
    """The data island of a report."""

    def read(report: Path) -> dict:
        text = report.read_text(encoding="utf-8")
        start = text.index('id="data">') + len('id="data">')
        return json.loads(text[start : text.index("</script>", start)])

    return read
