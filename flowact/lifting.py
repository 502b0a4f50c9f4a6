"""Depth for a carried object that one camera without depth follows: where along its view rays did it go?

Carrying goes up, across and down: of all ways through the rays, the one is sought whose steps are either upright or
level, short where both would do. Slanted steps cost what they mix, so that they are possible where nothing else fits.
"""

from __future__ import annotations

import numpy as np

from flowact.rigid import Floats

SPAN_M = 0.45  # depths tried before and behind the resting one
STEP_M = 0.006
NOISE_M = 0.006  # an upright step may wander by this much, the noise of tracks
DEPTH_NOISE_M = 0.03
DEPTH_PRICE = 0.004  # per frame and standard deviation off a depth seen otherwise, up to ...
DEPTH_CAP = 2.0  # ... so many
END_NOISE_M = 0.03
END_PRICE = 0.04  # per standard deviation that the end is off where things come to rest, up to ...
END_CAP = 5.0  # ... so many
LENGTH_PRICE = 0.45  # per metre of way, against 1 per metre of mixing


def carried_path(
    rays: Floats,
    origin_m: Floats,
    start_m: Floats,
    low_m: float,
    *,
    camera_z: Floats | None = None,
    depth_m: Floats | None = None,
    end_depth_m: float | None = None,
) -> Floats:
    """Return (T, 3) positions, one on each ray, starting at `start_m`.

    Args:
        rays: (T, 3) directions from the camera's centre through the object, any length.
        origin_m: (3,) the camera's centre.
        start_m: (3,) where the object rests; the first ray passes through it.
        low_m: nothing carried is lower than this.
        camera_z: (3,) optical axis, needed with depths.
        depth_m: (T,) z-depths seen otherwise, NaN where there is none; they count, but do not decide alone.
        end_depth_m: z-depth at which it probably comes to rest; the same holds for it.
    """
    unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    distance = float(np.linalg.norm(start_m - origin_m))
    depths = distance + np.arange(-SPAN_M, SPAN_M + STEP_M / 2, STEP_M)
    X = origin_m + unit[:, None, :] * depths[None, :, None]
    total = np.where(np.arange(len(depths)) == int(np.abs(depths - distance).argmin()), 0.0, np.inf)
    back = np.zeros((len(rays), len(depths)), dtype=np.int64)
    for t in range(1, len(rays)):
        before = start_m[None] if t == 1 else X[t - 1]
        step = X[t][None, :, :] - before[:, None, :]
        across = np.linalg.norm(step[..., :2], axis=-1)
        up = np.abs(step[..., 2])
        price = np.minimum(np.maximum(across - NOISE_M, 0.0), up) + LENGTH_PRICE * (across + up)
        price = np.where(X[t][:, 2] < low_m, price + 1.0, price)
        if depth_m is not None and camera_z is not None and np.isfinite(depth_m[t]):
            off = np.abs((X[t] - origin_m) @ camera_z - depth_m[t]) / DEPTH_NOISE_M
            price = price + DEPTH_PRICE * np.minimum(off, DEPTH_CAP)
        if end_depth_m is not None and camera_z is not None and t == len(rays) - 1:
            off = np.abs((X[t] - origin_m) @ camera_z - end_depth_m) / END_NOISE_M
            price = price + END_PRICE * np.minimum(off, END_CAP)
        if t == 1:
            total = price[0]
            continue
        options = total[:, None] + price
        back[t] = options.argmin(axis=0)
        total = options[back[t], np.arange(len(depths))]
    at = int(total.argmin())
    path = [X[-1, at]]
    for t in range(len(rays) - 1, 1, -1):
        at = int(back[t, at])
        path.append(X[t - 1, at])
    return np.stack([start_m, *path[::-1]])


def path_at_depths(rays: Floats, camera_z: Floats, origin_m: Floats, depth_m: Floats) -> Floats:
    """Return (T, 3) positions on the rays (T, 3) at given z-depths (T,); `camera_z` (3,) is the optical axis."""
    along = depth_m / (rays @ camera_z)
    return np.asarray(origin_m + rays * along[:, None], dtype=np.float64)
