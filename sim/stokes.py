"""Polarization as vectors on the Poincare sphere, and the rotations that optics make of them.

Stokes axes: e1 horizontal (+) or vertical (-), e2 diagonal (+45 degrees) or antidiagonal, e3
circular. A lossless element without polarization-dependent loss is a rotation of that sphere; a
linear retarder turns about an axis in the e1-e2 plane by its retardance.
Source: J. P. Gordon and H. Kogelnik, PNAS 97, 4541 (2000).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]

STATES = "HVDA"
"""Order of sent states and of detectors everywhere."""

STATE_VECTORS: Floats = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
"""Normalised Stokes vectors of STATES, shape ``(4, 3)``."""


def rotation(vector: Floats) -> Floats:
    """Return the right-handed rotation about ``vector`` by its length.

    Args:
        vector: Rotation vectors, shape ``(..., 3)``, rad.

    Returns:
        Rotation matrices, shape ``(..., 3, 3)``.
    """
    matrices = Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix()
    return np.asarray(matrices.reshape(*vector.shape, 3))


def haar_rotation(generator: np.random.Generator) -> Floats:
    """Draw a rotation that is uniform over SO(3) (Haar measure), shape ``(3, 3)``.

    A normalised quaternion of four Gaussians is uniform on the unit sphere.
    Source: K. Shoemake, Graphics Gems III, 124 (1992).
    """
    w, x, y, z = (q := generator.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def haar_axis(generator: np.random.Generator) -> Floats:
    """Draw a direction that is uniform on the sphere, shape ``(3,)``."""
    vector = generator.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))
