"""Draws recorded play once more through the planner's auto-encoder, as extra frames for `cascade train idm`.

A plan's pixels come out of that decoder, so inverse dynamics should have read some. Labels stay those of play. Part of
the latents are shaken or mixed with a neighbour's (and so are their labels), as an unsure planner does.

    python benchmarks/decoded_play.py data/play --autoencoder planner/weights/embedded-1/ae -o data/decoded.npz
    cascade train idm data/play -o data/train/idm-2 --minutes 6 --set threads=1 --set learning_rate=4e-4 \
        --set init=idm/weights/corner-1 --set extra_frames=data/decoded.npz --set extra_share=0.4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cascade.dataset.reader import open_datasets
from idm.frames import LabelledFrames, load_play
from idm.precision import has_bf16
from planner.networks.autoencoder import FrameAutoencoder
from planner.storage import load_network

NEAR_M, NEAR_OPENING = 0.06, 0.35  # frames whose hands are farther apart are not mixed: no label would be true


def main() -> None:
    """Write frames, position_m, opening and episode of as many frames as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="recorded play")
    parser.add_argument("--autoencoder", type=Path, required=True, help="folder 'ae' of planner weights")
    parser.add_argument("--camera", default="corner")
    parser.add_argument("--frames", type=int, default=14000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    play, _ = load_play(open_datasets(args.data), args.camera, 128)
    coder = load_network(FrameAutoencoder, args.autoencoder, torch.float32).eval().to(memory_format=torch.channels_last)
    rng = np.random.default_rng(args.seed)
    chosen = np.sort(rng.choice(len(play), min(args.frames, len(play)), replace=False))
    frames = np.empty((len(chosen), *play.frames.shape[1:]), np.uint8)
    position, opening = play.position_m[chosen].copy(), play.opening[chosen].copy()
    for start in range(0, len(chosen), 32):
        part = slice(start, start + 32)
        frames[part], position[part], opening[part] = redrawn(coder, play, chosen[part], rng)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.output, frames=frames, position_m=position, opening=opening, episode=play.episode[chosen])


@torch.inference_mode()
def redrawn(
    coder: FrameAutoencoder, play: LabelledFrames, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, positions and openings of some rows after the auto-encoder; half of them shaken or mixed."""
    first = play.first[rows] + (rng.random(len(rows)) ** 2 * (rows - play.first[rows])).astype(np.int64)
    other = np.clip(rows + rng.choice([-3, -2, -1, 1, 2, 3], len(rows)), play.first[rows], play.last[rows])
    near = np.linalg.norm(play.position_m[other] - play.position_m[rows], axis=1) < NEAR_M
    near &= np.abs(play.opening[other] - play.opening[rows]) < NEAR_OPENING
    share = np.where(near & (rng.random(len(rows)) < 0.4), rng.uniform(0, 0.5, len(rows)), 0).astype(np.float32)
    noise = np.where(rng.random(len(rows)) < 0.4, rng.uniform(0, 0.5, len(rows)), 0).astype(np.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
        latents, mixed = (coder.encode(images(play.frames[i])).float() for i in (rows, other))
        weight = torch.from_numpy(share)[:, None, None, None]
        latents = latents + weight * (mixed - latents)
        shake = torch.from_numpy(rng.normal(size=latents.shape).astype(np.float32))
        latents = latents + torch.from_numpy(noise)[:, None, None, None] * latents.std() * shake
        drawn = coder.decode(latents, images(play.frames[first])).float()
    pixels = ((drawn + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    position = play.position_m[rows] + share[:, None] * (play.position_m[other] - play.position_m[rows])
    return pixels, position, play.opening[rows] + share * (play.opening[other] - play.opening[rows])


def images(pixels: np.ndarray) -> torch.Tensor:
    """(B, 3, H, W) in -1..1."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return values.contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
