"""The way back after a plan that ended without success, so that the next plan sees a clear scene."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.records import ActionChunk, ArmState


def return_chunk(state: ArmState, start: ArmState, max_step_m: float, lift_m: float) -> ActionChunk:
    """Return the way back: open where the hand is, straight up, across, down to the start pose, in small steps."""
    here, home = state.position_m, start.position_m
    high = max(float(here[2]) + lift_m, float(home[2]))
    corners = [here, np.array([here[0], here[1], high]), np.array([home[0], home[1], high]), home]
    points: list[NDArray[np.float64]] = [here]
    for a, b in pairwise(corners):
        pieces = int(np.ceil(np.linalg.norm(b - a) / (0.8 * max_step_m)))
        points += [a + (b - a) * k / pieces for k in range(1, pieces + 1)]
    values = np.zeros((len(points), 7))
    values[:, :3] = points
    values[:, 3:] = quaternion(start.T_base_ee[:3, :3])
    hold = np.zeros(len(points))
    hold[0] = 0.2  # time for the fingers to open before the hand goes up
    return ActionChunk(
        values=values,
        gripper=np.ones(len(points)),
        times_s=np.cumsum(np.full(len(points), 0.2)),
        hold_s=hold,
        provenance={"extractor": "return to start"},
    )


def quaternion(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit quaternion wxyz, w >= 0, of a (3, 3) rotation."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(R).as_quat()
    q = np.array([w, x, y, z], dtype=np.float64)
    return q if q[0] >= 0 else -q
