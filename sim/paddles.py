"""Physics of a fibre-paddle controller: three wave plates of fixed retardance that rotate."""

from dataclasses import dataclass
from math import isfinite, pi
from typing import Final

import numpy as np

from sim.stokes import Floats, rotation
from sim.timeline import Ramp, Timeline

PADDLES: Final = (1, 2, 3)
MOST_DEG: Final = 170.0
REST_DEG: Final = 85.0
"""Where every paddle stands before anybody turns it: the middle of its travel."""


@dataclass(frozen=True)
class PaddleSettings:
    """What is known of a three-paddle controller; its unit-to-unit differences are drawn.

    Attributes:
        retardance_waves: Nominal retardance of each paddle's fibre loops, in waves.
        retardance_spread: Standard deviation of its relative error: bend radius, number of
            loops and wavelength never quite fit.
        twist: Share of a paddle's turn by which its axis lags behind, see PaddleBank.
        homing_spread_deg: Standard deviation of each plate's angle about the one at which its axis
            is horizontal, degrees; None is a device of which nobody knows where its axes lie.
        insertion_loss_ripple_db: Largest change of insertion loss over all angles, dB.
    """

    retardance_waves: tuple[float, float, float] = (0.25, 0.5, 0.25)
    retardance_spread: float = 0.03
    twist: float = 0.0
    homing_spread_deg: float | None = None
    insertion_loss_ripple_db: float = 0.05

    def __post_init__(self) -> None:
        if not all(0 < waves < 1 for waves in self.retardance_waves):
            raise ValueError("retardances lie between 0 and 1 wave")
        if min(self.retardance_spread, self.insertion_loss_ripple_db) < 0:
            raise ValueError("spread and ripple must not be negative")
        if not 0 <= self.twist < 1:
            raise ValueError("twist lies between 0 and 1")


class PaddleBank:
    """Three rotating wave plates in a row as rotations of the Stokes sphere.

    A paddle at the angle ``theta`` turns about the linear axis at ``2 theta (1 - twist) + o_k`` on
    the Stokes sphere by its retardance; light meets paddle 1 first. The retardances, and the axis
    offsets ``o_k``, which may be anything, come from ``generator``.

    Turning a real paddle also twists the fibre on both of its sides, which turns polarization the
    other way by elasto-optic activity: the axis then follows the paddle by ``1 - t`` only, with
    ``t`` about 0.08 in silica. ``twist`` is that ``t``; by default it is left out. The fibre
    between the paddles is taken as free of linear birefringence.
    Source: H. C. Lefevre, Electron. Lett. 16, 778 (1980).
    """

    def __init__(self, settings: PaddleSettings, generator: np.random.Generator) -> None:
        self.settings = settings
        nominal_rad = 2 * pi * np.array(settings.retardance_waves)
        self._retardance_rad = nominal_rad * (1 + settings.retardance_spread * _normal(generator))
        self._offset_rad: Floats = generator.uniform(0, 2 * pi, 3)
        self._ripple_phase: Floats = generator.uniform(0, 2 * pi, 3)
        if settings.homing_spread_deg is not None:
            self._offset_rad = 2 * np.radians(settings.homing_spread_deg) * _normal(generator)
        rest = Ramp(0.0, REST_DEG, REST_DEG, 1.0)
        self._drives = {paddle: Timeline(rest) for paddle in PADDLES}

    def turn(self, paddle: int, angle_deg: float, start_s: float, speed_deg_per_s: float) -> None:
        """Send one paddle towards an angle, from where it is when it sets off.

        Raises:
            ValueError: There is no such paddle, the angle is outside 0 to 170 degrees, or the
                speed is not positive.
        """
        if not 0 <= angle_deg <= MOST_DEG:
            raise ValueError(f"{angle_deg} degrees are outside 0 to {MOST_DEG:g} degrees")
        if not (isfinite(speed_deg_per_s) and speed_deg_per_s > 0):
            raise ValueError(f"a speed of {speed_deg_per_s} degrees/s is not possible")
        drive = self._drive(paddle)
        drive.set(drive.latest.turned(angle_deg, start_s, speed_deg_per_s), start_s)

    def target_deg(self, paddle: int) -> float:
        """Return the angle that was commanded last, degrees."""
        return self._drive(paddle).latest.target

    def angle_deg(self, paddle: int, now_s: float) -> float:
        """Return the angle at a time, degrees: on the way, not the target."""
        return self._drive(paddle).at(now_s).at(now_s)

    def is_moving(self, now_s: float) -> bool:
        """Tell whether a paddle is on its way."""
        return any(now_s < drive.at(now_s).end_s for drive in self._drives.values())

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which a paddle set off."""
        return [t for drive in self._drives.values() for t in drive.changes(start_s, end_s)]

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation at a time, shape ``(3, 3)``."""
        return self.rotation_at(self._angles_deg(now_s))

    def rotation_at(self, angles_deg: Floats) -> Floats:
        """Return the rotation of paddles that stand at these angles, shape ``(3,)``, degrees."""
        azimuth = 2 * (1 - self.settings.twist) * np.radians(angles_deg) + self._offset_rad
        axes = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(3)], axis=-1)
        first, second, third = rotation(self._retardance_rad[:, None] * axes)
        return np.asarray(third @ second @ first)

    def loss_db(self, now_s: float) -> float:
        """Return the loss that bending and twisting add, 0 to the ripple, dB."""
        phase = 2 * np.radians(self._angles_deg(now_s)) + self._ripple_phase
        return float(self.settings.insertion_loss_ripple_db * np.mean(np.sin(phase) ** 2))

    @property
    def drives(self) -> int:
        """Number of drives."""
        return len(PADDLES)

    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest angle of a paddle, degrees."""
        return 0.0, MOST_DEG

    def _angles_deg(self, now_s: float) -> Floats:
        return np.array([self.angle_deg(paddle, now_s) for paddle in PADDLES])

    def _drive(self, paddle: int) -> Timeline[Ramp]:
        if paddle not in self._drives:
            raise ValueError(f"paddle {paddle} is not one of 1 to 3")
        return self._drives[paddle]


def _normal(generator: np.random.Generator) -> Floats:
    """Draw normal deviates that are not beyond three standard deviations, shape ``(3,)``."""
    return np.clip(generator.standard_normal(3), -3, 3)
