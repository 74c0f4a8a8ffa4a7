"""Measurement-device-independent QKD with infinitely many decoys and endless keys.

Sources: H.-K. Lo, M. Curty and B. Qi, Phys. Rev. Lett. 108, 130503 (2012); X. Ma and M. Razavi,
Phys. Rev. A 86, 062319 (2012), appendix A.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import i0

from keyrate.entropy import binary_entropy
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

ASSUMPTIONS = ("endless key", "infinitely many decoys", "phase-randomised pulses", "bases ideal")


@dataclass(frozen=True)
class RelayLink:
    """Two arms to an untrusted station that measures Bell states. Fields broadcast.

    Attributes:
        transmittance_a: Of Alice's arm, the station's detectors included.
        transmittance_b: Of Bob's arm.
        dark_probability: Per gate and detector, ``p_d``.
        misalignment: ``e_d``.
    """

    transmittance_a: ArrayLike
    transmittance_b: ArrayLike
    dark_probability: ArrayLike
    misalignment: ArrayLike


def mdi(
    link: RelayLink,
    signal_a: ArrayLike,
    signal_b: ArrayLike,
    correction: ArrayLike = 1.16,
    sifting: ArrayLike = 1.0,
) -> KeyRate:
    """Return the key rate, bit per pair of signal pulses.

    Args:
        link: Arms and station.
        signal_a: Alice's mean photon number, ``mu_a``.
        signal_b: Bob's.
        correction: ``f``.
        sifting: Chance that both chose the key basis.
    """
    mu_a, mu_b = np.asarray(signal_a, dtype=float), np.asarray(signal_b, dtype=float)
    yield_11, error_11 = _single_photons(link)
    gain, qber = _gain_and_qber(link, mu_a, mu_b)
    secret = mu_a * mu_b * np.exp(-mu_a - mu_b) * yield_11 * (1 - binary_entropy(error_11))
    rate = secret - gain * np.asarray(correction) * binary_entropy(qber)
    return KeyRate(np.asarray(np.asarray(sifting) * rate), "general", ASSUMPTIONS)


def _single_photons(link: RelayLink) -> tuple[Array, Array]:
    """Return yield and error rate of a photon from each side, in the test basis."""
    a, b = np.asarray(link.transmittance_a, dtype=float), np.asarray(link.transmittance_b)
    dark = np.asarray(link.dark_probability)
    both = a * b / 2
    one = (2 * a + 2 * b - 3 * a * b) * dark
    none = 4 * (1 - a) * (1 - b) * dark**2
    yield_11 = (1 - dark) ** 2 * (both + one + none)
    wrong = yield_11 / 2 - (0.5 - np.asarray(link.misalignment)) * (1 - dark) ** 2 * both
    return np.asarray(yield_11), np.asarray(wrong / yield_11)


def _gain_and_qber(link: RelayLink, mu_a: Array, mu_b: Array) -> tuple[Array, Array]:
    """Return gain and error rate in the key basis."""
    light_a = np.asarray(link.transmittance_a) * mu_a
    light_b = np.asarray(link.transmittance_b) * mu_b
    dark, misalignment = np.asarray(link.dark_probability), np.asarray(link.misalignment)
    empty = np.exp(-(light_a + light_b) / 2)
    alone_a = 1 - (1 - dark) * np.exp(-light_a / 2)
    alone_b = 1 - (1 - dark) * np.exp(-light_b / 2)
    right = 2 * (1 - dark) ** 2 * empty * alone_a * alone_b
    together = i0(np.sqrt(light_a * light_b)) - (1 - dark) * empty
    wrong = 2 * dark * (1 - dark) ** 2 * empty * together
    gain = right + wrong
    errors = misalignment * right + (1 - misalignment) * wrong
    return np.asarray(gain), np.asarray(errors / gain)
