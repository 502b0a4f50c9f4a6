"""Physical commonsense: does the imagined world behave? Metrics 8 to 15."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.contracts import DataError
from cascade.metrics.arrays import Bools, Floats, Frames
from cascade.metrics.image_motion import STILL, Tracks, check_frames, moves, track
from cascade.metrics.paths import MIN_PATH_M, extent
from cascade.metrics.result import Result, measured, no_motion, unavailable

BACKGROUND_RATE = 0.1  # how fast the running background forgets
MASK_LEVELS = 20.0  # change against the background that counts as motion [grey levels]
BACKGROUND_POINTS = 200
FEW = 4  # tracks below which a fit says nothing


def motion_masks(frames: Frames) -> Bools:
    """Return (T, H, W) where each frame differs from a running background that starts as frame 0."""
    background = frames[0].astype(np.float64)
    masks = []
    for frame in frames.astype(np.float64):
        masks.append(np.abs(frame - background).mean(axis=-1) > MASK_LEVELS)
        background += BACKGROUND_RATE * (frame - background)
    return np.stack(masks)


def motion_mask_iou(frames: Frames, reference: Frames, *, repeat_iou: float = 1.0) -> Result:
    """Overlap of where things move, 0..1, higher is better: the spatio-temporal form; others in `detail`.

    Follows Physics-IQ (Motamed et al., 2025): spatial (ever moved), spatio-temporal (frame by frame), weighted (how
    often). Caveat: says where and when, not what.

    Args:
        frames: (T, H, W, 3) uint8 of the plan.
        reference: (T, H, W, 3) uint8 of the execution, aligned frame by frame.
        repeat_iou: the same number between two real takes of one command, which is the best that can be had.
    """
    check_frames("frames", frames)
    if frames.shape != reference.shape:
        raise DataError(f"reference: expected frames of shape {frames.shape}, found {reference.shape}.")
    if not moves(frames):
        return no_motion(STILL)
    a, b = motion_masks(frames), motion_masks(reference)
    often_a, often_b = a.mean(0), b.mean(0)
    most = np.maximum(often_a, often_b).sum()
    spatial = _iou(often_a > 0, often_b > 0)
    weighted = float(np.minimum(often_a, often_b).sum() / most) if most else 0.0
    value = min(1.0, _iou(a, b) / max(repeat_iou, 1e-6))
    return measured(value, spatial=spatial, weighted=weighted, repeat_iou=repeat_iou)


def _iou(a: Bools, b: Bools) -> float:
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 0.0


def rigid_residual(frames: Frames, mask: Bools) -> Result:
    """RMS distance of a body's points from the best similarity between frames [px], 0.., lower is better.

    Lucas-Kanade tracks, RANSAC similarity, all living tracks counted; mean over steps, the worst in `detail`.
    High on morphing and teleports. Caveat: turning out of the image plane is not a similarity and costs a little.

    Args:
        frames: (T, H, W, 3) uint8.
        mask: (H, W) the body in frame 0.
    """
    import cv2

    if not moves(frames):
        return no_motion(STILL)
    tracks = track(frames, _inner(mask))
    residuals: list[float] = []
    for t in range(len(frames) - 1):
        alive = tracks.alive[t + 1]
        if int(alive.sum()) < FEW:
            continue
        source, target = tracks.points_px[t][alive], tracks.points_px[t + 1][alive]
        A, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=1.0)
        if A is not None:
            residuals.append(float(np.sqrt(((source @ A[:, :2].T + A[:, 2] - target) ** 2).sum(1).mean())))
    if 2 * len(residuals) < len(frames) - 1:
        return unavailable(f"4 points of the body can be followed in only {len(residuals)} of {len(frames) - 1} steps")
    return measured(float(np.mean(residuals)), worst=max(residuals), steps=len(residuals), of_steps=len(frames) - 1)


def _inner(mask: Bools) -> Bools:
    """The mask without its rim, where points belong half to the background; all of it when little would be left."""
    import cv2

    inner = np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0, dtype=np.bool_)
    return inner if inner.sum() >= max(20.0, 0.3 * mask.sum()) else mask


def track_survival(frames: Frames, mask: Bools | None = None, *, tracks: Tracks | None = None) -> Result:
    """Share of tracks that pass forward-backward through the whole clip, 0..1, higher is better.

    Caveat: honest occlusion by the arm ends tracks too; compare plans of one scene.

    Args:
        frames: (T, H, W, 3) uint8.
        mask: (H, W) where to look in frame 0, None for everywhere.
        tracks: of these frames, where they are known already.
    """
    if not moves(frames):
        return no_motion(STILL)
    alive = (track(frames, mask) if tracks is None else tracks).alive
    if alive.shape[1] < FEW:
        return unavailable("fewer than 4 corners in frame 0")
    return measured(float(alive[-1].mean()), tracks=alive.shape[1])


def object_permanence(
    frames: Frames,
    mask: Bools,
    *,
    occluded: Bools | None = None,
    gripper_px: Floats | None = None,
    reach_px: float = 0.0,
) -> Result:
    """Least share of the object's colours still seen in the last third of the clip, 0..1, higher is better.

    A colour model of the object against the rest of frame 0 counts its pixels later on. Caveat: an object in the
    colours of its surroundings cannot be judged; one that is carried behind the arm must be excused.

    Args:
        frames: (T, H, W, 3) uint8.
        mask: (H, W) the object in frame 0.
        occluded: (T,) frames in which something nearer hides it, which do not count.
        gripper_px: (T, 2) the gripper; frames in which it is within `reach_px` of where the object was last seen do
            not count either, so that what vanishes in the hand is not found.
        reach_px: see `gripper_px`.
    """
    if not moves(frames):
        return no_motion(STILL)
    if not mask.any() or mask.all():
        return unavailable("the object's mask is empty or covers everything")
    # A colour is the object's where most of its pixels in frame 0 are on the object.
    model = _histogram(frames[0], mask) > _histogram(frames[0], ~mask)
    seen = np.stack([model[_bins(frame)] for frame in frames])
    areas = seen.sum(axis=(1, 2)).astype(np.float64)
    if areas[0] < 0.3 * mask.sum():
        return unavailable("the object has the colours of its surroundings")
    tail = np.arange(len(frames)) >= 2 * len(frames) // 3
    if occluded is not None:
        tail &= ~occluded
    shares = np.minimum(1.0, areas / areas[0])
    if gripper_px is not None:
        tail &= np.linalg.norm(_last_seen(seen, shares) - gripper_px, axis=1) > reach_px
    if not tail.any():
        return unavailable("the object is occluded, or at the gripper, in all of the last third")
    return measured(float(shares[tail].min()), curve=[round(float(s), 4) for s in shares])


def object_untouched(frames: Frames, mask: Bools, gripper_px: Floats, *, reach_px: float) -> Result:
    """Least share of the object that looks as in frame 0 while the gripper is far from it, 0..1, higher is better.

    Before the gripper gets there, nothing can have changed it. Caveat: the arm behind the gripper may hide it, and what
    vanishes in the hand or later is not found; `object_permanence` looks at the end.

    Args:
        frames: (T, H, W, 3) uint8.
        mask: (H, W) the object in frame 0.
        gripper_px: (T, 2) the gripper.
        reach_px: distance from the object's nearest pixel at which the gripper has got there.
    """
    if not moves(frames):
        return no_motion(STILL)
    inner = _inner(mask)
    if not inner.any():
        return unavailable("the object's mask is empty")
    rows, columns = np.nonzero(mask)
    place = np.column_stack([columns, rows]).astype(np.float64)
    there = [t for t, px in enumerate(gripper_px) if _nearest(place, px) <= reach_px]
    until = there[0] if there else len(frames)
    if until < 2:
        return unavailable("the gripper begins at the object")
    change = np.abs(frames[1:until].astype(np.int16) - frames[0])[:, inner].mean(-1)
    seen = (change < MASK_LEVELS).mean(axis=1)
    return measured(float(seen.min()), frames=until - 1, curve=[round(float(s), 3) for s in seen])


def _last_seen(seen: Bools, shares: Floats) -> Floats:
    """(T, 2) median pixel (x, y) of what is seen of the object; while little is, where it was before."""
    places = np.zeros((len(seen), 2))
    for t, image in enumerate(seen):
        rows, columns = np.nonzero(image)
        places[t] = (np.median(columns), np.median(rows)) if shares[t] > 0.5 else places[t - 1]
    return places


def _bins(image: Frames) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    r, g, b = np.moveaxis(image.astype(np.intp) // 16, -1, 0)
    return np.asarray(r), np.asarray(g), np.asarray(b)


def _histogram(image: Frames, mask: Bools) -> Floats:
    counts = np.zeros((16, 16, 16))
    np.add.at(counts, tuple(channel[mask] for channel in _bins(image)), 1.0)
    return counts


def teleport(path_m: Floats, *, max_step_m: float) -> Result:
    """Longest step of the hand over the longest possible one, 0.., lower is better; above 1 is impossible.

    Args:
        path_m: (T, 3) imagined end-effector path.
        max_step_m: greatest speed times the time between frames; where a plan's time is only ordinal, the longest
            step the arm is ever asked for, which finds only gross jumps.
    """
    if extent(path_m) < MIN_PATH_M:
        return no_motion("the hand hardly moves")
    steps = np.linalg.norm(np.diff(path_m, axis=0), axis=1)
    return measured(float(steps.max()) / max_step_m, step_m=float(steps.max()), frame=int(steps.argmax()) + 1)


def three_d_consistency(frames: Frames, depth_m: NDArray[np.float32], K: Floats, static: Bools) -> Result:
    """RMS distance of static points from where they were in frame 0, in 3-D [m], 0.., lower is better.

    Points are tracked in the image and lifted with the depth of each frame. Caveat: needs metric depth of every
    frame, which only a sensor or a depth model has.

    Args:
        frames: (T, H, W, 3) uint8.
        depth_m: (T, H, W) z-depth [m], NaN where unknown.
        K: (3, 3) intrinsics.
        static: (H, W) what does not move, in frame 0; the camera is fixed.
    """
    if not moves(frames):
        return no_motion(STILL)
    tracks = track(frames, static)
    steady = tracks.alive[-1]
    points = np.stack(
        [_lift(tracks.points_px[t][steady], depth_m[t].astype(np.float64), K) for t in range(len(frames))]
    )
    points = points[:, np.isfinite(points).all(axis=(0, 2))]
    if points.shape[1] < FEW:
        return unavailable("fewer than 4 static points have depth in every frame")
    residual = np.sqrt(((points[1:] - points[0]) ** 2).sum(-1).mean(1))
    size = np.linalg.norm(points - points.mean(1, keepdims=True), axis=-1).mean(1)
    return measured(float(residual.max()), size_drift=float(size.std() / size.mean()), points=points.shape[1])


def _lift(uv: Floats, depth_m: Floats, K: Floats) -> Floats:
    column, row = np.clip(np.rint(uv).astype(int), 0, np.array(depth_m.shape)[::-1] - 1).T
    rays = np.column_stack([uv + 0.5, np.ones(len(uv))]) @ np.linalg.inv(K).T
    return np.asarray(rays * depth_m[row, column][:, None], dtype=np.float64)


def camera_stillness(frames: Frames, background: Bools | None = None, *, tracks: Tracks | None = None) -> Result:
    """Greatest displacement of the background by a drifting camera [px], 0.., lower is better.

    A homography of tracked points from frame 0 to each frame, by RANSAC: most of the picture is background. It is
    looked up where the points are, since towards the corners it would be a guess. Needed
    beside agreement, which hardly sees a drifting camera. Caveat: only for cameras that stand still.

    Args:
        frames: (T, H, W, 3) uint8.
        background: (H, W) where to look in frame 0, None for everywhere.
        tracks: of these frames, where they are known already.
    """
    import cv2

    if not moves(frames):
        return no_motion(STILL)
    tracks = track(frames, background, max_points=BACKGROUND_POINTS) if tracks is None else tracks
    drift: list[float] = []
    for t in range(1, len(frames)):
        alive = tracks.alive[t]
        if int(alive.sum()) < 2 * FEW:
            continue
        points = tracks.points_px[0][alive]
        H, inlier = cv2.findHomography(points, tracks.points_px[t][alive], cv2.RANSAC, 1.0)
        if H is not None:
            fixed = points[inlier.ravel() > 0].reshape(-1, 1, 2)
            moved = cv2.perspectiveTransform(fixed, H) - fixed
            drift.append(float(np.linalg.norm(moved.reshape(-1, 2), axis=1).mean()))
    if not drift:
        return unavailable("fewer than 8 background points can be followed")
    return measured(max(drift), curve=[round(d, 3) for d in drift])


def unsupported_motion(
    object_px: Tracks, gripper_px: Floats, *, reach_px: float, frames: Frames, still_px: float = 0.5
) -> Result:
    """Share of the object's way made with the gripper out of reach and not downwards, 0..1, lower is better.

    Catches things that move by themselves. Caveat: in the image only, so a gripper far in front or behind passes.

    Args:
        object_px: tracks on the object.
        gripper_px: (T, 2) the gripper in each frame.
        reach_px: farthest from any point of the object that the gripper can still be said to move it.
        frames: (T, H, W, 3) the plan.
        still_px: steps below this are noise.
    """
    if not moves(frames):
        return no_motion(STILL)
    way, alone = 0.0, 0.0
    for t in range(len(gripper_px) - 1):
        alive = object_px.alive[t + 1]
        if int(alive.sum()) < FEW:
            continue
        before, after = object_px.points_px[t][alive], object_px.points_px[t + 1][alive]
        step = np.median(after - before, axis=0)
        length = float(np.linalg.norm(step))
        if length < still_px:
            continue
        way += length
        near = min(_nearest(before, gripper_px[t]), _nearest(after, gripper_px[t + 1]))
        falling = step[1] > 0.7 * length
        alone += 0.0 if near <= reach_px or falling else length
    if way < 2.0:
        return no_motion("the object hardly moves, as far as it can be followed")
    return measured(alone / way, way_px=way)


def _nearest(points: Floats, place: Floats) -> float:
    return float(np.linalg.norm(points - place, axis=1).min())
