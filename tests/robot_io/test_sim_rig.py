from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cascade.contracts import Arm, ArmMode, Clock, ConfigError, DataError, DeviceError, EpisodeMonitor, Rig
from robot_io.sim import renderers
from robot_io.sim.arm import quaternion_of, rotation_of
from robot_io.sim.plugins import EXPERT, SIM
from robot_io.sim.rig import SimRig
from robot_io.sim.tasks import INSTRUCTIONS, METAWORLD_11, check_task, scene_for
from robot_io.sim.world import MAX_STEPS, World


def here(rig: SimRig) -> np.ndarray:
    T = rig.arm.read().T_base_ee
    return np.concatenate([T[:3, 3], quaternion_of(T[:3, :3])])


def test_rig_has_the_shape_of_the_contract(rig: SimRig) -> None:
    as_rig: Rig = rig
    arm: Arm = rig.arm
    clock: Clock = rig.clock
    monitor: EpisodeMonitor = rig.monitor
    assert as_rig.provides.depth
    assert as_rig.provides.cameras == ("corner",)
    assert arm.spec.control_hz == 80
    assert clock.now_s() >= 0
    assert monitor.horizon == 480


@pytest.mark.parametrize("task", ["door-open", "basketball", "window-close"])
def test_same_seed_gives_the_same_layout_whatever_came_before(task: str) -> None:
    fresh, used = World(), World()
    fresh.reset(task, 5)
    for seed in (9, 2):
        used.reset(task, seed)
        for _ in range(20):
            used.step(np.array([0.5, 1.0, -1.0, 1.0]))
    other = used.state_digest()
    used.reset(task, 5)
    assert used.state_digest() == fresh.state_digest()
    assert used.state_digest() != other
    for world in (fresh, used):
        for _ in range(10):
            world.step(np.array([0.3, 0.6, -1.0, -1.0]))
    assert used.state_digest() == fresh.state_digest()


def test_unknown_task_names_the_nearest(rig: SimRig) -> None:
    with pytest.raises(ConfigError, match="door-open"):
        rig.reset(task="dor-open", seed=0)


def test_reset_without_any_task_says_what_to_do(rig: SimRig) -> None:
    with pytest.raises(ConfigError, match="expected a task"):
        rig.reset(task=None, seed=0)


def test_looking_before_a_reset_is_refused(make_rig: Callable[..., SimRig]) -> None:
    with pytest.raises(DataError, match="reset"):
        make_rig().observe()


def test_unknown_option_and_camera_are_refused() -> None:
    with pytest.raises(ValidationError, match="rendrer"):
        SIM.config(limits={}, rendrer="raster")
    with pytest.raises(ValidationError, match="corner3"):
        SIM.config(limits={}, cameras=["cornr3"])


def test_limits_must_be_given() -> None:
    with pytest.raises(ValidationError, match="limits"):
        SIM.config(task="door-open")


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(6), np.array([0, 0.6, 0.1, 2, 0, 0, 0.0])])
def test_bad_targets_are_refused_and_change_nothing(rig: SimRig, bad: np.ndarray) -> None:
    rig.reset(task="door-open", seed=0)
    with pytest.raises(DataError):
        rig.arm.send(bad, 1.0)
    assert rig.arm.read().mode is ArmMode.ARMED
    before = here(rig)[:3]
    for _ in range(5):
        rig.clock.tick()
    assert np.linalg.norm(here(rig)[:3] - before) < 0.002
    assert rig.arm.read().mode is ArmMode.ARMED


