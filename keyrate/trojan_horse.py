"""What light that leaks out of the sender costs.

Source: M. Lucamarini et al., Phys. Rev. X 5, 031030 (2015).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def leaked_phase_error(
    qber: ArrayLike, leaked_photons: ArrayLike, yield_1: ArrayLike = 1.0
) -> Array:
    """Return the phase error rate that a Trojan-horse probe leaves, 0 to 1/2.

    Args:
        qber: Error rate of single photons, ``e``.
        leaked_photons: Mean photon number that comes back to Eve per pulse, ``mu_out``.
        yield_1: Yield of single photons, which Eve may concentrate her knowledge on.
    """
    e, out = np.asarray(qber, dtype=float), np.asarray(leaked_photons, dtype=float)
    apart = 0.5 * (1 - np.exp(-out) * np.cos(out)) / np.asarray(yield_1, dtype=float)
    apart = np.minimum(apart, 0.5)
    shift = 4 * apart * (1 - apart) * (1 - 2 * e)
    mixed = 4 * (1 - 2 * apart) * np.sqrt(apart * (1 - apart) * e * (1 - e))
    return np.asarray(np.minimum(e + shift + mixed, 0.5))
