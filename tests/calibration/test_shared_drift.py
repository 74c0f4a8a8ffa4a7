import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import rotation
from calibration.observations import Observations
from calibration.parameters import Parameters
from calibration.posterior import fit
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
SPAN_V = np.array([[-5.0] * 4, [5.0] * 4])
DRIFT_RAD = 0.03


def observe(
    now: Parameters, age_s: NDArray[np.float64], counts: float, rng: np.random.Generator
) -> Observations:
    """Count at settings in turn, oldest first, while the fibre walks to where it is now."""
    drives = rng.uniform(-5, 5, (len(age_s), 4))
    trials = np.full((len(age_s), 4), counts / 4)
    errors, fibre, then_s = np.empty_like(trials), now.fibre, 0.0
    for number in reversed(range(len(age_s))):
        step_rad = DRIFT_RAD * np.sqrt(age_s[number] - then_s) * rng.normal(size=(1, 3))
        fibre, then_s = rotation.exp(step_rad) @ fibre, age_s[number]
        then = Parameters(fibre, now.receiver, now.errors, now.log_floor)
        probability = CHAIN.error_probability(then, drives[number : number + 1])
        errors[number] = rng.binomial(trials[number].astype(int), probability.ravel())
    return Observations(drives, trials, errors, age_s)


@pytest.fixture(scope="module")
def now() -> Parameters:
    return CHAIN.draw(np.random.default_rng(5), 1)


def test_counts_all_of_one_age_leave_the_fibre_as_unknown_as_it_has_walked(
    now: Parameters,
) -> None:
    rng = np.random.default_rng(1)
    seen = observe(now, np.full(10, 4.0), 20_000, rng)

    learnt = fit(CHAIN, seen, rng, span=SPAN_V, drift_rad=DRIFT_RAD)

    variance = np.diagonal(learnt.covariance[0])[:3]
    assert variance == pytest.approx(np.full(3, DRIFT_RAD**2 * 4), rel=0.3)


def test_samples_scatter_about_a_drifting_fibre_as_far_as_they_claim(now: Parameters) -> None:
    setting = np.array([[0.3, -1.0, 2.0, 0.7]])
    true_p = CHAIN.error_probability(now, setting).ravel()
    scores = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        seen = observe(now, np.linspace(11, 2, 10), 20_000, rng)
        learnt = fit(CHAIN, seen, rng, span=SPAN_V, drift_rad=DRIFT_RAD)
        p = CHAIN.error_probability(learnt.samples(rng, 200), setting).reshape(200, 4)
        scores.append((true_p - p.mean(axis=0)) / p.std(axis=0))

    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.3
