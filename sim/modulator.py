"""Alice's intensity modulator: a Mach-Zehnder whose null drifts away from its bias."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, pi

import numpy as np

from sim.random_walk import RandomWalk
from sim.stokes import Floats
from sim.timeline import Timeline

Course = Callable[[float], float]
"""A bias, V, over time, s."""

STEP_S = 0.1
"""Time grid of the null's random walk, s."""


@dataclass(frozen=True)
class ModulatorSettings:
    """One modulator.

    Attributes:
        half_wave_v: Bias from null to peak, V.
        null_v: Bias of the null at the time 0, V.
        drift_v_per_hour: How fast the null moves, V/h.
        drift_v_per_sqrt_s: Strength of its random walk beside that, V per root of a second.
        extinction_db: Power at the peak over power at the null, dB.
    """

    half_wave_v: float = 5.3
    null_v: float = 0.0
    drift_v_per_hour: float = 0.0
    drift_v_per_sqrt_s: float = 0.0
    extinction_db: float = 35.0

    def __post_init__(self) -> None:
        if not (self.half_wave_v > 0 and self.extinction_db > 0):
            raise ValueError("half_wave_v and extinction_db must be positive")
        if not (isfinite(self.null_v) and isfinite(self.drift_v_per_hour)):
            raise ValueError("null_v and drift_v_per_hour must be finite")


class IntensityModulator:
    """Makes pulses of several intensities out of pulses that are all alike.

    The modulator passes ``floor + (1 - floor) sin^2`` of half the phase between its arms. Each
    intensity has a drive that gives its share of the brightest one at the right bias; bias beside
    the null adds its own phase to all of them. Until somebody drives the bias it is right.

    Args:
        settings: The modulator.
        generator: Draws the random walk of its null.
    """

    def __init__(
        self,
        settings: ModulatorSettings | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.settings = settings or ModulatorSettings()
        self._walk = RandomWalk(
            self.settings.drift_v_per_sqrt_s,
            generator or np.random.default_rng(0),
            start_s=0.0,
            step_s=STEP_S,
        )
        self._floor = float(10 ** (-self.settings.extinction_db / 10))
        self._bias = Timeline[Course | None](None)

    def set_bias(self, bias_v: float, now_s: float) -> None:
        """Set the bias; it is there at once."""
        self.follow(lambda _: bias_v, now_s)

    def follow(self, course: Course, now_s: float) -> None:
        """Let the bias take a course over time from now on."""
        self._bias.set(course, now_s)

    def null_v(self, now_s: float) -> float:
        """Return the bias of the null at a time, V."""
        steady_v = self.settings.drift_v_per_hour * now_s / 3600
        return self.settings.null_v + steady_v + self._walk.at(now_s)

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which the bias was set."""
        return self._bias.changes(start_s, end_s)

    def mean_photons(
        self, nominal: Floats, now_s: float, drive_rad: Floats | None = None
    ) -> Floats:
        """Return what becomes of the mean photon numbers that the slots should have.

        Args:
            nominal: Mean photon number of each slot at the right bias, shape ``(k,)``.
            now_s: Time, s.
            drive_rad: Drive of each slot, pi/2 from null to peak, same shape; NaN for the one that
                gives the nominal share, None for that of all.
        """
        course, brightest = self._bias.at(now_s), float(nominal.max())
        drive_rad = np.full_like(nominal, np.nan) if drive_rad is None else drive_rad
        is_driven = ~np.isnan(drive_rad)
        if (course is None and not is_driven.any()) or brightest == 0:
            return nominal
        share = np.clip((nominal / brightest - self._floor) / (1 - self._floor), 0, 1)
        drive = np.where(is_driven, drive_rad, np.arcsin(np.sqrt(share)))
        if course is not None:
            drive += pi * (course(now_s) - self.null_v(now_s)) / (2 * self.settings.half_wave_v)
        passed = self._floor + (1 - self._floor) * np.sin(drive) ** 2
        return np.asarray(brightest * passed)
