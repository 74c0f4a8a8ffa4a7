"""BBM92 with photon pairs of parametric down-conversion, with endless keys.

Source: X. Ma, C.-H. F. Fung and H.-K. Lo, Phys. Rev. A 76, 012307 (2007), equations (9) to (12).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.entropy import binary_entropy
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

ASSUMPTIONS = ("endless key", "many modes told apart by none", "basis-independent source")


@dataclass(frozen=True)
class PairLink:
    """A source of pairs and an arm to each side. Fields broadcast.

    Attributes:
        brightness: Half the mean number of pairs per pulse, ``lambda``.
        transmittance_a: Of Alice's arm, detectors included.
        transmittance_b: Of Bob's arm.
        background_a: Clicks per gate without light at Alice's side.
        background_b: At Bob's side.
        misalignment: ``e_d``.
    """

    brightness: ArrayLike
    transmittance_a: ArrayLike
    transmittance_b: ArrayLike
    background_a: ArrayLike
    background_b: ArrayLike
    misalignment: ArrayLike

    def gain_and_qber(self) -> tuple[Array, Array]:
        """Return the chance of a coincidence per pulse, and its error rate."""
        pairs = np.asarray(self.brightness, dtype=float)
        a, b = np.asarray(self.transmittance_a, dtype=float), np.asarray(self.transmittance_b)
        dark_a, dark_b = 1 - np.asarray(self.background_a), 1 - np.asarray(self.background_b)
        seen_a, seen_b = 1 + a * pairs, 1 + b * pairs
        seen = 1 + (a + b - a * b) * pairs
        gain = 1 - dark_a / seen_a**2 - dark_b / seen_b**2 + dark_a * dark_b / seen**2
        right = (0.5 - np.asarray(self.misalignment)) * a * b * pairs * (1 + pairs)
        wrong = gain / 2 - 2 * right / (seen_a * seen_b * seen)
        return np.asarray(gain), np.asarray(wrong / gain)


def bbm92(link: PairLink, correction: ArrayLike = 1.16, sifting: ArrayLike = 0.5) -> KeyRate:
    """Return ``R = q Q [1 - (1 + f) h(E)]``, bit per pulse of the pump.

    Args:
        link: Source and arms.
        correction: ``f``.
        sifting: ``q``.
    """
    gain, qber = link.gain_and_qber()
    rate = gain * (1 - (1 + np.asarray(correction)) * binary_entropy(qber))
    return KeyRate(np.asarray(np.asarray(sifting) * rate), "general", ASSUMPTIONS)
