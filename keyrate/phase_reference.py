"""Protocols whose reference is in the light: DPS, RRDPS and COW, each with its honest security.

Their rates must not be traded against decoy-state BB84 as if they were proven against the same
attacks: see ``KeyRate.security_class``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.entropy import binary_entropy
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

MOST_DPS_ERROR = 1 / 6
"""Error rate up to which the DPS formula holds."""


@dataclass(frozen=True)
class PulseTrain:
    """A train of coherent pulses to a one-bit delay interferometer. Fields broadcast.

    Attributes:
        transmittance: ``eta``, detectors included.
        dark_probability: Per gate and detector, ``p_d``.
        misalignment: ``e_d``.
    """

    transmittance: ArrayLike
    dark_probability: ArrayLike
    misalignment: ArrayLike

    def gain_and_qber(self, mean_photons: ArrayLike) -> tuple[Array, Array]:
        """Return the chance of a click per pulse, and its error rate."""
        arriving = -np.expm1(-np.asarray(self.transmittance) * np.asarray(mean_photons))
        dark = np.asarray(self.dark_probability)
        gain = arriving + 2 * dark
        return np.asarray(gain), np.asarray((self.misalignment * arriving + dark) / gain)


def dps(train: PulseTrain, mean_photons: ArrayLike, correction: ArrayLike = 1.16) -> KeyRate:
    """Return the key rate of differential phase shift, bit per pulse; individual attacks only.

    Source: E. Waks, H. Takesue and Y. Yamamoto, Phys. Rev. A 73, 012344 (2006).

    Args:
        train: Pulses and link.
        mean_photons: Of a pulse, ``mu``.
        correction: ``f``.
    """
    gain, seen = train.gain_and_qber(mean_photons)
    error = np.minimum(seen, MOST_DPS_ERROR)
    collision = 1 - error**2 - (1 - 6 * error) ** 2 / 2
    unknown = -(1 - 2 * np.asarray(mean_photons)) * np.log2(collision)
    rate = gain * (unknown - np.asarray(correction) * binary_entropy(error))
    rate = np.where(seen <= MOST_DPS_ERROR, rate, -gain)
    return KeyRate(np.asarray(rate), "individual", ("endless key", "individual attacks only"))


def rrdps(
    gain: ArrayLike,
    qber: ArrayLike,
    train_length: ArrayLike,
    most_photons: ArrayLike,
    correction: ArrayLike = 1.16,
) -> KeyRate:
    """Return the key rate of round-robin DPS, bit per train: no error rate need be measured.

    ``R = Q [1 - f h(e) - h(n_th / (L - 1))]``.
    Source: T. Sasaki, Y. Yamamoto and M. Koashi, Nature 509, 475 (2014).

    Args:
        gain: Chance of a valid click per train, ``Q``.
        qber: ``e``.
        train_length: Pulses per train, ``L``.
        most_photons: Photons of a train at most, ``n_th``; trains of more must be as good as none.
        correction: ``f``.
    """
    told = np.asarray(correction) * binary_entropy(qber)
    known = binary_entropy(np.asarray(most_photons) / (np.asarray(train_length) - 1))
    rate = np.asarray(gain) * (1 - told - known)
    return KeyRate(np.asarray(rate), "general", ("endless key", "no train has more photons"))


def cow_ceiling(transmittance: ArrayLike) -> Array:
    """Return ``eta^2``, the order that coherent one-way cannot exceed against general attacks.

    Attacks without errors bound the rate, bit per pulse, to that order; formulas linear in ``eta``
    are no general-security rates, so none is offered. The factor of the order is taken for 1.
    Sources: J. Gonzalez-Payo et al., Phys. Rev. Lett. 125, 260510 (2020); J. Rey-Dominguez et al.,
    arXiv:2406.13760.
    """
    return np.asarray(transmittance, dtype=float) ** 2
