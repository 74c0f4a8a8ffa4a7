"""A fibre that turns polarization: at random, with the time of day, and when somebody moves it."""

from bisect import bisect_right
from dataclasses import dataclass
from math import isfinite, pi, sin
from typing import Final

import numpy as np

from sim.stokes import Floats, haar_axis, haar_rotation, rotation

ROWS: Final = 64
BLOCK_STEPS: Final = ROWS * ROWS
BLOCKS_KEPT: Final = 16
JUMPS_KEPT: Final = 256


@dataclass(frozen=True)
class FibreSettings:
    """How a fibre's rotation drifts.

    Attributes:
        drift_rad_per_sqrt_s: Strength q of the random walk: each axis gathers a variance of
            ``q^2 t``.
        slow_amplitude_rad: Amplitude of a periodic rotation about one random axis, rad.
        slow_period_s: Its period, s; by default a day.
        step_s: Time grid of the random walk, s; between grid points the rotation is uniform.
    """

    drift_rad_per_sqrt_s: float = 0.01
    slow_amplitude_rad: float = 0.3
    slow_period_s: float = 86400.0
    step_s: float = 0.01

    def __post_init__(self) -> None:
        if not (self.drift_rad_per_sqrt_s >= 0 and isfinite(self.slow_amplitude_rad)):
            raise ValueError("the drift must not be negative, the slow amplitude must be finite")
        if not (self.slow_period_s > 0 and self.step_s > 0):
            raise ValueError("slow period and step must be positive")


class Fibre:
    """The rotation of one fibre over time.

    It starts uniform over SO(3) and walks there, ``R <- exp([q sqrt(dt) xi]x) R`` with standard
    normal ``xi``, on a fixed time grid: the path depends on generator and start alone, not on when
    or how often it is asked for. The last ``BLOCKS_KEPT - 1`` blocks of it may be asked for again.

    Args:
        settings: Strength of the drift.
        generator: Owned by this fibre from here on.
        start_s: Time of the first grid point, s; None takes the first time that is asked for.
            Times before it see the start.
    """

    def __init__(
        self,
        settings: FibreSettings,
        generator: np.random.Generator,
        *,
        start_s: float | None = None,
    ) -> None:
        self.settings = settings
        self._generator = generator
        self._start_s = start_s
        self._end = haar_rotation(generator)
        self._slow_axis = haar_axis(generator)
        self._blocks: dict[int, tuple[Floats, Floats]] = {}  # nodes, rotation vectors from each
        self._next_block = 0
        self._jump_times_s = [-float("inf")]
        self._jumps: list[Floats] = [np.eye(3)]

    def rotation(self, now_s: float) -> Floats:
        """Return the rotation at a time, shape ``(3, 3)``.

        Raises:
            LookupError: The time lies so far back that this part of the path is forgotten.
        """
        age_s = self._age_s(now_s)
        phase = 2 * pi * age_s / self.settings.slow_period_s
        slow = rotation(self.settings.slow_amplitude_rad * sin(phase) * self._slow_axis)
        jumped = self._jumps[max(0, bisect_right(self._jump_times_s, now_s) - 1)]
        return np.asarray(jumped @ slow @ self._walk(age_s))

    def jump(self, rotation_vector: Floats, now_s: float) -> None:
        """Turn the far end by a rotation vector, rad, from now on: somebody moved the fibre."""
        self._age_s(now_s)
        self._jump_times_s.append(max(now_s, self._jump_times_s[-1]))
        self._jumps.append(rotation(rotation_vector) @ self._jumps[-1])
        del self._jump_times_s[:-JUMPS_KEPT], self._jumps[:-JUMPS_KEPT]

    def _age_s(self, now_s: float) -> float:
        if self._start_s is None:
            self._start_s = now_s
        return max(0.0, now_s - self._start_s)

    def _walk(self, age_s: float) -> Floats:
        if self.settings.drift_rad_per_sqrt_s == 0:
            return self._end
        step, share = divmod(age_s / self.settings.step_s, 1)
        block, index = divmod(int(step), BLOCK_STEPS)
        while block >= self._next_block:
            self._walk_on()
        if block not in self._blocks:
            raise LookupError(f"the fibre's path {age_s:g} s after its start is forgotten")
        nodes, vectors = self._blocks[block]
        return np.asarray(rotation(share * vectors[index]) @ nodes[index])

    def _walk_on(self) -> None:
        """Draw the next block of the path and forget the oldest.

        Running products in two levels, rows and within rows, so that numpy multiplies
        ``ROWS`` matrices at a time.
        """
        sigma = self.settings.drift_rad_per_sqrt_s * self.settings.step_s**0.5
        vectors = self._generator.normal(0, sigma, (BLOCK_STEPS, 3))
        within = rotation(vectors).reshape(ROWS, ROWS, 3, 3)
        for column in range(1, ROWS):
            within[:, column] = within[:, column] @ within[:, column - 1]
        starts = [self._end]
        for row in within[:, -1]:
            starts.append(row @ starts[-1])
        ends = within @ np.array(starts[:-1])[:, None]
        nodes = np.concatenate([self._end[None], ends.reshape(-1, 3, 3)[:-1]])
        self._blocks[self._next_block] = (nodes, vectors)
        self._blocks.pop(self._next_block - BLOCKS_KEPT, None)
        self._next_block += 1
        self._end = starts[-1]
