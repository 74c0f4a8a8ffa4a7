"""The drive of a phase: where it stands, and which setting gives the phase that is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibration.tracking.phase_filters import Expected

PLAY_SIGMAS = 1.0
"""By how many standard deviations of the play a drive that turns round goes farther."""


@dataclass
class PhaseDrive:
    """One drive with play: its output follows a setting at a distance of the play's half width.

    Attributes:
        limits: Lowest and highest setting.
        span: Within which settings are held; narrower, if there is room for that.
        rad_per_drive: Nominal phase per unit of the drive, with its sign.
        measured: Setting of the newest window that was counted.
        side: On which side its play was taken up: 1 coming from below, -1 from above.
        asked: Newest setting that was proposed.
        asked_side: Its side.
        held: Output without dither, as proposed.
        temperature_c: Of the newest window that was counted; None where there is no sensor.
    """

    limits: tuple[float, float]
    span: tuple[float, float]
    rad_per_drive: float
    measured: float
    side: float = 1.0
    asked: float = math.nan
    asked_side: float = 1.0
    held: float = math.nan
    temperature_c: float | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.asked):
            self.asked = self.held = self.measured

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> PhaseDrive:
        """Restore what ``dataclasses.asdict`` gave, limits as lists or tuples."""
        (low, high), (lower, upper) = stored["limits"], stored["span"]
        return cls(**{**stored, "limits": (low, high), "span": (lower, upper)})

    def arrive(
        self, setting: float, temperature_c: float | None, play: float
    ) -> tuple[float, float, float]:
        """Take note of what was in force in a window.

        Returns:
            What :meth:`~calibration.tracking.phase_filters.PhaseFilters.shift` takes.
        """
        change = setting - self.measured
        side = math.copysign(1.0, change) if abs(change) > play else self.side
        reversed_sides = self.rad_per_drive * (side - self.side)
        warmed_k = 0.0
        if temperature_c is not None:
            before = self.temperature_c
            warmed_k = 0.0 if before is None else temperature_c - before
            self.temperature_c = temperature_c
        self.measured, self.side = setting, side
        return self.rad_per_drive * change, warmed_k, reversed_sides

    def to_zero(self, expected: Expected) -> None:
        """Hold the output of phase zero: the one nearest to that held, or else to the middle.

        Args:
            expected: What the filters expect of the setting counted last.
        """
        slope = self._slope(expected)
        period = 2 * math.pi / abs(slope)
        zero = self.measured - self.side * expected.play - expected.phase / slope
        low, high = self.span
        held = zero + period * round((self.held - zero) / period)
        if not low <= held <= high:
            held = zero + period * round(((low + high) / 2 - zero) / period)
        self.held = min(max(held, self.limits[0]), self.limits[1])

    def ask(self, expected: Expected, aside_rad: float) -> tuple[float, float]:
        """Choose the setting of a phase aside from the output held.

        A drive that turns round goes somewhat too far rather than not far enough: as long as it is
        within its play, nothing is learnt of it. Where that would be worse than to stay, it stays.

        Returns:
            That setting, and the one without the step aside.
        """
        output = self.held + aside_rad / self._slope(expected)
        change = output - (self.asked - self.asked_side * expected.play)
        margin = PLAY_SIGMAS * expected.play_sigma
        play = expected.play
        if change * self.asked_side < 0:
            if abs(change) < margin / 2:
                return self.asked, self.asked
            self.asked_side, play = -self.asked_side, play + margin
        self.asked = self._limited(output + self.asked_side * play)
        return self.asked, self._limited(self.held + self.asked_side * expected.play)

    def _slope(self, expected: Expected) -> float:
        return self.rad_per_drive * (1 + expected.scale)

    def _limited(self, setting: float) -> float:
        return min(max(setting, self.limits[0]), self.limits[1])
