"""The wire between a robot and a remote planner: msgpack with numpy arrays, as openpi's client and server speak it.

Arrays travel as maps of raw bytes, dtype and shape. Python objects never travel: there is nothing to execute in a
message. What arrives is checked before it becomes an array: dtype kind, shape, and that the bytes fill it exactly.

Format: Physical Intelligence, openpi, `openpi_client.msgpack_numpy`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cascade.contracts.errors import DataError

MAX_MESSAGE_BYTES = 64 * 2**20
_KINDS = "biuf"  # booleans, integers, floats
_ARRAY, _SCALAR = b"__ndarray__", b"__npgeneric__"


def pack(value: Any) -> bytes:
    """Return maps, lists, texts, numbers and numpy arrays as bytes.

    Raises:
        DataError: an array holds objects or texts, or a value is of another kind.
    """
    import msgpack

    try:
        packed: bytes = msgpack.packb(value, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"message: expected maps, lists, texts, numbers and arrays, found other ({error}).") from error
    return packed


def unpack(data: bytes, *, max_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """Return what `pack` made into bytes; arrays are read-only views of `data`.

    Raises:
        DataError: too long, not msgpack, or an array that is not what it says.
    """
    import msgpack

    if not isinstance(data, bytes | bytearray | memoryview):
        raise DataError(f"message: expected bytes, found {type(data).__name__}.")
    if len(data) > max_bytes:
        raise DataError(f"message: expected at most {max_bytes} bytes, found {len(data)}.")
    try:
        return msgpack.unpackb(data, object_hook=_decode, strict_map_key=False)
    except DataError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError, AttributeError) as error:
        raise DataError(
            f"message: expected msgpack, found something else ({type(error).__name__}: {error})."
        ) from error
    except Exception as error:  # msgpack's own exceptions share no base that is public
        raise DataError(f"message: expected msgpack, found something else ({type(error).__name__}).") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in _KINDS:
        raise TypeError(f"an array of {value.dtype}")
    if isinstance(value, np.ndarray):
        return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__}")


def _decode(value: dict[Any, Any]) -> Any:
    if _ARRAY in value:
        dtype, shape, data = _dtype(value.get(b"dtype")), value.get(b"shape"), value.get(b"data")
        if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise DataError(f"message: expected the shape of an array, found {str(shape)[:80]}.")
        if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
            raise DataError(f"message: expected the bytes of a {dtype} array of shape {tuple(shape)}, found others.")
        return np.frombuffer(data, dtype).reshape(shape)
    if _SCALAR in value:
        dtype, number = _dtype(value.get(b"dtype")), value.get(b"data")
        if not isinstance(number, bool | int | float):
            raise DataError(f"message: expected a number, found {type(number).__name__}.")
        return dtype.type(number)
    return value


def _dtype(text: Any) -> np.dtype[Any]:
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    try:
        dtype = np.dtype(text) if isinstance(text, str) and len(text) <= 8 else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None or dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise DataError(f"message: expected an array of booleans, integers or floats, found {str(text)[:40]!r}.")
    return dtype