def test_gripper_outside_zero_to_one_is_refused(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    for opening in (1.5, -0.2, np.nan):
        with pytest.raises(DataError):
            rig.arm.send(here(rig), opening)


def test_a_rotated_target_is_refused(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    with pytest.raises(DataError, match="rad"):
        rig.arm.send(np.append(here(rig)[:3], [1.0, 0, 0, 0]), 1.0)


def test_targets_are_clamped_to_the_workspace(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    target = here(rig)
    target[:3] = (9.0, -9.0, 9.0)
    low, high = rig.arm.spec.limits.workspace_m
    np.testing.assert_allclose(rig.arm.send(target, 1.0)[:3], (high[0], low[1], high[2]))


def test_arm_goes_where_it_is_sent_and_stop_holds_it(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    target = here(rig)
    target[:3] += (-0.1, 0.05, -0.03)
    rig.arm.send(target, 0.0)
    for _ in range(60):
        rig.clock.tick()
    assert np.linalg.norm(here(rig)[:3] - target[:3]) < 0.01
    assert rig.arm.read().gripper_opening < 0.4
    rig.arm.stop()
    stopped = here(rig)[:3]
    for _ in range(10):
        rig.clock.tick()
    assert np.linalg.norm(here(rig)[:3] - stopped) < 0.005


def test_tool_centre_is_between_the_fingers(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    sites = [rig.world.data.site(name).xpos for name in ("leftEndEffector", "rightEndEffector")]
    assert np.linalg.norm(rig.arm.read().position_m - np.mean(sites, axis=0)) < 0.003


def test_frozen_world_waits_and_a_tick_is_one_step(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    before, now_s = rig.world.state_digest(), rig.clock.now_s()
    rig.observe()
    assert rig.world.state_digest() == before
    rig.clock.tick()
    assert rig.monitor.steps == 1
    assert rig.clock.now_s() - now_s == pytest.approx(1 / 80)


def test_realtime_world_goes_on_while_the_caller_sleeps(make_rig: Callable[..., SimRig]) -> None:
    rig = make_rig(clock="realtime")
    rig.reset(task="door-open", seed=0)
    target = here(rig)
    target[0] -= 0.2
    rig.arm.send(target, 1.0)
    start = here(rig)[0]
    time.sleep(0.3)
    rig.observe()
    assert rig.monitor.steps >= 20
    assert here(rig)[0] < start - 0.05


def test_nothing_escapes_after_the_horizon(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    for _ in range(MAX_STEPS + 5):
        rig.clock.tick()
    assert rig.monitor.steps >= rig.monitor.horizon
    rig.observe()


def test_success_stays_true_after_the_goal_is_left(rig: SimRig) -> None:
    steps = list(EXPERT.build(EXPERT.config(extra_steps=100)).demonstrate(rig, task="handle-press", seed=0, every=1000))
    assert steps[-1].success
    latched = [s.success for s in steps]
    assert latched == sorted(latched)
    rig.reset(task="handle-press", seed=0)
    assert not rig.monitor.success


def test_an_observation_tells_nothing_of_goals_and_objects_but_what_is_seen(rig: SimRig) -> None:
    rig.reset(task="door-open", seed=0)
    state = rig.observe().arm
    assert len(state.q) == 7
    told = {name for name in state.__slots__ if getattr(state, name) is not None and name != "faults"}
    assert told == {"q", "T_base_ee", "gripper_opening", "stamp_s", "mode"}
    assert state.faults == ()


def test_description_is_json(rig: SimRig) -> None:
    described = json.loads(json.dumps(rig.describe()))
    assert described["renderer"] == "raster"
    assert described["versions"]["mujoco"]
    assert described["limits"]["max_step_m"] > 0


def test_an_opengl_renderer_that_does_not_work_says_what_to_install(
    make_rig: Callable[..., SimRig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderers, "probe", lambda platform: "no library")
    with pytest.raises(DeviceError, match="apt-get install"):
        make_rig(renderer="osmesa")
    assert make_rig(renderer="auto").describe()["renderer"] == "raster"


@pytest.mark.parametrize("task", sorted(INSTRUCTIONS))
def test_every_tasks_own_sentence_finds_its_scene(task: str) -> None:
    assert scene_for(INSTRUCTIONS[task]) == task
    assert scene_for(task.replace("-", " ")) == task
    assert check_task(f"{task}-v3") == task


@pytest.mark.parametrize(
    ("sentence", "task"),
    [
        ("please open the door", "door-open"),
        ("Close the door!", "door-close"),
        ("hammer in the nail", "hammer"),
        ("put the basketball through the hoop", "basketball"),
        ("place the blue cube on the shelf", "shelf-place"),
        ("press down the button from above", "button-press-topdown"),
        ("shut the tap", "faucet-close"),
        ("sing a song", None),
        ("press it", None),
    ],
)
def test_free_wording_finds_a_scene_or_says_it_is_unclear(sentence: str, task: str | None) -> None:
    assert scene_for(sentence) == task


def test_there_are_fifty_tasks_and_the_eleven_are_among_them() -> None:
    assert len(INSTRUCTIONS) == 50
    assert set(METAWORLD_11) <= set(INSTRUCTIONS)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_and_rotations_agree(values: list[float]) -> None:
    q = np.array(values) / np.linalg.norm(values)
    R = rotation_of(q)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert abs(quaternion_of(R) @ q) == pytest.approx(1.0, abs=1e-6)


def test_a_tilted_hand_does_not_refuse_the_orientation_it_is_held_to(rig: SimRig) -> None:
    rig.reset(task="basketball", seed=303)
    start = rig.observe().arm
    level = quaternion_of(start.T_base_ee[:3, :3])
    for goal in ([0.4, 0.9, 0.3], [-0.4, 0.5, 0.05]):
        for _ in range(60):
            rig.arm.send(np.r_[goal, level], 0.0)
            rig.clock.tick()
    turned = np.array([level[0], -level[1], level[3], -level[2]])
    with pytest.raises(DataError, match="held one"):
        rig.arm.send(np.r_[start.position_m, turned / np.linalg.norm(turned)], 0.0)


@pytest.mark.parametrize("task", ["assembly", "faucet-open", "door-open", "button-press"])
def test_the_first_image_shows_everything_where_it_is(rig: SimRig, task: str) -> None:
    for seed in (105, 106, 107):
        rig.reset(task=task, seed=seed)
        model, data = rig.world.model, rig.world.data
        drawn = data.xpos.copy()
        mujoco.mj_kinematics(model, data)
        off = np.linalg.norm(data.xpos - drawn, axis=1)
        assert off.max() < 1e-6, model.body(int(off.argmax())).name


def test_the_words_of_a_tasks_name_find_it(rig: SimRig) -> None:
    assert rig.scene_for("press the button") == "button-press"
    assert rig.scene_for("Please close the door") == "door-close"


def moves(rig: SimRig, seed: int, steps: int = 60) -> list[str]:
    rig.reset(task="door-open", seed=seed)
    start, digests = here(rig), []
    for step in range(steps):
        target = start.copy()
        target[:3] += (-0.1 * np.sin(step / 20), 0.05 * np.sin(step / 15), -0.04 * np.sin(step / 9))
        rig.arm.send(target, float(step % 40 < 20))
        rig.clock.tick()
        digests.append(rig.world.state_digest())
    return digests


def test_the_mirror_of_the_arm_process_is_bit_for_bit_the_world_of_one_process(make_rig: Callable[..., SimRig]) -> None:
    apart, together = make_rig(), make_rig(arm_process=False)
    with apart, together:
        assert moves(apart, 3) == moves(together, 3)
        assert moves(apart, 4) != moves(apart, 3)
        apart.reset(task="door-open", seed=3)
        together.reset(task="door-open", seed=3)
        np.testing.assert_array_equal(apart.observe().image("corner").rgb, together.observe().image("corner").rgb)


def test_targets_that_cease_end_in_a_hold_in_the_time_of_the_world(make_rig: Callable[..., SimRig]) -> None:
    with make_rig(target_ttl_s=0.1) as rig:
        rig.reset(task="door-open", seed=0)
        target = here(rig)
        target[0] -= 0.3
        rig.arm.send(target, 1.0)
        time.sleep(0.3)  # wall time does not count where the world waits
        for _ in range(7):
            rig.clock.tick()
        assert rig.arm.read().mode is ArmMode.MOVING
        for _ in range(4):
            rig.clock.tick()
        assert rig.arm.read().mode is ArmMode.HOLD
        held = here(rig)[0]
        for _ in range(20):
            rig.clock.tick()
        assert here(rig)[0] == pytest.approx(held, abs=0.02)
        rig.arm.send(target, 1.0)
        rig.clock.tick()
        assert rig.arm.read().mode is ArmMode.MOVING


def test_a_simulated_arm_whose_process_dies_is_in_fault_until_the_next_reset(make_rig: Callable[..., SimRig]) -> None:
    with make_rig() as rig:
        rig.reset(task="door-open", seed=0)
        process = rig._process
        assert process is not None
        assert process.arm.pid is not None
        os.kill(process.arm.pid, signal.SIGKILL)
        end_s = time.monotonic() + 5
        while rig.arm.read().mode is not ArmMode.FAULT and time.monotonic() < end_s:
            time.sleep(0.01)
        assert rig.arm.read().faults[0].code == "driver_died"
        with pytest.raises(DeviceError):
            rig.arm.send(here(rig), 1.0)
        rig.reset(task="door-open", seed=0)
        rig.arm.send(here(rig), 1.0)
