"""What no protocol can exceed without a quantum repeater: ceilings that catch mistakes."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def plob(transmittance: ArrayLike) -> Array:
    """Return the secret key capacity of a lossy channel, ``-log2(1 - eta)``, bit per use.

    No point-to-point protocol exceeds it.
    Source: S. Pirandola et al., Nat. Commun. 8, 15043 (2017).

    Args:
        transmittance: Of the channel alone, ``eta``, 0 to 1; infinite at 1.
    """
    return _lost(np.asarray(transmittance, dtype=float))


def tgw(transmittance: ArrayLike) -> Array:
    """Return the older, looser ceiling ``log2((1 + eta) / (1 - eta))``, bit per use.

    Source: M. Takeoka, S. Guha and M. M. Wilde, Nat. Commun. 5, 5235 (2014).
    """
    eta = np.asarray(transmittance, dtype=float)
    return np.asarray(np.log1p(eta) / math.log(2) + _lost(eta))


def one_node(transmittance: ArrayLike) -> Array:
    """Return the ceiling with one untrusted node, ``-log2(1 - sqrt(eta))``, bit per use.

    The node stands half-way.

    Source: S. Pirandola, Commun. Phys. 2, 51 (2019).

    Args:
        transmittance: Of the whole channel, ``eta``, 0 to 1.
    """
    return _lost(np.sqrt(np.asarray(transmittance, dtype=float)))


def _lost(transmittance: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log1p(-transmittance) / math.log(2))
