"""The registry: 21 metrics, all described, none fooled by a frozen plan, all saying what they lack."""

import json

import numpy as np
import pytest

from cascade.contracts import DataError, Limits, WeightsError
from cascade.metrics import METRICS, Axis, Evidence, IkSolutions, Status, measure_all, metric
from cascade.metrics.adapters import ADAPTERS, load_network, weights_of
from cascade.metrics.result import measured

BOUNDS = Limits(
    workspace_m=np.array([[-1.0, -1, -1], [1, 1, 1]]),
    max_speed_m_s=1.0,
    max_acceleration_m_s2=10.0,
    max_jerk_m_s3=100.0,
    max_step_m=0.5,
    max_rotation_rad=0.5,
)


def full(frames: np.ndarray, path: np.ndarray, mask: np.ndarray) -> Evidence:
    count = len(path)
    zeros = np.zeros(count)
    features = np.random.default_rng(0).normal(size=(12, 4))
    return Evidence(
        frames=frames,
        frame_dt_s=0.1,
        reference=frames,
        camera_frame=frames[0],
        path_m=path,
        motion_m=path,
        motion_opening=np.linspace(1, 0, count),
        motion_times_s=0.1 * np.arange(count),
        limits=BOUNDS,
        object_mask=mask,
        gripper_px=np.column_stack([13 + 3.0 * np.arange(count), np.full(count, 50.0)]),
        depth_m=np.ones(frames.shape[:3], dtype=np.float32),
        K=np.array([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]]),
        features=features,
        reference_features=features,
        ik=IkSolutions(position_error_m=zeros, rotation_error_rad=zeros, joint_margin_rad=zeros + 1),
        obstacles_m=np.array([[0, 0, 5.0, 0.1]]),
        trials=(1, 2),
    )


def test_there_are_21_metrics_in_order_on_three_axes_each_described():
    assert [known.number for known in METRICS] == list(range(1, 22))
    assert len({known.name for known in METRICS}) == 21
    assert {known.axis for known in METRICS} == set(Axis)
    assert all(known.unit and known.caveat and known.range[0] < known.range[1] for known in METRICS)


def test_with_all_evidence_every_metric_gives_a_number_in_its_range(moving, mask):
    path = np.linspace([0.0, 0, 0], [0.3, 0.1, 0], len(moving))
    results = measure_all(full(moving, path, mask))

    for known in METRICS:
        result = results[known.name]
        assert result.measured, f"{known.name}: {result.why}"
        assert known.range[0] - 1e-9 <= result.value <= known.range[1] + 1e-9
        json.dumps(result.as_json(), allow_nan=False)


def test_a_frozen_plan_is_scored_by_no_metric_of_its_frames_or_path(frozen, mask):
    still = np.zeros((len(frozen), 3))
    results = measure_all(full(frozen, still, mask))

    # Features and trials are of other clips; the degree of motion is the guard itself.
    given = {"fd_own", "kid_own", "executability", "dynamic_degree"}
    assert {name for name, result in results.items() if result.status is not Status.NO_MOTION} == given
    assert results["dynamic_degree"].value < 0.05


def test_a_plan_alone_says_what_each_metric_needs(moving):
    results = measure_all(Evidence(frames=moving, reasons={"depth_m": "no sensor"}))

    assert {name for name, result in results.items() if result.measured} == {
        "warp_error",
        "dynamic_degree",
        "track_survival",
        "camera_stillness",
    }
    assert results["three_d_consistency"].why == "needs depth (no sensor)"
    assert results["psnr"].why == "needs an executed video"


def test_a_number_that_is_not_finite_is_no_number():
    assert measured(float("nan")).status is Status.UNAVAILABLE


def test_a_misspelt_metric_gets_a_suggestion():
    assert metric("ssim").number == 2
    with pytest.raises(DataError, match="Did you mean 'psnr'"):
        metric("psrn")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_an_adapter_names_the_file_it_misses(adapter, tmp_path):
    with pytest.raises(WeightsError, match=adapter.file.replace(".", r"\.")) as caught:
        weights_of(adapter.name, tmp_path)
    assert str(tmp_path) in caught.value.problem
    assert "downloads nothing" in caught.value.fix


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "lpips-alex.ts").write_bytes(b"not a network")
    with pytest.raises(WeightsError, match="TorchScript"):
        load_network("lpips", tmp_path)
    with pytest.raises(DataError, match="unknown"):
        weights_of("lpisp", tmp_path)
