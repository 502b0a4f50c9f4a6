"""Unit quaternions wxyz as plain floats: small rotations from one to the next, quicker than arrays."""

from __future__ import annotations

import math

from robot_io.process.braking import ZERO, Vector

Quaternion = tuple[float, float, float, float]


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    """Hamilton product: first b, then a, both in fixed axes."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def turned(q: Quaternion, vector: Vector) -> Quaternion:
    """Return q turned by a rotation vector in base axes, of unit length, in the same half of the sphere as q."""
    x, y, z = vector
    angle = math.sqrt(x * x + y * y + z * z)
    share = math.sin(angle / 2) / angle if angle > 1e-9 else 0.5
    w, x, y, z = product((math.cos(angle / 2), x * share, y * share, z * share), q)
    size = math.sqrt(w * w + x * x + y * y + z * z)
    return (w / size, x / size, y / size, z / size)


def between(a: Quaternion, b: Quaternion) -> Vector:
    """Rotation vector in base axes that turns a into b, the shorter way."""
    w, x, y, z = product(b, (a[0], -a[1], -a[2], -a[3]))
    sine = math.sqrt(x * x + y * y + z * z)
    if sine < 1e-15:
        return ZERO
    angle = 2 * math.atan2(sine, abs(w))
    share = math.copysign(angle / sine, w)
    return (x * share, y * share, z * share)
