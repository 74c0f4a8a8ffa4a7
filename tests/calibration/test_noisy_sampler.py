from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from calibration.noisy_sampler import NoisySampler

SPACE = {
    "x": FloatDistribution(-2.0, 3.0),
    "y": FloatDistribution(0.0, 10.0),
    "n": IntDistribution(100, 5000, log=True),
}
START = {"x": 1.0, "y": 5.0}
BEST = np.array([0.3, 7.0])


def height(setting: Any) -> float:
    away = np.array([setting["x"] - BEST[0], (setting["y"] - BEST[1]) / 3])
    return float(np.exp(-away @ away))


def new_study(direction: str = "maximize", seed: int = 1) -> tuple[optuna.Study, NoisySampler]:
    sampler = NoisySampler(SPACE, start=START, first_photons=500, setting_photons=500, seed=seed)
    return optuna.create_study(sampler=sampler, direction=direction), sampler


def look(study: optuna.Study, trials: int, sign: float = 1.0) -> None:
    """Run trials whose noise is that of their photons."""
    for _ in range(trials):
        trial = study.ask(SPACE)
        sigma = 5 / np.sqrt(trial.params["n"])
        noise = np.random.default_rng([9, trial.number]).normal()
        trial.set_user_attr("variance", sigma**2)
        study.tell(trial, sign * (height(trial.params) + sigma * noise))


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_the_recommendation_is_near_the_best_and_not_the_luckiest_trial(
    direction: str, sign: float
) -> None:
    study, sampler = new_study(direction)

    look(study, 20, sign)

    found = sampler.recommendation(study)
    assert height(found.setting) > 0.95
    assert found.low < sign < found.high
    assert abs(study.best_value) > abs(found.value)


def test_the_first_look_is_at_the_start_and_none_leaves_the_space() -> None:
    study, _ = new_study()

    look(study, 12)

    first = study.trials[0].params
    assert {name: first[name] for name in START} == START
    for trial in study.trials:
        assert all(SPACE[name].low <= trial.params[name] <= SPACE[name].high for name in SPACE)


def test_a_new_sampler_on_an_old_study_goes_on_where_the_former_stood() -> None:
    study, sampler = new_study()
    look(study, 13)

    fresh = new_study()[1].recommendation(study)

    assert fresh.setting == pytest.approx(sampler.recommendation(study).setting, abs=1e-9)


def test_failed_trials_are_ignored() -> None:
    study, sampler = new_study()
    look(study, 8)
    study.tell(study.ask(SPACE), state=optuna.trial.TrialState.FAIL)

    assert sampler.recommendation(study).trials == 8


def test_a_trial_without_its_variance_is_refused_by_number() -> None:
    study, sampler = new_study()
    study.tell(study.ask(SPACE), 1.0)

    with pytest.raises(ValueError, match="trial 0 is complete but its user attribute 'variance'"):
        sampler.recommendation(study)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"n": IntDistribution(1, 9)}, "one or more FloatDistribution"),
        ({"x": FloatDistribution(1, 9, log=True)}, "logarithmic"),
        ({"x": FloatDistribution(1, 1)}, "single value"),
    ],
)
def test_a_space_of_another_kind_is_refused(space: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        NoisySampler(space)
