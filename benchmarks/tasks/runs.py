"""What all tasks do alike: every method on every case with every seed, in as many processes."""

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import optuna

from benchmarks.tasks.scoring import Row

T = TypeVar("T")

Pair = tuple[str, str]
"""Method and case."""

Problem = Callable[[str, str], str | None]
"""Says why a method is left out of a case, or None."""


def pair_up(methods: Sequence[str], cases: Sequence[str], problem: Problem) -> list[Pair]:
    """Pair the methods with the cases that they can run on, case by case."""
    return [(m, c) for c in cases for m in methods if problem(m, c) is None]


def left_out(methods: Sequence[str], cases: Sequence[str], problem: Problem) -> list[str]:
    """Say in one line each which methods are not run on which cases, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for method in methods:
        for case in cases:
            why = problem(method, case)
            if why is not None:
                reasons.setdefault((method, why), []).append(case)
    return [f"{method} on {', '.join(on)}: {why}" for (method, why), on in reasons.items()]


def missing(module: str | None) -> str | None:
    """Say that a module is not installed, or None."""
    if module is None or importlib.util.find_spec(module) is not None:
        return None
    return f"{module} is not installed"


def measure(
    one: Callable[[str, str, int], T],
    pairs: Sequence[Pair],
    seeds: range,
    jobs: int,
    describe: Callable[[str, str, Sequence[T], Sequence[T] | None], Iterable[Row]],
    *,
    first: str,
) -> list[Row]:
    """Run every pair with every seed and describe what came of it.

    Args:
        one: Runs a method on a case with a seed; importable, where there are several processes.
        pairs: Methods and cases, in the order of the rows.
        seeds: Of the benches and of the methods' own chances: the same benches for all methods.
        jobs: Processes to share the runs among.
        describe: Computes rows from a method, a case, its outcomes in the order of the seeds, and
            those of the first method on this case, unless it is the first one or there are none.
        first: Method that all others are compared with.

    Returns:
        The rows, each with its method and case.
    """
    singles = [(method, case, seed) for method, case in pairs for seed in seeds]
    quietly = partial(_run_quietly, one)
    if jobs > 1:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # or the workers get in their way
            os.environ.setdefault(name, "1")
        with _fresh_processes(jobs) as pool:
            outcomes = iter(list(pool.map(quietly, singles)))
    else:
        outcomes = map(quietly, singles)
    found = {pair: [next(outcomes) for _ in seeds] for pair in pairs}
    return [
        {"method": method, "case": case, **row}
        for method, case in pairs
        for row in describe(
            method,
            case,
            found[method, case],
            found.get((first, case)) if method != first else None,
        )
    ]


def run_apart(one: Callable[[str, str, int], T], method: str, case: str, seed: int) -> T:
    """Run a method in a process of its own."""
    with _fresh_processes(1) as pool:
        return pool.submit(_run_quietly, one, (method, case, seed)).result()


def _fresh_processes(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _run_quietly(one: Callable[[str, str, int], T], single: tuple[str, str, int]) -> T:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return one(*single)
