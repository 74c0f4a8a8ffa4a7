"""Task ``tracking``: hold the polarization while the fibre turns, at the least cost in key.

Every method begins aligned, sees the counts of its own windows, and pays in true QBER above the
floor, averaged over the fibre's path and over time: what it does not follow, and what it spends on
dither or probing. Cases and scoring are in ``tasks/tracking.toml``.

The bound (``calibration.tracking.bounds``) is that of a tracker that knows drift, floor and
controller and reads every count at once: steady state of the Riccati equation with the best dither.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.rivals import tracking_model
from benchmarks.rivals.tracking_bystanders import Alone, Oracle
from benchmarks.rivals.tracking_gains import tuned
from benchmarks.rivals.tracking_rivals import LockIn, Periodic, RandomLocal, Rival, Spsa
from benchmarks.tasks import runs
from benchmarks.tasks import tracking_cases as frozen
from benchmarks.tasks.scoring import Row, figure
from benchmarks.tasks.tracking_loop import Given, Holding, MakeFollower, Tally
from benchmarks.tasks.tracking_step import Found, step_and_find

VERSION, SCORING, CASES = frozen.read()

OPTIONS = ("jobs",)
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("excess_over_bound",)
"""What a picture shows."""


def _tuned(name: str, rival: type[Rival], given: Given) -> Rival:
    twin = given.case.twin
    return rival(given, tuned(name, twin.drift_rad, twin.rate_hz))


METHODS: Mapping[str, MakeFollower] = {
    "ours": tracking_model.tracker,
    "oracle": Oracle,
    "lock-in": partial(_tuned, "lock-in", LockIn),
    "periodic": partial(_tuned, "periodic", Periodic),
    "spsa": partial(_tuned, "spsa", Spsa),
    "random-local": partial(_tuned, "random-local", RandomLocal),
    "none": Alone,
}
"""Ours first; a new method is a maker of followers, and a line here."""

ALIGNS_ANEW = ("ours",)
"""Methods that notice a lost lock and align anew."""

NOTHING_TO_ALIGN_WITH = "it has no way to align anew"

TUNED_FOR_DRIFT = ("lock-in", "periodic", "spsa", "random-local")
NO_DRIFT = "its constants are tuned for a drift, and there is none"


@dataclass(frozen=True)
class Outcome:
    """A run, and what a step of the fibre took in the end, where the case has one."""

    tally: Tally
    found: Found | None


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which methods are not run on which cases, and why."""
    return runs.left_out(methods, cases, _problem)


def run(seeds: range, methods: Sequence[str], cases: Sequence[str], *, jobs: int = 1) -> list[Row]:
    """Run every method on every case with every seed.

    Args:
        seeds: Of the links and of the methods' own chances: the same links for all methods.
        methods: Names of methods; all are compared with the first one, seed by seed.
        cases: Names of cases.
        jobs: Processes to share the runs among.

    Returns:
        Rows of mean excess (with its bound), excess over bound, dither, losses of lock, length and
        processor time of a window.
    """
    pairs = runs.pair_up(methods, cases, _problem)
    return runs.measure(_outcome, pairs, seeds, jobs, _rows, first=methods[0])


def _problem(method: str, case: str) -> str | None:
    if CASES[case].is_stepped and method not in ALIGNS_ANEW:
        return NOTHING_TO_ALIGN_WITH
    if CASES[case].twin.drift_rad == 0 and method in TUNED_FOR_DRIFT:
        return NO_DRIFT
    return None


def _outcome(method: str, name: str, seed: int) -> Outcome:
    case = CASES[name]
    holding = Holding(METHODS[method], case, SCORING, seed)
    tally = holding.run()
    found = step_and_find(holding, SCORING, seed) if case.is_stepped else None
    return Outcome(tally, found)


def _rows(
    method: str, case: str, outcomes: Sequence[Outcome], ours: Sequence[Outcome] | None
) -> Iterator[Row]:
    if CASES[case].is_stepped:
        yield from _found([each.found for each in outcomes if each.found is not None])
        return
    tallies, least = [each.tally for each in outcomes], CASES[case].bound.excess
    excess = [tally.mean_excess for tally in tallies]
    described = partial(figure, scoring=SCORING)
    yield described("mean_excess", "QBER", excess, bound=least or None)
    if least > 0:
        yield described("excess_over_bound", "ratio", [e / least for e in excess], bound=1.0)
    else:
        worse = [tally.worse_than_alone for tally in tallies]
        yield described("worse_than_alone", "share", worse)
    yield figure("dither_qber", "QBER", [tally.mean_dither for tally in tallies])
    yield figure("losses_of_lock", "losses", [float(t.alarms + t.unnoticed) for t in tallies])
    yield figure("undetected_losses", "losses", [float(tally.unnoticed) for tally in tallies])
    yield figure("window_ms", "ms", [1e3 * tally.held_s / tally.windows for tally in tallies])
    yield figure("window_us", "us", [1e6 * tally.thinking_s / tally.windows for tally in tallies])
    if ours is not None:
        pairs = zip(excess, ours, strict=True)
        ratios = [theirs / mine.tally.mean_excess for theirs, mine in pairs]
        yield described("times_ours", "ratio", ratios)


def _found(found: Sequence[Found]) -> Iterator[Row]:
    for metric in ("photons_to_find", "photons_to_back", "settings_to_find", "settings_to_back"):
        unit = metric.partition("_")[0]
        yield figure(metric, unit, [getattr(each, metric) for each in found], SCORING)
    both = [each.photons_to_find + each.photons_to_back for each in found]
    yield figure("photons_in_all", "photons", np.array(both).tolist(), SCORING)
