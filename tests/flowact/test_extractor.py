"""The extractor on real physics: the expert's video of a layout as plan, then the layout again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from cascade.contracts import CameraImage, DataError, EeReadout, ImageTransform, Observation, VideoPlan
from cascade.contracts.keyframes import keyframe_indices
from flowact.overlay import overlay
from flowact.plugins import FLOW
from flowact.reading import read_plan
from flowact.scene import robot_mask
from robot_io.sim.plugins import EXPERT, SIM

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rig():
    shipped = yaml.safe_load((ROOT / "configs" / "rigs" / "sim.yaml").read_text())
    with SIM.build(SIM.config(limits=shipped["limits"], **shipped["options"])) as built:
        yield built


@pytest.fixture(scope="module")
def plans(rig):
    made = {}

    def plan_of(task, seed):
        if (task, seed) not in made:
            steps = list(EXPERT.build(EXPERT.config()).demonstrate(rig, task=task, seed=seed, every=2))
            steps = [s for s in steps if s.observation is not None]
            position = np.stack([s.state.position_m for s in steps])
            opening = np.array([s.state.gripper_opening for s in steps])
            chosen = keyframe_indices(position, opening, 16)
            spread = np.full(len(chosen), 0.005)
            made[task, seed] = VideoPlan(
                instruction=task,
                camera="corner",
                transform=ImageTransform.centre_square(128, 128, 128),
                frames=np.stack([steps[i].observation.image("corner").rgb for i in chosen]),
                readout=EeReadout(
                    position_m=position[chosen],
                    opening=np.clip(opening[chosen], 0, 1),
                    position_std_m=spread,
                    opening_std=spread,
                    source="proprioception",
                ),
            )
        return made[task, seed]

    return plan_of


def follow(rig, chunk):
    for i in range(len(chunk)):
        begun, last, still = rig.clock.now_s(), rig.arm.read().position_m, 0
        for _ in range(60):
            rig.arm.send(chunk.values[i], float(chunk.gripper[i]))
            rig.clock.tick()
            here = rig.arm.read().position_m
            still = still + 1 if np.linalg.norm(here - last) < 0.0015 else 0
            last = here
            near = np.linalg.norm(here - chunk.values[i, :3]) < chunk.tolerance_m[i] or still >= 8
            if rig.monitor.success or (near and rig.clock.now_s() - begun >= chunk.hold_s[i]):
                break


def run(rig, plan, task, seed, **options):
    extractor = FLOW.build(FLOW.config(**options))
    rig.reset(task=task, seed=seed)
    chunks = []
    while rig.monitor.steps < rig.monitor.horizon and not rig.monitor.success and len(chunks) < 30:
        chunks.append(extractor.extract(plan, rig.observe()))
        follow(rig, chunks[-1])
        if chunks[-1].final:
            break
    return chunks


@pytest.mark.parametrize(
    ("task", "mode", "options"),
    [
        ("button-press-topdown", "push", {"hand_hint": "none"}),
        ("door-close", "push", {}),
        ("shelf-place", "grasp", {"hand_hint": "depth"}),
    ],
)
def test_the_experts_video_is_enough_to_solve_the_task(rig, plans, task, mode, options):
    chunks = run(rig, plans(task, 100), task, 100, **options)
    assert chunks[0].provenance["mode"] == mode
    assert rig.monitor.success


def test_a_plan_is_continued_with_newer_observations_and_another_plan_begins_afresh(rig, plans):
    plan = plans("button-press-topdown", 100)
    extractor = FLOW.build(FLOW.config())
    rig.reset(task="button-press-topdown", seed=100)
    first = extractor.extract(plan, rig.observe())
    follow(rig, first)
    second = extractor.extract(plan, rig.observe())
    assert (first.provenance["phase"], second.provenance["phase"]) == ("behind the object", "push, attempt 1")
    again = VideoPlan(instruction="x", camera="corner", transform=plan.transform, frames=plan.frames)
    assert extractor.extract(again, rig.observe()).provenance["phase"] in ("behind the object", "hover")


def broken(observation, **changes):
    image = observation.images["corner"]
    values = {
        name: getattr(image, name)
        for name in ("rgb", "K", "stamp_s", "depth_m", "segmentation", "segment_names", "T_base_cam")
    }
    return Observation(images={"corner": CameraImage(**(values | changes))}, arm=observation.arm)


def test_what_flow_cannot_do_without_is_said_in_one_clear_error(rig, plans):
    plan = plans("button-press-topdown", 100)
    rig.reset(task="button-press-topdown", seed=100)
    seen = rig.observe()

    def extract(observation, plan=plan, **options):
        return FLOW.build(FLOW.config(**options)).extract(plan, observation)

    depth = np.array(seen.images["corner"].depth_m)
    with pytest.raises(DataError, match=r"flow lost.*NaN"):
        extract(broken(seen, depth_m=np.full_like(depth, np.nan)))
    with pytest.raises(DataError, match="expected depth"):
        extract(broken(seen, depth_m=None))
    with pytest.raises(DataError, match="T_base_cam"):
        extract(broken(seen, T_base_cam=None))
    with pytest.raises(DataError, match=r"Known: .*object"):
        extract(seen, segment="teapot")
    with pytest.raises(DataError, match="flow lost"):
        extract(broken(seen, segmentation=np.full(depth.shape, -1, dtype=np.int32)))
    still = VideoPlan(
        instruction="x", camera="corner", transform=plan.transform, frames=np.repeat(plan.frames[:1], 9, axis=0)
    )
    with pytest.raises(DataError, match="flow lost: expected the object to move"):
        extract(seen, plan=still)
    other = VideoPlan(instruction="x", camera="corner9", transform=plan.transform, frames=plan.frames)
    with pytest.raises(DataError, match="corner9"):
        extract(seen, plan=other)


def test_tracks_are_drawn_onto_every_frame_of_the_plan(rig, plans):
    plan = plans("button-press-topdown", 100)
    rig.reset(task="button-press-topdown", seed=100)
    drawn = overlay(plan, rig.observe())
    assert (drawn.shape, drawn.dtype) == (plan.frames.shape, np.uint8)
    assert all((a != b).any() for a, b in zip(drawn, plan.frames, strict=True))


def test_needs_follow_the_options():
    assert FLOW.build(FLOW.config()).needs.segmentation
    free = FLOW.build(FLOW.config(mask="motion")).needs
    assert (free.depth, free.segmentation, free.extrinsics) == (True, False, True)
    with pytest.raises(ValidationError, match="hand_hint"):
        FLOW.config(hand_hint="telepathy")


def test_listing_the_plugin_does_not_load_heavy_libraries():
    code = "import sys, flowact.plugins; print(sorted({'cv2', 'scipy', 'torch', 'numpy.linalg'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "cv2" not in out
    assert "scipy" not in out
    assert "torch" not in out


def without_segments(observation):
    return broken(observation, segmentation=None, segment_names={})


def test_without_segmentation_robot_and_object_are_found_by_motion_depth_and_colour(rig, plans):
    config = FLOW.config(mask="motion", hand_hint="none")
    for task in ("shelf-place", "button-press-topdown"):
        plan = plans(task, 100)
        rig.reset(task=task, seed=100)
        seen = rig.observe()
        blind = without_segments(seen).image("corner")
        reading = read_plan(plan, blind, np.array(seen.arm.position_m), config)
        image = seen.image("corner")
        true, robot = image.mask("object"), robot_mask(image)
        assert (reading.mask & true).sum() >= 0.4 * true.sum()
        assert reading.mask.sum() <= 2 * true.sum()
        assert (reading.robot & robot).sum() >= 0.75 * robot.sum()
        assert (reading.robot & ~robot).sum() <= 0.15 * robot.sum()


def test_a_rig_without_segmentation_is_enough(plans):
    shipped = yaml.safe_load((ROOT / "configs" / "rigs" / "sim.yaml").read_text())
    options = {"limits": shipped["limits"], **shipped["options"], "segmentation": False}
    plan = plans("button-press-topdown", 100)
    with SIM.build(SIM.config(**options)) as blind:
        assert not blind.provides.segmentation
        chunks = run(blind, plan, "button-press-topdown", 100, mask="motion", hand_hint="none")
        assert chunks[0].provenance["mode"] == "push"
        assert blind.monitor.success
