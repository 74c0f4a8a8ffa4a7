"""SARG04 with infinitely many decoys and endless keys: one and two photons make key.

Sources: V. Scarani et al., Phys. Rev. Lett. 92, 057901 (2004); K. Tamaki and H.-K. Lo, Phys. Rev. A
73, 010302 (2006); C.-H. F. Fung, K. Tamaki and H.-K. Lo, Phys. Rev. A 73, 012337 (2006).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.entropy import binary_entropy, entropy_of
from keyrate.link import WeakCoherentLink
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

ASSUMPTIONS = ("endless key", "infinitely many decoys", "phase-randomised pulses")


def one_photon_fraction(error: ArrayLike) -> Array:
    """Return the share of single photons that is left after privacy amplification.

    The phase error rate is ``3e/2``, and ``e/2`` of the bits have both errors.
    """
    e = np.asarray(error, dtype=float)
    phase, both = 1.5 * e, 0.5 * e
    joint = entropy_of(1 - e - phase + both, phase - both, both, e - both)
    return np.asarray(1 - (joint - binary_entropy(e)))


def two_photon_fraction(error: ArrayLike) -> Array:
    """Return the same for pulses of two photons; their two errors are taken for independent."""
    return np.asarray(1 - binary_entropy(_two_photon_phase_error(np.asarray(error, dtype=float))))


def sarg04(link: WeakCoherentLink, signal: ArrayLike, correction: ArrayLike = 1.16) -> KeyRate:
    """Return the key rate, bit per signal pulse, conclusive events counted per pulse.

    The observed QBER is about ``e_d / (1/2 + e_d)``: twice that of BB84 with the same optics.

    Args:
        link: What the link does to light; its afterpulses are left aside.
        signal: ``mu``.
        correction: ``f``.
    """
    mu = np.asarray(signal, dtype=float)
    background, misalignment = np.asarray(link.background), np.asarray(link.misalignment)
    empty = np.exp(-np.asarray(link.transmittance) * mu)
    gain = _conclusive(1 - empty, background, misalignment)
    qber = _wrong(1 - empty, background, misalignment) / gain
    rate = -gain * np.asarray(correction) * binary_entropy(qber)
    for photons, fraction in ((1, one_photon_fraction), (2, two_photon_fraction)):
        arriving = 1 - (1 - np.asarray(link.transmittance)) ** photons
        yields = _conclusive(arriving, background, misalignment)
        error = _wrong(arriving, background, misalignment) / yields
        sent = np.exp(-mu) * mu**photons / math.factorial(photons)
        rate = rate + sent * yields * fraction(error)
    return KeyRate(np.asarray(rate), "general", ASSUMPTIONS)


def _conclusive(arriving: Array, background: Array, misalignment: Array) -> Array:
    return np.asarray(0.5 * (arriving * (0.5 + misalignment) + (1 - arriving) * background))


def _wrong(arriving: Array, background: Array, misalignment: Array) -> Array:
    return np.asarray(0.5 * (arriving * misalignment + (1 - arriving) * background / 2))


def _two_photon_phase_error(error: Array) -> Array:
    """Return the least of the bounds ``x e + [3 - 2x + sqrt(6 - 6 sqrt(2) x + 4 x^2)]/6``.

    Where its slope vanishes, ``x`` solves a quadratic equation; both roots are tried.
    """
    # d/dx: e - 1/3 + (4x - 3 sqrt 2) / (6 sqrt(6 - 6 sqrt 2 x + 4 x^2)) = 0, with the radicand
    # (2x - 3/sqrt 2)^2 + 3/2: u = 2x - 3/sqrt 2 solves u / (3 sqrt(u^2 + 3/2)) = 1/3 - e.
    slope = np.clip(1 - 3 * error, -1 + 1e-12, 1 - 1e-12)
    u = slope * np.sqrt(1.5 / (1 - slope**2))
    x = (u + 3 / math.sqrt(2)) / 2
    bound = x * error + (3 - 2 * x + np.sqrt(u**2 + 1.5)) / 6
    return np.asarray(np.clip(bound, 0.0, 0.5))
