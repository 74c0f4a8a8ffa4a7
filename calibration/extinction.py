"""The extinction of an intensity modulator over its bias voltage: a Mach-Zehnder's sine.

Model: at bias ``V`` the slots that should be empty count at the rate
``floor + depth sin^2(pi (V - V_0) / (2 V_pi))``, with the null ``V_0`` and the half-wave voltage
``V_pi``. Counts are Poisson. Source: B. E. A. Saleh and M. C. Teich, Fundamentals of Photonics,
2nd ed., ch. 20.1 (electro-optic interferometric modulators).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import chi2

from calibration.clicks import CONFIDENCE
from calibration.mean_photon import SlotCounts
from calibration.signal_run import Figure

NULL_STARTS = 6
"""Fits begin at as many places of a period: the likelihood of the null has several maxima."""

LEAST_RATE_SHARE = 1e-7
"""Smallest floor over depth that is distinguished from none."""

UNRESOLVED_COUNTS = 0.5
"""Counts to which an extinction is limited that is better than can be counted."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SineCurve:
    """Rate of the slots that should be empty over the bias.

    Attributes:
        floor_hz: Rate at the null, Hz.
        depth_hz: How much higher it is at the peak, Hz.
        null_v: One null, V; the others lie whole multiples of twice the half-wave voltage away.
        half_wave_v: Voltage from null to peak, V.
        null_sigma_v: Uncertainty of the null, V.
    """

    floor_hz: float
    depth_hz: float
    null_v: float
    half_wave_v: float
    null_sigma_v: float

    def rate_hz(self, bias_v: Floats) -> Floats:
        """Return the rate at bias voltages."""
        angle = np.pi * (bias_v - self.null_v) / (2 * self.half_wave_v)
        return np.asarray(self.floor_hz + self.depth_hz * np.sin(angle) ** 2)

    def nearest_null_v(self, bias_v: float, minimum_v: float, maximum_v: float) -> float | None:
        """Return the null nearest to a voltage within limits, or None if none is there."""
        period_v = 2 * self.half_wave_v
        first = math.ceil((minimum_v - self.null_v) / period_v)
        last = math.floor((maximum_v - self.null_v) / period_v)
        nulls = [self.null_v + k * period_v for k in range(first, last + 1)]
        return min(nulls, key=lambda null_v: abs(null_v - bias_v), default=None)


def fit_sine(
    bias_v: Sequence[float],
    counts: Sequence[int],
    exposure_s: Sequence[float],
    half_wave_v: float,
    half_wave_sigma: float,
) -> SineCurve:
    """Fit the curve to counts, by likelihood and a prior on the half-wave voltage.

    Args:
        bias_v: Bias of each window, V; at least three different ones.
        counts: Counts in the slots that should be empty.
        exposure_s: Duration of each window, s.
        half_wave_v: Nominal half-wave voltage, V.
        half_wave_sigma: Relative uncertainty of it.

    Raises:
        ValueError: No counts, or fewer than three bias voltages.
    """
    bias, n = np.array(bias_v, dtype=float), np.array(counts, dtype=float)
    exposure = np.array(exposure_s, dtype=float)
    if len(set(bias.tolist())) < 3 or n.sum() == 0:
        raise ValueError("a sine needs counts at three bias voltages or more")
    scale_hz = float((n / exposure).max())

    def cost(parameters: Floats) -> float:
        rate, _ = _rate_and_slope(parameters, bias, scale_hz)
        deviance = rate * exposure - n * np.log(rate * exposure)
        stretch = (parameters[3] - math.log(half_wave_v)) / half_wave_sigma
        shape = (parameters[0] + 6) / 6, parameters[1] / 1.5  # a floor far below the peak
        return float(deviance.sum() + (stretch**2 + shape[0] ** 2 + shape[1] ** 2) / 2)

    def gradient(parameters: Floats) -> Floats:
        rate, slope = _rate_and_slope(parameters, bias, scale_hz)
        descent = slope.T @ (exposure - n / rate)
        descent[3] += (parameters[3] - math.log(half_wave_v)) / half_wave_sigma**2
        descent[0] += (parameters[0] + 6) / 36
        descent[1] += parameters[1] / 2.25
        return np.asarray(descent)

    middle_v = float(bias.mean())
    starts = [
        np.array([-4.0, 0.0, middle_v + 2 * half_wave_v * k / NULL_STARTS, math.log(half_wave_v)])
        for k in range(NULL_STARTS)
    ]
    fits = [minimize(cost, start, jac=gradient, method="BFGS") for start in starts]
    best = min(fits, key=lambda fit: float(fit.fun)).x
    period_v = 2 * math.exp(best[3])
    best[2] -= period_v * round((best[2] - middle_v) / period_v)  # the null that was looked at
    rate, slope = _rate_and_slope(best, bias, scale_hz)
    information = (slope * (exposure / rate)[:, None]).T @ slope
    information += np.diag([1 / 36, 1 / 2.25, 1e-9, 1 / half_wave_sigma**2])
    return SineCurve(
        floor_hz=scale_hz * _floor(best),
        depth_hz=scale_hz * math.exp(best[1]),
        null_v=float(best[2]),
        half_wave_v=math.exp(best[3]),
        null_sigma_v=math.sqrt(float(np.linalg.inv(information)[2, 2])),
    )


