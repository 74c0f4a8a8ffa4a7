"""Model of a controller made of rotating wave plates, such as fibre paddles.

Retardances stay, axes follow the angles::

    azimuth_k = 2 (1 - twist) (angle_k - centre_k) + offset_k

``twist`` is there for fibre paddles: turning one twists the fibre on both of its sides, whose
elasto-optic activity takes part of the turn back, about 0.08 of it in silica. Bulk wave plates have
none. Source: H. C. Lefevre, Electron. Lett. 16, 778 (1980).

Two kinds of redundancy are fixed (the gauge). Turning all axes alike is the same as turning the two
fibres: the offset of the first plate that is no half-wave plate is zero. And a half-wave plate at
an offset is one without, followed by a rotation about S3 that later offsets and the receiver's
fibre absorb: its offset is zero too, and what keeps it from being a half-wave plate is a small
retardance about any axis, in Cartesian components: the first adds to its own, the second
(``crosswise``) lies in front of it about an axis at 90 degrees on the sphere. In polar form,
deviation and offset, the offset of a perfect half-wave plate would be anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.chain import Array, Chain
from calibration.parameters import Parameters, Prior

DEFAULT_RETARDANCE_WAVES = (0.25, 0.5, 0.25)
"""Three paddles: a quarter-wave, a half-wave and a quarter-wave plate reach any rotation."""

HALF_TURN_DEG = 90.0
"""Angle of a plate that turns its axis by pi on the Stokes sphere."""

NEARLY_HALF_WAVE = 0.1
"""Difference from half a wave up to which a plate is described as a half-wave plate, in waves."""


@dataclass(frozen=True)
class WavePlateChain(Chain):
    """What is known of a controller of rotating wave plates before anything is measured.

    Its errors are, K of each: retardances, offsets at the centre angle, and crosswise retardances,
    rad; and the common twist.

    Attributes:
        retardance_rad: Retardances without errors, shape ``(K,)``, K >= 3; pi sharp for what is to
            be described as a half-wave plate.
        centre_deg: Angles at which the offsets count, shape ``(K,)``.
    """

    retardance_rad: Array
    centre_deg: Array

    kind: ClassVar[str] = "wave-plates"

    def __post_init__(self) -> None:
        if self.retardance_rad.ndim != 1 or self.retardance_rad.shape != self.centre_deg.shape:
            raise ValueError("retardances and centre angles must be as many")
        if self.channels < 3:
            raise ValueError("a controller needs three or more wave plates")
        if not np.all((self.retardance_rad > 0) & (self.retardance_rad < 2 * np.pi)):
            raise ValueError("retardances must lie between 0 and 1 wave")
        if np.all(self._is_half_wave):
            raise ValueError("half-wave plates alone do not reach every rotation")
        if isinstance(self.prior, Prior) and len(self.prior.mean) != self.size - 6:
            raise ValueError(f"a prior of {len(self.prior.mean)} numbers for {self.size - 6}")

    @classmethod
    def nominal(
        cls,
        retardance_waves: Sequence[float] = DEFAULT_RETARDANCE_WAVES,
        *,
        centre_deg: ArrayLike = 0.0,
        retardance_sigma_waves: float = 0.02,
        twist: float = 0.04,
        twist_sigma: float = 0.04,
        floor: float = 0.008,
        floor_log_sigma: float = 0.6,
    ) -> WavePlateChain:
        """Describe a controller by its data sheet; plates stand at unknown offsets.

        Args:
            retardance_waves: Nominal retardances, in waves, in the order of the light.
            centre_deg: Middle of the range of angles, one for all or one per plate, degrees.
            retardance_sigma_waves: Standard deviation of the retardances, in waves.
            twist: Twist to expect; the default lies between bulk plates (0) and fibre (0.08).
            twist_sigma: Its standard deviation.
            floor: Median QBER at perfect alignment, 0 to 0.5.
            floor_log_sigma: Standard deviation of its natural logarithm.
        """
        waves = np.asarray(retardance_waves, dtype=float)
        is_half_wave = np.abs(waves - 0.5) < NEARLY_HALF_WAVE
        from_half = np.where(is_half_wave, waves - 0.5, 0.0)
        sigma_rad = 2 * np.pi * np.hypot(retardance_sigma_waves, from_half)
        halves = int(np.sum(is_half_wave))
        offsets = max(len(waves) - halves - 1, 0)
        unknown = np.full(offsets, np.inf)
        sigma = [
            sigma_rad,
            unknown,
            sigma_rad[is_half_wave],
            np.array([twist_sigma, floor_log_sigma]),
        ]
        zeros = np.zeros(len(waves) + offsets + halves)
        prior = Prior(np.append(zeros, [twist, np.log(floor)]), np.concatenate(sigma) ** -2.0)
        return cls(
            retardance_rad=2 * np.pi * np.where(is_half_wave, 0.5, waves),
            centre_deg=np.broadcast_to(np.asarray(centre_deg, dtype=float), waves.shape),
            prior=prior,
        )

    @cached_property
    def half_turn(self) -> Array:
        """Angles that turn an axis by pi, degrees, shape ``(K,)``."""
        return np.full(self.retardance_rad.shape, HALF_TURN_DEG)

    @property
    def error_count(self) -> int:
        """Retardances, offsets, crosswise retardances and the twist: 3 K + 1."""
        return 3 * self.channels + 1

    @cached_property
    def free(self) -> NDArray[np.intp]:
        """Retardances, offsets of some, crosswise retardances of the others, twist."""
        k = self.channels
        halves = np.flatnonzero(self._is_half_wave)
        twist = np.array([3 * k])
        return np.concatenate([np.arange(k), k + self._with_offset, 2 * k + halves, twist])

    @property
    def angles(self) -> slice:
        """The free offsets."""
        return slice(self.channels, self.channels + len(self._with_offset))

    def period(self, parameters: Parameters) -> Array:
        """Give the angle after which a plate acts alike, degrees, shape ``(B, K)``."""
        return np.asarray(2 * self.half_turn / (1 - parameters.errors[:, -1:]))

    def azimuth_and_retardance(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Axes that follow the angles; fixed retardances."""
        errors, k, plate = parameters.errors[:, None], self.channels, self._plate
        azimuth = self._nominal_rad(drives) * (1 - errors[..., -1:]) + errors[..., k : 2 * k]
        azimuths = azimuth[..., plate] + 0.5 * np.pi * self._is_crosswise
        own = (self.retardance_rad + errors[..., :k])[..., plate]
        crosswise = errors[..., 2 * k : -1][..., plate]
        retardances = np.where(self._is_crosswise, crosswise, own)
        return azimuths, np.broadcast_to(retardances, azimuths.shape)

    def drive_axes(self, parameters: Parameters, by_retardance: Array, by_azimuth: Array) -> Array:
        """Angles change azimuths."""
        return np.asarray(self._by_angle(by_azimuth) * (1 - parameters.errors[:, None, -1:, None]))

    def error_axes(self, drives: Array, by_retardance: Array, by_azimuth: Array) -> list[Array]:
        """Retardances, free offsets, crosswise retardances, twist."""
        by_angle = self._by_angle(by_azimuth)
        by_twist = -by_angle * self._nominal_rad(drives)[..., None]
        return [
            by_retardance[..., ~self._is_crosswise, :],
            by_angle[..., self._with_offset, :],
            by_retardance[..., self._is_crosswise, :],
            by_twist.sum(axis=-2, keepdims=True),
        ]

    @cached_property
    def _is_half_wave(self) -> NDArray[np.bool_]:
        return np.asarray(np.isclose(self.retardance_rad, np.pi))

    @cached_property
    def _with_offset(self) -> NDArray[np.intp]:
        """Plates whose offset is free."""
        return np.flatnonzero(~self._is_half_wave)[1:]

    @cached_property
    def _plate(self) -> NDArray[np.intp]:
        """Plate to which each retarder belongs, shape ``(N,)``."""
        return np.repeat(np.arange(self.channels), 1 + self._is_half_wave)

    @cached_property
    def _is_crosswise(self) -> NDArray[np.bool_]:
        """Whether each retarder is the crosswise part of its plate, shape ``(N,)``."""
        is_first = np.diff(self._plate, prepend=-1) > 0
        return np.asarray(is_first & self._is_half_wave[self._plate])

    def _by_angle(self, by_azimuth: Array) -> Array:
        """Add up what belongs to one plate, shape ``(B, M, K, 3)``."""
        starts = np.flatnonzero(np.diff(self._plate, prepend=-1) > 0)
        return np.asarray(np.add.reduceat(by_azimuth, starts, axis=-2))

    def _nominal_rad(self, drives: Array) -> Array:
        return np.asarray(np.pi * (drives - self.centre_deg) / HALF_TURN_DEG)
