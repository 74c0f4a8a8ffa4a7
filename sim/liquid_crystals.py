"""Physics of a controller of liquid-crystal cells in a row, each driven by a voltage of its own."""

from dataclasses import dataclass
from math import isfinite, pi
from typing import Final

import numpy as np

from sim.stokes import Floats, rotation
from sim.timeline import Ramp, Timeline

FULL_SCALE_V: Final = 25.0
ORDINARY_INDEX, EXTRAORDINARY_INDEX = 1.52, 1.70
TILTED_V: Final = 8.0
"""Drive beyond which molecules are upright, and nothing changes any more."""


@dataclass(frozen=True)
class LiquidCrystalSettings:
    """What is known of the cells; their unit-to-unit differences are drawn.

    Attributes:
        azimuth_deg: Nominal azimuth of each cell's axis on the Stokes sphere, degrees.
        full_waves: Nominal retardance below the threshold, in waves.
        threshold_v: Nominal voltage above which molecules tilt, V rms.
        stiffness_v: Voltage over which they do, V rms.
        thickness_spread: Standard deviation of the relative error of the retardance.
        threshold_spread: The same of the threshold.
        residual_spread_waves: Standard deviation of the retardance of windows and of molecules at
            the walls, in waves.
        axis_spread_rad: Standard deviation of each axis on the Stokes sphere, rad.
        slew_v_per_s: How fast the molecules follow the voltage, V/s.
    """

    azimuth_deg: tuple[float, ...] = (0.0, 90.0, 0.0)
    full_waves: float = 1.1
    threshold_v: float = 1.2
    stiffness_v: float = 2.0
    thickness_spread: float = 0.02
    threshold_spread: float = 0.005
    residual_spread_waves: float = 0.01
    axis_spread_rad: float = 0.05
    slew_v_per_s: float = 100.0

    def __post_init__(self) -> None:
        positive = self.full_waves, self.threshold_v, self.stiffness_v, self.slew_v_per_s
        if not min(positive) > 0:
            raise ValueError("retardance, threshold, stiffness and slew must be positive")
        spreads = self.thickness_spread, self.threshold_spread, self.residual_spread_waves
        if min(*spreads, self.axis_spread_rad) < 0:
            raise ValueError("spreads must not be negative")


class LiquidCrystalBank:
    """Liquid-crystal cells in a row as rotations of the Stokes sphere; light meets cell 1 first.

    A voltage V above the threshold tilts the molecules against the walls by ``pi/2 - 2 atan
    exp(-(V - threshold) / stiffness)``; light sees what birefringence that leaves it. Source:
    B. E. A. Saleh and M. C. Teich, Fundamentals of Photonics, on electro-optics of liquid crystals.
    """

    def __init__(self, settings: LiquidCrystalSettings, generator: np.random.Generator) -> None:
        self.settings = settings
        count = len(settings.azimuth_deg)
        scale, threshold, residual, azimuth = np.clip(generator.standard_normal((4, count)), -3, 3)
        self._full_waves = settings.full_waves * (1 + settings.thickness_spread * scale)
        self._threshold_v = settings.threshold_v * (1 + settings.threshold_spread * threshold)
        self._residual_waves = settings.residual_spread_waves * residual
        psi = np.radians(settings.azimuth_deg) + settings.axis_spread_rad * azimuth
        self._axes = np.stack([np.cos(psi), np.sin(psi), np.zeros(count)], axis=-1)
        rest = Ramp(0.0, 0.0, 0.0, settings.slew_v_per_s)
        self._drives = {cell: Timeline(rest) for cell in range(1, count + 1)}

    def set_voltage(self, cell: int, voltage_v: float, now_s: float) -> None:
        """Send one cell towards a voltage, V rms.

        Raises:
            ValueError: There is no such cell, or the voltage is outside 0 to 25 V.
        """
        if not (isfinite(voltage_v) and 0 <= voltage_v <= FULL_SCALE_V):
            raise ValueError(f"{voltage_v} V is outside 0 to {FULL_SCALE_V:g} V")
        drive = self._drive(cell)
        drive.set(drive.latest.turned(voltage_v, now_s), now_s)

    def voltage_v(self, cell: int, now_s: float) -> float:
        """Return the voltage that a cell's molecules follow at a time, V rms."""
        return self._drive(cell).at(now_s).at(now_s)

    def is_moving(self, now_s: float) -> bool:
        """Tell whether a cell is on its way."""
        return any(now_s < drive.at(now_s).end_s for drive in self._drives.values())

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which a cell was told to move."""
        return [t for drive in self._drives.values() for t in drive.changes(start_s, end_s)]

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation at a time, shape ``(3, 3)``."""
        return self.rotation_at(np.array([self.voltage_v(cell, now_s) for cell in self._drives]))

    def rotation_at(self, voltages_v: Floats) -> Floats:
        """Return the rotation of cells that follow these voltages, shape ``(K,)``, V rms."""
        whole = np.eye(3)
        for turn in rotation(2 * pi * self.retardance_waves(voltages_v)[:, None] * self._axes):
            whole = turn @ whole
        return whole

    def retardance_waves(self, voltages_v: Floats) -> Floats:
        """Return the retardances at these voltages, shape ``(K,)``, in waves."""
        above = np.maximum(voltages_v - self._threshold_v, 0) / self.settings.stiffness_v
        tilt = pi / 2 - 2 * np.arctan(np.exp(-above))
        squared = (np.cos(tilt) / EXTRAORDINARY_INDEX) ** 2 + (np.sin(tilt) / ORDINARY_INDEX) ** 2
        left = (squared**-0.5 - ORDINARY_INDEX) / (EXTRAORDINARY_INDEX - ORDINARY_INDEX)
        return np.asarray(self._full_waves * left + self._residual_waves)

    def loss_db(self, now_s: float) -> float:
        """Return the loss that turning the molecules adds: none."""
        return 0.0

    @property
    def drives(self) -> int:
        """Number of cells."""
        return len(self._drives)

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest voltage between which a cell responds, V rms."""
        return self.settings.threshold_v, TILTED_V

    def _drive(self, cell: int) -> Timeline[Ramp]:
        if cell not in self._drives:
            raise ValueError(f"cell {cell} is not one of 1 to {self.drives}")
        return self._drives[cell]
