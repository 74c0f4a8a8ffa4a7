"""Task ``phase-tracking``: hold a drifting phase while key is made.

Every method gets the same links, chooses voltage and length of each window, and is judged by the
true QBER above the floor, averaged over time, of the bases that see the phase: small phases cost
``phi^2 / 4``, dithers included. The bound is that of a filter that knows the drift
(``calibration.tracking.bounds``). A phase that has gone counts as lost once the method says so,
or stays away for long; the bench then aligns the link anew, free of charge, which flatters the rows
with losses. Cases and scoring are in ``tasks/phase_tracking.toml``, what the rivals were tuned to
in ``tasks/phase_tracking_tuned.toml``. Intervals are those of the mean.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, median, stdev
from typing import Protocol

from benchmarks.phase_drift_twin import MAXIMUM_V, DriftingPhase, Held
from benchmarks.rivals import phase_holding as rivals
from benchmarks.rivals.phase_holding import Holder, PhaseTold
from benchmarks.rivals.phase_tracker import Ours
from benchmarks.tasks import phase_tracking_cases as frozen
from benchmarks.tasks import runs
from benchmarks.tasks.phase_tracking_cases import TrackingCase
from benchmarks.tasks.scoring import Row, figure

VERSION, SCORING, CASES, TUNED = frozen.read()

LONGEST_S = 10_000.0
"""Length of a run, s, from which on no rivals are run."""

OPTIONS = ("jobs",)
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("excess_over_bound", "mean_excess", "losses_of_lock")
"""What a picture shows."""


class Method(Protocol):
    """Makes a holder from what is told and from tuned constants."""

    takes_off_play: bool

    def __call__(self, told: PhaseTold, tuned: Mapping[str, float], /) -> Holder:
        """Start to hold a link."""
        ...


METHODS: Mapping[str, Method] = {
    "ours": Ours,
    "oracle": rivals.Oracle,
    "none": rivals.Resting,
    "lock-in": rivals.LockIn,
    "periodic": rivals.Periodic,
    "pid": rivals.Pid,
    "perturb-and-observe": rivals.PerturbAndObserve,
    "spsa": rivals.Spsa,
}
"""Ours first; a new method is a class of what is told and of tuned constants, and a line here."""


@dataclass
class Outcome:
    """One run.

    Attributes:
        mean_excess: Averaged over time, after the start.
        losses: How often the phase was lost.
        slips: Jumps by pi.
        repairs_s: Time from each to the phase being back.
        undetected: Slips that were not repaired before the phase counted as lost.
        window_us: Median of the processor time that the method takes for a window.
    """

    mean_excess: float = 0.0
    losses: int = 0
    slips: int = 0
    repairs_s: list[float] = field(default_factory=list)
    undetected: int = 0
    window_us: float = 0.0


def run(seeds: range, methods: Sequence[str], cases: Sequence[str], *, jobs: int = 1) -> list[Row]:
    """Run every method on every case with every seed.

    Args:
        seeds: Of the links and of the methods' own chances: the same links for all methods.
        methods: Names of methods.
        cases: Names of cases.
        jobs: Processes to share the runs among.

    Returns:
        Rows of ``excess_over_bound`` (without drift ``excess_over_qber``, over the QBER of a link
        left alone at phase zero), ``mean_excess``, ``losses_of_lock``, ``window_us``, and of slips.
    """
    pairs = runs.pair_up(methods, cases, _problem)
    return runs.measure(hold, pairs, seeds, jobs, _rows, first=methods[0])


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which methods are not run, and why."""
    return runs.left_out(methods, cases, _problem)


def hold(method: str, name: str, seed: int) -> Outcome:
    """Hold one link with one method."""
    return follow(METHODS[method], TUNED.get(name, {}).get(method, {}), CASES[name], seed)


