"""Tuning of the rivals of the task ``phase-tracking``, once, on seeds of their own.

``python -m benchmarks.tasks.phase_tuning`` tries every combination of the constants below on every
case, takes for each rival the one of least mean excess, and writes the file that the task reads.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.phase_tracking import CASES, METHODS, follow
from benchmarks.tasks.phase_tracking_cases import TUNED_FILE

SEEDS = range(1000, 1003)

SHARE = 0.3
"""Length of a run here, as a share of that of the task."""

GRID: Mapping[str, Mapping[str, Sequence[float]]] = {
    "lock-in": {
        "window": (0.1, 0.3),
        "dither": (0.5, 0.8, 1.3, 2.5, 5.0),
        "gain": (0.01, 0.03, 0.1, 0.3),
    },
    "spsa": {
        "window": (0.1, 0.3),
        "dither": (0.5, 0.8, 1.3, 2.5, 5.0),
        "gain": (0.01, 0.03, 0.1, 0.3),
    },
    "perturb-and-observe": {
        "window": (0.1, 0.3, 1.0, 3.0, 10.0),
        "dither": (0.3, 0.6, 1.0, 2.0, 4.0),
    },
    "periodic": {
        "window": (0.1, 0.3, 1.0),
        "dither": (0.03, 0.06, 0.12, 0.25),
        "rest": (0.5, 1.5, 5.0, 15.0),
    },
}
"""Constants in the units of ``rivals/phase_holding.py``."""

GRID_PID: Mapping[str, Mapping[str, Sequence[float]]] = {
    "four-phase": {"window": (0.05, 0.1), "gain": (0.03, 0.1, 0.2), "reset": (0.0, 0.001, 0.01)},
    "errors-only": {
        "window": (0.1,),
        "dither": (0.5, 0.8, 1.3),
        "gain": (0.03, 0.1, 0.2),
        "reset": (0.0, 0.001),
    },
}


def combinations(method: str, encoding: str) -> Iterator[dict[str, float]]:
    """Give all constants to try."""
    grid = GRID_PID[encoding] if method == "pid" else GRID[method]
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def tuned(method: str, name: str) -> dict[str, float]:
    """Return the constants of least mean excess of a rival on a case."""
    case = CASES[name]
    length_s = case.burn_in_s + SHARE * (case.duration_s - case.burn_in_s)
    short = replace(case, duration_s=length_s)

    def excess(constants: Mapping[str, float]) -> float:
        return sum(follow(METHODS[method], constants, short, seed).mean_excess for seed in SEEDS)

    return min(combinations(method, case.twin.encoding), key=excess)


def write(names: Sequence[str]) -> None:
    """Tune all rivals on these cases and add what is found to the file."""
    with TUNED_FILE.open("a", encoding="utf-8") as file:
        for name in names:
            for method in (*GRID, "pid"):
                found = tuned(method, name)
                pairs = ", ".join(f"{key} = {value:g}" for key, value in found.items())
                file.write(f'"{name}".{method} = {{ {pairs} }}\n')
                file.flush()


if __name__ == "__main__":
    write(sys.argv[1:] or list(CASES))
