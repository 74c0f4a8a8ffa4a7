"""How little excess a drifting link can be held at: the least that any tracker pays.

An angle that walks by ``drift`` in one second, watched with Fisher information ``I`` per second, is
known to a variance of ``drift / sqrt(I)`` (steady state of the scalar Riccati equation). Counts of
the matched bases are blind to first order at the optimum, so a dither ``+-d`` has to be paid for
what they tell; the bound is the least sum of what is not known and what is paid.

It is a mean excess QBER with the dither's cost included, of a tracker that knows drift, floor and
actuators, reads every count at once and moves at no cost. Its variance is that after a measurement:
a tracker that counts for a while before it moves lies a little above.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.optimize import minimize_scalar

LEAST_DITHER_RAD, LARGEST_DITHER_RAD = 1e-7, math.pi / 2

FLOOR = 0.005
"""QBER at the optimum, unless said otherwise."""

LARGEST_FLOOR = 0.5
"""A QBER that tells nothing."""


@dataclass(frozen=True)
class TrackingBound:
    """The least cost of holding a link.

    Attributes:
        excess: Least mean QBER above the floor, mean of both bases, dither included, 0 to 1.
        dither_rad: Dither that it takes, rad; 0 where none is needed.
        variance: Variance of an angle that is probed by the dither, or of the phase, rad^2.
    """

    excess: float
    dither_rad: float
    variance: float

    def window_s(self, drift_rad: float, share: float = 0.05) -> float:
        """Give the time in which drift adds a share to the variance, s; infinite without drift.

        Counting for longer before moving costs more than about half that share of the excess.
        """
        return share * self.variance / drift_rad**2 if drift_rad > 0 else math.inf


NOTHING_DRIFTS = TrackingBound(0.0, 0.0, 0.0)


def polarization_bound(
    drift_rad: float, detections_hz: float, *, floor: float = FLOOR
) -> TrackingBound:
    """Bound the excess of a fibre before a passive two-basis receiver, all sixteen counts read.

    Errors in Z see the rotation about S2, errors in X that about S1, each with half of the sifted
    counts and under a dither; counts in mismatched bases see that about S3 without one.

    Args:
        drift_rad: Random walk of the fibre per axis in one second, rad.
        detections_hz: Detections of all detectors together, 1/s.
        floor: QBER at perfect alignment, 0 to 0.5.

    Raises:
        ValueError: A rate is not positive, a drift negative, or the floor outside its range.
    """
    _check(drift_rad, detections_hz, floor)
    if drift_rad == 0:
        return NOTHING_DRIFTS
    visibility = 1 - 2 * floor
    free = 2 * drift_rad / (visibility * math.sqrt(detections_hz / 2))

    def probed(dither_rad: float) -> float:
        return drift_rad / math.sqrt(detections_hz / 4 * _information(dither_rad, visibility))

    def excess(log_dither: float) -> float:
        dither_rad = math.exp(log_dither)
        return (2 * probed(dither_rad) + free) / 8 + (1 - math.cos(dither_rad)) / 2

    least, dither_rad = _least(excess)
    return TrackingBound(least, dither_rad, probed(dither_rad))


def four_phase_bound(
    drift_rad: float, detections_hz: float, *, floor: float = FLOOR
) -> TrackingBound:
    """Bound the excess of a phase that the counts of mismatched bases show, without dither.

    Args:
        drift_rad: Random walk of the phase in one second, rad.
        detections_hz: Detections of all detectors together, half of them in mismatched bases, 1/s.
        floor: QBER at phase zero, 0 to 0.5.

    Raises:
        ValueError: A rate is not positive, a drift negative, or the floor outside its range.
    """
    _check(drift_rad, detections_hz, floor)
    variance = drift_rad / ((1 - 2 * floor) * math.sqrt(detections_hz / 2))
    return TrackingBound(variance / 4, 0.0, variance)


def error_counts_bound(
    drift_rad: float, seeing_hz: float, *, floor: float = FLOOR
) -> TrackingBound:
    """Bound the excess of a phase that error counts alone show, under a dither.

    Args:
        drift_rad: Random walk of the phase in one second, rad.
        seeing_hz: Sifted counts that see the phase, 1/s; the excess is that of these counts.
        floor: QBER at phase zero, 0 to 0.5.

    Raises:
        ValueError: A rate is not positive, a drift negative, or the floor outside its range.
    """
    _check(drift_rad, seeing_hz, floor)
    if drift_rad == 0:
        return NOTHING_DRIFTS
    visibility = 1 - 2 * floor

    def variance(dither_rad: float) -> float:
        return drift_rad / math.sqrt(seeing_hz * _information(dither_rad, visibility))

    def excess(log_dither: float) -> float:
        dither_rad = math.exp(log_dither)
        return variance(dither_rad) / 4 + (1 - math.cos(dither_rad)) / 2

    least, dither_rad = _least(excess)
    return TrackingBound(least, dither_rad, variance(dither_rad))


def _information(dither_rad: float, visibility: float) -> float:
    """Give the Fisher information of a sifted count at an angle from the optimum."""
    blurred = visibility * math.cos(dither_rad)
    return (visibility * math.sin(dither_rad)) ** 2 / (1 - blurred**2)


def _least(excess: Callable[[float], float]) -> tuple[float, float]:
    """Find the least excess over the logarithm of the dither, and that dither."""
    bounds = math.log(LEAST_DITHER_RAD), math.log(LARGEST_DITHER_RAD)
    found = minimize_scalar(excess, bounds=bounds, method="bounded")
    return float(found.fun), math.exp(float(found.x))


def _check(drift_rad: float, counts_hz: float, floor: float) -> None:
    if not 0 <= drift_rad < math.inf:
        raise ValueError(f"drift {drift_rad:g} rad must be 0 or more")
    if not 0 < counts_hz < math.inf:
        raise ValueError(f"rate of counts {counts_hz:g}/s must be more than 0")
    if not 0 < floor < LARGEST_FLOOR:
        raise ValueError(f"floor {floor:g} must lie between 0 and {LARGEST_FLOOR:g}")
