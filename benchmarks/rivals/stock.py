"""Optuna's own samplers on the pooled QBER, as a plain study uses them."""

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from benchmarks.tasks.link import Link

PHOTONS, SETTINGS = 4000, 360
RANDOM_PHOTONS, RANDOM_SETTINGS = 20_000, 100


def cma_es(link: Link, seed: int) -> None:
    """Evolve a normal distribution (CMA-ES, defaults of Optuna)."""
    _study(link, CmaEsSampler(seed=seed), PHOTONS, SETTINGS)


def tpe(link: Link, seed: int) -> None:
    """Model good and bad trials by Parzen estimators (defaults of Optuna)."""
    _study(link, TPESampler(seed=seed), PHOTONS, SETTINGS)


def random(link: Link, seed: int) -> None:
    """Draw settings at random."""
    _study(link, RandomSampler(seed=seed), RANDOM_PHOTONS, RANDOM_SETTINGS)


def gaussian_process(link: Link, seed: int) -> None:
    """Model the QBER by a Gaussian process (defaults of Optuna; needs torch)."""
    _study(link, GPSampler(seed=seed), PHOTONS, SETTINGS)


def _study(link: Link, sampler: BaseSampler, photons: int, settings: int) -> None:
    """Run a study and recommend its best trial, as ``study.best_params`` does."""
    space: dict[str, BaseDistribution] = {
        f"drive{k}": FloatDistribution(low, high)
        for k, (low, high) in enumerate(zip(*link.limits.tolist(), strict=True), start=1)
    }
    study = optuna.create_study(sampler=sampler)
    for _ in range(settings):
        trial = study.ask(space)
        reading = link.count(np.array([trial.params[name] for name in space]), photons)
        study.tell(trial, reading.qber)
        link.recommend([study.best_params[name] for name in space])
