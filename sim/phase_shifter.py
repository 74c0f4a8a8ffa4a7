"""Physics of what moves an interferometer's phase: a piezo stretcher or a modulator, by voltage."""

from dataclasses import dataclass
from math import isfinite, pi
from typing import Final

import numpy as np

from sim.timeline import Ramp, Timeline

SLEW_V_PER_S: Final = 43e3


@dataclass(frozen=True)
class PhaseShifterSettings:
    """What is known of a phase shifter; its unit-to-unit differences are drawn.

    Attributes:
        v_pi_v: Nominal voltage for a phase of pi, V.
        scale_spread: Half width of the uniform relative error of the phase per volt.
        hysteresis_v: Half width of the play between drive voltage and phase, V.
        slew_v_per_s: How fast the voltage follows a command, V/s.
        max_v: Highest voltage it is driven with, V; the lowest is 0.
    """

    v_pi_v: float = 12.0
    scale_spread: float = 0.1
    hysteresis_v: float = 0.0
    slew_v_per_s: float = SLEW_V_PER_S
    max_v: float = 75.0

    def __post_init__(self) -> None:
        if not min(self.v_pi_v, self.slew_v_per_s, self.max_v) > 0:
            raise ValueError("v_pi_v, slew_v_per_s and max_v must be positive")
        if not (0 <= self.scale_spread < 1 and self.hysteresis_v >= 0):
            raise ValueError("scale_spread lies between 0 and 1, hysteresis is not negative")


@dataclass(frozen=True)
class _Stretch:
    """The drive on its way, and the voltage that the fibre felt when it set off."""

    ramp: Ramp
    felt_v: float

    def felt_at(self, now_s: float, play_v: float) -> float:
        """Return the voltage that the fibre feels: a play operator of half width ``play_v``.

        The ramp is monotone, so where it is now decides. Source: M. Brokate and J. Sprekels,
        Hysteresis and Phase Transitions, ch. 2.
        """
        drive_v = self.ramp.at(now_s)
        return min(max(self.felt_v, drive_v - play_v), drive_v + play_v)


class PhaseShifter:
    """Adds the phase ``pi v / V_pi (1 + u)``; the scale error ``u`` comes from ``generator``."""

    def __init__(self, settings: PhaseShifterSettings, generator: np.random.Generator) -> None:
        self.settings = settings
        self._scale = 1 + generator.uniform(-settings.scale_spread, settings.scale_spread)
        rest = _Stretch(Ramp(0.0, 0.0, 0.0, settings.slew_v_per_s), 0.0)
        self._drive = Timeline(rest)

    def set_voltage(self, voltage_v: float, now_s: float) -> None:
        """Send the drive towards a voltage; it arrives at the slew rate.

        Raises:
            ValueError: The voltage is no number.
        """
        if not isfinite(voltage_v):
            raise ValueError(f"{voltage_v} V is no voltage")
        before = self._drive.latest
        felt_v = before.felt_at(now_s, self.settings.hysteresis_v)
        self._drive.set(_Stretch(before.ramp.turned(voltage_v, now_s), felt_v), now_s)

    def target_v(self) -> float:
        """Return the voltage that was commanded last, V."""
        return self._drive.latest.ramp.target

    def phase(self, now_s: float) -> float:
        """Return the phase added at a time, hysteresis and slew included, rad."""
        felt_v = self._drive.at(now_s).felt_at(now_s, self.settings.hysteresis_v)
        return self.phase_at(felt_v)

    def phase_at(self, voltage_v: float) -> float:
        """Return the phase that a voltage felt by the fibre adds, rad."""
        return pi * voltage_v / self.settings.v_pi_v * self._scale

    def voltage_for(self, phase_rad: float) -> float:
        """Return the voltage within range, nearest to its middle, that adds a phase up to turns.

        Where there is none, the end of the range nearest to one.
        """
        period_v = 2 * self.settings.v_pi_v / self._scale
        middle_v = self.settings.max_v / 2
        least_v = phase_rad / (2 * pi) * period_v
        nearest_v = least_v + round((middle_v - least_v) / period_v) * period_v
        return min(max(nearest_v, 0.0), self.settings.max_v)

    def is_moving(self, now_s: float) -> bool:
        """Tell whether the drive is still on its way."""
        return now_s < self._drive.at(now_s).ramp.end_s

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which the drive was told to move."""
        return self._drive.changes(start_s, end_s)
