"""A method that knows no alarm, watched by its QBER."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.tracking_loop import Follower, Given, MakeFollower, Move
from calibration.clicks import Clicks

Array = NDArray[np.float64]


class Watched:
    """Says that the lock is lost once the QBER of enough sifted counts is above a limit.

    Args:
        follower: The method.
        qber: The limit.
        sifted: Counts that show it.
    """

    def __init__(self, follower: Follower, qber: float, sifted: int) -> None:
        self._follower, self._qber, self._enough = follower, qber, sifted
        self._sifted = self._errors = 0

    def next_move(self, now_s: float) -> Move:
        """Do as the method says."""
        return self._follower.next_move(now_s)

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Let the method learn, and watch; what is dark is shown to neither."""
        if is_dark:
            return False
        self._follower.learn(table, drives, now_s)
        clicks = Clicks(table)
        self._sifted += clicks.sifted
        self._errors += clicks.errors
        if self._sifted < self._enough:
            return False
        is_lost = self._errors > self._qber * self._sifted
        self._sifted = self._errors = 0
        return is_lost


def watched(make: MakeFollower, qber: float, sifted: int, given: Given) -> Watched:
    """Watch a method."""
    return Watched(make(given), qber, sifted)
