"""Task ``signal``: the stages before the alignment, each from a random start to its best setting.

The cases are those of four stages: `attenuation`, `bias`, `delay` and `detector`. Every method sees
the same bench through :class:`~benchmarks.tasks.signal_bench.SignalBench` and pays for every look;
it is judged by the truth at the setting that it would recommend. A threshold counts as reached
where the recommendation stays within it until the end of the run. Cases and scoring are in
``tasks/signal.toml``.
"""

import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import optuna

from benchmarks.rivals import signal_habits, signal_searches, signal_stages
from benchmarks.tasks import signal_cases as frozen
from benchmarks.tasks.scoring import Row, Trace, figure, ratios, share
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
    pairs = [(m, c) for c in cases for m in methods if CASES[c].stage in METHODS[m].stages]
    singles = [(method, case, seed, budget_photons) for method, case in pairs for seed in seeds]
    if jobs > 1:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # or the workers get in their way
            os.environ.setdefault(name, "1")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            outcomes = list(pool.map(_outcome, singles, chunksize=4))
    else:
        outcomes = list(map(_outcome, singles))
    found = dict(zip([single[:3] for single in singles], outcomes, strict=True))
    by_pair = {pair: [found[*pair, seed] for seed in seeds] for pair in pairs}
    described = partial(_rows, by_pair, methods[0])
    return [
        {"method": method, "case": case, **row}
        for method, case in pairs
        for row in described(method, case)
    ]


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which of the methods are for some stages only."""
    wanted = {CASES[case].stage for case in cases}
    return [
        f"{name} is for {' and '.join(METHODS[name].stages)} only"
        for name in methods
        if wanted - set(METHODS[name].stages)
    ]


def _rows(
    by_pair: Mapping[tuple[str, str], Sequence[Outcome]], first: str, method: str, case: str
) -> Iterator[Row]:
    outcomes, scoring = by_pair[method, case], CASES[case].scoring
    traces = [outcome.trace for outcome in outcomes]
    ours = [outcome.trace for outcome in by_pair.get((first, case), ())]
    for name, threshold in scoring.thresholds.items():
        yield from _reaching(traces, scoring, name, threshold, CASES[case].bound(threshold))
        if method != first and ours:
            ratio = ratios(ours, traces, scoring, name, threshold)
            if ratio is not None:
                yield ratio
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
    spent_ms = 1e3 * np.concatenate([trace.suggestion_s for trace in traces])
    yield figure("suggestion_ms", "ms", spent_ms.tolist())


def _reaching(
    traces: Sequence[Trace],
    scoring: frozen.SignalScoring,
    name: str,
    threshold: float,
    bound: float | None,
) -> Iterator[Row]:
    """Describe what it took to reach a threshold for good."""
    reached = [trace.reached(threshold) for trace in traces]
    spent = [np.inf if step is None else float(step.photons) for step in reached]
    metric = f"{scoring.currency}_to_{name}"
    yield figure(metric, scoring.currency, spent, scoring, bound=bound)
    settings = [np.inf if step is None else float(step.settings) for step in reached]
    yield figure(f"settings_to_{name}", "settings", settings, scoring)
    seconds = [np.inf if step is None else step.seconds for step in reached]
    yield figure(f"seconds_to_{name}", "s", seconds, scoring)
    yield share(f"missed_{name}", [step is None for step in reached])


def _outcome(single: tuple[str, str, int, int | None]) -> Outcome:
    method, name, seed, budget = single
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    case = CASES[name]
    bench = case.bench(seed, budget=budget or case.scoring.budget_photons)
    follow(METHODS[method].run, bench, seed)
    trace = Trace(bench.steps, bench.suggestion_s)
    return Outcome(trace, bench.held, bool(bench.stopped), bench.remarks())
