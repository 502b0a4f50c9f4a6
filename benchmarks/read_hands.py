"""Reads where the hand is in recorded videos, so that a planner learns its path without anybody having recorded one.

Two ways: inverse dynamics that has learnt from play (`--weights`), which reads each view by itself and weighs views by
how sure it is; or the colours of the gripper's pads (`--pads`), triangulated between two views or more, with nothing
learnt. Nothing recorded of the hand is looked at, but for the errors that are printed.

    python benchmarks/read_hands.py data/films --weights idm/weights/wide-1 -o data/hands.npz
    python benchmarks/read_hands.py data/films --pads -o data/hands.npz
    cascade train planner data/films -o train/planner --set hands=[data/hands.npz]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.contracts import CascadeError, DataError, Episode
from cascade.dataset.reader import open_datasets
from flowact.finger_pads import SAWYER, read_pads
from idm.frames import squeezed
from idm.reading import PlanFrameReader
from idm.weights import load_network

Hand = tuple[NDArray[np.float64], NDArray[np.float64]]  # (T, 3) metres, (T,) 0..1


def main() -> None:
    """Write position_m and opening of all frames, and task, seed and length of their episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="recorded episodes")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--weights", type=Path, help="of inverse dynamics that knows the cameras")
    how.add_argument("--pads", action="store_true", help="by the gripper's pads, seen by two cameras or more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        write(args.data, by_pads if args.pads else by_play(args.weights, args.threads), args.output)
    except CascadeError as error:
        raise SystemExit(str(error)) from None


def write(data: list[str], read: Callable[[Episode], Hand | None], output: Path) -> None:
    """Read all episodes that succeeded, the ones a planner learns from, and write what was read; of others, nothing."""
    episodes = open_datasets(data)
    rows: list[dict[str, NDArray[np.generic]]] = []
    errors_mm: list[float] = []
    for number in range(len(episodes)):
        episode = episodes[number]
        hand = read(episode) if episode.success else None
        rows.append(row(episode, hand))
        if hand is not None:
            errors_mm.append(1000 * np.linalg.norm(hand[0] - episode.ee_position_m, axis=1).mean())
        elif episode.success:
            print(f"{episode.task} seed {episode.seed}: the hand is hardly seen, left out", flush=True)
        if errors_mm and (number % 50 == 49 or number + 1 == len(episodes)):
            middle, mean = np.median(errors_mm), np.mean(errors_mm)
            print(f"{number + 1} of {len(episodes)}: {middle:.1f} mm median, {mean:.1f} mean", flush=True)
    if not errors_mm:
        raise DataError(f"{', '.join(data)}: expected demonstrations that show the hand, found none.")
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez(output, **{key: np.concatenate([row[key] for row in rows]) for key in rows[0]})


def row(episode: Episode, hand: Hand | None) -> dict[str, NDArray[np.generic]]:
    """Return what is written of one episode, a reading of no frames where there is none."""
    position, opening = hand or (np.zeros((0, 3)), np.zeros(0))
    return {
        "position_m": position.astype(np.float32),
        "opening": opening.astype(np.float32),
        "task": np.array([episode.task]),
        "seed": np.array([episode.seed]),
        "length": np.array([len(position)]),
    }


def by_pads(episode: Episode) -> Hand | None:
    """Read the hand by its pads in all views together; None where two views hardly ever see them."""
    frames = {camera: np.asarray(video) for camera, video in episode.frames.items()}
    return read_pads(frames, episode.K, episode.T_base_cam, SAWYER)


def by_play(weights: Path, threads: int) -> Callable[[Episode], Hand]:
    """Return what reads the hand in every view by itself, and their mean by how sure each is."""
    net = load_network(weights).eval()
    reader = PlanFrameReader(net, threads=threads)
    size = int(net.config["image_size_px"])

    @torch.inference_mode()
    def read(episode: Episode) -> Hand:
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
        return (share[..., None] * np.array(position)).sum(0), (share * np.array(opening)).sum(0)

    return read


if __name__ == "__main__":
    main()
