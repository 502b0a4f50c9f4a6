"""Metrics with networks of others: with a tiny network in the place of the large one, and without any."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cascade.contracts.errors import DataError, WeightsError
from cascade.metrics.adapters import lpips, video_distance
from cascade.metrics.result import Status
from cascade.testing.scenes import tabletop_plan

FRAMES = tabletop_plan().frames


class Apart(torch.nn.Module):
    """Mean squared difference per image, as LPIPS maps two batches to distances."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a - b) ** 2).mean(dim=[1, 2, 3])


class Statistics(torch.nn.Module):
    """Mean and spread of each colour, as a video network maps (N, 3, T, H, W) to features."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.cat([clips.mean(dim=[2, 3, 4]), clips.std(dim=[2, 3, 4])], dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("networks")
    torch.jit.script(Apart()).save(str(made / "lpips-alex.ts"))
    for name in ("i3d-kinetics400.ts", "videomae-large-ssv2.ts"):
        torch.jit.script(Statistics()).save(str(made / name))
    return made


def test_lpips_is_the_network_s_mean_over_frames_in_its_range(folder: Path) -> None:
    darker = (FRAMES // 2).astype(np.uint8)
    result = lpips(FRAMES, darker, folder)
    expected = float((((FRAMES / 127.5) - (darker / 127.5)) ** 2).mean())
    assert result.value == pytest.approx(expected, rel=1e-3)
    assert lpips(FRAMES, FRAMES, folder).value == 0.0


def test_lpips_refuses_what_does_not_move(folder: Path) -> None:
    still = np.repeat(FRAMES[:1], len(FRAMES), axis=0)
    assert lpips(still, still, folder).status is Status.NO_MOTION


@pytest.mark.parametrize("name", ["fvd_i3d", "fvd_videomae"])
def test_clips_are_nearer_to_their_like_than_to_darker_ones(folder: Path, name: str) -> None:
    rng = np.random.default_rng(0)

    def clips(level: float) -> np.ndarray:  # type: ignore[type-arg]
        shades = level * rng.uniform(0.9, 1.0, (6, 1, 1, 1, 1))
        return (FRAMES[None, ::4] * shades).astype(np.uint8)

    like, other = (
        video_distance(name, clips(1.0), clips(1.0), folder),
        video_distance(name, clips(1.0), clips(0.5), folder),
    )
    assert like.value is not None
    assert other.value is not None
    assert other.value > 10 * like.value


def test_clips_that_do_not_move_have_no_distance(folder: Path) -> None:
    still = np.repeat(np.repeat(FRAMES[:1], 4, axis=0)[None], 3, axis=0)
    assert video_distance("fvd_i3d", still, still, folder).status is Status.NO_MOTION


def test_a_network_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"lpips-alex\.ts"):
        lpips(FRAMES, FRAMES, tmp_path)
    with pytest.raises(WeightsError, match=r"videomae-large-ssv2\.ts"):
        video_distance("fvd_videomae", FRAMES[None], FRAMES[None], tmp_path)
    with pytest.raises(DataError, match="unknown"):
        video_distance("fvd", FRAMES[None], FRAMES[None], tmp_path)


def test_frames_must_be_paired(folder: Path) -> None:
    with pytest.raises(DataError, match="reference"):
        lpips(FRAMES, FRAMES[:-1], folder)
