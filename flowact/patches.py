"""An RGB-D image cut into patches: neighbouring pixels of like colour with no step in depth between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowact.rigid import Bools, Floats

COLOUR_STEP = 14.0  # between neighbours of one patch, Lab
DEPTH_STEP_M = 0.025


def patches_of(rgb: NDArray[np.uint8], points_m: Floats, within: Bools) -> NDArray[np.int64]:
    """Return (H, W) patch numbers from 1 on, 0 outside `within`.

    Args:
        rgb: (H, W, 3) uint8.
        points_m: (H, W, 3) base-frame points, NaN where there is no depth.
        within: (H, W) pixels to cut up.
    """
    import cv2
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float64)
    number = np.arange(within.size).reshape(within.shape)
    ends = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        alike = np.linalg.norm(lab[a] - lab[b], axis=-1) < COLOUR_STEP
        with np.errstate(invalid="ignore"):
            near = np.linalg.norm(points_m[a] - points_m[b], axis=-1) < DEPTH_STEP_M * 2
        join = alike & near & within[a] & within[b]
        ends.append(np.stack([number[a][join], number[b][join]]))
    pairs = np.concatenate(ends, axis=1)
    graph = coo_matrix((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(within.size, within.size))
    _, labels = connected_components(graph, directed=False)
    found = np.zeros(within.shape, dtype=np.int64)
    found[within] = np.unique(labels.reshape(within.shape)[within], return_inverse=True)[1] + 1
    return found
