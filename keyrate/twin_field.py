"""Twin-field protocols with endless keys: rates fall with the square root of the transmittance.

Three variants: phase matching, the protocol of Curty, Azuma and Lo, and sending or not sending.
Each takes ``s``, the transmittance from one side to the station, its detectors included.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import comb, factorial, i0

from keyrate.entropy import binary_entropy
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

ASSUMPTIONS = ("endless key", "infinitely many decoys", "both lasers locked", "equal arms")

MOST_PHOTONS = 12
"""Photons per side up to which yields count; beyond, pulses are taken to click always."""

ENOUGH_PHOTONS = 60
"""Of more photons a pulse has none."""


@dataclass(frozen=True)
class TwinLink:
    """Two equal arms to a station in the middle. Fields broadcast.

    Attributes:
        arm_transmittance: ``s``, of one arm with the station's detectors.
        dark_probability: Per gate and detector, ``p_d``.
    """

    arm_transmittance: ArrayLike
    dark_probability: ArrayLike


def phase_matching(
    link: TwinLink, signal: ArrayLike, slices: int = 16, correction: ArrayLike = 1.16
) -> KeyRate:
    """Return the key rate of phase matching, bit per pair of pulses.

    Source: X. Ma, P. Zeng and H. Zhou, Phys. Rev. X 8, 031043 (2018), appendix B.

    Args:
        link: Arms and station.
        signal: Mean photon number of both pulses together, ``mu``.
        slices: Number of phase slices, ``D``; errors of their width are the misalignment.
        correction: ``f``.
    """
    s, dark = np.asarray(link.arm_transmittance, dtype=float), np.asarray(link.dark_probability)
    mu = np.asarray(signal, dtype=float)
    sliced = math.pi / slices - (slices / math.pi) ** 2 * math.sin(math.pi / slices) ** 3
    gain = 1 - np.exp(-s * mu) * (1 - 2 * dark)
    qber = (dark + s * mu * sliced) * np.exp(-s * mu) / gain

    def share(photons: int) -> tuple[Array, Array]:
        """Share of the clicks that so many photons made, and their error rate."""
        lost = (1 - s) ** photons
        yields = 1 - (1 - 2 * dark) * lost
        sent = np.exp(-mu) * mu**photons / math.factorial(photons)
        return yields * sent / gain, (dark + sliced * (1 - lost)) / yields

    empty, _ = share(0)
    odd = {photons: share(photons) for photons in (1, 3, 5)}
    rest = 1 - empty - sum(part for part, _ in odd.values())
    phase_error = empty / 2 + sum(part * error for part, error in odd.values()) + rest
    secret = 1 - np.asarray(correction) * binary_entropy(qber) - binary_entropy(phase_error)
    return KeyRate(np.asarray(2 / slices * gain * secret), "general", ASSUMPTIONS)


def curty_azuma_lo(
    link: TwinLink,
    amplitude: ArrayLike,
    phase_error_rad: ArrayLike = 0.0,
    polarization_error_rad: ArrayLike = 0.0,
    correction: ArrayLike = 1.16,
) -> KeyRate:
    """Return the key rate of the protocol of Curty, Azuma and Lo, bit per pair of pulses.

    Source: M. Curty, K. Azuma and H.-K. Lo, npj Quantum Inf. 5, 64 (2019).

    Args:
        link: Arms and station.
        amplitude: ``a`` of each coherent state; its mean photon number is ``a^2``.
        phase_error_rad: Phase between both sides' light, rad.
        polarization_error_rad: Angle between their polarizations, rad.
        correction: ``f``.
    """
    s, dark = np.asarray(link.arm_transmittance, dtype=float), np.asarray(link.dark_probability)
    a = np.asarray(amplitude, dtype=float)
    overlap = np.cos(phase_error_rad) * np.cos(polarization_error_rad)
    light = s * a**2
    right, wrong = np.exp(light * overlap), np.exp(-light * overlap)
    gain = 0.5 * (1 - dark) * (right + wrong) * np.exp(-light)
    gain = gain - (1 - dark) ** 2 * np.exp(-2 * light)
    both = (1 - dark) * np.exp(-light)
    qber = (wrong - both) / (right + wrong - 2 * both)
    phase_error = np.minimum(_cat_error(s, dark, a) / gain, 0.5)
    told = np.asarray(correction) * binary_entropy(qber)
    rate = 2 * gain * (1 - told - binary_entropy(phase_error))
    return KeyRate(np.asarray(rate), "general", ASSUMPTIONS)


def sending_or_not(
    link: TwinLink,
    signal: ArrayLike,
    sending: ArrayLike,
    misalignment: ArrayLike,
    correction: ArrayLike = 1.16,
) -> KeyRate:
    """Return the key rate of sending or not sending, bit per signal window.

    Source: X.-B. Wang, Z.-W. Yu and X.-L. Hu, Phys. Rev. A 98, 062323 (2018).

    Args:
        link: Arms and station.
        signal: Mean photon number of a pulse that is sent, ``mu_z``.
        sending: Chance that a side sends, ``epsilon``.
        misalignment: Error rate of interference, ``e_d``.
        correction: ``f``.
    """
    s, dark = np.asarray(link.arm_transmittance, dtype=float), np.asarray(link.dark_probability)
    mu, chance = np.asarray(signal, dtype=float), np.asarray(sending, dtype=float)
    half = np.exp(-s * mu / 2)
    none = 2 * dark * (1 - dark)
    one = 2 * (1 - dark) * half * (1 - (1 - dark) * half)
    two = 2 * (1 - dark) * half**2 * (i0(s * mu) - (1 - dark) * half**2)
    wrong = (1 - chance) ** 2 * none + chance**2 * two
    clicks = wrong + 2 * chance * (1 - chance) * one
    yield_1 = s * (1 - dark) + 2 * dark * (1 - dark) * (1 - s)
    error_1 = (np.asarray(misalignment) * s * (1 - dark) + dark * (1 - dark) * (1 - s)) / yield_1
    secret = 2 * chance * (1 - chance) * mu * np.exp(-mu) * yield_1 * (1 - binary_entropy(error_1))
    rate = secret - np.asarray(correction) * clicks * binary_entropy(wrong / clicks)
    return KeyRate(np.asarray(rate), "general", ASSUMPTIONS)


def _cat_error(s: Array, dark: Array, a: Array) -> Array:
    """Bound the phase error's share of all pulses: what even and odd cat states click together.

    Numbers of photons whose yield is not known are taken to click always.
    """
    clicks = np.sqrt(_yields(s, dark))
    amplitudes = _amplitudes(a, MOST_PHOTONS + 1)
    beyond = _amplitudes(a, ENOUGH_PHOTONS)
    total = np.zeros(())
    for parity in (0, 1):
        seen = amplitudes[..., parity::2]
        known = np.einsum("...n,...nm,...m->...", seen, clicks[..., parity::2, parity::2], seen)
        every, some = beyond[..., parity::2].sum(axis=-1), seen.sum(axis=-1)
        total = total + (known + every**2 - some**2) ** 2
    return np.asarray(total)


def _amplitudes(a: Array, numbers: int) -> Array:
    """Return ``exp(-a^2/2) a^n / sqrt(n!)``, shape ``(..., numbers)``."""
    n = np.arange(numbers)
    return np.asarray(np.exp(-(a[..., None] ** 2) / 2) * a[..., None] ** n / np.sqrt(factorial(n)))


def _yields(s: Array, dark: Array) -> Array:
    """Return the chance that one detector alone clicks on ``n`` and ``m`` photons.

    Returns:
        Shape ``(..., 13, 13)``.
    """
    n = np.arange(MOST_PHOTONS + 1)
    arrive = s[..., None, None]
    arrived = comb(n[:, None], n) * arrive**n * (1 - arrive) ** np.maximum(n[:, None] - n, 0)
    bunched = comb(n[:, None] + n, n) / 2.0 ** (n[:, None] + n)
    together = arrived @ bunched @ np.swapaxes(arrived, -1, -2)
    none = (1 - dark[..., None, None]) * (1 - arrive) ** (n[:, None] + n)
    return np.asarray((1 - dark[..., None, None]) * (together - none))
