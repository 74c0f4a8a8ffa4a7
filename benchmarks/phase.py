"""Task ``phase``: from a random phase to within 0.2 pp of the best QBER, with few photons.

Every method sees the same link through :class:`~benchmarks.tasks.link.Link`, pays for every photon
it looks at, and is judged by the true QBER (mean of both bases) at the voltage that it would
recommend, after every exposure. A threshold counts as reached where the recommendation stays within
it until the end of the run. Cases and scoring are in ``tasks/phase.toml``.

The bound is that of the best measurement (``calibration.phase_sampler.least_excess``) in the
median: the excess is a chi-square of one degree of freedom, whose median is 0.455 of its mean. In
the time-bin encoding a quarter of all counts sees the phase.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from scipy.stats import chi2

from benchmarks.rivals import descent, direct, line_search, phase_model, stock
from benchmarks.tasks import phase_cases as frozen
from benchmarks.tasks import runs
from benchmarks.tasks.link import Run, follow
from benchmarks.tasks.scoring import Row, Trace, figures, ratios
from calibration.interferometer import Encoding
from calibration.phase_sampler import least_excess

VERSION, SCORING, CASES = frozen.read()

OPTIONS = ("budget_photons", "jobs")
"""What :func:`run` takes beside seeds, methods and cases."""

SHARE_THAT_SEES = {"four-phase": 1.0, "time-bin": 0.25}
"""Share of all counts that see the phase."""


def _whatever_the_encoding(run: Run) -> Callable[[Encoding], Run]:
    """Offer a method that looks at the QBER alone."""
    return lambda encoding: run


METHODS: Mapping[str, Callable[[Encoding], Run]] = {
    "ours": phase_model.sampler_alone,
    "sinusoid-fit": _whatever_the_encoding(descent.sinusoid),
    "golden-section": _whatever_the_encoding(line_search.golden_section),
    "nelder-mead": _whatever_the_encoding(direct.nelder_mead),
    "tpe": _whatever_the_encoding(stock.tpe),
    "random": _whatever_the_encoding(stock.random),
}
"""Ours first; a new method is a function of a link and a seed, and a line here."""


def run(
    seeds: range,
    methods: Sequence[str],
    cases: Sequence[str],
    *,
    budget_photons: int | None = None,
    jobs: int = 1,
) -> list[Row]:
    """Run every method on every case with every seed.

    Args:
        seeds: Of the links and of the methods' own chances: the same links for all methods.
        methods: Names of methods; all are compared with the first one, seed by seed.
        cases: Names of cases.
        budget_photons: Detections that a run may look at; None for what the task says.
        jobs: Processes to share the runs among.

    Returns:
        Rows as those of the task ``alignment``.
    """
    budget = SCORING.budget_photons if budget_photons is None else budget_photons
    pairs = [(method, case) for case in cases for method in methods]
    return runs.measure(partial(_trace, budget), pairs, seeds, jobs, _rows, first=methods[0])


def median_bound(case: str) -> float:
    """Return photons times excess, median, that no method undercuts."""
    twin = CASES[case].twin
    seeing = SHARE_THAT_SEES[twin.encoding]
    visibility = (1 - 2 * twin.intrinsic_qber) * (1 - twin.dark_share)
    return float(chi2.median(1)) * least_excess(twin.encoding, seeing, visibility)


def _rows(
    method: str, case: str, traces: Sequence[Trace], ours: Sequence[Trace] | None
) -> Iterator[Row]:
    yield from figures(traces, SCORING, median_bound(case))
    if ours is not None:
        yield from ratios(ours, traces, SCORING)


def _trace(budget: int, method: str, name: str, seed: int) -> Trace:
    case = CASES[name]
    link = case.link(seed, budget_photons=budget)
    chosen = METHODS[method](case.twin.encoding)
    return Trace(follow(chosen, link, seed), link.suggestion_s)
