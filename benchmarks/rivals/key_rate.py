"""Ours, Optuna's own samplers, and golden sections, on the measured key rate of seven knobs."""

import math

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from benchmarks.tasks.outer_link import OuterLink
from calibration.noisy_sampler import NoisySampler

Array = NDArray[np.float64]

LEAST_PHOTONS, MOST_PHOTONS = 1000, 50_000
SETTINGS = 75
"""Some more than wanted, to show that the recommendation stays."""

PHOTONS = 10_000
"""A reading of the rivals: the key rate to about 5 % near the best."""

NARROWINGS = 5
GOLDEN = (math.sqrt(5) - 1) / 2


def noisy_sampler(link: OuterLink, seed: int) -> None:
    """Run our sampler as in a plain Optuna script; recommend by posterior mean."""
    space = {**_space(link), "n_photons": IntDistribution(LEAST_PHOTONS, MOST_PHOTONS, log=True)}
    sampler = NoisySampler(space, seed=seed)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for _ in range(SETTINGS):
        trial = study.ask(space)
        setting = [trial.params[name] for name in link.names]
        rate = link.measure(setting, trial.params["n_photons"])
        if rate is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_user_attr("variance", rate.variance)
        study.tell(trial, rate.value)
        found = sampler.recommendation(study)
        best = [found.setting[name] for name in link.names]
        link.recommend(best, low=found.low, high=found.high)


def tpe(link: OuterLink, seed: int) -> None:
    """Model good and bad trials by Parzen estimators (defaults of Optuna)."""
    _study(link, TPESampler(seed=seed))


def cma_es(link: OuterLink, seed: int) -> None:
    """Evolve a normal distribution about the setting in force (CMA-ES, defaults of Optuna)."""
    _study(link, CmaEsSampler(seed=seed))


def random(link: OuterLink, seed: int) -> None:
    """Draw settings at random."""
    _study(link, RandomSampler(seed=seed))


def gaussian_process(link: OuterLink, seed: int) -> None:
    """Model the key rate by a Gaussian process (defaults of Optuna; needs torch)."""
    _study(link, GPSampler(seed=seed))


def golden_section(link: OuterLink, seed: int) -> None:
    """Narrow one knob after the other by golden sections, over and over, less each time."""
    best, width = link.middle.copy(), 1.0
    while True:
        for knob in range(len(best)):
            low, high = link.limits[:, knob]
            half = width * (high - low) / 2
            left, right = max(best[knob] - half, low), min(best[knob] + half, high)
            best[knob] = _section(link, best, knob, left, right)
            link.recommend(best)
        width /= 2


def _section(link: OuterLink, best: Array, knob: int, left: float, right: float) -> float:
    def height(value: float) -> float:
        setting = best.copy()
        setting[knob] = value
        rate = link.measure(setting, PHOTONS)
        return -math.inf if rate is None else rate.value

    inner = [right - GOLDEN * (right - left), left + GOLDEN * (right - left)]
    heights = [height(value) for value in inner]
    for _ in range(NARROWINGS):
        if heights[0] > heights[1]:
            right = inner[1]
            inner = [right - GOLDEN * (right - left), inner[0]]
            heights = [height(inner[0]), heights[0]]
        else:
            left = inner[0]
            inner = [inner[1], left + GOLDEN * (right - left)]
            heights = [heights[1], height(inner[1])]
    return (left + right) / 2


def _space(link: OuterLink) -> dict[str, BaseDistribution]:
    ranges = zip(link.names, *link.limits.tolist(), strict=True)
    return {name: FloatDistribution(low, high) for name, low, high in ranges}


def _study(link: OuterLink, sampler: BaseSampler) -> None:
    """Run a study from the setting in force; recommend its best trial, as its users do."""
    space = _space(link)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.enqueue_trial(dict(zip(link.names, link.middle.tolist(), strict=True)))
    while True:
        trial = study.ask(space)
        rate = link.measure([trial.params[name] for name in link.names], PHOTONS)
        if rate is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        study.tell(trial, rate.value)
        link.recommend([study.best_params[name] for name in link.names])
