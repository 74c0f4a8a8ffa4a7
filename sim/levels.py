"""The drives of Alice's modulators: a voltage for each state, and for each intensity.

A state's voltage turns it from H by ``pi u / V_pi``; an intensity's gives the drive of the
Mach-Zehnder that makes it. What nobody drives is as it should be.
"""

from dataclasses import dataclass, field
from math import pi
from typing import Final, Protocol

import numpy as np

from sim.source import SourceSettings
from sim.stokes import STATES, Floats
from sim.timeline import Timeline

IDEAL_RAD: Final[Floats] = np.array([0.0, pi, pi / 2, 3 * pi / 2])
"""Angles of the states HVDA: phases, or angles on the great circle of linear polarizations."""


class Electrode(Protocol):
    """What a voltage goes to."""

    def set_bias(self, bias_v: float, now_s: float) -> None:
        """Set the voltage."""
        ...


@dataclass(frozen=True)
class LevelSettings:
    """What is known of the modulators; unit-to-unit differences are drawn.

    Attributes:
        half_wave_v: Nominal drive that turns a state by half the circle, V.
        intensity_half_wave_v: Nominal drive from null to peak of the intensity modulator, V.
        spread: Half width of the uniform relative error of both.
        state_loss_db: What each of HVDA loses more than the brightest state, dB.
    """

    half_wave_v: float = 4.0
    intensity_half_wave_v: float = 5.0
    spread: float = 0.1
    state_loss_db: Floats = field(default_factory=lambda: np.zeros(4))

    def __post_init__(self) -> None:
        if not min(self.half_wave_v, self.intensity_half_wave_v) > 0:
            raise ValueError("half-wave voltages must be positive")
        if not 0 <= self.spread < 1:
            raise ValueError("spread lies between 0 and 1")


class Level:
    """The voltage of one state or intensity; None until somebody drives it."""

    def __init__(self) -> None:
        self._voltage = Timeline[float | None](None)

    def set_bias(self, bias_v: float, now_s: float) -> None:
        """Set the voltage; it is there at once."""
        if bias_v != self._voltage.latest:
            self._voltage.set(bias_v, now_s)

    def voltage(self, now_s: float) -> float | None:
        """Return the voltage at a time, V."""
        return self._voltage.at(now_s)

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which the voltage was set."""
        return self._voltage.changes(start_s, end_s)


class Levels:
    """All drives of one source, by names such as ``state V`` or ``intensity decoy``."""

    def __init__(
        self, settings: LevelSettings, source: SourceSettings, generator: np.random.Generator
    ) -> None:
        """Args: the modulators, what the source sends, and where differences are drawn from."""
        one, other = 1 + generator.uniform(-settings.spread, settings.spread, 2)
        self.half_wave_v = settings.half_wave_v * float(one)
        self.intensity_half_wave_v = settings.intensity_half_wave_v * float(other)
        self.state_share = 10 ** (-np.asarray(settings.state_loss_db) / 10)
        self._states = {letter: Level() for letter in STATES}
        self._intensities = {name: Level() for name in source.mean_photon_numbers}

    def level(self, name: str) -> Level:
        """Return one drive.

        Raises:
            ValueError: There is no such state or intensity.
        """
        what, _, which = name.partition(" ")
        found = {"state": self._states, "intensity": self._intensities}.get(what, {}).get(which)
        if found is None:
            raise ValueError(f"the simulated source has no drive {name!r}")
        return found

    def state_rad(self, now_s: float) -> Floats:
        """Return the angle of each of HVDA at a time, shape ``(4,)``, rad."""
        volts = [each.voltage(now_s) for each in self._states.values()]
        turned = [np.nan if v is None else pi * v / self.half_wave_v for v in volts]
        return np.where(np.isnan(turned), IDEAL_RAD, turned)

    def intensity_rad(self, name: str, now_s: float) -> float:
        """Return the drive of an intensity, rad: pi/2 from null to peak; NaN if nobody drives."""
        voltage_v = self._intensities[name].voltage(now_s)
        return np.nan if voltage_v is None else pi * voltage_v / self.intensity_half_wave_v / 2

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which a drive was set."""
        levels = [*self._states.values(), *self._intensities.values()]
        return [time_s for level in levels for time_s in level.changes(start_s, end_s)]
