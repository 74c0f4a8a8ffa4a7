"""Excess of a rotation that is known up to a Gaussian, and the least that a drift leaves."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.design import EXCESS_PER_SQUARE_ANGLE
from calibration.tracking.bounds import polarization_bound

Array = NDArray[np.float64]

NORMAL_Q90 = 1.2815515655446004
"""Standard normal deviate below which 90 % lie."""

LARGEST_FLOOR = 0.49
"""Floor above which a link tells too little to be bounded."""

STEP_OF_LOG = 0.3
"""Natural logarithm by which drift per photon and floor may be off where the bound was computed."""

BOUND_EXPONENT = 1 / 3
"""How the bound grows with both of them, near enough for such a step: with what a dither has to
tell, as their product's cube root."""

_ROOT = np.sqrt(EXCESS_PER_SQUARE_ANGLE)


def mean_and_q90(left_rad: Array, covariance: Array) -> tuple[float, float]:
    """Give mean and 90 % quantile of ``sum_i c_i w_i^2``, ``w ~ N(left, covariance)``.

    The first three cumulants are those of a shifted and scaled chi-square (Hall, Buckley and
    Eagleson), whose quantile follows from a normal one (Wilson and Hilferty).

    Sources: M. J. Buckley and G. K. Eagleson, Austral. J. Statist. 30A, 150 (1988); E. B. Wilson
    and M. M. Hilferty, PNAS 17, 684 (1931).

    Args:
        left_rad: Expected rotation vector, about S1, S2 and S3 of the receiver, shape ``(3,)``.
        covariance: Shape ``(3, 3)``, rad^2.

    Returns:
        QBER for a visibility of 1; exact for the mean, within about 5 % for the quantile.
    """
    offset = _ROOT * left_rad
    spread = _ROOT[:, None] * covariance * _ROOT
    square = spread @ spread
    bent = spread @ offset
    mean = float(spread[0, 0] + spread[1, 1] + spread[2, 2] + offset @ offset)
    variance = float(2 * np.vdot(spread, spread) + 4 * offset @ bent)
    third = float(8 * np.vdot(square, spread) + 24 * bent @ bent)
    if third <= 0:
        return mean, mean
    degrees = 8 * variance**3 / third**2
    share = 2 / (9 * degrees)
    quantile = degrees * (1 - share + NORMAL_Q90 * math.sqrt(share)) ** 3
    return mean, mean + math.sqrt(variance / (2 * degrees)) * (quantile - degrees)


def least_excess(drift_variance: float, rate_hz: float, floor: float) -> float:
    """Give the least mean excess at a drift and a rate, cheap enough for every window.

    Args:
        drift_variance: Drift of the fibre per axis, rad^2/s.
        rate_hz: Detections per second, all detectors.
        floor: QBER at perfect alignment.

    Returns:
        Bound of :func:`~calibration.tracking.bounds.polarization_bound` within 2 %; 0 without
        drift or counts.
    """
    if drift_variance <= 0 or rate_hz <= 0 or floor <= 0:
        return 0.0
    log_drift = math.log(drift_variance / rate_hz) / STEP_OF_LOG
    log_floor = math.log(min(floor, LARGEST_FLOOR)) / STEP_OF_LOG
    steps = round(log_drift), round(log_floor)
    beyond = STEP_OF_LOG * (log_drift - steps[0] + log_floor - steps[1])
    return _bound_at(*steps) * math.exp(BOUND_EXPONENT * beyond)


@lru_cache(maxsize=1024)
def _bound_at(drift_steps: int, floor_steps: int) -> float:
    drift_rad = math.exp(0.5 * STEP_OF_LOG * drift_steps)
    floor = min(math.exp(STEP_OF_LOG * floor_steps), LARGEST_FLOOR)
    return polarization_bound(drift_rad, 1.0, floor=floor).excess
