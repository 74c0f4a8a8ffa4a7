"""Ours: the model-based sampler of a phase, in its default form."""

from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.tasks.link import Link
from calibration.interferometer import Encoding
from calibration.phase_sampler import PhaseSampler

SETTINGS = 16
MOST_PHOTONS = 20_000

SCALE_SIGMA, WIDE_SCALE_SIGMA = 0.06, 0.15
"""Standard deviations of half-wave voltages known to 10 and to 25 %."""


def sampler_alone(encoding: Encoding) -> Callable[[Link, int], None]:
    """Find the phase by the sampler; its claims are the posterior's, not verified."""

    def run(link: Link, seed: int) -> None:
        first_photons = link.told.cheap_photons
        low, high = link.limits[:, 0].tolist()
        space: dict[str, BaseDistribution] = {
            "drive": FloatDistribution(low, high),
            "n_photons": IntDistribution(first_photons, MOST_PHOTONS, log=True),
        }
        sampler = PhaseSampler(
            space,
            encoding=encoding,
            half_wave_v=float(link.half_turn[0]),
            scale_sigma=SCALE_SIGMA if link.told.is_characterised else WIDE_SCALE_SIGMA,
            first_photons=first_photons,
            most_photons=MOST_PHOTONS,
            drift_rad=link.told.drift_rad,
            seed=seed,
        )
        study = optuna.create_study(sampler=sampler)
        for _ in range(SETTINGS):
            trial = study.ask(space)
            reading = link.count([trial.params["drive"]], trial.params["n_photons"])
            if reading.table is None:
                raise ValueError("the sampler cannot use a pooled QBER")
            trial.set_user_attr("clicks", reading.table.tolist())
            trial.set_user_attr("time_s", reading.time_s)
            study.tell(trial, reading.qber)
            advice = sampler.advice(study)
            claims = advice.settings >= sampler.settings_to_claim
            link.recommend(
                [advice.setting["drive"]], excess_q90=advice.excess_q90 if claims else np.nan
            )

    return run
