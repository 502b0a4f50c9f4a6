from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io.cameras.config import WatchConfig
from robot_io.cameras.source import SourceFrame, SourceInfo, pinhole
from robot_io.cameras.stamps import Stamps
from robot_io.cameras.watch import Alarm, Watch, describe

K = pinhole(32, 24, 60)
INFO = SourceInfo(kind="test", serial="1", model="", width=32, height=24, fps=30, K=K, has_depth=True)


def frame(number, **changes):
    rng = np.random.default_rng(number)
    made = SourceFrame(
        rgb=rng.integers(0, 255, (24, 32, 3), dtype=np.uint8),
        depth_m=np.ones((24, 32), np.float32),
        t_dev_s=number / 30,
        depth_t_dev_s=number / 30,
        t_host_s=100 + number / 30,
        number=number,
        K=K,
    )
    return replace(made, **changes)


def judged(frames, **config):
    watch = Watch(WatchConfig(**config), INFO)
    return watch, [watch.judge(each) for each in frames]


def test_good_images_pass():
    watch, judgements = judged([frame(n) for n in range(1, 40)])
    assert all(each.publish and each.alarms == Alarm.NONE for each in judgements)
    assert watch.counts.missed == 0


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({"rgb": np.full((24, 32, 3), 3, np.uint8)}, Alarm.BLACK),
        ({"depth_m": np.full((24, 32), np.nan, np.float32)}, Alarm.NO_DEPTH),
        ({"depth_m": np.zeros((24, 32), np.float32)}, Alarm.NO_DEPTH),
        ({"K": pinhole(32, 24, 58)}, Alarm.INTRINSICS),
        ({"rgb": np.full((48, 32, 3), 99, np.uint8)}, Alarm.INTRINSICS),
        ({"clock": "system_time"}, Alarm.CLOCK),
    ],
)
def test_one_bad_image_raises_its_alarm(changes, alarm):
    _, judgements = judged([frame(1), frame(2, **changes), frame(3)])
    assert judgements[0].alarms == Alarm.NONE
    assert judgements[1].alarms == alarm
    latched = alarm in (Alarm.INTRINSICS, Alarm.CLOCK)
    assert judgements[2].alarms == (alarm if latched else Alarm.NONE)


def test_half_of_the_depth_missing_is_no_alarm():
    depth = np.ones((24, 32), np.float32)
    depth[::2] = np.nan
    _, judgements = judged([frame(1, depth_m=depth)])
    assert judgements[0].alarms == Alarm.NONE


def test_a_frozen_image_is_told_after_its_time_and_a_still_video_may_be_exempt():
    still = frame(1).rgb
    frames = [frame(n, rgb=still) for n in range(1, 61)]
    _, judgements = judged(frames, frozen_s=1.0)
    assert judgements[28].alarms == Alarm.NONE
    assert judgements[-1].alarms == Alarm.FROZEN
    _, judgements = judged(frames, frozen_s=None)
    assert judgements[-1].alarms == Alarm.NONE


def test_what_is_out_of_order_is_left_out_and_counted():
    frames = [frame(1), frame(2), frame(2), frame(5), frame(3), frame(6, depth_t_dev_s=6 / 30 + 0.03), frame(7)]
    watch, judgements = judged(frames)
    assert [each.publish for each in judgements] == [True, True, False, True, False, False, True]
    counts = watch.counts
    assert (counts.duplicated, counts.missed, counts.stale, counts.skewed) == (1, 2, 1, 1)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_setting_the_clock_of_the_machine_has_no_effect(step):
    frames = [frame(n, t_dev_s=n / 30 + step * (n > 10), depth_t_dev_s=n / 30 + step * (n > 10)) for n in range(1, 30)]
    _, judgements = judged(frames)
    assert all(each.publish and each.alarms == Alarm.NONE for each in judgements)


def test_every_alarm_has_words():
    for alarm in Alarm:
        if alarm:
            problem, fix = describe(alarm)
            assert problem
            assert fix.endswith(".")


@given(st.floats(-1e9, 1e9), st.lists(st.floats(0, 0.05), min_size=5, max_size=60))
def test_stamps_show_the_true_age_of_a_late_image_and_never_the_future(offset, delays):
    stamps = Stamps()
    stamps.stamp_s(0.0, offset)  # one image without delay tells the clocks apart
    for n, delay in enumerate(delays, 1):
        taken = n / 30
        stamp = stamps.stamp_s(taken, taken + delay + offset)
        assert stamp <= taken + delay + offset
        assert stamp == pytest.approx(taken + offset, abs=1e-4)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_devices_clock_does_not_spoil_the_stamps(step):
    stamps = Stamps()
    for n in range(30):
        stamps.stamp_s(n / 30, 50 + n / 30)
    for n in range(30, 40):
        stamp = stamps.stamp_s(n / 30 + step, 50 + n / 30)
    assert stamp == pytest.approx(50 + 39 / 30, abs=1e-6)


def test_one_image_held_up_for_a_second_is_old_and_the_next_is_not():
    stamps = Stamps()
    for n in range(30):
        stamps.stamp_s(n / 30, n / 30)
    assert stamps.stamp_s(1.0, 2.0) == pytest.approx(1.0)
    assert stamps.stamp_s(2.0, 2.0) == pytest.approx(2.0)
