"""Holding a link for a while with any method, and what came of it in truth."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.tracking_cases import TrackingCase, TrackingScoring
from benchmarks.tasks.tracking_start import STARTS, Start
from benchmarks.tracking_twin import TrackingTwin

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """What a method wants of the next window.

    Attributes:
        drives: Setting, shape ``(4,)``, V.
        window_s: How long to count, s.
        dither_qber: QBER that is spent on purpose, dither or probing.
    """

    drives: Array
    window_s: float
    dither_qber: float = 0.0


class Follower(Protocol):
    """A method that holds a setting."""

    def next_move(self, now_s: float) -> Move:
        """Choose setting and length of the window that starts now."""
        ...

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Read the counts of a window that ended at a time; tell whether the lock is lost."""
        ...


@dataclass(frozen=True)
class Given:
    """What a method begins with.

    Attributes:
        case: The circumstances; a method may use what a laboratory would know of them, and rivals
            are told the drift as well.
        start: What the alignment has left.
        seed: For the method's own chances.
        now_s: Time, s.
        twin: The link itself, for the oracle alone.
    """

    case: TrackingCase
    start: Start
    seed: int
    now_s: float
    twin: TrackingTwin


MakeFollower = Callable[[Given], Follower]
"""A method."""


@dataclass
class Tally:
    """What came of a run.

    Attributes:
        judged_s: Length of the windows that count, s.
        excess_s: Their true excess, QBER times seconds.
        dither_s: What was spent on purpose, QBER times seconds.
        windows: How many windows there were, judged or not.
        held_s: Their length in all, s.
        alarms: Times that the method said that the lock is lost.
        unnoticed: Times that it was lost in truth, and nobody said so.
        thinking_s: Processor time of the method.
        worse_than_alone: Mean QBER above that of the first setting left alone, as a share of it;
            of a link that does not drift.
    """

    judged_s: float = 0.0
    excess_s: float = 0.0
    dither_s: float = 0.0
    windows: int = 0
    held_s: float = 0.0
    alarms: int = 0
    unnoticed: int = 0
    thinking_s: float = 0.0
    worse_than_alone: float = 0.0

    @property
    def mean_excess(self) -> float:
        """Mean QBER above the floor, over time."""
        return self.excess_s / self.judged_s

    @property
    def mean_dither(self) -> float:
        """Mean QBER spent on purpose."""
        return self.dither_s / self.judged_s


class Holding:
    """One run: a link, a method, and what comes of it.

    Losing the lock costs nothing but what it costs until it is noticed: the link is then aligned
    anew while the fibre stands still. Whoever is lost without noticing is helped in the same way.

    Args:
        make: The method.
        case: The circumstances.
        scoring: How it is judged.
        seed: Of the bench, and of the method's chances.

    Attributes:
        twin: The link.
        start: What the last alignment has left.
        follower: The method at work.
        tally: What came of it so far.
    """

    def __init__(
        self, make: MakeFollower, case: TrackingCase, scoring: TrackingScoring, seed: int
    ) -> None:
        self.twin = case.build(seed)
        self.tally = Tally()
        self._make, self._case, self._scoring, self._seed = make, case, scoring, seed
        self._lost_windows = 0
        self._late: deque[tuple[NDArray[np.int64], Array, float]] = deque()
        self._align()
        self.twin.elapsed_s = 0.0

    def run(self) -> Tally:
        """Hold the link for as long as the case says."""
        judged_from_s = self._case.settling_s(self._scoring)
        duration_s = self._case.duration_s(self._scoring)
        while self.twin.elapsed_s < duration_s:
            is_judged = self.twin.elapsed_s >= judged_from_s
            excess, _, is_lost = self.step(is_judged=is_judged)
            self._help(excess, is_lost)
        alone = self.twin.excess(self.start.drives)
        qber = self.twin.floor + alone
        self.tally.worse_than_alone = (self.tally.mean_excess - alone) / qber
        return self.tally

    def step(self, *, is_judged: bool = True) -> tuple[float, int, bool]:
        """Hold the link for a window.

        Returns:
            True excess, detections, and whether the method says that the lock is lost.
        """
        begun_s = time.process_time()
        move = self.follower.next_move(self.twin.elapsed_s)
        self.tally.thinking_s += time.process_time() - begun_s
        drives = np.clip(move.drives, *self.twin.limits)
        window_s = float(np.clip(move.window_s, *self._case.loop_s))
        held = self.twin.hold(drives, window_s)
        self._late.append((held.table, drives, self.twin.elapsed_s))
        excess = float(held.qber.mean()) - self.twin.floor
        self.tally.windows += 1
        self.tally.held_s += window_s
        if is_judged:
            self.tally.judged_s += window_s
            self.tally.excess_s += excess * window_s
            self.tally.dither_s += move.dither_qber * window_s
        return excess, int(held.table.sum()), self._let_learn()

    def _let_learn(self) -> bool:
        if len(self._late) <= self._case.latency:
            return False
        begun_s = time.process_time()
        is_lost = self.follower.learn(*self._late.popleft())
        self.tally.thinking_s += time.process_time() - begun_s
        return is_lost

    def _help(self, excess: float, is_lost: bool) -> None:
        """Align anew once the lock is lost: at once if that is noticed, else out of patience."""
        self._lost_windows = self._lost_windows + 1 if excess > self._scoring.lost else 0
        is_unnoticed = not is_lost and self._lost_windows > self._scoring.patience
        if is_lost or is_unnoticed:
            self.tally.alarms += is_lost
            self.tally.unnoticed += is_unnoticed
            self._align()

    def _align(self) -> None:
        """Begin, or begin anew, aligned; neither time nor the fibre moves meanwhile."""
        now_s, self.twin.is_drifting = self.twin.elapsed_s, False
        self.start = STARTS[self._case.start](self.twin, self._seed)
        self.twin.elapsed_s, self.twin.is_drifting = now_s, True
        self.follower = self._make(Given(self._case, self.start, self._seed, now_s, self.twin))
        self._lost_windows = 0
        self._late.clear()
