"""Task ``day``: 24 hours of key over buried, metro and aerial fibre, in virtual time.

A link begins aligned and makes key from then on, but while it is dark or aligned anew. The key of a
window is that of its true QBER, dither and all, against that of perfect alignment for as long as
there was light. Whoever says that the lock is lost is aligned anew by the model-based sampler, with
what was known of the controller before; methods that cannot say so are watched by their QBER. Cases
and scoring are in ``tasks/day.toml``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import tracking
from benchmarks.rivals.tracking_watched import watched
from benchmarks.tasks import day_cases as frozen
from benchmarks.tasks import runs
from benchmarks.tasks.day_run import Day, DayTally
from benchmarks.tasks.scoring import Row, figure
from benchmarks.tasks.tracking_loop import MakeFollower

VERSION, SCORING, CASES = frozen.read()

OPTIONS = ("jobs",)
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("key_share_of_oracle", "uptime", "realignments")
"""What a picture shows."""


def _watched(name: str) -> MakeFollower:
    return partial(watched, tracking.METHODS[name], SCORING.watched, SCORING.watched_sifted)


METHODS: Mapping[str, MakeFollower] = {
    "ours": tracking.METHODS["ours"],
    **{name: _watched(name) for name in ("lock-in", "periodic", "none")},
}
"""Ours first."""


@dataclass(frozen=True)
class Outcome:
    """A day in figures."""

    key_share: float
    uptime: float
    tally: DayTally


def run(seeds: range, methods: Sequence[str], cases: Sequence[str], *, jobs: int = 1) -> list[Row]:
    """Run every method on every case with every seed.

    Args:
        seeds: Of the links, their weather and the methods' own chances.
        methods: Names of methods; all are compared with the first one, seed by seed.
        cases: Names of cases.
        jobs: Processes to share the runs among.

    Returns:
        Rows of the key as a share of the oracle's, time in which key was made as a share of that
        with light, alignments and wrong alarms.
    """
    pairs = [(method, case) for case in cases for method in methods]
    return runs.measure(_outcome, pairs, seeds, jobs, _rows, first=methods[0])


def _outcome(method: str, case: str, seed: int) -> Outcome:
    day = Day(METHODS[method], CASES[case], SCORING, seed)
    tally = day.run()
    return Outcome(day.share_of_oracle, day.uptime, tally)


def _rows(
    method: str, case: str, outcomes: Sequence[Outcome], ours: Sequence[Outcome] | None
) -> Iterator[Row]:
    tallies = [each.tally for each in outcomes]
    shares = [each.key_share for each in outcomes]
    yield figure("key_share_of_oracle", "share", shares, SCORING, bound=1.0)
    yield figure("uptime", "share", [each.uptime for each in outcomes], SCORING, bound=1.0)
    yield figure("realignments", "alignments", [float(t.realignments) for t in tallies])
    yield figure("wrong_alarms", "alarms", [float(t.wrong_alarms) for t in tallies])
    yield figure("aligning_s", "s", [t.aligning_s for t in tallies])
    yield figure("windows", "windows", [float(t.windows) for t in tallies])
    yield figure("window_us", "us", [1e6 * t.thinking_s / t.windows for t in tallies])
