"""How laboratories search a setting of the signal stages: by a figure that is to be small."""

import math
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from scipy.optimize import minimize

from benchmarks.tasks.signal_bench import SignalBench

Array = NDArray[np.float64]

AMOUNT = {"attenuation": 1, "bias": 4000, "delay": 4000, "detector": 20_000}
"""What a look takes: those of our own stages where they have one."""

SETTINGS = 100

SCAN_POINTS = 21
SCAN_ROUNDS = 2
"""Points of a scan, and how often it is repeated between the neighbours of the best one."""

COARSE = 9
NARROWINGS = 12
GOLDEN = (math.sqrt(5) - 1) / 2

SIMPLEX_EDGE = 1 / 8
"""First simplex as a share of the range; later ones are a fifth of it."""


def scan(bench: SignalBench[Any], seed: int) -> None:
    """Scan all knobs at once, take the best of each, scan finer about it."""
    low, high = bench.limits
    best, least = bench.start, np.full(len(bench.start), np.inf)
    for _ in range(SCAN_ROUNDS):
        for share in _ordered(bench, np.linspace(0, 1, SCAN_POINTS)):
            setting = low + share * (high - low)
            costs = _costs(bench, setting)
            best, least = np.where(costs < least, setting, best), np.minimum(costs, least)
            bench.recommend(best)
        step = (high - low) / (SCAN_POINTS - 1)
        low, high = np.maximum(best - step, low), np.minimum(best + step, high)


def golden_section(bench: SignalBench[Any], seed: int) -> None:
    """Bracket the minimum of each knob by a coarse scan, then narrow all brackets at once."""
    low, high = bench.limits
    coarse = _ordered(bench, np.linspace(0, 1, COARSE))
    settings = [low + share * (high - low) for share in coarse]
    costs = np.array([_costs(bench, setting) for setting in settings])
    middle = np.array(settings)[np.argmin(costs, axis=0), np.arange(len(low))]
    step = (high - low) / (COARSE - 1)
    left, right = np.maximum(middle - step, low), np.minimum(middle + step, high)
    inner = [right - GOLDEN * (right - left), left + GOLDEN * (right - left)]
    seen = [_costs(bench, setting) for setting in inner]
    bench.recommend(middle)
    for _ in range(NARROWINGS):
        is_left = seen[0] < seen[1]
        left, right = np.where(is_left, left, inner[0]), np.where(is_left, inner[1], right)
        kept = np.where(is_left, inner[0], inner[1])
        told = np.where(is_left, seen[0], seen[1])
        new = np.where(is_left, right - GOLDEN * (right - left), left + GOLDEN * (right - left))
        fresh = _costs(bench, new)
        inner = [np.where(is_left, new, kept), np.where(is_left, kept, new)]
        seen = [np.where(is_left, fresh, told), np.where(is_left, told, fresh)]
        bench.recommend((left + right) / 2)


def nelder_mead(bench: SignalBench[Any], seed: int) -> None:
    """Run SciPy's simplex search again and again, each from the best reading so far."""
    low, high = bench.limits
    best: tuple[float, Array] = (math.inf, bench.start)
    edge = SIMPLEX_EDGE

    def look(setting: Array) -> float:
        nonlocal best
        within = np.clip(setting, low, high)
        cost = _cost(bench, within)
        if cost < best[0]:
            best = cost, within
        bench.recommend(best[1])
        return cost

    looks_left = SETTINGS
    while looks_left > 0:
        start = best[1]
        inward = np.where(start + edge * (high - low) > high, -1.0, 1.0)
        simplex = np.vstack([start, start + edge * np.diag(inward * (high - low))])
        found = minimize(
            look,
            start,
            method="Nelder-Mead",
            options={
                "initial_simplex": simplex,
                "xatol": 1e-4 * float((high - low).max()),
                "fatol": 0.0,
                "maxfev": looks_left,
            },
        )
        looks_left -= max(int(found.nfev), 1)
        edge = SIMPLEX_EDGE / 5


def tpe(bench: SignalBench[Any], seed: int) -> None:
    """Model good and bad trials by Parzen estimators (defaults of Optuna)."""
    _study(bench, TPESampler(seed=seed))


def cma_es(bench: SignalBench[Any], seed: int) -> None:
    """Evolve a normal distribution (CMA-ES, defaults of Optuna)."""
    _study(bench, CmaEsSampler(seed=seed))


def random(bench: SignalBench[Any], seed: int) -> None:
    """Draw settings at random."""
    _study(bench, RandomSampler(seed=seed))


def _study(bench: SignalBench[Any], sampler: BaseSampler) -> None:
    """Run a study and recommend its best trial, as ``study.best_params`` does."""
    space: dict[str, BaseDistribution] = {
        f"knob{k}": FloatDistribution(low, high)
        for k, (low, high) in enumerate(zip(*bench.limits.tolist(), strict=True), start=1)
    }
    study = optuna.create_study(sampler=sampler)
    for _ in range(SETTINGS):
        trial = study.ask(space)
        cost = _cost(bench, np.array([trial.params[name] for name in space]))
        study.tell(trial, cost)
        bench.recommend([study.best_params[name] for name in space])


def _ordered(bench: SignalBench[Any], shares: Array) -> Array:
    """Go through attenuations from the dark side, as anyone would, and through all else upwards."""
    return shares[::-1] if bench.stage == "attenuation" else shares


def _costs(bench: SignalBench[Any], setting: Array) -> Array:
    costs: Array = bench.look(setting, AMOUNT[bench.stage]).costs
    return costs


def _cost(bench: SignalBench[Any], setting: Array) -> float:
    return float(bench.look(setting, AMOUNT[bench.stage]).cost)
