from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from calibration import recollection, rotation
from calibration.chain import Chain
from calibration.observations import Observations
from calibration.parameters import Parameters, TangentPrior
from calibration.posterior import RotationPosterior, fit
from calibration.recollection import FORGOTTEN_RAD, Recollection
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
SPAN_V = np.array([[-5.0] * 4, [5.0] * 4])
DRIFT_RAD, NIGHT_S = 0.002, 8 * 3600.0


def observe(
    truth: Parameters, settings: int, counts: float, rng: np.random.Generator
) -> Observations:
    voltages = rng.uniform(-5, 5, (settings, 4))
    probability = CHAIN.error_probability(truth, voltages)[0].reshape(settings, 4)
    trials = rng.poisson(counts / 4, size=probability.shape)
    errors = rng.binomial(trials, probability)
    return Observations(voltages, trials.astype(float), errors.astype(float), np.zeros(settings))


@pytest.fixture(scope="module")
def truth() -> Parameters:
    return CHAIN.draw(np.random.default_rng(1), 1)


@pytest.fixture(scope="module")
def learnt(truth: Parameters) -> RotationPosterior:
    rng = np.random.default_rng(2)
    return fit(CHAIN, observe(truth, 12, 2000, rng), rng, span=SPAN_V)


@pytest.fixture(scope="module")
def recalled(learnt: RotationPosterior) -> tuple[Chain, ...]:
    return recollection.models(CHAIN, Recollection(learnt, NIGHT_S, DRIFT_RAD))


def test_tangent_vectors_lead_back_to_where_they_came_from(truth: Parameters) -> None:
    tangent = np.random.default_rng(3).normal(size=(5, CHAIN.size))
    moved = CHAIN.step(truth[np.zeros(5, dtype=int)], tangent)

    again = CHAIN.step(truth[np.zeros(5, dtype=int)], CHAIN.away(moved, truth))

    assert np.allclose(again.fibre, moved.fibre)
    assert np.allclose(again.receiver, moved.receiver)
    assert np.allclose(again.errors, moved.errors)


@pytest.mark.parametrize("model", [0, 1])
def test_the_gradient_of_the_belief_is_its_rise(recalled: tuple[Chain, ...], model: int) -> None:
    chain = recalled[model]
    at = chain.draw(np.random.default_rng(4), 3)
    at = replace(at, fibre=rotation.exp(np.array([0.7, -0.4, 1.1])) @ at.fibre)
    _, gradient, _ = chain.log_prior(at)

    for direction in range(chain.size):
        tangent = np.zeros((3, chain.size))
        tangent[:, direction] = 1e-6
        above, below = (chain.log_prior(chain.step(at, by))[0] for by in (tangent, -tangent))
        assert gradient[:, direction] == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-3)


def test_draws_scatter_as_the_belief_says(recalled: tuple[Chain, ...]) -> None:
    prior = recalled[0].prior
    assert isinstance(prior, TangentPrior)

    away = CHAIN.away(recalled[0].draw(np.random.default_rng(5), 2000), prior.reference)

    believed = np.sqrt(np.diagonal(np.linalg.inv(prior.precision)))
    assert away[:, :-1].std(axis=0) == pytest.approx(believed[:-1], rel=0.1)


def test_drift_widens_the_fibre_and_nothing_else_by_its_variance(
    learnt: RotationPosterior,
) -> None:
    still, drifted = (
        np.linalg.inv(Recollection(learnt, NIGHT_S, drift).priors()[0].precision)
        for drift in (0.0, DRIFT_RAD)
    )

    expected = np.zeros_like(still)
    expected[:3, :3] = DRIFT_RAD**2 * NIGHT_S * np.eye(3)
    assert np.allclose(drifted - still, expected, atol=1e-9)


def test_a_fibre_that_has_been_round_may_be_anything(learnt: RotationPosterior) -> None:
    drift_rad = 1.01 * FORGOTTEN_RAD / np.sqrt(NIGHT_S)
    models = recollection.models(CHAIN, Recollection(learnt, NIGHT_S, drift_rad))
    at = models[0].draw(np.random.default_rng(6), 4)
    elsewhere = replace(at, fibre=rotation.random(np.random.default_rng(7), 4))

    assert len(models) == 2
    assert models[0].log_prior(elsewhere)[0] == pytest.approx(models[0].log_prior(at)[0])


def test_without_knowledge_the_belief_is_the_flat_one(learnt: RotationPosterior) -> None:
    size = CHAIN.size
    knows_nothing = TangentPrior(learnt.modes[:1], np.zeros((size, size)))
    flat = CHAIN.with_prior(knows_nothing)
    at = flat.draw(np.random.default_rng(8), 3)

    value, gradient, precision = flat.log_prior(at)

    assert np.all(value == 0)
    assert np.all(gradient == 0)
    assert np.linalg.eigvalsh(precision).max() < 0.05


def test_ranks_of_the_truth_among_samples_are_uniform(recalled: tuple[Chain, ...]) -> None:
    chain, setting = recalled[0], np.array([[0.4, -1.2, 2.2, 0.9]])
    ranks = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        truth = chain.draw(rng, 1)
        found = fit(chain, observe(truth, 2, 200, rng), rng, span=SPAN_V)
        p = chain.error_probability(found.samples(rng, 100), setting).reshape(100, 4)
        ranks.append(np.mean(p < chain.error_probability(truth, setting).ravel(), axis=0))

    counts, _ = np.histogram(np.array(ranks)[:, [0, 3]], bins=4, range=(0, 1))
    statistic = np.sum((counts - counts.mean()) ** 2) / counts.mean()
    assert statistic < chi2.isf(1e-4, 3)


def test_a_belief_that_is_right_is_not_given_up(
    recalled: tuple[Chain, ...], truth: Parameters
) -> None:
    rng = np.random.default_rng(9)
    seen = observe(truth, 4, 400, rng)

    found = fit(recalled[0], seen, rng, span=SPAN_V)

    assert not recollection.is_suspicious(found, seen)


def test_another_receiver_refutes_the_belief(
    recalled: tuple[Chain, ...], truth: Parameters
) -> None:
    rng = np.random.default_rng(10)
    replugged = replace(truth, receiver=rotation.random(rng, 1))
    seen = observe(replugged, 4, 400, rng)

    strict, cold = (fit(recalled[model], seen, rng, span=SPAN_V) for model in (0, -1))

    assert recollection.is_suspicious(strict, seen)
    assert recollection.is_refuted(strict, cold, seen)


def test_an_alignment_that_had_not_made_up_its_mind_is_not_recalled(
    learnt: RotationPosterior,
) -> None:
    torn = replace(
        learnt,
        modes=Parameters.concatenate([learnt.modes[:1]] * 2),
        covariance=np.repeat(learnt.covariance[:1], 2, axis=0),
        weights=np.array([0.6, 0.4]),
    )

    assert Recollection.of_stored(torn.to_dict(), CHAIN, 0.0, 0.0) is None
    assert Recollection.of_stored(learnt.to_dict(), CHAIN, 0.0, 0.0) is not None


def test_what_rests_on_a_recollection_can_be_stored(
    recalled: tuple[Chain, ...], truth: Parameters
) -> None:
    rng = np.random.default_rng(11)
    found = fit(recalled[0], observe(truth, 3, 400, rng), rng, span=SPAN_V)

    again = RotationPosterior.from_dict(found.to_dict())

    assert np.allclose(again.covariance, found.covariance)
    assert again.chain.is_like(CHAIN)
