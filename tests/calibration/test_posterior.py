import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration import design
from calibration.observations import Observations
from calibration.parameters import Parameters
from calibration.posterior import (
    MISFIT_RATIO,
    RotationPosterior,
    fit,
    log_posterior,
)
from calibration.retarders import RetarderChain, prior_of_widths

CHAIN = RetarderChain.nominal(2.5)
SPAN_V = np.array([[-5.0] * 4, [5.0] * 4])


def observe(
    truth: Parameters, settings: int, counts: float, rng: np.random.Generator
) -> Observations:
    voltages = rng.uniform(-5, 5, (settings, 4))
    probability = CHAIN.error_probability(truth, voltages)[0].reshape(-1, 4)
    trials = rng.poisson(counts / 4, size=probability.shape)
    return Observations(
        drives=voltages,
        trials=trials.astype(float),
        errors=rng.binomial(trials, probability).astype(float),
        age_s=np.zeros(settings),
    )


@pytest.fixture(scope="module")
def truth() -> Parameters:
    return CHAIN.draw(np.random.default_rng(5), 1)


@pytest.fixture(scope="module")
def learnt(truth: Parameters) -> RotationPosterior:
    seen = observe(truth, 12, 2000, np.random.default_rng(6))
    return fit(CHAIN, seen, np.random.default_rng(7), span=SPAN_V)


def test_enough_counts_leave_one_mode_that_predicts_fresh_settings(
    learnt: RotationPosterior, truth: Parameters
) -> None:
    fresh = np.random.default_rng(8).uniform(-5, 5, (50, 4))

    predicted = CHAIN.error_probability(learnt.modes[:1], fresh)

    assert len(learnt.weights) == 1
    assert np.abs(predicted - CHAIN.error_probability(truth, fresh)).max() < 0.05
    assert learnt.chi2_per_dof < MISFIT_RATIO


def test_the_mode_explains_the_counts_at_least_as_well_as_the_truth(
    learnt: RotationPosterior, truth: Parameters
) -> None:
    assert learnt.seen is not None
    best = log_posterior(CHAIN, learnt.seen, learnt.modes[:1])[0]

    assert best >= log_posterior(CHAIN, learnt.seen, truth)[0] - 1e-3


def test_samples_scatter_about_the_truth_as_far_as_they_claim(truth: Parameters) -> None:
    setting = np.array([[0.3, -1.0, 2.0, 0.7]])
    true_p = CHAIN.error_probability(truth, setting).ravel()
    scores = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        learnt = fit(CHAIN, observe(truth, 10, 1000, rng), rng, span=SPAN_V)
        p = CHAIN.error_probability(learnt.samples(rng, 200), setting).reshape(200, 4)
        scores.append((true_p - p.mean(axis=0)) / p.std(axis=0))

    assert 0.4 < np.sqrt(np.mean(np.square(scores))) < 1.8


def test_few_counts_leave_several_modes(truth: Parameters) -> None:
    rng = np.random.default_rng(9)

    learnt = fit(CHAIN, observe(truth, 3, 100, rng), rng, span=SPAN_V)

    assert len(learnt.weights) > 1
    assert learnt.weights.sum() == pytest.approx(1)
    assert np.all(np.diff(learnt.weights) <= 0)


def test_the_same_generator_gives_the_same_posterior(truth: Parameters) -> None:
    seen = observe(truth, 5, 300, np.random.default_rng(10))

    once, again = (fit(CHAIN, seen, np.random.default_rng(1), span=SPAN_V) for _ in range(2))

    assert json.dumps(once.to_dict()) == json.dumps(again.to_dict())


def test_counts_that_no_setting_explains_are_trusted_less(truth: Parameters) -> None:
    rng = np.random.default_rng(11)
    seen = observe(truth, 12, 20_000, rng)
    elsewhere = seen.drives + rng.normal(0, 0.2, seen.drives.shape)
    wrong = Observations(elsewhere, seen.trials, seen.errors, seen.age_s)

    learnt = fit(CHAIN, wrong, rng, span=SPAN_V, reference=np.zeros(4))

    assert learnt.chi2_per_dof > 4
    assert learnt.misfit > 0
    assert learnt.seen is not None
    assert learnt.seen.trials.sum() < seen.trials.sum() / 2


