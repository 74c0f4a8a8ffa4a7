"""The fast twin with a stack of motorised wave plates in free space instead of squeezers."""

from dataclasses import dataclass

import numpy as np

from benchmarks.paddle_twin import PaddleOptions, PaddleTwin
from benchmarks.twin import Array

MOST_DEG = 180.0


@dataclass(frozen=True)
class WavePlateOptions(PaddleOptions):
    """A bench with wave plates.

    Attributes:
        homing_sigma_deg: Standard deviation of each plate's angle, degrees.
    """

    retardance_sigma: float = 0.015
    homing_sigma_deg: float = 1.5


class WavePlateTwin(PaddleTwin):
    """One bench with wave plates, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: WavePlateOptions | None = None) -> None:
        options = options if options is not None else WavePlateOptions()
        super().__init__(seed, options)
        self._azimuth_rad = 2 * np.radians(options.homing_sigma_deg) * self._rng.normal(size=3)

    @property
    def limits(self) -> Array:
        """Lowest and highest angles, degrees, shape ``(2, 3)``."""
        return np.array([[0.0] * 3, [MOST_DEG] * 3])
