"""How the phase between two interferometers drifts: at random, with the time of day, by a knock."""

from bisect import bisect_right
from dataclasses import dataclass
from math import isfinite, pi, sin
from typing import Final

import numpy as np

from sim.random_walk import RandomWalk

JUMPS_KEPT: Final = 256


@dataclass(frozen=True)
class PhaseDriftSettings:
    """How a phase drifts.

    Attributes:
        drift_rad_per_sqrt_s: Strength q of the random walk: the variance grows by ``q^2 t``.
        slow_amplitude_rad: Amplitude of a periodic term, rad.
        slow_period_s: Its period, s; by default a day.
        step_s: Time grid of the random walk, s; between grid points the phase is linear.
    """

    drift_rad_per_sqrt_s: float = 0.03
    slow_amplitude_rad: float = 1.0
    slow_period_s: float = 86400.0
    step_s: float = 0.01

    def __post_init__(self) -> None:
        if not (self.drift_rad_per_sqrt_s >= 0 and isfinite(self.slow_amplitude_rad)):
            raise ValueError("the drift must not be negative, the slow amplitude must be finite")
        if not (self.slow_period_s > 0 and self.step_s > 0):
            raise ValueError("slow period and step must be positive")


class PhaseDrift:
    """The phase between two interferometers over time, rad.

    It starts anywhere on the circle and walks there on a fixed time grid: the path depends on
    generator and start alone, not on when or how often it is asked for.

    Args:
        settings: Strength of the drift.
        generator: Owned by this phase from here on.
        start_s: Time of the first grid point, s; None takes the first time that is asked for.
            Times before it see the start.
    """

    def __init__(
        self,
        settings: PhaseDriftSettings,
        generator: np.random.Generator,
        *,
        start_s: float | None = None,
    ) -> None:
        self.settings = settings
        self._walk = RandomWalk(
            settings.drift_rad_per_sqrt_s,
            generator,
            start=float(generator.uniform(0, 2 * pi)),
            start_s=start_s,
            step_s=settings.step_s,
        )
        self._jump_times_s = [-float("inf")]
        self._jumps = [0.0]

    def phase(self, now_s: float) -> float:
        """Return the phase at a time, rad, not wrapped.

        Raises:
            LookupError: The time lies so far back that this part of the path is forgotten.
        """
        age_s = self._walk.age_s(now_s)
        slow = self.settings.slow_amplitude_rad * sin(2 * pi * age_s / self.settings.slow_period_s)
        jumped = self._jumps[max(0, bisect_right(self._jump_times_s, now_s) - 1)]
        return jumped + slow + self._walk.at(now_s)

    def jump(self, phase_rad: float, now_s: float) -> None:
        """Add a phase from now on."""
        self._walk.age_s(now_s)
        self._jump_times_s.append(max(now_s, self._jump_times_s[-1]))
        self._jumps.append(self._jumps[-1] + phase_rad)
        del self._jump_times_s[:-JUMPS_KEPT], self._jumps[:-JUMPS_KEPT]
