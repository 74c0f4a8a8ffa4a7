"""Mean photon numbers from the power at a tap, and from counts of Alice's pattern."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.signal_run import INTERVAL_SIGMAS, Figure

PLANCK_J_S = 6.62607015e-34
LIGHT_M_PER_S = 299_792_458.0

DB_SIGMA = math.log(10) / 10
"""Relative error of a level per dB."""


@dataclass(frozen=True)
class Tap:
    """How the power at a tap tells the signal's mean photon number.

    The tap sees the whole pattern on average: the levels of the intensities among each other are
    taken from the testbed file.

    Attributes:
        clock_hz: Pulses per second.
        signal_share: Mean photon number over the whole pattern, over that of the signal.
        tap_db: How much brighter the tap is than what leaves Alice, dB.
        wavelength_nm: Of the light, nm.
        scale_sigma: Relative uncertainty of meter and tap together.
    """

    clock_hz: float
    signal_share: float
    tap_db: float
    wavelength_nm: float
    scale_sigma: float

    @property
    def watts_per_photon(self) -> float:
        """Power at the tap for a signal of one photon per pulse, W."""
        energy_j = PLANCK_J_S * LIGHT_M_PER_S / (self.wavelength_nm * 1e-9)
        return energy_j * self.clock_hz * self.signal_share * float(10 ** (self.tap_db / 10))

    def level(self, power_w: Sequence[float], dark_w: Sequence[float]) -> "Level":
        """Turn readings with and without light into the signal's mean photon number.

        Args:
            power_w: Readings with light, W, at least two.
            dark_w: Readings without light, W, at least two.
        """
        light, dark = np.array(power_w), np.array(dark_w)
        variance_w2 = light.var(ddof=1) / len(light) + dark.var(ddof=1) / len(dark)
        scale_w = self.watts_per_photon
        return Level((light.mean() - dark.mean()) / scale_w, math.sqrt(variance_w2) / scale_w)


def signal_share(pattern: Pattern, mean_photons: Mapping[str, float]) -> float:
    """Return the mean photon number over a pattern over that of its signal."""
    means = [mean_photons[name] for name in pattern.intensities]
    return sum(means) / len(means) / mean_photons[pattern.signal]


def relative_scale_sigma(meter_sigma: float, tap_sigma_db: float) -> float:
    """Add the uncertainties of a meter's calibration (relative) and of a tap (dB)."""
    return math.hypot(meter_sigma, DB_SIGMA * tap_sigma_db)


@dataclass(frozen=True)
class Level:
    """A mean photon number, and its standard error from the noise of the readings alone."""

    mean_photons: float
    sigma: float

    @property
    def upper(self) -> float:
        """What it is at most, but for one case in a thousand; never below three errors."""
        return max(self.mean_photons, 0.0) + 3 * self.sigma

    def figure(self, scale_sigma: float) -> Figure:
        """Return it with its whole uncertainty."""
        return Figure.normal(
            self.mean_photons, math.hypot(self.sigma, self.mean_photons * scale_sigma)
        )


@dataclass(frozen=True)
class SlotCounts:
    """Counts in the gates of each intensity, and how many of them are not light from Alice.

    Clicks outside of the gates (dark counts, afterpulses, stray light) tell how many there are
    inside; without a gate that is not known, and taken for none.

    Attributes:
        counts: Counts in the gate, shape ``(n_intensities,)``, the signal first.
        shares: Share of the pattern's slots, same shape.
        background: Expected counts that are not light, same shape.
    """

    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    background: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        windows: Sequence[Window],
        pattern: Pattern,
        gate_share: float,
        background: float | None = None,
    ) -> "SlotCounts":
        """Sum windows over states and detectors.

        Args:
            windows: Windows of the pattern, at least one.
            pattern: What Alice sends.
            gate_share: Share of a slot within the gate, above 0 to 1.
            background: Counts in all gates that are not light; by default as the clicks outside of
                them tell.
        """
        counts = np.sum([window.clicks.sum(axis=(1, 2)) for window in windows], axis=0)
        slots = np.bincount(pattern.intensity_of_slot, minlength=len(counts))
        if background is None:
            outside = max(sum(window.photons for window in windows) - int(counts.sum()), 0)
            background = outside * gate_share / (1 - gate_share) if gate_share < 1 else 0.0
        shares = slots / slots.sum()
        return cls(counts, shares, background * shares)

    @property
    def has_light(self) -> bool:
        """Whether more clicks are in the gates than background would put there."""
        inside, background = int(self.counts.sum()), float(self.background.sum())
        return inside > background + 5 * math.sqrt(background + 1)

    def ratio(self, number: int) -> Figure:
        """Return an intensity's light per slot over the signal's, with errors of Poisson counts."""
        light = self.counts - self.background
        per_slot = light / self.shares
        if per_slot[0] <= 0:
            return Figure(math.nan, 0.0, math.inf)
        seen = max(self.counts[number], 1) + self.background[number]
        sigma = math.sqrt(seen) / self.shares[number] / per_slot[0]
        value = max(per_slot[number] / per_slot[0], 0.0)
        relative = 1 / math.sqrt(max(self.counts[0], 1))
        half = INTERVAL_SIGMAS * math.hypot(sigma, value * relative)
        return Figure(value, max(value - half, 0.0), value + half)
