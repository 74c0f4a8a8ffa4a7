"""Model of a controller made of rotating wave plates, such as fibre paddles.

Retardances stay, axes follow the angles::

    azimuth_k = 2 (1 - twist) (angle_k - centre_k) + offset_k

``twist`` is there for fibre paddles: turning one twists the fibre on both of its sides, whose
elasto-optic activity takes part of the turn back, about 0.08 of it in silica. Bulk wave plates have
none. Source: H. C. Lefevre, Electron. Lett. 16, 778 (1980).

One error is redundant and fixed at zero (the gauge): the offset of the first plate. Turning all
axes alike is the same as turning the two fibres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.chain import Array, Chain
from calibration.parameters import Parameters, Prior

DEFAULT_RETARDANCE_WAVES = (0.25, 0.5, 0.25)
"""Three paddles: a quarter-wave, a half-wave and a quarter-wave plate reach any rotation."""

HALF_TURN_DEG = 90.0
"""Angle of a plate that turns its axis by pi on the Stokes sphere."""


@dataclass(frozen=True)
class WavePlateChain(Chain):
    """What is known of a controller of rotating wave plates before anything is measured.

    Its errors are: K errors of the retardances (rad), K azimuth offsets at the centre angle (rad),
    and the common twist.

    Attributes:
        retardance_rad: Nominal retardances, shape ``(K,)``, K >= 3.
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

    @classmethod
    def nominal(
        cls,
        retardance_waves: Sequence[float] = DEFAULT_RETARDANCE_WAVES,
        *,
        centre_deg: ArrayLike = 0.0,
        prior: Prior | None = None,
    ) -> WavePlateChain:
        """Describe a controller by its data sheet.

        Args:
            retardance_waves: Nominal retardances, in waves, in the order of the light.
            centre_deg: Middle of the range of angles, one for all or one per plate, degrees.
            prior: Beliefs about the errors; by default those of ``prior_of_widths``.
        """
        retardance = 2 * np.pi * np.asarray(retardance_waves, dtype=float)
        return cls(
            retardance_rad=retardance,
            centre_deg=np.broadcast_to(np.asarray(centre_deg, dtype=float), retardance.shape),
            prior=prior if prior is not None else prior_of_widths(len(retardance)),
        )

    @property
    def half_turn(self) -> Array:
        """Angles that turn an axis by pi, degrees, shape ``(K,)``."""
        return np.full(self.retardance_rad.shape, HALF_TURN_DEG)

    @property
    def error_count(self) -> int:
        """Retardance errors, offsets and twist: 2 K + 1."""
        return 2 * len(self.retardance_rad) + 1

    @property
    def free(self) -> NDArray[np.intp]:
        """All but the first offset."""
        return np.delete(np.arange(self.error_count), self.channels)

    @property
    def angles(self) -> slice:
        """The free offsets."""
        return slice(self.channels, 2 * self.channels - 1)

    def period(self, parameters: Parameters) -> Array:
        """Give the angle after which a plate acts alike, degrees, shape ``(B, K)``."""
        return np.asarray(2 * self.half_turn / (1 - parameters.errors[:, -1:]))

    def azimuth_and_retardance(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Axes that follow the angles; fixed retardances."""
        errors, k = parameters.errors[:, None], self.channels
        azimuth = self._nominal_rad(drives) * (1 - errors[..., -1:]) + errors[..., k:-1]
        retardance = self.retardance_rad + errors[..., :k]
        return azimuth, np.broadcast_to(retardance, azimuth.shape)

    def drive_axes(self, parameters: Parameters, by_retardance: Array, by_azimuth: Array) -> Array:
        """Angles change azimuths."""
        return np.asarray(by_azimuth * (1 - parameters.errors[:, None, -1:, None]))

    def error_axes(self, drives: Array, by_retardance: Array, by_azimuth: Array) -> list[Array]:
        """Retardance errors, free offsets, twist."""
        by_twist = -by_azimuth * self._nominal_rad(drives)[..., None]
        whole = by_twist.sum(axis=-2, keepdims=True)
        return [by_retardance, by_azimuth[..., 1:, :], whole]

    def _nominal_rad(self, drives: Array) -> Array:
        return np.asarray(np.pi * (drives - self.centre_deg) / HALF_TURN_DEG)


def prior_of_widths(
    plates: int,
    *,
    retardance_waves: float = 0.02,
    twist: float = 0.04,
    twist_sigma: float = 0.04,
    floor: float = 0.008,
    floor_log_sigma: float = 0.6,
) -> Prior:
    """Describe beliefs about a controller whose plates stand at unknown offsets.

    Args:
        plates: Number of wave plates K, at least 3.
        retardance_waves: Standard deviation of the retardances, in waves.
        twist: Twist to expect; the default lies between bulk plates (0) and fibre (0.08).
        twist_sigma: Its standard deviation.
        floor: Median QBER at perfect alignment, 0 to 0.5.
        floor_log_sigma: Standard deviation of its natural logarithm.
    """
    sizes = [plates, plates - 1, 1, 1]
    mean = np.repeat([0.0, 0.0, twist, np.log(floor)], sizes)
    sigma = [2 * np.pi * retardance_waves, np.inf, twist_sigma, floor_log_sigma]
    return Prior(mean, np.repeat(1 / np.square(sigma), sizes))
