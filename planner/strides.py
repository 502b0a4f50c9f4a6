"""How much of the rest of a task a plan covers with its frames: all of it, or only its next part at a finer stride."""

from __future__ import annotations

import math
from typing import Literal

Stride = Literal["whole", "half", "quarter"]
WHOLE: Stride = "whole"
SHARES: dict[Stride, float] = {WHOLE: 1.0, "half": 0.5, "quarter": 0.25}
"""Share of what is left of the task, measured along what happens, that a plan covers."""


def fineness(stride: Stride) -> float:
    """Return the number by which networks are told a stride: 0 for the whole, 1 more for each halving."""
    return -math.log2(SHARES[stride])
