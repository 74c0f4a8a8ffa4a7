"""Task ``signal``: the stages before the alignment, each from a random start to its best setting.

The cases are those of four stages: `attenuation`, `bias`, `delay` and `detector`. Every method sees
the same bench through :class:`~benchmarks.tasks.signal_bench.SignalBench` and pays for every look;
it is judged by the truth at the setting that it would recommend. A threshold counts as reached
where the recommendation stays within it until the end of the run. Cases and scoring are in
``tasks/signal.toml``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.rivals import signal_habits, signal_searches, signal_stages
from benchmarks.tasks import runs
from benchmarks.tasks import signal_cases as frozen
from benchmarks.tasks.scoring import Row, Trace, figure, ratios, reaching, share, thinking
from benchmarks.tasks.signal_bench import Run, follow

VERSION, CASES = frozen.read()

OPTIONS = ("budget_photons", "jobs")
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("readings_to_1%", "photons_to_0.1%", "photons_to_15ps", "photons_to_2%")
"""What a picture shows: the second threshold of each stage."""

ALL = tuple(frozen.STAGES)


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        run: A function of a bench and a seed.
        stages: Those that it is for.
    """

    run: Run
    stages: Collection[str] = ALL


METHODS: Mapping[str, Method] = {
    "ours": Method(signal_stages.search_alone),
    "ours-stage": Method(signal_stages.whole_stage),
    "ours-fit": Method(signal_stages.fit_alone, ("delay",)),
    "one-step": Method(signal_habits.one_step, ("attenuation",)),
    "lock-in": Method(signal_habits.lock_in, ("bias",)),
    "histogram-peak": Method(signal_habits.histogram_peak, ("delay",)),
    "centroid": Method(signal_habits.centroid, ("delay",)),
    "scan": Method(signal_searches.scan),
    "golden-section": Method(signal_searches.golden_section),
    "nelder-mead": Method(signal_searches.nelder_mead),
    "cma-es": Method(signal_searches.cma_es, ("delay", "detector")),
    "tpe": Method(signal_searches.tpe),
    "random": Method(signal_searches.random),
}
"""Ours first; a new method is a function of a bench and a seed, and a line here."""


@dataclass(frozen=True)
class Outcome:
    """What is kept of one run.

    Attributes:
        trace: What was recommended, and the time it took to think.
        held: Whether the truth was within each interval that was claimed.
        is_stopped: Whether the method gave up and said why.
        remarks: What else is to be known, as shares.
    """

    trace: Trace
    held: Sequence[bool]
    is_stopped: bool
    remarks: Mapping[str, float]


def run(
    seeds: range,
    methods: Sequence[str],
    cases: Sequence[str],
    *,
    budget_photons: int | None = None,
    jobs: int = 1,
) -> list[Row]:
    """Run every method on every case of a stage that it is for, with every seed.

    Args:
        seeds: Of the benches and of the methods' own chances: the same benches for all methods.
        methods: Names of methods; all are compared with the first one, seed by seed.
        cases: Names of cases.
        budget_photons: What a run may spend, photons or readings; None for what the task says.
        jobs: Processes to share the runs among.

    Returns:
        Rows as those of the task ``alignment``.
    """
    pairs = runs.pair_up(methods, cases, _problem)
    one = partial(_outcome, budget_photons)
    return runs.measure(one, pairs, seeds, jobs, _rows, first=methods[0])


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which of the methods are for some stages only."""
    return runs.left_out(methods, cases, _problem)


def _problem(method: str, case: str) -> str | None:
    stages = METHODS[method].stages
    return None if CASES[case].stage in stages else f"it is for {' and '.join(stages)} only"


def _rows(
    method: str, case: str, outcomes: Sequence[Outcome], ours: Sequence[Outcome] | None
) -> Iterator[Row]:
    scoring = CASES[case].scoring
    traces = [outcome.trace for outcome in outcomes]
    for name, threshold in scoring.thresholds.items():
        bound = CASES[case].bound(threshold)
        yield from reaching(traces, scoring, name, bound=bound, currency=scoring.currency)
    if ours is not None:
        yield from ratios([outcome.trace for outcome in ours], traces, scoring)
    final = [trace.steps[-1].excess for trace in traces]
    yield share("failed_starts", [excess > scoring.failed for excess in final])
    yield share("stopped", [outcome.is_stopped for outcome in outcomes])
    yield figure("final_excess", scoring.unit, final, scoring)
    held = [each for outcome in outcomes for each in outcome.held]
    if held:
        yield share("intervals_true", held)
    for name in outcomes[0].remarks:
        values = [outcome.remarks[name] for outcome in outcomes]
        yield figure(name, "share", values)
    yield from thinking(traces)


def _outcome(budget: int | None, method: str, name: str, seed: int) -> Outcome:
    case = CASES[name]
    bench = case.bench(seed, budget=budget or case.scoring.budget_photons)
    follow(METHODS[method].run, bench, seed)
    trace = Trace(bench.steps, bench.suggestion_s)
    return Outcome(trace, bench.held, bool(bench.stopped), bench.remarks())
