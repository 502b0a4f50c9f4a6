"""Visual fidelity: does the imagined video look like what was executed? Metrics 1 to 7.

Good looks do not make a plan executable: print these, never rank planners by them.
"""

from __future__ import annotations

import numpy as np

from cascade.contracts import DataError
from cascade.metrics.arrays import Floats, Frames
from cascade.metrics.image_motion import FORWARD_BACKWARD_PX, STILL, Flow, check_frames, moves, sample
from cascade.metrics.result import Result, measured, no_motion, unavailable

SAME_PSNR_DB = 99.0  # reported for identical images, whose true value is infinite
MIN_DEGREE_PX = 0.3  # dynamic degree below which flow-based scores mean nothing
MIN_MOVING_SHARE = 0.5  # of the clips behind a set of features


def _image_psnr(a: Frames, b: Frames) -> float:
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return SAME_PSNR_DB if error < 1e-6 else min(SAME_PSNR_DB, float(10 * np.log10(255.0**2 / error)))


def _check_pair(frames: Frames, reference: Frames) -> None:
    check_frames("frames", frames)
    if frames.shape != reference.shape:
        raise DataError(f"reference: expected frames of shape {frames.shape}, found {reference.shape}.")


def psnr(frames: Frames, reference: Frames) -> Result:
    """Peak signal-to-noise ratio [dB], 0..99, higher is better; mean over frames, the curve in `detail`.

    Caveat: a few grey levels of offset cost more than a missing object.
    """
    _check_pair(frames, reference)
    if not moves(frames):
        return no_motion(STILL)
    curve = [_image_psnr(a, b) for a, b in zip(frames, reference, strict=True)]
    return measured(float(np.mean(curve)), curve=_rounded(curve))


def ssim(frames: Frames, reference: Frames) -> Result:
    """Structural similarity (Wang et al., 2004), -1..1, higher is better; mean over frames and colour channels.

    Gaussian window 11, sigma 1.5, data range 255, borders without a full window left out; other settings give other
    numbers. Caveat: nearly blind to small objects.
    """
    _check_pair(frames, reference)
    if not moves(frames):
        return no_motion(STILL)
    if min(frames.shape[1:3]) < 11:
        return unavailable("needs frames of at least 11 x 11 px")
    curve = [_image_ssim(a, b) for a, b in zip(frames, reference, strict=True)]
    return measured(float(np.mean(curve)), curve=_rounded(curve))


def _image_ssim(a: Frames, b: Frames) -> float:
    import cv2

    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def blur(image: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5), dtype=np.float64)[5:-5, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    shared = blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + c1) * (2 * shared + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def frechet(features: Floats, reference: Floats, *, moving_share: float = 1.0) -> Result:
    """Frechet distance of two sets of features (fd_own), 0.., lower is better, unit of the features squared.

    Args:
        features: (n, d), one row per clip.
        reference: (m, d) from the same network.
        moving_share: share of the clips that move; below one half the set is refused.

    Caveat: not FVD, and not comparable across feature networks, n or clip length; biased below about 2000 clips, where
    `kernel_distance` is preferred.
    """
    a, b = _features(features, reference)
    if moving_share < MIN_MOVING_SHARE:
        return no_motion("most of the clips hardly move")
    S1, S2 = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    # tr (S1 S2)^1/2 by the symmetric matrix S1^1/2 S2 S1^1/2, whose eigenvalues are real.
    values, vectors = np.linalg.eigh(S1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ S2 @ root), 0)).sum()
    distance = float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(S1) + np.trace(S2) - 2 * shared)
    return measured(max(0.0, distance), n=len(a), m=len(b), dim=a.shape[1])


