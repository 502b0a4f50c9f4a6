"""What was planned beside what happened: one picture of a failed attempt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import CameraImage, VideoPlan
from cascade.failures.evidence import targets_of
from cascade.failures.expert import Need
from cascade.failures.witness import Account

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
COLUMNS = 5
SIDE_PX = 192  # of each frame
QUALITY = 80
# RGB, the report's colours: what was read in the plan, what the hand did, where the expert touches and ends.
READ, HAND, EXPERT = (230, 159, 0), (86, 180, 233), (0, 200, 140)


def write_picture(path: Path, account: Account, need: Need | None, image: CameraImage) -> bool:
    """Write the first plan above its execution as WebP; False where nothing was planned or filmed.

    Upper row: frames of the plan with the path that was read in it. Lower row: what the camera saw meanwhile, with the
    hand's way up to then. A ring marks where the expert's hand is when it touches the object, a cross where it ends.

    Args:
        path: file to write; its folder is made.
        account: of the episode.
        need: how the expert solves it, None when unknown.
        image: of the plan's camera, for its calibration.
    """
    import cv2

    plan = account.plans.get(0)
    steps = [i + 1 for i, moment in enumerate(account.moments) if moment.plan == 0 and not moment.back]
    seen = [step for step in sorted(account.pictures) if step == 0 or step in set(steps)]
    if plan is None or not seen:
        return False
    read = targets_of(account.chunks.get(0, []), account.start_m)
    hand = np.array([account.start_m, *(moment.hand_m for moment in account.moments)])
    marks = [] if need is None else [need.contact_m, need.goal_m]
    upper = [_drawn(plan.frames[i], read, READ, marks, plan, image) for i in _spread(len(plan.frames))]
    lower = []
    for i in _spread(len(seen)):
        frame = plan.transform.apply(account.pictures[seen[i]])
        lower.append(_drawn(frame, hand[: seen[i] + 1], HAND, marks, plan, image))
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in (upper, lower)], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".webp", sheet[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if done:
        path.write_bytes(data.tobytes())
    return bool(done)


def _spread(count: int) -> list[int]:
    return [round(i) for i in np.linspace(0, count - 1, COLUMNS)]


def _drawn(
    frame: Image, way_m: Floats, colour: tuple[int, int, int], marks: list[Floats], plan: VideoPlan, image: CameraImage
) -> Image:
    """Return a plan frame, enlarged, with a way and the expert's places."""
    import cv2

    canvas = cv2.resize(frame, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    canvas = np.ascontiguousarray(canvas)
    points = _pixels(way_m, plan, image)
    if points is not None and len(points) > 1:
        cv2.polylines(canvas, [points], False, colour, 1, cv2.LINE_AA)
    for number, mark in enumerate(marks):
        place = _pixels(mark[None], plan, image)
        if place is None:
            continue
        u, v = (int(value) for value in place[0])
        if number == 0:
            cv2.circle(canvas, (u, v), 7, EXPERT, 2, cv2.LINE_AA)
        else:
            cv2.drawMarker(canvas, (u, v), EXPERT, cv2.MARKER_TILTED_CROSS, 11, 2, cv2.LINE_AA)
    return np.asarray(canvas, dtype=np.uint8)


def _pixels(points_m: Floats, plan: VideoPlan, image: CameraImage) -> NDArray[np.int32] | None:
    """Return (N, 2) pixels of an enlarged plan frame; None without calibration or behind the camera."""
    if image.T_base_cam is None:
        return None
    T = np.linalg.inv(image.T_base_cam)
    seen = points_m @ T[:3, :3].T + T[:3, 3]
    if (seen[:, 2] <= 0.01).any():
        return None
    uv = seen @ plan.transform.intrinsics(image.K).T
    scale = SIDE_PX / np.array(plan.transform.size_px)
    return np.asarray(np.round(np.clip(uv[:, :2] / uv[:, 2:] * scale, -4 * SIDE_PX, 4 * SIDE_PX)), dtype=np.int32)
