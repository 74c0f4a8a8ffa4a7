"""Physics of a controller that squeezes a fibre in four places, by turns at 0 and 45 degrees."""

from dataclasses import dataclass
from math import isfinite, pi, radians
from typing import Final

import numpy as np

from sim.stokes import Floats, rotation
from sim.timeline import Ramp, Timeline

CHANNELS: Final = (1, 2, 3, 4)
FULL_SCALE_V = 5.0


@dataclass(frozen=True)
class SqueezerSettings:
    """What is known of a four-squeezer controller; its unit-to-unit differences are drawn.

    Attributes:
        v_pi_v: Nominal voltage for a retardance of pi, V.
        scale_spread: Half width of the uniform relative error of that voltage.
        axis_spread_rad: Standard deviation of each squeezer's axis on the Stokes sphere, rad:
            twice the mechanical angle.
        hysteresis_v: Half width of the play between drive voltage and squeeze, V.
        slew_v_per_s: How fast the drive voltage follows a command, V/s.
        quadratic_rad: Retardance that grows with the square of the voltage, rad at full scale.
        insertion_loss_ripple_db: Largest change of insertion loss over all voltages, dB.
    """

    v_pi_v: float = 2.5
    scale_spread: float = 0.1
    axis_spread_rad: float = 2 * radians(3)
    hysteresis_v: float = 0.0
    slew_v_per_s: float = 1000.0
    quadratic_rad: float = 0.0
    insertion_loss_ripple_db: float = 0.1

    def __post_init__(self) -> None:
        if not (self.v_pi_v > 0 and self.slew_v_per_s > 0 and 0 <= self.scale_spread < 1):
            raise ValueError("v_pi_v and slew_v_per_s must be positive, scale_spread 0 to 1")
        if min(self.axis_spread_rad, self.hysteresis_v, self.insertion_loss_ripple_db) < 0:
            raise ValueError("spreads, hysteresis and ripple must not be negative")


@dataclass(frozen=True)
class _Squeeze:
    """One drive on its way, and the voltage that the fibre felt when it set off."""

    ramp: Ramp
    felt_v: float

    def felt_at(self, now_s: float, play_v: float) -> float:
        """Return the voltage that the fibre feels: a play operator of half width ``play_v``.

        The ramp is monotone, so where it is now decides. Source: M. Brokate and J. Sprekels,
        Hysteresis and Phase Transitions, ch. 2.
        """
        drive_v = self.ramp.at(now_s)
        return min(max(self.felt_v, drive_v - play_v), drive_v + play_v)


class SqueezerBank:
    """Four squeezers in a row as rotations of the Stokes sphere.

    Squeezer k turns by ``pi v/V_pi (1 + u_k) + o_k`` about an axis in the plane of linear
    polarizations, nominally at 0, 90, 0 and 90 degrees there; light meets squeezer 1 first. The
    scale errors ``u_k``, offsets ``o_k`` and axis errors come from ``generator``.
    """

    def __init__(self, settings: SqueezerSettings, generator: np.random.Generator) -> None:
        self.settings = settings
        spread = settings.scale_spread
        self._scale: Floats = 1 + generator.uniform(-spread, spread, 4)
        self._offset_rad: Floats = generator.uniform(0, 2 * pi, 4)
        psi = np.array([0, pi / 2, 0, pi / 2]) + generator.normal(0, settings.axis_spread_rad, 4)
        self._axes = np.stack([np.cos(psi), np.sin(psi), np.zeros(4)], axis=-1)
        self._ripple_phase: Floats = generator.uniform(0, 2 * pi, 4)
        rest = _Squeeze(Ramp(0.0, 0.0, 0.0, settings.slew_v_per_s), 0.0)
        self._drives = {channel: Timeline(rest) for channel in CHANNELS}

    def set_voltage(self, channel: int, voltage_v: float, now_s: float) -> None:
        """Send one drive towards a voltage; it arrives at the slew rate.

        Raises:
            ValueError: There is no such channel, or the voltage is beyond full scale.
        """
        if not (isfinite(voltage_v) and abs(voltage_v) <= FULL_SCALE_V):
            raise ValueError(f"{voltage_v} V is outside -{FULL_SCALE_V:g} to {FULL_SCALE_V:g} V")
        drive = self._drive(channel)
        before = drive.latest
        felt_v = before.felt_at(now_s, self.settings.hysteresis_v)
        drive.set(_Squeeze(before.ramp.turned(voltage_v, now_s), felt_v), now_s)

    def target_v(self, channel: int) -> float:
        """Return the voltage that was commanded last, V."""
        return self._drive(channel).latest.ramp.target

    def voltage_v(self, channel: int, now_s: float) -> float:
        """Return the drive voltage at a time, V: on the way, not the target."""
        return self._drive(channel).at(now_s).ramp.at(now_s)

    def is_moving(self, now_s: float) -> bool:
        """Tell whether a drive is still on its way."""
        return any(now_s < drive.at(now_s).ramp.end_s for drive in self._drives.values())

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which a drive was told to move."""
        return [t for drive in self._drives.values() for t in drive.changes(start_s, end_s)]

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation at a time, hysteresis and slew included, shape ``(3, 3)``."""
        return self.rotation_at(self._felt_v(now_s))

    def rotation_at(self, voltages_v: Floats) -> Floats:
        """Return the rotation of squeezers that feel these voltages, shape ``(4,)``, V."""
        first, second, third, fourth = rotation(self._retardance(voltages_v)[:, None] * self._axes)
        return np.asarray(fourth @ third @ second @ first)

    @property
    def drives(self) -> int:
        """Number of drives."""
        return len(CHANNELS)

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest voltage of a drive, V."""
        return -FULL_SCALE_V, FULL_SCALE_V

    def loss_db(self, now_s: float) -> float:
        """Return the loss that squeezing adds, 0 to the ripple, dB."""
        phase = pi * self._felt_v(now_s) / FULL_SCALE_V + self._ripple_phase
        return float(self.settings.insertion_loss_ripple_db * np.mean(1 + np.cos(phase)) / 2)

    def _retardance(self, voltages_v: Floats) -> Floats:
        linear = pi * voltages_v / self.settings.v_pi_v * self._scale
        quadratic = self.settings.quadratic_rad * (voltages_v / FULL_SCALE_V) ** 2
        return np.asarray(linear + quadratic + self._offset_rad)

    def _felt_v(self, now_s: float) -> Floats:
        play_v = self.settings.hysteresis_v
        return np.array([d.at(now_s).felt_at(now_s, play_v) for d in self._drives.values()])

    def _drive(self, channel: int) -> Timeline[_Squeeze]:
        if channel not in self._drives:
            raise ValueError(f"channel {channel} is not one of 1 to 4")
        return self._drives[channel]
