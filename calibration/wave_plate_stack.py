"""Model of a stack of wave plates on motors, in free space.

They are rotating wave plates like fibre paddles (``calibration.wave_plates``), better known: there
is no fibre to twist, and where the axes lie after homing is known to a degree or two.

How well offsets are known carries over to the gauge. What is absorbed on the way, from the first
plate to the last, adds up to a rotation about S3 behind plate k that later plates see: the first
plate that is no half-wave plate passes on its own offset, a half-wave plate twice its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.chain import Array
from calibration.parameters import Prior
from calibration.wave_plates import DEFAULT_RETARDANCE_WAVES, NEARLY_HALF_WAVE, WavePlateChain


@dataclass(frozen=True)
class WavePlateStack(WavePlateChain):
    """What is known of a stack of motorised wave plates; its twist stays at zero."""

    kind: ClassVar[str] = "wave-plate-stack"

    @classmethod
    def homed(
        cls,
        retardance_waves: Sequence[float] = DEFAULT_RETARDANCE_WAVES,
        *,
        zero_deg: ArrayLike = 0.0,
        retardance_sigma_waves: float = 0.01,
        homing_sigma_deg: float = 1.5,
        floor: float = 0.008,
        floor_log_sigma: float = 0.6,
    ) -> WavePlateStack:
        """Describe a stack by its data sheet.

        Args:
            retardance_waves: Nominal retardances, in waves, in the order of the light.
            zero_deg: Angle at which each plate's axis lies horizontally, one for all or one per
                plate, degrees.
            retardance_sigma_waves: Standard deviation of the retardances, in waves.
            homing_sigma_deg: Standard deviation of each plate's angle, degrees.
            floor: Median QBER at perfect alignment, 0 to 0.5.
            floor_log_sigma: Standard deviation of its natural logarithm.

        Raises:
            ValueError: Such plates do not make a controller.
        """
        waves = np.asarray(retardance_waves, dtype=float)
        is_half_wave = np.abs(waves - 0.5) < NEARLY_HALF_WAVE
        offset_rad = 2 * np.radians(homing_sigma_deg) * _spread_of_offsets(is_half_wave)
        deviation_rad = 2 * np.pi * np.where(is_half_wave, waves - 0.5, 0.0)
        retardance_rad = 2 * np.pi * retardance_sigma_waves
        across_rad = np.hypot(deviation_rad, retardance_rad) * offset_rad
        with_offset = np.flatnonzero(~is_half_wave)[1:]
        groups = [
            (deviation_rad, np.full(waves.shape, retardance_rad)),
            (np.zeros(len(with_offset)), offset_rad[with_offset]),
            (np.zeros(int(is_half_wave.sum())), across_rad[is_half_wave]),
            (np.array([np.log(floor)]), np.array([floor_log_sigma])),
        ]
        mean, sigma = (np.concatenate(part) for part in zip(*groups, strict=True))
        return cls(
            retardance_rad=2 * np.pi * np.where(is_half_wave, 0.5, waves),
            centre_deg=np.broadcast_to(np.asarray(zero_deg, dtype=float), waves.shape),
            prior=Prior(mean, sigma**-2.0),
        )

    @cached_property
    def free(self) -> NDArray[np.intp]:
        """Retardances, offsets of some, crosswise retardances of the others."""
        return super().free[:-1]

    def error_axes(self, drives: Array, by_retardance: Array, by_azimuth: Array) -> list[Array]:
        """Retardances, free offsets, crosswise retardances."""
        return super().error_axes(drives, by_retardance, by_azimuth)[:-1]


def _spread_of_offsets(is_half_wave: NDArray[np.bool_]) -> Array:
    """Tell how far each plate's offset spreads about those before it, in units of one's own."""
    plates = len(is_half_wave)
    absorbed, spread = np.zeros(plates), np.empty(plates)
    is_first = True
    for k, own in enumerate(np.eye(plates)):
        left = own - absorbed
        spread[k] = np.linalg.norm(left)
        if is_half_wave[k]:
            absorbed = absorbed + 2 * left
        elif is_first:
            absorbed, is_first = absorbed + left, False
    return spread
