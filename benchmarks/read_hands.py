"""Reads where the hand is in recorded videos by inverse dynamics, so that a planner learns its path without labels.

Views of one episode are weighed by how sure the reading is. Nothing recorded of the hand is looked at, but for the
errors that are printed.

    python benchmarks/read_hands.py data/films --weights idm/weights/wide-1 -o data/hands.npz
    cascade train planner data/films -o train/planner --set hands=[data/hands.npz]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.contracts import CascadeError, DataError, Episode
from cascade.dataset.reader import open_datasets
from idm.frames import squeezed
from idm.reading import PlanFrameReader
from idm.weights import load_network


def main() -> None:
    """Write position_m, opening, std_m of all frames, and task, seed, length and error_mm of their episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="recorded episodes")
    parser.add_argument("--weights", type=Path, required=True, help="of inverse dynamics that knows the cameras")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        write(args.data, args.weights, args.threads, args.output)
    except CascadeError as error:
        raise SystemExit(str(error)) from None


def write(data: list[str], weights: Path, threads: int, output: Path) -> None:
    """Read all episodes and write what was read."""
    net = load_network(weights).eval()
    reader = PlanFrameReader(net, threads=threads)
    episodes = open_datasets(data)
    rows = []
    for number in range(len(episodes)):
        rows.append(read(net, reader, episodes[number]))
        if number % 50 == 49 or number + 1 == len(episodes):
            error = np.concatenate([row["error_mm"] for row in rows])
            print(
                f"{number + 1} of {len(episodes)}: {np.median(error):.1f} mm median, {error.mean():.1f} mean",
                flush=True,
            )
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(output, **{key: np.concatenate([row[key] for row in rows]) for key in rows[0]})


@torch.inference_mode()
def read(net: Any, reader: PlanFrameReader, episode: Episode) -> dict[str, np.ndarray]:
    """Return the hand in every frame of an episode, and how far that is from the hand that was recorded."""
    size = int(net.config["image_size_px"])
    seen = [camera for camera in reader.cameras if camera in episode.frames]
    if not seen:
        raise DataError(
            f"{episode.task} seed {episode.seed}: expected a camera that these weights know "
            f"({', '.join(reader.cameras)}), found {', '.join(episode.frames)}."
        )
    position, opening, spread = [], [], []
    for camera in seen:
        pixels, _ = squeezed(np.asarray(episode.frames[camera]), episode.K[camera], size)
        pose = net.pose(reader.encode(pixels, camera))
        position.append(pose.position_m.double().numpy())
        opening.append(np.clip(pose.opening.double().numpy(), 0, 1))
        spread.append(pose.log_std_m.double().exp().square().mean(1).sqrt().numpy())
    sure = 1 / np.square(spread)
    share = sure / sure.sum(0)
    hand = (share[..., None] * np.array(position)).sum(0)
    return {
        "position_m": hand.astype(np.float32),
        "opening": (share * np.array(opening)).sum(0).astype(np.float32),
        "std_m": (1 / np.sqrt(sure.sum(0))).astype(np.float32),
        "task": np.array([episode.task]),
        "seed": np.array([episode.seed]),
        "length": np.array([len(hand)]),
        "error_mm": np.linalg.norm(hand - episode.ee_position_m, axis=1).mean(keepdims=True) * 1000,
    }


if __name__ == "__main__":
    main()
