"""Validation of arrays at the seams: shape, dtype, finiteness, rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.contracts.errors import DataError


def array(
    name: str, value: Any, shape: tuple[int | None, ...], dtype: type[Any], *, finite: bool = True
) -> NDArray[Any]:
    """Return `value` as a read-only array of the given shape (None = any length) and dtype.

    Integers are not silently made from floats, nor images from anything but their own dtype.

    Raises:
        DataError: shape, dtype or finiteness is not as stated.
    """
    result = np.asarray(value)
    if result.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, result.shape, strict=False)):
        wanted = "(" + ", ".join("*" if s is None else str(s) for s in shape) + ")"
        raise DataError(f"{name}: expected shape {wanted}, found {result.shape}.")
    if np.issubdtype(dtype, np.floating):
        if result.dtype.kind not in "fiu":
            raise DataError(f"{name}: expected numbers, found dtype {result.dtype}.")
        result = result.astype(dtype, copy=False)
        if finite and not np.isfinite(result).all():
            bad = int((~np.isfinite(result)).sum())
            raise DataError(f"{name}: expected finite numbers, found {bad} NaN or infinite values.")
    elif result.dtype != np.dtype(dtype):
        raise DataError(f"{name}: expected dtype {np.dtype(dtype)}, found {result.dtype}.")
    if result.flags.writeable:
        result = result.view()
        result.flags.writeable = False
    return result


def pose(name: str, value: Any) -> NDArray[np.float64]:
    """Return `value` as a rigid (4, 4) transform; raises DataError when its rotation is not orthonormal."""
    T = array(name, value, (4, 4), np.float64)
    R = T[:3, :3]
    off = max(float(np.abs(R @ R.T - np.eye(3)).max()), abs(float(np.linalg.det(R)) - 1.0))
    if off > 1e-3 or not np.allclose(T[3], (0, 0, 0, 1), atol=1e-9):
        raise DataError(f"{name}: expected a rigid transform, found one {off:.2g} away from orthonormal.")
    return T


def quaternions(name: str, value: NDArray[np.float64]) -> None:
    """Raise DataError unless every row of (H, 4) `value` (wxyz) has unit length within 1e-3."""
    norms = np.linalg.norm(value, axis=-1)
    if norms.size and float(np.abs(norms - 1).max()) > 1e-3:
        raise DataError(f"{name}: expected unit quaternions (wxyz), found norm {float(norms.min()):.4g}.")


def unit_interval(name: str, value: NDArray[np.float64]) -> None:
    """Raise DataError unless all values lie in [0, 1]."""
    if value.size and (float(value.min()) < -1e-6 or float(value.max()) > 1 + 1e-6):
        raise DataError(f"{name}: expected values in 0..1, found {float(value.min()):.3g}..{float(value.max()):.3g}.")