def test_counts_that_scatter_more_than_binomially_weigh_less(truth: Parameters) -> None:
    rng = np.random.default_rng(3)
    seen = observe(truth, 12, 4000, rng)
    scatter = 0.3 * rng.normal(size=seen.errors.shape) * np.sqrt(seen.trials) / 2
    errors = np.clip(np.round(seen.errors + scatter), 0, seen.trials)
    scattered = Observations(seen.drives, seen.trials, errors, seen.age_s)

    learnt = fit(CHAIN, scattered, rng, span=SPAN_V, reference=np.zeros(4))

    assert 1.2 < learnt.chi2_per_dof < MISFIT_RATIO  # not so much that settings are distrusted
    assert learnt.seen is not None
    share = learnt.seen.trials.sum() / seen.trials.sum()
    assert share == pytest.approx(1 / learnt.chi2_per_dof)


def test_old_counts_weigh_less_under_drift(truth: Parameters) -> None:
    rng = np.random.default_rng(12)
    seen = observe(truth, 6, 5000, rng)
    aged = Observations(seen.drives, seen.trials, seen.errors, np.linspace(10, 0, 6))

    learnt = fit(CHAIN, aged, rng, span=SPAN_V, drift_rad=0.05)

    assert learnt.seen is not None
    share = learnt.seen.trials.sum(axis=1) / seen.trials.sum(axis=1)
    assert np.all(np.diff(share) > 0)
    assert share[-1] == pytest.approx(share.max())


@given(st.floats(0, 1), st.integers(1, 10**6), st.floats(0, 1))
def test_weakening_scales_counts_and_errors_alike(tilt: float, trials: int, qber: float) -> None:
    counts: NDArray[np.float64] = np.full((1, 4), float(trials))
    seen = Observations(np.zeros((1, 4)), counts, np.round(counts * qber), np.zeros(1))

    weak = seen.weakened(np.array([tilt]))

    assert np.all((weak.trials > 0) & (weak.trials <= seen.trials))
    assert np.allclose(weak.errors / weak.trials, seen.errors / seen.trials)


def test_settings_without_mismatched_counts_are_enough(truth: Parameters) -> None:
    rng = np.random.default_rng(13)
    seen = observe(truth, 20, 4000, rng)
    matched = np.array([1, 0, 0, 1])
    errors_only = Observations(
        seen.drives, seen.trials * matched, seen.errors * matched, seen.age_s
    )

    learnt = fit(CHAIN, errors_only, rng, span=SPAN_V)

    fresh = rng.uniform(-5, 5, (20, 4))
    off = CHAIN.excess(learnt.modes[:1], fresh) - CHAIN.excess(truth, fresh)
    assert np.abs(off).max() < 0.1


def test_a_posterior_survives_storage(learnt: RotationPosterior) -> None:
    restored = RotationPosterior.from_dict(json.loads(json.dumps(learnt.to_dict())))

    assert restored.to_dict() == learnt.to_dict()
    assert len(restored.samples(np.random.default_rng(1), 10)) == 10


def test_what_was_learnt_of_the_controller_becomes_a_narrower_prior(
    learnt: RotationPosterior,
) -> None:
    prior = learnt.controller_prior()

    assert np.all(prior.precision >= CHAIN.prior.precision / 1.5**2)
    assert prior.precision[:4].min() > CHAIN.prior.precision[0]


