"""Task ``alignment``: from a random start to within 0.2 pp of the best QBER, with few photons.

Every method sees the same link through :class:`~benchmarks.tasks.link.Link`, pays for every photon
it looks at, and is judged by the true QBER at the setting that it would recommend, after every
exposure. A threshold counts as reached where the recommendation stays within it until the end of
the run. Cases and scoring are in ``tasks/alignment.toml``.

The bound is that of known actuators and ideal measurements: a detected photon carries at most one
unit of Fisher information on the three angles. Best spread over them, the excess after N photons
is ``sum_i c_i z_i^2 / (f_i N)`` with ``c = (1, 1, 2)/8`` and ``f`` proportional to ``sqrt(c)``:
1.457/N in the mean and 1.14/N in the median. Nobody who has to learn the actuators can reach it;
the method ``oracle`` tells how near he could come.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import optuna

from benchmarks.rivals import descent, direct, model, oracle, peers, stock
from benchmarks.tasks import cases as frozen
from benchmarks.tasks import runs
from benchmarks.tasks.link import Run, follow
from benchmarks.tasks.scoring import Row, Trace, figure, figures, ratios

VERSION, SCORING, CASES = frozen.read()

OPTIONS = ("budget_photons", "jobs")
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("photons_to_0.5pp", "photons_to_0.2pp", "settings_to_0.2pp")
"""What a picture shows."""

MEDIAN_BOUND = 1.14
"""Photons times excess, median, for known actuators."""

ORACLE = "oracle"
NO_PERIOD = "a rotating wave plate is no sinusoid of its angle"
NO_POOLED = "the stage verifies and shows every window by its counts of both bases"

FRESH_PROCESSES = 3
"""Fresh processes in which the first suggestions are timed."""

FIRST_SUGGESTIONS = 5
"""The slowest of so many is reported: with fewer, nothing would rest on a model."""


@dataclass(frozen=True)
class Method:
    """A method on offer.

    Attributes:
        run: Counts on a link and recommends; the module-level function that others import.
        needs: Module that must be installed, or None.
        lacks: Why it cannot run on a case, by case.
        is_apart: Whether every run wants a process of its own.
    """

    run: Run
    needs: str | None = None
    lacks: Mapping[str, str] | None = None
    is_apart: bool = False

    def problem(self, case: str) -> str | None:
        """Say why it is left out of a case, or None."""
        return runs.missing(self.needs) or (self.lacks or {}).get(case)


POOLED = dict.fromkeys((name for name, case in CASES.items() if case.counts == "pooled"), NO_POOLED)
PLATES = dict.fromkeys(
    (name for name, case in CASES.items() if case.actuator in ("paddles", "wave-plates")), NO_PERIOD
)
OUTSIDE = dict.fromkeys(
    (name for name, case in CASES.items() if not oracle.applies_to(case)),
    "the bench is outside of the class of models whose information it computes",
)


def _no_run(link: object, seed: int) -> None:
    """The oracle looks at the bench instead."""


METHODS: dict[str, Method] = {
    "ours": Method(model.sampler_alone),
    "ours-stage": Method(model.whole_stage, lacks=POOLED),
    ORACLE: Method(_no_run, lacks=OUTSIDE),
    "coordinate-descent": Method(descent.sinusoid, lacks=PLATES),
    "golden-section": Method(descent.golden_section),
    "nelder-mead": Method(direct.nelder_mead),
    "spsa": Method(direct.spsa),
    "annealing": Method(direct.annealing),
    "random-local": Method(direct.random_local),
    "cma-es": Method(stock.cma_es),
    "tpe": Method(stock.tpe),
    "gp": Method(stock.gaussian_process, needs="torch"),
    "random": Method(stock.random),
    # It forks its learner, which hangs now and then where there are threads already.
    "m-loop": Method(peers.m_loop, needs="mloop", is_apart=True),
}
"""Ours first; a new method is a function of a link and a seed, and a line here."""


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which methods are not run on which cases, and why."""
    return runs.left_out(methods, cases, _problem)


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
        Rows of method, case, metric, unit, n, median, mean, p90, bound and, where the median has a
        bootstrap interval, low and high. A run that never reaches a threshold counts as infinite,
        and what is infinite is None.
    """
    budget = SCORING.budget_photons if budget_photons is None else budget_photons
    pairs = runs.pair_up(methods, cases, _problem)
    first_case = dict(reversed(pairs))
    return runs.measure(
        partial(_trace_of, budget), pairs, seeds, jobs, partial(_rows, first_case), first=methods[0]
    )


def _problem(method: str, case: str) -> str | None:
    return METHODS[method].problem(case)


def _rows(
    first_case: Mapping[str, str],
    method: str,
    case: str,
    traces: Sequence[Trace],
    ours: Sequence[Trace] | None,
) -> Iterator[Row]:
    sifted_only = CASES[case].counts != "all"
    yield from figures(traces, SCORING, MEDIAN_BOUND * (2 if sifted_only else 1))
    if ours is not None:
        yield from ratios(ours, traces, SCORING)
    if case == first_case[method] and method != ORACLE and FRESH_PROCESSES:
        spent_ms = [_first_suggestion_ms(method, case) for _ in range(FRESH_PROCESSES)]
        yield figure("first_suggestion_ms", "ms", spent_ms)


def _trace_of(budget: int, method: str, case: str, seed: int) -> Trace:
    one = partial(_trace, budget)
    if METHODS[method].is_apart:
        return runs.run_apart(one, method, case, seed)
    return one(method, case, seed)


def _trace(budget: int, method: str, name: str, seed: int) -> Trace:
    case = CASES[name]
    if method == ORACLE:
        steps = oracle.design(case, case.build(seed))
        within = [step for step in steps if step.photons <= budget]
        return Trace(within or steps[:1], [])
    link = case.link(seed, budget_photons=budget)
    return Trace(follow(METHODS[method].run, link, seed), link.suggestion_s)


def _first_suggestion_ms(method: str, case: str) -> float:
    """Time the first suggestions in a process that has done nothing else."""
    code = f"from benchmarks.alignment import _print_first; _print_first({method!r}, {case!r})"
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own words
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return float(done.stdout.split()[-1])


def _print_first(method: str, case: str) -> None:
    """Print the processor time of the slowest of the first suggestions, ms; imports not counted."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    link = CASES[case].link(
        0, budget_photons=SCORING.budget_photons, most_settings=FIRST_SUGGESTIONS
    )
    follow(METHODS[method].run, link, 0)
    sys.stdout.write(f"{1e3 * max(link.suggestion_s)}\n")
