"""Which error rate to tell the error correction, when the true one is known only so well.

A rate-adaptive code is prepared for an error rate. Prepared for too little it needs more rounds and
tells more; prepared for too much it tells too much at once. How much is measured; what is best
under a posterior of the QBER follows from it. Every bit that is told counts.

Source of the measurements: the public table of a rate-adaptive LDPC scheme with interactive rounds,
github.com/rmnigm/qber-forecasting, averaged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.stats import beta

from keyrate.entropy import binary_entropy

Array = NDArray[np.float64]

QBERS = np.array([0.01, 0.03, 0.05])
"""True error rates of the measurements."""

OFFSETS = np.array([-0.005, -0.002, 0.0, 0.002, 0.005, 0.010])
"""By how much the code was prepared for more than the true error rate."""

INEFFICIENCY = np.array(
    [
        [2.32, 1.41, 1.287, 1.337, 1.601, 2.016],
        [1.462, 1.204, 1.197, 1.215, 1.295, 1.433],
        [1.233, 1.190, 1.176, 1.185, 1.234, 1.315],
    ]
)
"""Told bits over the least possible ones, ``f``."""

ROUNDS = np.array(
    [
        [6.8, 17.3, 3.8, 1.0, 1.0, 1.0],
        [17.0, 3.2, 1.7, 1.1, 1.0, 1.0],
        [5.1, 2.1, 1.4, 1.0, 1.0, 1.0],
    ]
)
"""Rounds of messages; where the code was prepared for 1 pp too much they were not given: one."""

MARGINS = np.linspace(-0.005, 0.01, 61)
"""Margins that are compared."""

NODES = (np.arange(48) + 0.5) / 48
"""Quantiles of the posterior that stand for it."""

_SURFACES = [
    RegularGridInterpolator((QBERS, OFFSETS), values, bounds_error=False, fill_value=None)
    for values in (INEFFICIENCY, ROUNDS)
]


@dataclass(frozen=True)
class Preparation:
    """What to prepare the code for.

    Attributes:
        qber: Error rate that it is told, 0 to 0.5.
        margin: By how much that exceeds the posterior's mean.
        leak_per_bit: Bits told per sifted bit, to be expected.
        rounds: Rounds of messages, to be expected.
    """

    qber: float
    margin: float
    leak_per_bit: float
    rounds: float


def inefficiency(qber: Array, prepared: Array) -> Array:
    """Return ``f`` of a code prepared for one error rate at another, at least 1.

    Between the measurements it is linear; error rates beyond them count as the nearest ones, and
    offsets go on as they began.

    Args:
        qber: True error rate, 0 to 0.5.
        prepared: What the code was prepared for; broadcasts.
    """
    return np.maximum(_surface(0, qber, prepared), 1.0)


def leak_per_bit(qber: Array, prepared: Array) -> Array:
    """Return the bits told per sifted bit, ``f h(E)``."""
    return np.asarray(inefficiency(qber, prepared) * binary_entropy(qber))


def prepare(qber: float, sigma: float) -> Preparation:
    """Choose what to prepare the code for.

    Args:
        qber: Mean of the posterior of the error rate, 0 to 0.5.
        sigma: Its standard deviation.

    Raises:
        ValueError: The mean is not an error rate, or the deviation is not that of one.
    """
    if not 0 < qber < 0.5 or not 0 <= sigma < np.sqrt(qber * (1 - qber)):
        raise ValueError(f"no posterior of a QBER has mean {qber:g} and deviation {sigma:g}")
    true = _quantiles(qber, sigma)
    prepared = np.clip(qber + MARGINS, 1e-4, 0.5)
    leaks = leak_per_bit(true, prepared[:, None]).mean(axis=1)
    best = int(np.argmin(leaks))
    rounds = np.maximum(_surface(1, true, prepared[best]), 1.0).mean()
    told = float(prepared[best])
    return Preparation(told, told - qber, float(leaks[best]), float(rounds))


def _quantiles(qber: float, sigma: float) -> Array:
    """Return error rates that stand for a posterior, shape ``(48,)``."""
    if sigma == 0:
        return np.full(len(NODES), qber)
    pseudo = qber * (1 - qber) / sigma**2 - 1
    return np.asarray(beta(qber * pseudo, (1 - qber) * pseudo).ppf(NODES))


def _surface(number: int, qber: Array, prepared: Array) -> Array:
    true, told = np.broadcast_arrays(np.asarray(qber, dtype=float), prepared)
    nearest = np.clip(true, QBERS[0], QBERS[-1])
    points = np.stack([nearest, told - true], axis=-1)
    return np.asarray(_SURFACES[number](points))
