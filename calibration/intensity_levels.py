"""The levels of an intensity modulator over their drives, told from counts of the pattern.

A Mach-Zehnder that is biased at its null passes ``sin^2(pi (u + u_0) / (2 V_pi))`` of the light at
a drive ``u``; ``u_0`` is what the bias misses the null by. The level of an intensity is its light
per pulse over that of the signal, which sits near the peak. Given how many clicks both make, the
number of the level's clicks is binomial. Source: B. E. A. Saleh and M. C. Teich, Fundamentals of
Photonics, 2nd ed., ch. 20.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, exp, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from calibration.multinomial import Prior, fit_multinomial
from calibration.pulses import PulseCounts
from calibration.signal_run import Figure

MISS_SIGMA = 0.03
"""What the bias may miss the null by, in half-wave voltages, standard deviation."""

SIGNAL_SIGMA = 0.02
"""What the signal may be off the peak by, relative in light, standard deviation."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LevelLook:
    """Counts at one drive.

    Attributes:
        drive_v: The drive of the level, V.
        pair: Counts of the level and of the signal, shape ``(2,)``.
        exposure: What their light is multiplied with, same shape.
        background: Expected counts that are not light, same shape.
    """

    drive_v: float
    pair: NDArray[np.int64]
    exposure: Floats
    background: Floats

    @classmethod
    def of(cls, counts: PulseCounts, intensity: int, drive_v: float) -> "LevelLook":
        """Sum counts over states and detectors.

        The detectors are weighted alike for both: every state comes with every intensity.
        """
        both = np.array([intensity, 0])
        seen, exposure = counts.counts[both], counts.exposure[both]
        background = exposure * counts.background
        # Light of each state and detector per pulse, as the signal shows it.
        profile = np.maximum(counts.light(0), 0.0) / counts.exposure[0]
        weighted = (exposure * profile / max(profile.mean(), 1e-300)).sum(axis=(1, 2))
        return cls(drive_v, seen.sum(axis=(1, 2)), weighted, background.sum(axis=(1, 2)))

    def ratio(self) -> tuple[float, float]:
        """Return the light per pulse over that of the signal, and its standard error.

        Raises:
            ValueError: The signal shows no light.
        """
        light = (self.pair - self.background) / self.exposure
        if light[1] <= 0:
            raise ValueError("the signal shows no light")
        sigma = np.sqrt(np.maximum(self.pair, 1)) / self.exposure
        value = float(light[0] / light[1])
        return value, float(np.hypot(sigma[0], value * sigma[1]) / light[1])


@dataclass(frozen=True)
class LevelCurve:
    """A level over its drive: ``scale sin^2(pi (u + miss) / (2 half_wave))``, in V."""

    scale: float
    miss_v: float
    half_wave_v: float

    def drive_v(self, level: float) -> float:
        """Return the drive, on the rising slope from the null, for a level; the peak at most."""
        share = min(max(level / self.scale, 0.0), 1.0)
        return self.half_wave_v * 2 / pi * asin(sqrt(share)) - self.miss_v


def ratio_error_percent(look: LevelLook, wanted: float) -> Figure:
    """Return how far the level is from what it should be, per cent of that.

    Raises:
        ValueError: The signal shows no light.
    """
    ratio, sigma = look.ratio()
    signed = Figure.normal(100 * (ratio / wanted - 1), 100 * sigma / wanted)
    largest = max(abs(signed.low), abs(signed.high))
    least = 0.0 if signed.low < 0 < signed.high else min(abs(signed.low), abs(signed.high))
    return Figure(abs(signed.value), least, largest)


def fit_level(looks: Sequence[LevelLook], half_wave_v: float, half_wave_sigma: float) -> LevelCurve:
    """Fit the curve to counts at a few drives.

    Args:
        looks: At least one.
        half_wave_v: Nominal half-wave voltage, V.
        half_wave_sigma: Relative uncertainty of it.

    Raises:
        ValueError: There are no counts.
    """
    drives = np.array([look.drive_v for look in looks]) / half_wave_v
    counts = np.stack([look.pair for look in looks])
    exposure = np.stack([look.exposure for look in looks])
    dark = np.stack([_dark_level(look) for look in looks])

    def shares(parameters: Floats) -> tuple[Floats, Floats]:
        """Return the binomial shares over scale, miss and half-wave voltage (logarithms)."""
        stretch = exp(-parameters[2])
        angle = pi / 2 * (drives * stretch + parameters[1])
        level = exp(parameters[0]) * np.sin(angle) ** 2
        slope = exp(parameters[0]) * pi / 2 * np.sin(2 * angle)
        by = np.stack([level, slope, -slope * drives * stretch], axis=-1)
        seen = exposure * np.stack([level, np.ones_like(level)], axis=-1) + dark
        share = seen[:, 0] / seen.sum(axis=1)
        turned = (exposure[:, 0] * (1 - share) / seen.sum(axis=1))[:, None] * by
        return np.stack([share, 1 - share], axis=1), np.stack([turned, -turned], axis=1)

    prior = Prior(np.zeros(3), np.array([SIGNAL_SIGMA, MISS_SIGMA, half_wave_sigma]))
    fit = fit_multinomial(shares, counts, prior, prior.mean).parameters
    fitted_v = half_wave_v * exp(fit[2])
    return LevelCurve(exp(fit[0]), fitted_v * fit[1], fitted_v)


def _dark_level(look: LevelLook) -> Floats:
    """Return the background in units of the signal's light per pulse."""
    signal = max(float(look.pair[1] - look.background[1]), 1.0) / look.exposure[1]
    return np.asarray(look.background / signal)
