"""Metrics that need the weights of others: LPIPS and Frechet video distances. Off by default, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.contracts.errors import DataError, WeightsError, did_you_mean
from cascade.metrics.arrays import Frames
from cascade.metrics.image_motion import STILL, check_frames, moves
from cascade.metrics.result import Result, measured, no_motion
from cascade.metrics.visual import frechet


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A metric that needs a network of others.

    Attributes:
        name: key in documents.
        file: name of the TorchScript file with the network, without which it does not run.
        takes: what the network maps to what.
        frames: how many frames of a clip it takes, None for all.
        source: where the weights come from; fetching them is the reader's decision, licence included.
    """

    name: str
    file: str
    takes: str
    source: str
    frames: int | None = None


ADAPTERS: tuple[Adapter, ...] = (
    Adapter(
        name="lpips",
        file="lpips-alex.ts",
        takes="two (N, 3, H, W) batches in -1..1 to (N,) distances",
        source="the package lpips (Zhang et al., 2018), net='alex', traced with torch.jit.trace",
    ),
    Adapter(
        name="fvd_i3d",
        file="i3d-kinetics400.ts",
        takes="(N, 3, T, 224, 224) clips in -1..1 to (N, 400) features",
        source="the I3D network of Unterthiner et al., 2018, as TorchScript",
    ),
    Adapter(
        name="fvd_videomae",
        file="videomae-large-ssv2.ts",
        takes="(N, 3, 16, 224, 224) clips in -1..1 to (N, 1024) features",
        source="the VideoMAE network used by cd-fvd (Ge et al., 2024), as TorchScript",
        frames=16,
    ),
)


def weights_of(name: str, folder: Path) -> Path:
    """Return the file of an adapter's network in `folder`.

    Raises:
        DataError: there is no adapter of that name.
        WeightsError: the file is not there; the message names it.
    """
    known = {adapter.name: adapter for adapter in ADAPTERS}
    if name not in known:
        raise DataError(f"metric adapter {name!r}: unknown.", did_you_mean(name, known))
    adapter = known[name]
    path = folder / adapter.file
    if not path.is_file():
        raise WeightsError(
            f"{name}: expected the network at {path}, found no such file.",
            f"Put it there yourself: {adapter.source}; it maps {adapter.takes}. cascade downloads nothing.",
        )
    return path


def load_network(name: str, folder: Path) -> Any:
    """Return an adapter's network as a torch module in evaluation mode; see `Adapter.takes`.

    Raises:
        DataError: there is no adapter of that name.
        WeightsError: the file is missing or is no TorchScript.
    """
    path = weights_of(name, folder)
    import torch

    try:
        network: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return network.eval()
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: expected TorchScript, found something else ({error}).", "Trace it anew."
        ) from error


def lpips(frames: Frames, reference: Frames, folder: Path) -> Result:
    """Learned perceptual distance (LPIPS, Zhang et al., 2018), 0.., lower is better; mean over frames.

    Caveat: of how things look, not of whether they can be.

    Args:
        frames: (T, H, W, 3) uint8 of the plan.
        reference: (T, H, W, 3) uint8 of the execution, aligned frame by frame.
        folder: where the network lies.

    Raises:
        DataError: shapes differ.
        WeightsError: the network is not there.
    """
    if check_frames("frames", frames).shape != reference.shape:
        raise DataError(f"reference: expected frames of shape {frames.shape}, found {reference.shape}.")
    network = load_network("lpips", folder)
    if not moves(frames):
        return no_motion(STILL)
    import torch

    with torch.inference_mode():
        apart = network(*(_tensor(images).permute(0, 3, 1, 2) for images in (frames, reference)))
    values = np.asarray(apart.numpy(), dtype=np.float64).reshape(-1)
    return measured(float(values.mean()), curve=[round(float(value), 4) for value in values])


def video_distance(name: str, clips: Frames, reference: Frames, folder: Path) -> Result:
    """Frechet distance of two sets of clips on a video network's features (FVD), 0.., lower is better.

    Unterthiner et al., 2018, for `fvd_i3d`; Ge et al., 2024, for `fvd_videomae`. Caveat: of distributions: biased below
    about 2000 clips, and comparable only at equal clip length and size.

    Args:
        name: of the adapter.
        clips: (N >= 2, T, H, W, 3) uint8 of plans.
        reference: (M >= 2, T, H, W, 3) uint8 of real videos.
        folder: where the network lies.

    Raises:
        DataError: there is no such distance, or clips are no clips.
        WeightsError: the network is not there.
    """
    network = load_network(name, folder)
    moving = float(np.mean([moves(clip) for clip in clips]))
    features = [_video_features(network, name, one) for one in (clips, reference)]
    return frechet(features[0], features[1], moving_share=moving)


def _video_features(network: Any, name: str, clips: Frames) -> Any:
    import torch
    from torch.nn.functional import interpolate

    wanted = next(adapter.frames for adapter in ADAPTERS if adapter.name == name)
    rows = []
    with torch.inference_mode():
        for clip in clips:
            count = len(clip) if wanted is None else wanted
            chosen = clip[np.linspace(0, len(clip) - 1, count).round().astype(int)]
            images = interpolate(_tensor(chosen).permute(0, 3, 1, 2), size=(224, 224), mode="bilinear", antialias=True)
            rows.append(network(images.permute(1, 0, 2, 3)[None]).numpy().reshape(-1))
    return np.stack(rows).astype(np.float64)


def _tensor(images: Frames) -> Any:
    """Return uint8 images as float32 in -1..1."""
    import torch

    return torch.from_numpy(images.astype(np.float32)) / 127.5 - 1
