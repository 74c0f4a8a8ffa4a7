"""Model of a controller made of voltage-driven retarders, such as fibre squeezers.

Axes stay, retardances follow the voltages::

    retardance_k = pi (v_k - centre_k) / half_wave_k (1 + scale_k) + offset_k

Three errors are redundant and fixed at zero (the gauge): the offsets of the first and of the last
retarder and the azimuth error of the first one, which the two fibres absorb.
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

DEFAULT_AZIMUTH_DEG = (0.0, 90.0, 0.0, 90.0)
"""Nominal Stokes azimuths of a four-squeezer controller (fibre squeezed at 0 and 45 degrees)."""


@dataclass(frozen=True)
class RetarderChain(Chain):
    """What is known of a squeezer controller before anything is measured.

    Its errors are, K of each: the relative error of the retardance per volt, the retardance at the
    centre voltage (rad), and the Stokes azimuth error of the axis (rad).

    Attributes:
        half_wave_v: Nominal voltage per half wave of retardance, shape ``(K,)``, K >= 3.
        azimuth_rad: Nominal Stokes azimuths of the axes, shape ``(K,)``.
        centre_v: Voltages at which the offsets count, shape ``(K,)``.
    """

    half_wave_v: Array
    azimuth_rad: Array
    centre_v: Array

    kind: ClassVar[str] = "retarders"

    def __post_init__(self) -> None:
        shapes = {self.half_wave_v.shape, self.azimuth_rad.shape, self.centre_v.shape}
        if len(shapes) != 1 or self.half_wave_v.ndim != 1 or self.channels < 3:
            raise ValueError("a controller needs three or more retarders, all described alike")
        if not np.all(self.half_wave_v > 0):
            raise ValueError("half-wave voltages must be positive")

    @classmethod
    def nominal(
        cls,
        half_wave_v: ArrayLike,
        *,
        azimuth_deg: Sequence[float] = DEFAULT_AZIMUTH_DEG,
        centre_v: ArrayLike = 0.0,
        prior: Prior | None = None,
    ) -> RetarderChain:
        """Describe a controller by its data sheet.

        Args:
            half_wave_v: Nominal half-wave voltage, one for all or one per retarder, V.
            azimuth_deg: Nominal Stokes azimuth of each axis (twice the laboratory angle), degrees.
            centre_v: Middle of the voltage range, one for all or one per retarder, V.
            prior: Beliefs about the errors; by default those of a characterised device.
        """
        azimuth = np.radians(np.asarray(azimuth_deg, dtype=float))
        return cls(
            half_wave_v=np.broadcast_to(np.asarray(half_wave_v, dtype=float), azimuth.shape),
            azimuth_rad=azimuth,
            centre_v=np.broadcast_to(np.asarray(centre_v, dtype=float), azimuth.shape),
            prior=prior if prior is not None else prior_of_widths(len(azimuth)),
        )

    @property
    def half_turn(self) -> Array:
        """Half-wave voltages, shape ``(K,)``."""
        return self.half_wave_v

    @property
    def error_count(self) -> int:
        """Scales, offsets and azimuth errors: 3 K."""
        return 3 * self.channels

    @cached_property
    def free(self) -> NDArray[np.intp]:
        """All but the first and the last offset and the first azimuth error."""
        fixed = self.channels, 2 * self.channels - 1, 2 * self.channels
        return np.delete(np.arange(self.error_count), fixed)

    @property
    def angles(self) -> slice:
        """The free offsets."""
        return slice(self.channels, 2 * self.channels - 2)

    def period(self, parameters: Parameters) -> Array:
        """Give the voltage of a full wave, shape ``(B, K)``."""
        scale = parameters.errors[:, : self.channels]
        return np.asarray(2 * self.half_wave_v / (1 + scale))

    def azimuth_and_retardance(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Fixed axes; retardances that follow the voltages."""
        errors, k = parameters.errors[:, None], self.channels
        scale, offset, azimuth = errors[..., :k], errors[..., k : 2 * k], errors[..., 2 * k :]
        return self.azimuth_rad + azimuth, self._nominal_rad(drives) * (1 + scale) + offset

    def drive_axes(self, parameters: Parameters, by_retardance: Array, by_azimuth: Array) -> Array:
        """Voltages change retardances."""
        scale = parameters.errors[:, None, : self.channels, None]
        return np.asarray(by_retardance * (1 + scale))

    def error_axes(self, drives: Array, by_retardance: Array, by_azimuth: Array) -> list[Array]:
        """Scales, free offsets, free azimuth errors."""
        by_scale = by_retardance * self._nominal_rad(drives)[..., None]
        return [by_scale, by_retardance[..., 1:-1, :], by_azimuth[..., 1:, :]]

    def _nominal_rad(self, drives: Array) -> Array:
        return np.asarray(np.pi * (drives - self.centre_v) / self.half_wave_v)


def prior_of_widths(
    channels: int,
    *,
    scale: float = 0.06,
    azimuth_deg: float = 6.0,
    offset_rad: float = np.inf,
    floor: float = 0.008,
    floor_log_sigma: float = 0.6,
) -> Prior:
    """Describe beliefs about a characterised controller, by default one with unknown offsets.

    Args:
        channels: Number of retarders K, at least 3.
        scale: Standard deviation of the relative error of the retardance per volt.
        azimuth_deg: Standard deviation of the Stokes azimuth errors, degrees.
        offset_rad: Standard deviation of the retardances at the centre voltage, rad.
        floor: Median QBER at perfect alignment, 0 to 0.5.
        floor_log_sigma: Standard deviation of its natural logarithm.
    """
    sizes = [channels, channels - 2, channels - 1, 1]
    sigma = [scale, offset_rad, np.radians(azimuth_deg), floor_log_sigma]
    mean = np.zeros(sum(sizes))
    mean[-1] = np.log(floor)
    return Prior(mean, np.repeat(1 / np.square(sigma), sizes))