def follow(
    method: Method,
    tuned: Mapping[str, float],
    case: TrackingCase,
    seed: int,
) -> Outcome:
    """Hold one link with a method and its constants."""
    twin = DriftingPhase(seed, case.twin, inverts_play=not method.takes_off_play)
    watch = _Watch(case)
    holder = method(case.told(twin, MAXIMUM_V / 2, seed), tuned)
    late: deque[tuple[Held, float, float]] = deque()
    spent_us = []
    while twin.now_s < case.duration_s:
        start_s, began_ns = twin.now_s, time.process_time_ns()
        drive_v, window_s = holder.propose(start_s)
        spent_ns = time.process_time_ns() - began_ns
        held = twin.hold(drive_v, window_s)
        late.append((held, drive_v, twin.now_s))
        if len(late) > case.latency_windows:
            began_ns = time.process_time_ns()
            holder.learn(*late.popleft())
            spent_us.append((spent_ns + time.process_time_ns() - began_ns) / 1e3)
        if watch.is_over(held, start_s, twin.now_s, said=holder.lost):
            late.clear()
            holder = method(case.told(twin, twin.aligned_v(), seed), tuned)
    return watch.outcome(median(spent_us))


class _Watch:
    """Judges a run, window by window."""

    def __init__(self, case: TrackingCase) -> None:
        self._case = case
        self._found = Outcome()
        self._sum = self._judged_s = 0.0
        self._away_s = 0.0
        self._slipped_s: float | None = None

    def is_over(self, held: Held, start_s: float, now_s: float, *, said: bool) -> bool:
        """Judge a window; tell whether the link must be aligned anew."""
        if start_s >= self._case.burn_in_s:
            self._sum += held.excess * (now_s - start_s)
            self._judged_s += now_s - start_s
        self._look_for_slips(held, start_s)
        is_away = held.excess > SCORING.lost_excess
        self._away_s = self._away_s + now_s - start_s if is_away else 0.0
        if not said and self._away_s < self._case.patience_s:
            return False
        self._found.losses += 1
        if self._slipped_s is not None:
            self._found.undetected += 1
        self._away_s, self._slipped_s = 0.0, None
        return True

    def _look_for_slips(self, held: Held, start_s: float) -> None:
        if held.slipped_s is not None:
            self._found.slips += 1
            self._slipped_s = held.slipped_s
        elif self._slipped_s is not None and not held.is_flipped:
            self._found.repairs_s.append(start_s - self._slipped_s)
            self._slipped_s = None

    def outcome(self, window_us: float) -> Outcome:
        """Sum up."""
        self._found.mean_excess = self._sum / self._judged_s
        self._found.window_us = window_us
        return self._found


def _problem(method: str, case: str) -> str | None:
    if CASES[case].bound is None and method == "oracle":
        return "there is no drift to be told"
    if CASES[case].duration_s > LONGEST_S and method != "ours":
        return "a day is for the count of its slips alone"
    return None


def _rows(
    method: str, case: str, found: Sequence[Outcome], ours: Sequence[Outcome] | None
) -> Iterator[Row]:
    best = CASES[case].bound
    excess = [one.mean_excess for one in found]
    if best is None:
        floor = CASES[case].twin.floor
        yield _with_interval("excess_over_qber", "ratio", [e / floor for e in excess], None)
    else:
        over = [one / best.excess for one in excess]
        yield _with_interval("excess_over_bound", "ratio", over, 1.0)
    yield _with_interval("mean_excess", "QBER", excess, None if best is None else best.excess)
    yield figure("losses_of_lock", "a run", [float(one.losses) for one in found])
    yield figure("window_us", "us", [one.window_us for one in found])
    if CASES[case].twin.slips_per_s > 0:
        yield figure("slips", "a run", [float(one.slips) for one in found])
        yield figure("slips_undetected", "a run", [float(one.undetected) for one in found])
        repairs_s = [repair for one in found for repair in one.repairs_s]
        if repairs_s:
            yield {**figure("slip_repair_s", "s", repairs_s), "largest": max(repairs_s)}


def _with_interval(metric: str, unit: str, values: Sequence[float], best: float | None) -> Row:
    """Describe values; the interval is that of their *mean*, 90 %."""
    row = figure(metric, unit, values, bound=best)
    if len(values) > 1:
        error = NormalDist().inv_cdf(0.95) * stdev(values) / math.sqrt(len(values))
        row["low"], row["high"] = fmean(values) - error, fmean(values) + error
    return row
