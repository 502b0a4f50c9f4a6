"""Arrays that metrics measure, by what they hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Frames = NDArray[np.uint8]
"""(T, H, W, 3) or (H, W, 3) RGB."""