def pattern_lead(levels: Sequence[float]) -> float:
    """Tell how far before the null the light of a whole pattern is least, in half-wave voltages.

    Each slot's drive gives it its share of the brightest one at the null,
    ``theta_k = arcsin(sqrt(share_k))``. Their mean over the bias is a sine as well,
    ``1/2 - 1/2 Re(exp(2 i phi) Z)`` with ``Z`` the mean of ``exp(2 i theta_k)``, least at
    ``2 phi = -arg Z``.

    Args:
        levels: Mean photon number of each slot of the pattern.

    Returns:
        Minimum of the mean, subtracted from the null, -1 to 1.
    """
    return float(np.angle(_pattern_phasor(levels)) / np.pi)


def brightness_in_doubt(levels: Sequence[float]) -> float:
    """Tell how much brighter than its mean suggests a pattern's brightest pulse may become.

    At some bias the mean over the pattern is least, ``(1 - |Z|) / 2`` of the brightest pulse at the
    null (see ``pattern_lead``): who sees that mean and takes the bias for right is wrong by the
    ratio of the two means.

    Args:
        levels: Mean photon number of each slot of the pattern.

    Returns:
        That ratio, 1 or more.
    """
    shares = np.array(levels) / max(levels)
    least = max((1 - abs(_pattern_phasor(levels))) / 2, LEAST_RATE_SHARE)
    return float(shares.mean() / least)


def _pattern_phasor(levels: Sequence[float]) -> complex:
    """Return the mean of ``exp(2 i theta_k)`` over the slots of a pattern."""
    shares = np.array(levels) / max(levels)
    return complex(np.exp(2j * np.arcsin(np.sqrt(shares))).mean())


def extinction_db(counts: SlotCounts, number: int) -> Figure:
    """Return the signal's light over that of an intensity that should be empty, dB.

    Background is taken off. Where no light remains the value is what could just not be seen. The
    interval is the exact one of the counts (F. Garwood, Biometrika 28, 437 (1936)).
    """
    signal = (counts.counts[0] - counts.background[0]) / counts.shares[0]
    if signal <= 0:
        return Figure(0.0, 0.0, 0.0)
    seen, background = int(counts.counts[number]), float(counts.background[number])
    tail = (1 - CONFIDENCE) / 2
    least = float(chi2.ppf(tail, 2 * seen)) / 2 if seen else 0.0
    most = float(chi2.isf(tail, 2 * seen + 2)) / 2

    def as_db(remaining: float) -> float:
        ratio = max(remaining, UNRESOLVED_COUNTS) / counts.shares[number] / signal
        return -10 * math.log10(ratio)

    return Figure(*(as_db(each - background) for each in (seen, most, least)))


def _floor(parameters: Floats) -> float:
    return math.exp(parameters[0]) + LEAST_RATE_SHARE


def _rate_and_slope(parameters: Floats, bias: Floats, scale_hz: float) -> tuple[Floats, Floats]:
    """Return rates, shape ``(n,)``, and their slopes by log floor, log depth, null, log V_pi."""
    bounded = np.clip(parameters, -50, 50)  # a line search may look far away
    null_v, half_v = bounded[2], math.exp(bounded[3])
    floor, depth = _floor(bounded), math.exp(bounded[1])
    angle = np.pi * (bias - null_v) / (2 * half_v)
    sine, turning = np.sin(angle) ** 2, np.sin(2 * angle)
    slopes = [
        np.full_like(bias, floor - LEAST_RATE_SHARE),
        depth * sine,
        -depth * turning * np.pi / (2 * half_v),
        -depth * turning * angle,
    ]
    return scale_hz * (floor + depth * sine), scale_hz * np.stack(slopes, axis=1)
