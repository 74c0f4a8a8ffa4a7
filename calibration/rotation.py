"""Rotations of Stokes space, SO(3), in stacks of any leading shape.

A rotation vector points along the axis; its length is the angle in radians.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_SMALL_RAD = 1e-4
_SHORT_RAD = 1e-2
_NEAR_HALF_TURN_RAD = 1e-3


def skew(vector: Array) -> Array:
    """Give the matrix ``[v]x`` with ``[v]x u = v x u``.

    Args:
        vector: Shape ``(..., 3)``.

    Returns:
        Shape ``(..., 3, 3)``.
    """
    matrix = np.zeros((*vector.shape, 3))
    matrix[..., 2, 1] = vector[..., 0]
    matrix[..., 0, 2] = vector[..., 1]
    matrix[..., 1, 0] = vector[..., 2]
    return matrix - np.swapaxes(matrix, -1, -2)


def exp(vector: Array) -> Array:
    """Turn rotation vectors into rotation matrices (Rodrigues' formula).

    Args:
        vector: Shape ``(..., 3)``, rad.

    Returns:
        Shape ``(..., 3, 3)``.
    """
    square = np.sum(vector * vector, axis=-1)[..., None, None]
    angle = np.sqrt(square)
    safe = np.where(angle < _SMALL_RAD, 1.0, angle)
    sine = np.where(angle < _SMALL_RAD, 1 - square / 6, np.sin(safe) / safe)
    versine = np.where(angle < _SMALL_RAD, 0.5 - square / 24, (1 - np.cos(safe)) / safe**2)
    generator = skew(vector)
    rotation: Array = np.eye(3) + sine * generator + versine * (generator @ generator)
    return rotation


def log(rotation: Array) -> Array:
    """Turn rotation matrices into the shortest rotation vectors; the inverse of :func:`exp`.

    At half a turn, where both senses are equally short, either may be returned.

    Args:
        rotation: Shape ``(..., 3, 3)``.

    Returns:
        Shape ``(..., 3)``, rad, at most pi long.
    """
    axial = 0.5 * np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(axial, axis=-1)
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1) - 1)
    angle = np.arctan2(sine, cosine)
    ratio = np.where(sine < _SMALL_RAD, 1 + angle**2 / 6, angle / np.maximum(sine, _SMALL_RAD))
    vector: Array = axial * ratio[..., None]
    half_turn = np.pi - angle < _NEAR_HALF_TURN_RAD
    if np.any(half_turn):
        axis = _half_turn_axis(rotation[half_turn], axial[half_turn], cosine[half_turn])
        vector[half_turn] = axis * angle[half_turn, None]
    return vector


def log_slope(vector: Array) -> Array:
    """Tell how a rotation vector changes when a small rotation follows.

    ``log(exp(t) exp(v)) = v + log_slope(v) t`` to first order in ``t``; for a small rotation that
    comes first, ``log(exp(v) exp(t))``, it is the transposed matrix. The inverse of the left
    Jacobian of SO(3), see G. S. Chirikjian, Stochastic Models, Information Theory, and Lie Groups
    (2011), vol. 2, ch. 10.

    Args:
        vector: Shape ``(..., 3)``, rad, at most pi long.

    Returns:
        Shape ``(..., 3, 3)``.
    """
    square = np.sum(vector * vector, axis=-1)[..., None, None]
    angle = np.sqrt(square)
    safe = np.where(angle < _SHORT_RAD, 1.0, angle)
    exact = 1 / safe**2 - 0.5 / (safe * np.tan(0.5 * safe))
    bend = np.where(angle < _SHORT_RAD, 1 / 12 + square / 720, exact)
    generator = skew(vector)
    slope: Array = np.eye(3) - 0.5 * generator + bend * (generator @ generator)
    return slope


def _half_turn_axis(rotation: Array, axial: Array, cosine: Array) -> Array:
    """Find the axis ``n`` near half a turn, where the antisymmetric part vanishes.

    The symmetric part is ``cos + (1 - cos) n n'``.
    """
    symmetric = 0.5 * (rotation + np.swapaxes(rotation, -1, -2))
    outer = symmetric - cosine[:, None, None] * np.eye(3)
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    axis = np.take_along_axis(outer, largest[:, None, None], axis=-1)[..., 0]
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    sense = np.where(np.sum(axis * axial, axis=-1) < 0, -1.0, 1.0)
    oriented: Array = axis * sense[:, None]
    return oriented


def jones_of_retarders(azimuth_rad: Array, retardance_rad: Array) -> tuple[Complex, Complex]:
    """Multiply up linear retarders: rotations about axes in the S1-S2 plane.

    In the circular basis, their Jones matrices are ``[[a, b], [-b*, a*]]`` with a real ``a``: a
    product costs a third of what it costs with rotation matrices.

    Args:
        azimuth_rad: Angle from S1 to each axis, broadcastable with ``retardance_rad``, with as many
            axes.
        retardance_rad: Angles of rotation, shape ``(..., N)``, in the order light passes them.

    Returns:
        ``a`` and ``b`` of ``E_1``, of ``E_2 E_1``, and so on, both of shape ``(N, ...)``.
    """
    last_first = -1, *range(retardance_rad.ndim - 1)
    tangent = np.tan(0.5 * retardance_rad.transpose(last_first), order="C")  # the fastest of all
    straight = 1 / np.sqrt(1 + tangent * tangent)  # the sign of a Jones matrix does not matter
    azimuth = azimuth_rad.transpose(last_first)
    crossed = (straight * tangent) * (-np.sin(azimuth) - 1j * np.cos(azimuth))
    a, b = np.empty_like(crossed), np.empty_like(crossed)
    a[0], b[0] = straight[0], crossed[0]
    for j in range(1, len(tangent)):
        a[j] = straight[j] * a[j - 1] - crossed[j] * b[j - 1].conj()
        b[j] = straight[j] * b[j - 1] + crossed[j] * a[j - 1].conj()
    return a, b


def of_jones(a: Complex, b: Complex) -> Array:
    """Turn Jones matrices ``[[a, b], [-b*, a*]]`` in the circular basis into rotations.

    Args:
        a: Any shape.
        b: Same shape; ``|a|^2 + |b|^2 = 1``.

    Returns:
        Shape ``(..., 3, 3)``.
    """
    aa, bb, ab, mixed = a * a, b * b, 2 * a * b, 2 * a * b.conj()
    rotation = np.empty((*a.shape, 3, 3))
    rotation[..., 0, 0] = aa.real - bb.real
    rotation[..., 1, 0] = bb.imag - aa.imag
    rotation[..., 2, 0] = mixed.real
    rotation[..., 0, 1] = aa.imag + bb.imag
    rotation[..., 1, 1] = aa.real + bb.real
    rotation[..., 2, 1] = mixed.imag
    rotation[..., 0, 2] = -ab.real
    rotation[..., 1, 2] = ab.imag
    rotation[..., 2, 2] = a.real**2 + a.imag**2 - b.real**2 - b.imag**2
    return rotation


def random(rng: np.random.Generator, *shape: int) -> Array:
    """Draw rotations uniformly (Haar measure), from normalised Gaussian quaternions.

    Source: G. Marsaglia, Ann. Math. Stat. 43, 645 (1972).

    Returns:
        Shape ``(*shape, 3, 3)``.
    """
    quaternion = rng.normal(size=(*shape, 4))
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
    scalar, vector = quaternion[..., 0, None, None], skew(quaternion[..., 1:])
    rotation: Array = np.eye(3) + 2 * scalar * vector + 2 * (vector @ vector)
    return rotation


def orthonormal(matrix: Array) -> Array:
    """Return the nearest rotations, to undo rounding after many products.

    Args:
        matrix: Nearly rotations, shape ``(..., 3, 3)``.

    Returns:
        Same shape.
    """
    left, _, right = np.linalg.svd(matrix)
    handedness = np.linalg.det(left @ right)
    left[..., :, 2] *= handedness[..., None]
    nearest: Array = left @ right
    return nearest
