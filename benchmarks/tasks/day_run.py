"""A day of key: hold, notice, align anew, and count the secret bits."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_twin import DayTwin
from benchmarks.tasks.day_cases import DayCase, DayScoring
from benchmarks.tasks.tracking_loop import Given, MakeFollower, Move
from benchmarks.tasks.tracking_start import STARTS, Start, exposures, start_from
from benchmarks.tracking_twin import Held
from calibration.recollection import Recollection
from keyrate.entropy import binary_entropy

Array = NDArray[np.float64]

ANYWHERE_RAD = np.pi
"""Turn of the fibre that an alarm takes for possible: it may be anything by then."""


@dataclass
class DayTally:
    """What came of a day.

    Attributes:
        key: Secret bits, as a share of the sifted bits of a second, times seconds.
        key_s: Time in which key was made, s.
        aligning_s: Time spent aligning, s.
        realignments: How often.
        wrong_alarms: Those where nothing was wrong.
        thinking_s: Time that the method took for each of them.
    """

    key: float = 0.0
    key_s: float = 0.0
    aligning_s: float = 0.0
    realignments: int = 0
    wrong_alarms: int = 0
    thinking_s: list[float] = field(default_factory=list)

    @property
    def window_us(self) -> float:
        """Time that the method took for a window, median, us; other work hardly shows in it."""
        return 1e6 * float(np.median(self.thinking_s))


class Day:
    """One link, one method, one day; it begins aligned.

    Args:
        make: The method.
        case: The link and its weather.
        scoring: How the day is run and judged.
        seed: Of both, and of the method's chances.

    Attributes:
        twin: The link.
        tally: What came of it so far.
    """

    def __init__(self, make: MakeFollower, case: DayCase, scoring: DayScoring, seed: int) -> None:
        self.twin: DayTwin = case.build(seed)
        self.tally = DayTally()
        self._make, self._case, self._scoring, self._seed = make, case, scoring, seed
        self._start = STARTS[case.start](self.twin, seed)
        self.twin.elapsed_s, self.twin.is_drifting = 0.0, True
        self._follower = make(self._given(self._start))

    def run(self) -> DayTally:
        """Let the day pass."""
        while self.twin.elapsed_s < 3600 * self._scoring.hours:
            held, is_lost = self._hold()
            if is_lost:
                excess = float(held.qber.mean()) - self.twin.floor
                is_quiet = self.twin.quiet_s > self._scoring.quiet_s
                self.tally.wrong_alarms += is_quiet and excess < self._scoring.wrong
                self._align_anew()
        return self.tally

    @property
    def share_of_oracle(self) -> float:
        """Key made, as a share of what perfect alignment makes in the time with light."""
        best = secret_share(np.full(2, self.twin.floor), self._scoring.correction)
        return self.tally.key / (best * self.twin.lit_s)

    @property
    def uptime(self) -> float:
        """Share of the time with light in which key was made."""
        return self.tally.key_s / self.twin.lit_s

    def _hold(self) -> tuple[Held, bool]:
        """Hold for a window; tell what it showed and whether the lock is lost."""
        begun_s = time.perf_counter()
        move = self._follower.next_move(self.twin.elapsed_s)
        thought_s = time.perf_counter() - begun_s
        held, drives = self._count(move)
        is_dark = self._is_dark(held.table, move.window_s)
        begun_s = time.perf_counter()
        is_lost = self._follower.learn(held.table, drives, self.twin.elapsed_s, is_dark=is_dark)
        self.tally.thinking_s.append(thought_s + time.perf_counter() - begun_s)
        return held, is_lost

    def _count(self, move: Move) -> tuple[Held, Array]:
        """Count for a window, and count its key."""
        drives = np.clip(move.drives, *self.twin.limits)
        lit_s = self.twin.lit_s
        held = self.twin.hold(drives, float(np.clip(move.window_s, *self._case.loop_s)))
        lit_s = self.twin.lit_s - lit_s
        secret = secret_share(held.qber, self._scoring.correction)
        self.tally.key += secret * lit_s
        self.tally.key_s += lit_s * (secret > 0)
        return held, drives

    def _is_dark(self, table: NDArray[np.int64], window_s: float) -> bool:
        return bool(table.sum() < self._scoring.dark * self._case.twin.rate_hz * window_s)

    def _align_anew(self) -> None:
        """Search with what is known of the controller; it takes time and photons, and no key."""
        while self.twin.is_dark:
            self._count(Move(self._start.drives, self._case.loop_s[0]))
        begun_s = self.twin.elapsed_s
        self.tally.realignments += 1
        recalled = Recollection(self._start.posterior, 1.0, ANYWHERE_RAD)
        seed = self._seed + 1000 * self.tally.realignments
        for advice in exposures(self.twin, seed, recalled):
            self.twin.wait(self._scoring.suggestion_s)
            is_aligned = advice.is_within(self._scoring.target_excess)
            if is_aligned or advice.settings >= self._scoring.most_settings:
                break
        self._start = start_from(self.twin, advice)
        self._follower = self._make(self._given(self._start))
        self.tally.aligning_s += self.twin.elapsed_s - begun_s

    def _given(self, start: Start) -> Given:
        return Given(self._case, start, self._seed, self.twin.elapsed_s, self.twin)


def secret_share(qber: Array, correction: float) -> float:
    """Give the secret bits per sifted bit, without end and of single photons; 0 where none are.

    Both bases make key, each with the other one's errors for its phase errors.
    Source: P. W. Shor and J. Preskill, Phys. Rev. Lett. 85, 441 (2000).

    Args:
        qber: Of Z and X, shape ``(2,)``.
        correction: Leak of error correction over the least possible one.
    """
    unknown = float(binary_entropy(qber).sum())
    return max(1 - 0.5 * (1 + correction) * unknown, 0.0)
