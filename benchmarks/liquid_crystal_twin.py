"""The fast twin with liquid-crystal cells instead of squeezers, driven by their data sheet."""

from dataclasses import dataclass

import numpy as np

from benchmarks.twin import Array, Twin, TwinOptions, _in_series, _turn

ORDINARY, EXTRAORDINARY = 1.52, 1.70
THRESHOLD_V, STIFFNESS_V = 1.2, 2.0
"""Voltage below which nothing tilts, and the one over which molecules then tilt."""

LEAST_WAVES = 0.05


@dataclass(frozen=True)
class LiquidCrystalOptions(TwinOptions):
    """A bench with liquid-crystal cells; what the base says of squeezers does not matter.

    Attributes:
        axes_deg: Nominal azimuth of each cell on the Stokes sphere, degrees.
        full_waves: Nominal retardance of a cell below the threshold, in waves.
        most_waves: Highest nominal retardance that is set.
        thickness_sigma: Standard deviation of the relative errors of the retardances.
        threshold_sigma: The same of the threshold voltages, which bends the curve.
        residual_sigma_waves: Standard deviation of the retardances of what does not tilt, in waves.
    """

    axes_deg: tuple[float, ...] = (0.0, 90.0, 0.0)
    full_waves: float = 1.1
    most_waves: float = 1.05
    axis_sigma_deg: float = 2.0
    thickness_sigma: float = 0.03
    threshold_sigma: float = 0.01
    residual_sigma_waves: float = 0.01


class LiquidCrystalTwin(Twin):
    """One bench with liquid-crystal cells, drawn at random.

    Drives are nominal waves, which the laboratory turns into volts by the data sheet. A voltage
    tilts the molecules against the light by ``pi/2 - 2 atan exp(-(V - threshold) / stiffness)``,
    and what birefringence that leaves makes the retardance. Source: B. E. A. Saleh and M. C. Teich,
    Fundamentals of Photonics, on electro-optics of liquid crystals.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: LiquidCrystalOptions | None = None) -> None:
        self._cells = options if options is not None else LiquidCrystalOptions()
        super().__init__(seed, self._cells)
        cells, draw = self._cells, self._rng
        count = len(cells.axes_deg)
        azimuth = np.radians(cells.axes_deg + 2 * draw.normal(0, cells.axis_sigma_deg, count))
        self._axes = np.column_stack([np.cos(azimuth), np.sin(azimuth), np.zeros(count)])
        self._full_waves = cells.full_waves * (1 + draw.normal(0, cells.thickness_sigma, count))
        self._threshold_v = THRESHOLD_V * (1 + draw.normal(0, cells.threshold_sigma, count))
        self._residual_waves = draw.normal(0, cells.residual_sigma_waves, count)

    @property
    def limits(self) -> Array:
        """Lowest and highest nominal retardances, in waves, shape ``(2, K)``."""
        count = len(self._cells.axes_deg)
        return np.array([[LEAST_WAVES] * count, [self._cells.most_waves] * count])

    def _felt_at(self, drives: Array) -> Array:
        return drives

    def _controller(self, felt: Array) -> Array:
        volts = _voltage(felt / self._cells.full_waves)
        waves = self._full_waves * _left(volts, self._threshold_v) + self._residual_waves
        return _in_series(_turn(np.broadcast_to(self._axes, (*felt.shape, 3)), 2 * np.pi * waves))


def _left(volts: Array, threshold_v: Array) -> Array:
    """Tell which share of its retardance a cell has left at a voltage."""
    above = np.maximum(volts - threshold_v, 0) / STIFFNESS_V
    tilt = np.pi / 2 - 2 * np.arctan(np.exp(-above))
    index = (np.cos(tilt) ** 2 / EXTRAORDINARY**2 + np.sin(tilt) ** 2 / ORDINARY**2) ** -0.5
    return np.asarray((index - ORDINARY) / (EXTRAORDINARY - ORDINARY))


def _voltage(left: Array) -> Array:
    """Tell which voltage leaves a nominal cell a share of its retardance; undoes the above."""
    index = ORDINARY + left * (EXTRAORDINARY - ORDINARY)
    squared = (index**-2.0 - EXTRAORDINARY**-2.0) / (ORDINARY**-2.0 - EXTRAORDINARY**-2.0)
    tilt = np.arcsin(np.sqrt(np.clip(squared, 0, 1)))
    return np.asarray(THRESHOLD_V - STIFFNESS_V * np.log(np.tan((np.pi / 2 - tilt) / 2)))
