"""What laboratories do at a single stage: lock-in, histograms of arrivals, one reading of power."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.signal_twins import arrivals, emission
from benchmarks.tasks.signal_bench import SignalBench

Array = NDArray[np.float64]

LOCK_PHOTONS = 4000
LOCK_COARSE = 9
LOCK_STEPS = 40
DITHER_V = 0.5
LOCK_GAIN = 0.3
"""Of the null's distance, as the two sides of the dither tell it, that a step makes up for."""

ARRIVAL_PHOTONS, ARRIVAL_LOOKS = 400, 50
BIN_PS = 50.0
HALF_PEAK_PS = 400.0
"""About the highest bin, what a centroid is taken of."""

POWER_READINGS = 4
POWER_ROUNDS = 5


def lock_in(bench: SignalBench[Any], seed: int) -> None:
    """Scan coarsely, then dither the bias and follow the difference of the vacuum's counts."""
    low, high = bench.limits[:, 0]
    coarse = np.linspace(low, high, LOCK_COARSE)
    rates = [bench.look([bias_v], LOCK_PHOTONS).cost for bias_v in coarse]
    bias_v = float(coarse[np.argmin(rates)])
    bench.recommend([bias_v])
    for _ in range(LOCK_STEPS):
        above, below = (
            bench.look([bias_v + side * DITHER_V], LOCK_PHOTONS).cost for side in (1, -1)
        )
        error = (above - below) / max(above + below, 1e-9)  # 2 x / d where the null is near
        bias_v -= LOCK_GAIN * DITHER_V * error
        bench.recommend([bias_v])


def histogram_peak(bench: SignalBench[Any], seed: int) -> None:
    """Fold the clicks by the clock and take the highest bin, again as clicks come in."""
    _fold_on(bench, lambda centres, counts: float(centres[np.argmax(counts)]))


def centroid(bench: SignalBench[Any], seed: int) -> None:
    """Fold, take off what is seen far from the highest bin, and average about that bin."""

    def mean(centres: Array, counts: Array) -> float:
        peak = float(centres[np.argmax(counts)])
        away = (centres - peak + arrivals.SLOT_PS / 2) % arrivals.SLOT_PS - arrivals.SLOT_PS / 2
        is_near = np.abs(away) <= HALF_PEAK_PS
        weights = np.where(is_near, counts - counts[~is_near].mean(), 0.0)
        return peak + float(weights @ away) / max(float(weights.sum()), 1.0)

    _fold_on(bench, mean)


def one_step(bench: SignalBench[Any], seed: int) -> None:
    """Read the power in force, correct by what it says, and again."""
    dark_w = np.mean([bench.look(bench.start, lit=False).power_w for _ in range(POWER_READINGS)])
    mean = sum(emission.MEANS[name] for name in emission.INTENSITIES) / len(emission.INTENSITIES)
    wanted_w = emission.PHOTON_J * emission.CLOCK_HZ * mean * 10 ** (emission.TAP_DB / 10)
    attenuation_db = float(bench.start[0])
    for _ in range(POWER_ROUNDS):
        read_w = [bench.look([attenuation_db]).power_w for _ in range(POWER_READINGS)]
        over = max(float(np.mean(read_w) - dark_w) / wanted_w, 1e-4)
        attenuation_db += 10 * math.log10(over)
        bench.recommend([attenuation_db])


def _fold_on(bench: SignalBench[Any], estimate: Any) -> None:
    edges = np.arange(0.0, arrivals.SLOT_PS + BIN_PS, BIN_PS)
    centres = (edges[1:] + edges[:-1]) / 2
    counts = np.zeros((len(bench.start), len(centres)))
    for _ in range(ARRIVAL_LOOKS):
        seen = bench.look(bench.start, ARRIVAL_PHOTONS).stamps
        for detector, stamps in enumerate(seen.values()):
            phase = stamps.astype(np.float64) % arrivals.SLOT_PS
            counts[detector] += np.histogram(phase, edges)[0]
        found = np.array([estimate(centres, row) for row in counts])
        half = arrivals.SLOT_PS / 2  # a crowd belongs at the centre of its slot
        bench.recommend((found - half + half) % arrivals.SLOT_PS - half)
