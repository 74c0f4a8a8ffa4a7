"""The fast twin with fibre paddles instead of squeezers: three wave plates that rotate."""

from dataclasses import dataclass

import numpy as np

from benchmarks.twin import Array, Twin, TwinOptions, _in_series, _turn

RETARDANCE_WAVES = (0.25, 0.5, 0.25)
LEAST_DEG, MOST_DEG = 2.0, 158.0


@dataclass(frozen=True)
class PaddleOptions(TwinOptions):
    """A bench with paddles; what the base says of squeezers does not matter.

    Attributes:
        retardance_sigma: Standard deviation of the relative errors of the retardances.
        twist: Share of a turn by which the axis lags behind its paddle.
    """

    retardance_sigma: float = 0.03
    twist: float = 0.0


class PaddleTwin(Twin):
    """One bench with paddles, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: PaddleOptions | None = None) -> None:
        options = options if options is not None else PaddleOptions()
        super().__init__(seed, options)
        errors = options.retardance_sigma * self._rng.normal(size=3)
        self._retardance_rad = 2 * np.pi * np.array(RETARDANCE_WAVES) * (1 + errors)
        self._azimuth_rad = self._rng.uniform(0, 2 * np.pi, 3)
        self._axis_rad_per_deg = np.radians(2) * (1 - options.twist)

    @property
    def limits(self) -> Array:
        """Lowest and highest angles, degrees, shape ``(2, 3)``."""
        return np.array([[LEAST_DEG] * 3, [MOST_DEG] * 3])

    def _felt_at(self, drives: Array) -> Array:
        return drives

    def _controller(self, felt: Array) -> Array:
        azimuths = self._axis_rad_per_deg * felt + self._azimuth_rad
        axes = np.stack([np.cos(azimuths), np.sin(azimuths), np.zeros_like(azimuths)], axis=-1)
        return _in_series(_turn(axes, np.broadcast_to(self._retardance_rad, azimuths.shape)))
