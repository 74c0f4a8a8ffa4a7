"""Gaussian-modulated coherent states (GG02) with reverse reconciliation and endless keys.

Shot-noise units; attacks are collective; the receiver is trusted: its loss and noise are not Eve's.
Sources: J. Lodewyck et al., Phys. Rev. A 76, 042305 (2007); S. Fossier et al., J. Phys. B 42,
114014 (2009); F. Laudenbach et al., arXiv:1703.09278.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.entropy import thermal_entropy
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

Detection = Literal["homodyne", "heterodyne"]

ASSUMPTIONS = ("endless key", "Gaussian attacks are the best collective ones", "trusted receiver")


@dataclass(frozen=True)
class GaussianLink:
    """Modulation, channel and receiver. Fields broadcast.

    Attributes:
        modulation_variance: ``V_A``.
        transmittance: Of the channel, ``T``.
        excess_noise: At the channel's input, ``xi``.
        efficiency: Of the receiver, ``kappa``; 1 for one that is not trusted, its loss in ``T``.
        electronic_noise: Of the receiver, ``v``.
    """

    modulation_variance: ArrayLike
    transmittance: ArrayLike
    excess_noise: ArrayLike = 0.01
    efficiency: ArrayLike = 0.6
    electronic_noise: ArrayLike = 0.1


def gg02(
    link: GaussianLink, detection: Detection = "homodyne", reconciliation: ArrayLike = 0.95
) -> KeyRate:
    """Return ``R = beta I - chi_BE``, bit per symbol.

    Args:
        link: Modulation, channel and receiver.
        detection: One quadrature, or both.
        reconciliation: Efficiency ``beta``, 0 to 1.
    """
    variance = np.asarray(link.modulation_variance, dtype=float) + 1
    t, kappa = np.asarray(link.transmittance, dtype=float), np.asarray(link.efficiency, dtype=float)
    noise = np.asarray(link.electronic_noise, dtype=float)
    line = 1 / t - 1 + np.asarray(link.excess_noise)
    receiver = (1 - kappa + noise) / kappa
    if detection == "heterodyne":
        receiver = (2 - kappa + 2 * noise) / kappa
    all_noise = line + receiver / t
    information = np.log2((variance + all_noise) / (1 + all_noise))
    if detection == "homodyne":
        information = information / 2
    known = _holevo(variance, t, line, receiver, all_noise, detection)
    rate = np.asarray(reconciliation) * information - known
    return KeyRate(np.asarray(rate), "collective", ASSUMPTIONS)


def _holevo(
    variance: Array, t: Array, line: Array, receiver: Array, all_noise: Array, detection: Detection
) -> Array:
    """Return what Eve may know, ``chi_BE``, from the symplectic eigenvalues."""
    a = variance**2 * (1 - 2 * t) + 2 * t + t**2 * (variance + line) ** 2
    b = t**2 * (variance * line + 1) ** 2
    root, seen = np.sqrt(b), t * (variance + all_noise)
    if detection == "homodyne":
        c = (variance * root + t * (variance + line) + a * receiver) / seen
        d = root * (variance + root * receiver) / seen
    else:
        twice = variance * root + t * (variance + line)
        c = a * receiver**2 + b + 1 + 2 * receiver * twice + 2 * t * (variance**2 - 1)
        c, d = c / seen**2, ((variance + root * receiver) / seen) ** 2
    before = sum(_entropy(each) for each in _eigenvalues(a, b))
    after = sum(_entropy(each) for each in _eigenvalues(c, d))
    return np.asarray(before - after)


def _eigenvalues(sum_of_squares: Array, determinant: Array) -> tuple[Array, Array]:
    """Return both symplectic eigenvalues; rounding may leave radicands below 0."""
    apart = np.sqrt(np.maximum(sum_of_squares**2 - 4 * determinant, 0.0))
    high, low = (sum_of_squares + apart) / 2, (sum_of_squares - apart) / 2
    return np.sqrt(np.maximum(high, 0.0)), np.sqrt(np.maximum(low, 0.0))


def _entropy(eigenvalue: Array) -> Array:
    return thermal_entropy((eigenvalue - 1) / 2)
