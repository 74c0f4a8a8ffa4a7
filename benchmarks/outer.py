"""Task ``outer``: seven knobs of a link together, to within 5 % of the reachable key rate.

Every method starts at the same setting, sees key rates measured from counts, pays for every photon,
and is judged by the true key rate at the setting that it would recommend, after every exposure. A
threshold counts as reached where the recommendation stays within it to the end of the run. The key
rate of all methods is that of ``calibration.measured_key``. Cases and scoring are in
``tasks/outer.toml``.
"""

import contextlib
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import optuna

from benchmarks.outer_twin import OuterTwin
from benchmarks.rivals import key_rate as rivals
from benchmarks.tasks import outer_link as frozen
from benchmarks.tasks.link import BudgetSpentError
from benchmarks.tasks.outer_link import OuterLink
from benchmarks.tasks.scoring import Row, Trace, figures, ratios, share

VERSION, SCORING, CASES = frozen.read()

OPTIONS = ("budget_photons", "jobs")
"""What :func:`run` takes beside seeds, methods and cases."""

PLOTTED = ("photons_to_95%", "settings_to_95%", "final_loss")
"""What a picture shows."""

METHODS: Mapping[str, Callable[[OuterLink, int], None]] = {
    "ours": rivals.noisy_sampler,
    "tpe": rivals.tpe,
    "cma-es": rivals.cma_es,
    "gp": rivals.gaussian_process,
    "golden-section": rivals.golden_section,
    "random": rivals.random,
}
"""Ours first; a new method is a function of a link and a seed, and a line here."""

NEEDS = {"gp": "torch"}
"""Module that a method needs."""

Outcome = tuple[Trace, bool | None]
"""A run, and whether its last interval held the truth, where it gave one."""


def left_out(methods: Sequence[str], cases: Sequence[str]) -> list[str]:
    """Say which methods are not run, and why."""
    return [f"{name}: {NEEDS[name]} is not installed" for name in methods if not _can_run(name)]


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
        Rows as those of the task ``alignment``; excess is the share of the reachable key rate that
        is given away.
    """
    budget = SCORING.budget_photons if budget_photons is None else budget_photons
    pairs = [(method, case) for case in cases for method in methods if _can_run(method)]
    singles = [(method, case, seed, budget) for method, case in pairs for seed in seeds]
    if jobs > 1:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # or the workers get in their way
            os.environ.setdefault(name, "1")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            outcomes = list(pool.map(_outcome, singles))
    else:
        outcomes = list(map(_outcome, singles))
    found = dict(zip([single[:3] for single in singles], outcomes, strict=True))
    by_pair = {pair: [found[*pair, seed] for seed in seeds] for pair in pairs}
    return [
        {"method": method, "case": case, **row}
        for method, case in pairs
        for row in _rows(by_pair[method, case], by_pair.get((methods[0], case)))
    ]


def _can_run(method: str) -> bool:
    needed = NEEDS.get(method)
    return needed is None or importlib.util.find_spec(needed) is not None


def _rows(outcomes: Sequence[Outcome], first: Sequence[Outcome] | None) -> Iterator[Row]:
    traces = [trace for trace, _ in outcomes]
    for row in figures(traces, SCORING, None):
        if row["metric"] == "final_excess":
            yield {**row, "metric": "final_loss", "unit": "share"}
        else:
            yield row
    held = [is_true for _, is_true in outcomes if is_true is not None]
    if held:
        yield share("intervals_true", held)
    if first is None or first is outcomes:
        return
    for name, threshold in SCORING.thresholds.items():
        ours = [trace for trace, _ in first]
        compared = ratios(ours, traces, SCORING, name, threshold)
        if compared is not None:
            yield compared


def _outcome(single: tuple[str, str, int, int]) -> Outcome:
    method, case, seed, budget = single
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    link = OuterLink(OuterTwin(seed, CASES[case]), budget_photons=budget)
    with contextlib.suppress(BudgetSpentError):
        METHODS[method](link, seed)
    if not link.steps:
        link.recommend(link.middle)
    said = link.intervals[-1] if link.intervals else None
    is_true = None if said is None else said.low <= said.truth <= said.high
    return Trace(link.steps, link.suggestion_s), is_true
