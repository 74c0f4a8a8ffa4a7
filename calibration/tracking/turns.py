"""Single rotations, written out: the loop of a tracker has no time for general code."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALL = 1e-8


def turn_matrix(x: float, y: float, z: float) -> Array:
    """Turn a rotation vector, rad, into a matrix: Rodrigues' formula, shape ``(3, 3)``."""
    square = x * x + y * y + z * z
    if square < _SMALL:
        sine, versine = 1 - square / 6, 0.5 - square / 24
    else:
        angle = math.sqrt(square)
        sine, versine = math.sin(angle) / angle, (1 - math.cos(angle)) / square
    vx, vy, vz = versine * x, versine * y, versine * z
    sx, sy, sz = sine * x, sine * y, sine * z
    return np.array(
        [
            [1 - vy * y - vz * z, vx * y - sz, vx * z + sy],
            [vx * y + sz, 1 - vx * x - vz * z, vy * z - sx],
            [vx * z - sy, vy * z + sx, 1 - vx * x - vy * y],
        ]
    )


def turn_vector(matrix: Array) -> tuple[float, float, float]:
    """Turn a rotation, well below half a turn, into its vector, rad."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix.tolist()
    x, y, z = 0.5 * (zy - yz), 0.5 * (xz - zx), 0.5 * (yx - xy)
    square = x * x + y * y + z * z
    cosine = 0.5 * (xx + yy + zz - 1)
    if square < _SMALL and cosine > 0:
        stretch = 1 + square / 6
    else:
        sine = math.sqrt(square)
        stretch = math.atan2(sine, cosine) / max(sine, _SMALL)
    return x * stretch, y * stretch, z * stretch
