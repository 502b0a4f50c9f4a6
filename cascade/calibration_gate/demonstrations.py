"""Demonstrations for the goal check: the first image of a layout, and where the expert's hand went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.config import RigConfig
from cascade.contracts.errors import ConfigError, DataError
from cascade.contracts.interfaces import Demonstrator, EpisodeSource, Rig
from cascade.contracts.records import ImageTransform
from cascade.goal import Example
from cascade.plugins import build_plugin

ONLY_FIRST = 1_000_000  # an image every so many steps: of the first one only
SAVE_EVERY = 20


def demonstrate(
    rig: RigConfig,
    tasks: Sequence[str],
    seeds: Sequence[int],
    path: Path,
    *,
    camera: str,
    size_px: int,
    on_row: Callable[[], None] = lambda: None,
) -> list[Example]:
    """Let the rig's expert show every task on every layout; those in the file `path` are not shown again.

    Args:
        rig: a simulated one.
        tasks: their names.
        seeds: of the layouts.
        path: file that keeps what was shown.
        camera: view of the first image.
        size_px: side of the square image, as plans have it.
        on_row: called after each layout.

    Raises:
        ConfigError: the file cannot be written.
    """
    known = _read(path)
    built: Rig = build_plugin("rig", rig.plugin, {**rig.options, "arm_process": False, "cameras": [camera]})
    expert: Demonstrator = build_plugin("demonstrator", "expert")
    new = 0
    with built:
        for seed in seeds:
            for task in tasks:
                key = f"{task}-{seed}"
                if key not in known:
                    known[key] = _shown(built, expert, task, seed, camera, size_px)
                    new += 1
                    if new % SAVE_EVERY == 0:
                        _write(path, known)
                on_row()
    if new:
        _write(path, known)
    wanted = [known[f"{task}-{seed}"] for seed in seeds for task in tasks]
    return [example for example in wanted if example is not None]


def examples_of(episodes: EpisodeSource, *, camera: str, size_px: int) -> list[Example]:
    """Return recorded demonstrations that succeeded as examples.

    Raises:
        DataError: a camera is missing.
    """
    found = []
    for number in range(len(episodes)):
        episode = episodes[number]
        if not episode.success:
            continue
        if camera not in episode.frames:
            raise DataError(f"episode {number}: expected camera {camera!r}, found {', '.join(episode.frames)}.")
        image = _square(episode.frames[camera][0], size_px)
        found.append(
            Example(
                instruction=episode.instruction,
                image=image,
                path_m=episode.ee_position_m,
                opening=episode.gripper_opening,
            )
        )
    return found


def _shown(rig: Rig, expert: Demonstrator, task: str, seed: int, camera: str, size_px: int) -> Example | None:
    steps = list(expert.demonstrate(rig, task=task, seed=seed, every=ONLY_FIRST))
    first = steps[0].observation
    if first is None or not any(step.success for step in steps):
        return None
    return Example(
        instruction=rig.monitor.instruction if rig.monitor else "",
        image=_square(first.image(camera).rgb, size_px),
        path_m=np.array([step.state.position_m for step in steps]),
        opening=np.array([step.state.gripper_opening for step in steps]),
    )


def _square(image: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return ImageTransform.centre_square(width, height, size_px).apply(image)


def _write(path: Path, known: dict[str, Example | None]) -> None:
    kept = {key: example for key, example in known.items() if example is not None}
    arrays: dict[str, Any] = {
        "keys": np.array(list(kept)),
        "failed": np.array([key for key, example in known.items() if example is None], dtype=str),
        "instructions": np.array([example.instruction for example in kept.values()]),
        "images": np.stack([example.image for example in kept.values()]),
        "lengths": np.array([len(example.path_m) for example in kept.values()]),
        "paths": np.concatenate([example.path_m for example in kept.values()]),
        "openings": np.concatenate([example.opening for example in kept.values()]),
    }
    try:
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, **arrays)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).", "Choose another folder.") from error


def _read(path: Path) -> dict[str, Example | None]:
    if not path.is_file():
        return {}
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    ends = np.cumsum(arrays["lengths"])
    known: dict[str, Example | None] = dict.fromkeys(map(str, arrays["failed"]))
    for number, key in enumerate(arrays["keys"]):
        part = slice(int(ends[number] - arrays["lengths"][number]), int(ends[number]))
        known[str(key)] = Example(
            instruction=str(arrays["instructions"][number]),
            image=arrays["images"][number],
            path_m=arrays["paths"][part],
            opening=arrays["openings"][part],
        )
    return known
