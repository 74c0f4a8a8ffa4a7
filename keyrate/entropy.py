"""Entropies, in bit."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, xlogy

Array = NDArray[np.float64]


def binary_entropy(share: ArrayLike) -> Array:
    """Return ``h(x) = -x log2 x - (1 - x) log2(1 - x)``, for ``x`` clamped to 0 to 1/2.

    Error rates above 1/2 carry no less doubt than 1/2, as either bit may be the wrong one.
    """
    x = np.clip(np.asarray(share, dtype=float), 0.0, 0.5)
    return np.asarray((entr(x) + entr(1 - x)) / math.log(2))


def entropy_of(*shares: ArrayLike) -> Array:
    """Return the entropy of a distribution over several outcomes, shares clamped at 0."""
    terms = [entr(np.maximum(np.asarray(share, dtype=float), 0.0)) for share in shares]
    return np.asarray(sum(terms) / math.log(2))


def thermal_entropy(mean_photons: ArrayLike) -> Array:
    """Return ``g(y) = (y + 1) log2(y + 1) - y log2 y`` of a thermal state of mean ``y``."""
    y = np.maximum(np.asarray(mean_photons, dtype=float), 0.0)
    return np.asarray((xlogy(y + 1, y + 1) - xlogy(y, y)) / math.log(2))