@pytest.mark.parametrize("missing", ["chain", "parameters", "covariance", "weights", "misfit"])
def test_an_incomplete_stored_posterior_is_refused(learnt: RotationPosterior, missing: str) -> None:
    stored = learnt.to_dict()
    del stored[missing]

    with pytest.raises(KeyError, match=missing):
        RotationPosterior.from_dict(stored)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stored: stored.update(weights=["most of it"]),
        lambda stored: stored.update(photons="many"),
        lambda stored: stored["parameters"].update(errors=[[0.0, 0.0], [0.0]]),
        lambda stored: stored["chain"].update(half_wave_v=[2.5, 2.5, 2.5, 0.0]),
        lambda stored: stored["chain"].update(centre_v=[0.0]),
        lambda stored: stored["chain"].pop("centre_v"),
        lambda stored: stored["chain"].update(prior_mean=[0.0]),
        lambda stored: stored["parameters"].update(errors=[[0.0, 0.0, 0.0]]),
        lambda stored: stored["chain"].update(kind="prisms"),
        lambda stored: stored["chain"].pop("kind"),
        lambda stored: stored.update(chain=None),
        lambda stored: stored.update(covariance=[[[1.0]]]),
        lambda stored: stored.update(weights=[float("nan")]),
    ],
    ids=[
        *("text", "photons", "ragged", "no-half-wave", "another-number-of-channels"),
        *(
            "no-centre",
            "prior",
            "shape",
            "unknown-kind",
            "no-kind",
            "no-chain",
            "covariance",
            "weights",
        ),
    ],
)
def test_a_malformed_stored_posterior_is_refused(
    learnt: RotationPosterior, spoil: Callable[[dict[str, Any]], None]
) -> None:
    stored = json.loads(json.dumps(learnt.to_dict()))
    spoil(stored)

    with pytest.raises(ValueError):
        RotationPosterior.from_dict(stored)


def test_the_mirror_solution_aligns_as_well(learnt: RotationPosterior, truth: Parameters) -> None:
    mirror, half_turn = np.diag([1.0, 1, -1]), np.diag([-1.0, -1, 1])
    mode = learnt.modes[:1]
    mirrored = Parameters(
        fibre=half_turn @ mirror @ mode.fibre @ mirror,
        receiver=mirror @ mode.receiver @ mirror @ half_turn,
        errors=mode.errors,
        log_floor=mode.log_floor,
    )
    certain = RotationPosterior(CHAIN, mirrored, 1e-8 * np.eye(CHAIN.size)[None], np.ones(1))

    best = design.recommend(certain, np.random.default_rng(14), SPAN_V)

    assert CHAIN.excess(truth, best.setting[None])[0, 0] < 0.002


@pytest.mark.parametrize("floor_log_sigma", [0.6, 5.0])
@pytest.mark.parametrize(
    ("trials", "errors"), [(0, 0), (1, 1), (25, 0), (25, 25), (4, 2), (1e12, 0), (1e12, 5e11)]
)
def test_no_table_is_too_extreme(trials: float, errors: float, floor_log_sigma: float) -> None:
    rng = np.random.default_rng(15)
    chain = CHAIN.with_prior(prior_of_widths(4, floor_log_sigma=floor_log_sigma))
    table = np.ones((4, 4))
    seen = Observations(rng.uniform(-5, 5, (4, 4)), trials * table, errors * table, np.zeros(4))

    learnt = fit(chain, seen, rng, span=SPAN_V, reference=np.zeros(4))

    predicted = chain.error_probability(learnt.samples(rng, 400), seen.drives)
    assert np.all((predicted > 0) & (predicted < 1))
    assert learnt.weights.sum() == pytest.approx(1)
    assert np.isfinite(learnt.chi2_per_dof)


def test_without_any_count_only_the_prior_speaks() -> None:
    rng = np.random.default_rng(16)
    nothing = np.zeros((2, 4))
    seen = Observations(rng.uniform(-5, 5, (2, 4)), nothing, nothing, np.zeros(2))

    learnt = fit(CHAIN, seen, rng, span=SPAN_V)

    known = CHAIN.prior.precision > 0
    believed = learnt.controller_prior(widening=1.0).precision[known]
    assert believed == pytest.approx(CHAIN.prior.precision[known])
    assert learnt.photons == 0
