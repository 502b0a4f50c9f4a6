"""The network: geometry, size, exactness."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from idm.network import InverseDynamicsNet


@pytest.fixture
def net(scene: SimpleNamespace) -> InverseDynamicsNet:
    torch.manual_seed(0)
    return InverseDynamicsNet(K=scene.K.tolist(), T_base_cam=scene.T_BASE_CAM.tolist(), depth_mean_m=1.0).eval()


def test_it_has_at_most_a_million_parameters(net: InverseDynamicsNet) -> None:
    assert sum(p.numel() for p in net.parameters()) <= 1_000_000


def test_projecting_and_unprojecting_a_position_gives_it_back(net: InverseDynamicsNet) -> None:
    position = torch.tensor(np.random.default_rng(0).uniform([-0.3, 0.4, 0], [0.3, 0.8, 0.3], (50, 3))).float()

    place, depth = net.project(position)

    assert torch.allclose(net.unproject(place, depth), position, atol=1e-5)


def test_projection_agrees_with_the_pinhole_camera(net: InverseDynamicsNet, scene: SimpleNamespace) -> None:
    position = np.array([0.1, 0.55, 0.2])
    camera = np.linalg.inv(scene.T_BASE_CAM) @ np.append(position, 1)
    uv = (scene.K @ camera[:3])[:2] / camera[2]

    place, depth = net.project(torch.tensor(position[None]).float())

    np.testing.assert_allclose((place[0].numpy() + 1) * 64, uv, atol=1e-3)
    assert float(depth) == pytest.approx(camera[2], abs=1e-5)


def test_positions_stay_exact_under_bfloat16_convolutions(net: InverseDynamicsNet) -> None:
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        exact = net.pose(net.encode(images)).position_m
        with torch.autocast("cpu", torch.bfloat16):
            fast = net.pose(net.encode(images)).position_m

    assert fast.dtype == torch.float32
    assert float((fast - exact).abs().max()) < 2e-3


def test_frames_are_read_independently_of_their_batch(net: InverseDynamicsNet) -> None:
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        together = net.pose(net.encode(images)).position_m
        alone = net.pose(net.encode(images[1:2])).position_m

    assert torch.allclose(together[1:2], alone, atol=1e-5)
