"""What a drift does to all counts alike, and a fit that takes it for independent errors overlooks.

Counts of age ``t`` saw the fibre as it was before a random walk of variance ``drift^2 t`` per axis.
Their weights in a fit allow for that, setting by setting. But every walk is part of all the longer
ones: what came last has turned the fibre for all older counts in the same way, and does not average
out over them. To first order an error ``x_m`` of the fibre at setting ``m`` moves the fit by
``C A_m x_m``, with ``C`` its covariance and ``A_m`` the sum of ``g h' / variance`` over the numbers
that the setting tells: ``g`` the slope along all parameters, ``h`` that along a turn of the fibre.
So the covariance lacks what the weights leave out of ``C (sum A_m <x_m x_n'> A_n') C``: the
sandwich estimator.

Source: K.-Y. Liang and S. L. Zeger, Biometrika 73, 13 (1986).
"""

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain
from calibration.observations import Observations
from calibration.parameters import Parameters

Array = NDArray[np.float64]


def covariance_left_out(
    chain: Chain, seen: Observations, at: Parameters, covariance: Array, drift_rad: float
) -> Array:
    """Compute what to add to the covariance of a fit to aged counts.

    Args:
        chain: The model.
        seen: Counts, weakened for their age.
        at: Where they were fitted, a batch of J.
        covariance: Of the fit, shape ``(J, P, P)``.
        drift_rad: Drift of the fibre per axis in one second, rad.

    Returns:
        Shape ``(J, P, P)``, positive semidefinite.
    """
    probability, slope = seen.linearise(chain, at)
    weight = seen.trials / (probability * (1 - probability))
    by_turn = slope[:, :, :3]
    pull = (slope * weight[:, :, None]) @ np.swapaxes(by_turn, -1, -2)
    walked = drift_rad**2 * np.minimum.outer(seen.age_s, seen.age_s)
    whole = np.einsum("jmpd,mn,jnqd->jpq", pull, walked, pull, optimize=True)
    # What the weights allow for already: every number with an error of its own.
    own = weight**2 * np.sum(by_turn**2, axis=2) * np.diagonal(walked)[:, None]
    allowed = np.einsum("jmpr,jmr,jmqr->jpq", slope, own, slope, optimize=True)
    values, vectors = np.linalg.eigh(covariance @ (whole - allowed) @ covariance)
    positive = np.maximum(values, 0.0)[:, None, :]
    return np.asarray((vectors * positive) @ np.swapaxes(vectors, -1, -2))
