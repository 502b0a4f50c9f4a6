"""The three kinds differ in what imagination does, and in nothing else."""

import pytest
import torch

from planner.policies.network import PolicyNetwork


def states(count=2):
    return torch.rand(count, 3, 128, 128), torch.randn(count, 384), torch.randn(count, 4)


@pytest.mark.parametrize(
    ("kind", "learning", "acting"), [("bc", False, False), ("cotrained", True, False), ("joint", True, True)]
)
def test_only_the_joint_policy_imagines_when_it_acts(kind, learning, acting):
    network = PolicyNetwork(kind=kind)

    assert (network.train()(*states()).video is not None) == learning
    out = network.eval()(*states())

    assert (out.video is not None) == acting
    assert out.actions.shape == (2, 8, 4)
    if acting:
        assert out.video.shape == (2, 4, 8, 16, 16)


def test_what_the_joint_policy_imagines_changes_what_it_does():
    torch.manual_seed(0)
    network = PolicyNetwork(kind="joint").eval()
    seen = states()
    with torch.no_grad():
        before = network(*seen).actions
        network.video.weight += 0.1 * torch.randn_like(network.video.weight)
        after = network(*seen).actions

    assert not torch.allclose(before, after)


def test_the_cotrained_policy_acts_as_if_its_video_head_were_not_there():
    torch.manual_seed(0)
    network = PolicyNetwork(kind="cotrained").eval()
    seen = states()
    with torch.no_grad():
        before = network(*seen).actions
        network.video.weight += 1.0

        assert torch.equal(before, network(*seen).actions)