def kernel_distance(
    features: Floats, reference: Floats, *, moving_share: float = 1.0, subsets: int = 20, seed: int = 0
) -> Result:
    """Kernel distance (KID, Binkowski et al., 2018): unbiased MMD^2 with k(a, b) = (a.b / d + 1)^3; near 0 is better.

    May be slightly negative. `detail` holds the spread over random halves of the sets.

    Args:
        features: (n, d), one row per clip.
        reference: (m, d) from the same network.
        moving_share: share of the clips that move; below one half the set is refused.
        subsets: random halves for the spread.
        seed: of the halves.
    """
    a, b = _features(features, reference)
    if moving_share < MIN_MOVING_SHARE:
        return no_motion("most of the clips hardly move")
    rng = np.random.default_rng(seed)
    half = max(2, min(len(a), len(b)) // 2)
    draws = [
        _mmd2(a[rng.choice(len(a), half, replace=False)], b[rng.choice(len(b), half, replace=False)])
        for _ in range(subsets)
    ]
    return measured(_mmd2(a, b), n=len(a), m=len(b), dim=a.shape[1], subset=half, subset_std=float(np.std(draws)))


def _features(features: Floats, reference: Floats) -> tuple[Floats, Floats]:
    a, b = np.asarray(features, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(f"features: expected (n >= 2, d) and (m >= 2, d), found {a.shape} and {b.shape}.")
    return a, b


def _mmd2(a: Floats, b: Floats) -> float:
    def kernel(x: Floats, y: Floats) -> Floats:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3, dtype=np.float64)

    aa, bb, ab = kernel(a, a), kernel(b, b), kernel(a, b)
    n, m = len(a), len(b)
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def dynamic_degree(flow: Flow, *, frame_dt_s: float | None = None) -> Result:
    """Mean of the fastest 5 % of pixels [px per frame], 0..; neither end is better.

    The guard of every other score: a still video gets 0 here. With `frame_dt_s`, `detail` holds px/s.
    """
    degrees = [_fastest(step) for step in flow.forward]
    degree = float(np.mean(degrees))
    detail = {} if frame_dt_s is None else {"px_per_s": degree / frame_dt_s}
    return measured(degree, curve=_rounded(degrees), **detail)


def _fastest(step: Floats) -> float:
    speed = np.linalg.norm(step, axis=-1).ravel()
    share = max(1, int(0.05 * speed.size))
    return float(np.partition(speed, -share)[-share:].mean())


def warp_error(frames: Frames, flow: Flow) -> Result:
    """Mean difference of each frame and the one before it, warped by the flow, where both are visible.

    [grey levels of 255], 0..255, lower is better. Caveat: a still video would be perfect, so it is refused, and the
    number is to be read next to `dynamic_degree`.
    """
    check_frames("frames", frames)
    degree = dynamic_degree(flow).value or 0.0
    if degree < MIN_DEGREE_PX or not moves(frames):
        return no_motion(STILL)
    total, seen = 0.0, 0.0
    for t, backward in enumerate(flow.backward):
        difference = np.abs(frames[t + 1].astype(np.float32) - sample(frames[t].astype(np.float32), backward)).mean(-1)
        loop = np.linalg.norm(backward + sample(flow.forward[t], backward), axis=-1)
        visible = loop < FORWARD_BACKWARD_PX
        total += float(difference[visible].sum())
        seen += float(visible.sum())
    if not seen:
        return unavailable("no pixel passes the forward-backward check")
    return measured(total / seen, visible_share=seen / flow.backward[..., 0].size)


def seam_jump(frames: Frames, camera_frame: Frames) -> Result:
    """PSNR of frame 0 and the camera's image of that moment [dB], 0..99, higher is better.

    Caveat: sees drift at the seam of two plans, nothing of what follows.
    """
    check_frames("frames", frames)
    if frames[0].shape != camera_frame.shape:
        raise DataError(f"camera frame: expected shape {frames[0].shape}, found {camera_frame.shape}.")
    if not moves(frames):
        return no_motion(STILL)
    return measured(_image_psnr(frames[0], camera_frame))


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]
