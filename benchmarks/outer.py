"""Task ``outer``: seven knobs of a link together, to within 5 % of the reachable key rate.

Every method starts at the same setting, sees key rates measured from counts, pays for every photon,
and is judged by the true key rate at the setting that it would recommend, after every exposure. A
threshold counts as reached where the recommendation stays within it to the end of the run. The key
rate of all methods is that of ``calibration.measured_key``. Cases and scoring are in
``tasks/outer.toml``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from benchmarks.outer_twin import OuterTwin
from benchmarks.rivals import key_rate as rivals
from benchmarks.tasks import outer_link as frozen
from benchmarks.tasks import runs
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
        Rows as those of the task ``alignment``; excess is the share of the reachable key rate that
        is given away.
    """
    budget = SCORING.budget_photons if budget_photons is None else budget_photons
    pairs = runs.pair_up(methods, cases, _problem)
    return runs.measure(partial(_outcome, budget), pairs, seeds, jobs, _rows, first=methods[0])


def _problem(method: str, case: str) -> str | None:
    return runs.missing(NEEDS.get(method))


def _rows(
    method: str, case: str, outcomes: Sequence[Outcome], ours: Sequence[Outcome] | None
) -> Iterator[Row]:
    traces = [trace for trace, _ in outcomes]
    for row in figures(traces, SCORING, None):
        if row["metric"] == "final_excess":
            yield {**row, "metric": "final_loss", "unit": "share"}
        else:
            yield row
    held = [is_true for _, is_true in outcomes if is_true is not None]
    if held:
        yield share("intervals_true", held)
    if ours is not None:
        yield from ratios([trace for trace, _ in ours], traces, SCORING)


def _outcome(budget: int, method: str, case: str, seed: int) -> Outcome:
    link = OuterLink(OuterTwin(seed, CASES[case]), budget_photons=budget)
    with contextlib.suppress(BudgetSpentError):
        METHODS[method](link, seed)
    if not link.steps:
        link.recommend(link.middle)
    said = link.intervals[-1] if link.intervals else None
    is_true = None if said is None else said.low <= said.truth <= said.high
    return Trace(link.steps, link.suggestion_s), is_true
