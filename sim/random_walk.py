"""A quantity that walks at random, the same way however often and whenever it is asked for."""

from math import isfinite
from typing import Final

import numpy as np

from sim.stokes import Floats

BLOCK_STEPS: Final = 4096
BLOCKS_KEPT: Final = 16


class RandomWalk:
    """One path on a fixed time grid, linear between its points.

    It depends on generator and start alone. The last ``BLOCKS_KEPT - 1`` blocks of it may be asked
    for again. Without drift nothing is drawn.

    Args:
        drift_per_sqrt_s: Strength q of the walk: its variance grows by ``q^2 t``.
        generator: Owned by this path from here on.
        start: Where it begins.
        start_s: Time of the first grid point, s; None takes the first time that is asked for.
            Times before it see the start.
        step_s: Time grid, s.
    """

    def __init__(
        self,
        drift_per_sqrt_s: float,
        generator: np.random.Generator,
        *,
        start: float = 0.0,
        start_s: float | None = None,
        step_s: float = 0.01,
    ) -> None:
        if not (drift_per_sqrt_s >= 0 and isfinite(drift_per_sqrt_s) and step_s > 0):
            raise ValueError("a drift must be finite and not negative, its step positive")
        self._drift = drift_per_sqrt_s
        self._generator = generator
        self._end = start
        self._start_s = start_s
        self._step_s = step_s
        self._blocks: dict[int, Floats] = {}
        self._next_block = 0

    def age_s(self, now_s: float) -> float:
        """Return how long it has walked at a time, s; the first time asked for may start it."""
        if self._start_s is None:
            self._start_s = now_s
        return max(0.0, now_s - self._start_s)

    def at(self, now_s: float) -> float:
        """Return where it is at a time.

        Raises:
            LookupError: The time lies so far back that this part of the path is forgotten.
        """
        age_s = self.age_s(now_s)
        if self._drift == 0:
            return self._end
        step, share = divmod(age_s / self._step_s, 1)
        block, index = divmod(int(step), BLOCK_STEPS)
        while block >= self._next_block:
            self._walk_on()
        if block not in self._blocks:
            raise LookupError(f"the path {age_s:g} s after its start is forgotten")
        before, after = self._blocks[block][index : index + 2]
        return float(before + share * (after - before))

    def _walk_on(self) -> None:
        """Draw the next block of the path and forget the oldest."""
        sigma = self._drift * self._step_s**0.5
        steps = self._generator.normal(0, sigma, BLOCK_STEPS)
        nodes = self._end + np.concatenate([[0.0], np.cumsum(steps)])
        self._blocks[self._next_block] = nodes
        self._blocks.pop(self._next_block - BLOCKS_KEPT, None)
        self._next_block += 1
        self._end = float(nodes[-1])
