"""Algebra of many symmetric 3 x 3 matrices at once, written out.

A library call on a small matrix spends its time on the way in and out; a tracker cannot afford
that in every window. Matrices are packed: the six numbers xx, yy, zz, xy, xz, yz along the first
axis, one column per matrix, shape ``(6, J)``; vectors have shape ``(3, J)``.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROW = np.array([0, 1, 2, 0, 0, 1])
COLUMN = np.array([0, 1, 2, 1, 2, 2])
"""Where in the matrix each of the six numbers stands, above the diagonal."""

_PLACE = np.array([0, 3, 4, 3, 1, 5, 4, 5, 2])
MULTIPLICITY = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


def packed(matrices: Array) -> Array:
    """Pack matrices, shape ``(..., 3, 3)`` to ``(6, ...)``."""
    six: Array = np.moveaxis(matrices[..., ROW, COLUMN], -1, 0)
    return six


def unpacked(six: Array) -> Array:
    """Write out one matrix, shape ``(6,)`` to ``(3, 3)``, or many, ``(6, J)`` to ``(3, 3, J)``."""
    matrix: Array = six[_PLACE].reshape(3, 3, *six.shape[1:])
    return matrix


def outer(vectors: Array) -> Array:
    """Multiply vectors, shape ``(..., 3, J)``, by themselves, shape ``(..., 6, J)``."""
    product: Array = vectors[..., ROW, :] * vectors[..., COLUMN, :]
    return product


def times(six: Array, vectors: Array) -> Array:
    """Multiply matrices by vectors, shape ``(3, J)``."""
    product: Array = np.add.reduce(unpacked(six) * vectors, 1)
    return product


def trace_of_product(left: Array, right: Array) -> Array:
    """Compute ``tr(left right)`` of each pair, shape ``(J,)``."""
    trace: Array = MULTIPLICITY @ (left * right)
    return trace


def inverse(six: Array) -> tuple[Array, Array]:
    """Invert matrices by their cofactors.

    Returns:
        The inverses, shape ``(6, J)``, and the determinants of the given ones, shape ``(J,)``.
    """
    xx, yy, zz, xy, xz, yz = six
    cofactors = np.array(
        [
            yy * zz - yz * yz,
            xx * zz - xz * xz,
            xx * yy - xy * xy,
            xz * yz - xy * zz,
            xy * yz - xz * yy,
            xy * xz - yz * xx,
        ]
    )
    determinant = xx * cofactors[0] + xy * cofactors[3] + xz * cofactors[4]
    return cofactors / determinant, determinant
