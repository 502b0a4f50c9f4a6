"""The network: geometry, size, exactness."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from idm.network import InverseDynamicsNet, single_view


@pytest.fixture
def net(scene: SimpleNamespace) -> InverseDynamicsNet:
    torch.manual_seed(0)
    return InverseDynamicsNet(K=scene.K.tolist(), T_base_cam=scene.T_BASE_CAM.tolist(), depth_mean_m=1.0).eval()


def test_it_has_at_most_a_million_parameters(net: InverseDynamicsNet) -> None:
    assert sum(p.numel() for p in net.parameters()) <= 1_000_000


def test_projecting_and_unprojecting_a_position_gives_it_back(net: InverseDynamicsNet) -> None:
    position = torch.tensor(np.random.default_rng(0).uniform([-0.3, 0.4, 0], [0.3, 0.8, 0.3], (50, 3))).float()

    first = torch.zeros(50, dtype=torch.int64)

    place, depth = net.project(position, first)

    assert torch.allclose(net.unproject(place, depth, first), position, atol=1e-5)


def test_projection_agrees_with_the_pinhole_camera(net: InverseDynamicsNet, scene: SimpleNamespace) -> None:
    position = np.array([0.1, 0.55, 0.2])
    camera = np.linalg.inv(scene.T_BASE_CAM) @ np.append(position, 1)
    uv = (scene.K @ camera[:3])[:2] / camera[2]

    place, depth = net.project(torch.tensor(position[None]).float(), torch.tensor([0]))

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


def two_views(scene: SimpleNamespace) -> InverseDynamicsNet:
    other = scene.T_BASE_CAM.copy()
    other[:3, 3] += [0.3, 0.0, 0.2]
    first = single_view("corner", scene.K.tolist(), scene.T_BASE_CAM.tolist(), 1.0, 0.15)
    second = single_view("side", (0.8 * scene.K + np.diag([0, 0, 0.2])).tolist(), other.tolist(), 1.2, 0.15)
    torch.manual_seed(0)
    net: InverseDynamicsNet = InverseDynamicsNet(camera="corner", views=[first, second]).eval()
    return net


def test_each_frame_is_read_with_the_geometry_of_its_own_view(scene: SimpleNamespace) -> None:
    net = two_views(scene)
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    point = torch.tensor([[0.1, 0.6, 0.1]] * 2)

    with torch.inference_mode():
        pose = net.pose(net.encode(images, torch.tensor([0, 1])))
        place, depth = net.project(point, torch.tensor([0, 1]))
        back = net.unproject(place, depth, torch.tensor([0, 1]))

    assert float((pose.position_m[0] - pose.position_m[1]).norm()) > 0.1
    assert float((place[0] - place[1]).norm()) > 0.05
    assert torch.allclose(back, point, atol=1e-5)


def test_what_one_view_has_learnt_is_where_several_begin(net: InverseDynamicsNet, scene: SimpleNamespace) -> None:
    several = two_views(scene)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(2))

    several.take_over(net)

    with torch.inference_mode():
        alone, among = net.encode(images), several.encode(images, torch.tensor([0, 1]))
        assert torch.allclose(alone.embedding, among.embedding, atol=1e-6)
        assert torch.allclose(net.pose(alone).position_m[0], several.pose(among).position_m[0], atol=1e-5)


def test_what_several_views_have_learnt_is_where_one_begins(net: InverseDynamicsNet, scene: SimpleNamespace) -> None:
    several = two_views(scene)
    assert several.condition is not None
    torch.nn.init.normal_(several.condition.weight)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(2))

    net.take_over(several)

    with torch.inference_mode():
        one = net.pose(net.encode(images))
        among = several.pose(several.encode(images, torch.tensor([0, 0])))
    assert torch.allclose(one.position_m, among.position_m, atol=1e-5)
