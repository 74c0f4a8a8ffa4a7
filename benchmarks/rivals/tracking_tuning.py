"""Find the constants of the tracking rivals by grid: prints what goes into ``tracking_gains``.

$ python -m benchmarks.rivals.tracking_tuning lock-in
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from benchmarks.rivals.tracking_gains import Gains
from benchmarks.rivals.tracking_rivals import LockIn, Periodic, RandomLocal, Rival, Spsa
from benchmarks.tasks import tracking_cases as frozen
from benchmarks.tasks.tracking_loop import Holding

SEEDS = range(1000, 1002)
WINDOWS, SETTLING = 1500, 300

CASES = ("q=0.01,R=1e6", "q=0.01,R=1e4", "q=0.1,R=1e4")
"""Ratios of drift to rate that are tuned for; their runs are of ``WINDOWS`` windows."""

GRIDS: Mapping[str, tuple[type[Rival], Mapping[str, tuple[float, ...]]]] = {
    "lock-in": (
        LockIn,
        {"dither": (0.7, 1.0, 1.4, 2.0), "window": (0.05,), "gain": (0.05, 0.1, 0.2, 0.4)},
    ),
    "periodic": (
        Periodic,
        {"dither": (2.0, 4.0, 8.0), "window": (0.05,), "rest": (6, 18, 54)},
    ),
    "spsa": (Spsa, {"dither": (1.0, 2.0), "window": (0.05,), "gain": (0.1, 0.3, 1.0)}),
    "random-local": (RandomLocal, {"dither": (0.5, 1.0, 2.0), "window": (0.3, 1.0)}),
}


def tune(method: str) -> Iterator[tuple[float, Gains, float]]:
    """Try the grid of a rival.

    Yields:
        For every case the ratio of drift to rate, the best constants, and their mean excess as a
        multiple of the bound.
    """
    rival, grid = GRIDS[method]
    _, scoring, cases = frozen.read()
    scoring = replace(scoring, windows=WINDOWS, settling=SETTLING)
    for name in CASES:
        case = replace(cases[name], hours=None, start="known")
        tried = [Gains(**dict(zip(grid, each, strict=True))) for each in product(*grid.values())]
        excess = [
            np.mean([_excess(rival, gains, case, scoring, seed) for seed in SEEDS])
            for gains in tried
        ]
        best = int(np.argmin(excess))
        ratio = case.twin.drift_rad**2 / case.twin.rate_hz
        yield ratio, tried[best], float(excess[best]) / case.bound.excess


def _excess(
    rival: type[Rival],
    gains: Gains,
    case: frozen.TrackingCase,
    scoring: frozen.TrackingScoring,
    seed: int,
) -> float:
    holding = Holding(lambda given: rival(given, gains), case, scoring, seed)
    return holding.run().mean_excess


def main() -> None:
    """Tune the rivals named on the command line, or all."""
    for method in sys.argv[1:] or GRIDS:
        for ratio, gains, times_bound in tune(method):
            sys.stdout.write(f"{method} {ratio:.0e} {gains} {times_bound:.2f} x bound\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
