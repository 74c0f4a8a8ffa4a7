"""The two ends of what a tracker can be: leaving the link alone, and knowing the fibre."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.tracking_loop import Given, Move
from benchmarks.tasks.tracking_start import truth_of
from benchmarks.twin import HALF_WAVE_V
from calibration import kinematics
from calibration.retarders import RetarderChain

Array = NDArray[np.float64]


class Alone:
    """Leaves the first setting alone."""

    def __init__(self, given: Given) -> None:
        self._move = Move(given.start.drives, given.case.window_s)

    def next_move(self, now_s: float) -> Move:
        """Stay."""
        return self._move

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Take no notice."""
        return False


class Oracle:
    """Is told the fibre and the controller at the start of every window, for nothing.

    What is left is how far the fibre turns within the window: far below the bound, which pays for
    what has to be learnt.
    """

    def __init__(self, given: Given) -> None:
        self._twin, self._window_s = given.twin, given.case.window_s
        self._chain = RetarderChain.nominal(HALF_WAVE_V)
        self._drives = given.start.drives

    def next_move(self, now_s: float) -> Move:
        """Undo the fibre as it is."""
        truth = truth_of(self._twin)
        aligned, _ = kinematics.align(self._chain, truth, self._drives[None], self._twin.limits)
        self._drives = aligned[0]
        return Move(self._drives, self._window_s)

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Take no notice: it knows."""
        return False
