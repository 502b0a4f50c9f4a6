"""Ways to spoil an imagined video, for finding out whether a gate notices: pixels in, pixels out.

Each keeps frame 0 as it is, because a plan that begins elsewhere is told by its first frame alone. What a spoil does to
success is measured, never assumed: a door opens after many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError

Frames = NDArray[np.uint8]
MOST_DRIFT = 0.2  # of the image's width, at strength 1
MOST_MORPH = 0.1
CHANGED_LEVELS = 12.0  # change that counts as motion when one plan's motion is pasted onto another scene


class Spoil(StrEnum):
    """What is done to a plan."""

    NONE = "none"
    FROZEN = "frozen"  # nothing moves, but for camera noise
    EARLY_STOP = "early_stop"  # it stops before the task is done
    WRONG_GOAL = "wrong_goal"  # the motion of another layout, pasted onto this scene
    TELEPORT = "teleport"  # two stretches of time change places
    MORPH = "morph"  # everything bends
    VANISH = "vanish"  # the object is gone from some frame on
    DRIFT = "drift"  # the camera drifts
    OTHER_TASK = "other_task"  # the motion of another instruction


SPOILED = tuple(kind for kind in Spoil if kind is not Spoil.NONE)
NEEDS_OTHER = (Spoil.WRONG_GOAL, Spoil.OTHER_TASK)


def spoil(
    kind: Spoil,
    frames: Frames,
    *,
    strength: float,
    rng: np.random.Generator,
    mask: NDArray[np.bool_] | None = None,
    other: Frames | None = None,
) -> Frames:
    """Return spoiled frames (T, H, W, 3) uint8 of the same shape.

    Args:
        kind: what is done.
        frames: (T, H, W, 3) uint8 of the plan.
        strength: 0 (hardly) .. 1 (thoroughly).
        rng: where chance comes from.
        mask: (H, W) the object in frame 0, for VANISH.
        other: (T, H, W, 3) another plan, for WRONG_GOAL and OTHER_TASK.

    Raises:
        DataError: strength is no share, or what the kind needs is missing.
    """
    if not 0.0 <= strength <= 1.0:
        raise DataError(f"strength: expected a share from 0 to 1, found {strength:g}.")
    if kind is Spoil.NONE:
        return frames
    if kind is Spoil.FROZEN:
        return _frozen(frames, strength, rng)
    if kind is Spoil.EARLY_STOP:
        return _early_stop(frames, strength)
    if kind is Spoil.TELEPORT:
        return _teleport(frames, strength, rng)
    if kind is Spoil.MORPH:
        return _morph(frames, strength, rng)
    if kind is Spoil.DRIFT:
        return _drift(frames, strength, rng)
    if kind is Spoil.VANISH:
        if mask is None or not mask.any():
            raise DataError("vanish: expected the object's mask in frame 0, found none.", "Use a rig that segments.")
        return _vanish(frames, strength, mask)
    if other is None or other.shape != frames.shape:
        raise DataError(f"{kind.value}: expected another plan of shape {frames.shape}, found none of it.")
    return _late_change(frames, _pasted(frames[0], other), strength)


def _frozen(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    still = np.repeat(frames[:1].astype(np.float64), len(frames), axis=0)
    still[1:] += rng.normal(0.0, 2.0 * strength, still[1:].shape)
    return _bytes(still)


def _early_stop(frames: Frames, strength: float) -> Frames:
    last = max(1, round((len(frames) - 1) * (1.0 - 0.75 * strength)))
    return np.concatenate([frames[: last + 1], np.repeat(frames[last : last + 1], len(frames) - last - 1, axis=0)])


def _teleport(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Swap two neighbouring stretches somewhere between frame 1 and the end."""
    count = len(frames) - 1
    length = max(1, round(count / 2 * strength))
    begin = 1 + int(rng.integers(0, count - 2 * length + 1))
    order = np.arange(len(frames))
    order[begin : begin + 2 * length] = np.roll(order[begin : begin + 2 * length], length)
    return frames[order]


def _morph(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Bend every frame by one smooth random field that grows with time."""
    import cv2

    height, width = frames.shape[1:3]
    coarse = rng.normal(size=(4, 4, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    field *= MOST_MORPH * width * strength / max(float(np.abs(field).max()), 1e-6)
    return _remapped(frames, lambda share: field * share)


def _drift(frames: Frames, strength: float, rng: np.random.Generator) -> Frames:
    """Shift the whole picture more and more into one direction."""
    angle = rng.uniform(0, 2 * np.pi)
    step = np.array([np.cos(angle), np.sin(angle)]) * MOST_DRIFT * frames.shape[2] * strength
    shape = (*frames.shape[1:3], 2)
    return _remapped(frames, lambda share: np.broadcast_to(step * share, shape).astype(np.float32))


def _remapped(frames: Frames, field_at: Callable[[float], NDArray[np.float32]]) -> Frames:
    import cv2

    height, width = frames.shape[1:3]
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    result = [frames[0]]
    for t in range(1, len(frames)):
        field = field_at(t / (len(frames) - 1))
        bent = cv2.remap(
            frames[t], u + field[..., 0], v + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        result.append(np.asarray(bent, dtype=np.uint8))
    return np.stack(result)


def _vanish(frames: Frames, strength: float, mask: NDArray[np.bool_]) -> Frames:
    """Paint the object over with its surroundings, where it was and wherever its colours turn up."""
    import cv2

    begin = max(1, round((len(frames) - 1) * (1.0 - 0.8 * strength)))
    hidden = np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=np.uint8)
    colours = _own_colours(frames[0], mask)
    result = frames.copy()
    for t in range(begin, len(frames)):
        index = tuple(np.moveaxis(frames[t] // 16, -1, 0))
        gone = np.asarray(cv2.dilate(colours[index].astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=np.uint8)
        still_there = np.abs(frames[t].astype(np.int16) - frames[0]).mean(-1) < CHANGED_LEVELS
        gone |= hidden * still_there.astype(np.uint8)
        result[t] = cv2.inpaint(frames[t], gone, 3, cv2.INPAINT_TELEA)
    return result


def _own_colours(image: Frames, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(16, 16, 16) colours most of whose pixels lie on the object."""
    inside, outside = np.zeros((16, 16, 16)), np.zeros((16, 16, 16))
    bins = np.moveaxis(image // 16, -1, 0)
    np.add.at(inside, tuple(channel[mask] for channel in bins), 1.0)
    np.add.at(outside, tuple(channel[~mask] for channel in bins), 1.0)
    return inside > outside


def _pasted(scene: Frames, other: Frames) -> Frames:
    """Return the motion of `other` on top of `scene` (H, W, 3): what changes there is shown here."""
    import cv2

    result = [scene]
    for frame in other[1:]:
        changed = (np.abs(frame.astype(np.int16) - other[0]).mean(-1) > CHANGED_LEVELS).astype(np.float32)
        soft = cv2.GaussianBlur(cv2.dilate(changed, np.ones((3, 3), np.uint8)), (3, 3), 0)[..., None]
        result.append(_bytes(soft * frame + (1 - soft) * scene))
    return np.stack(result)


def _late_change(frames: Frames, other: Frames, strength: float) -> Frames:
    """Return `frames` up to a moment and `other` from then on; at strength 1 from the beginning."""
    begin = 1 + round((1.0 - strength) * 0.5 * (len(frames) - 1))
    return np.concatenate([frames[:begin], other[begin:]])


def _bytes(values: NDArray[Any]) -> Frames:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)
