from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import rotation
from calibration.design import (
    EXCESS_PER_SQUARE_ANGLE,
    expected_gain,
    first_setting,
    next_setting,
    recommend,
)
from calibration.inversion import EVERY, Inverted, half_turn
from calibration.posterior import RotationPosterior
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
SPAN_V = np.array([[-5.0] * 4, [5.0] * 4])
COUNTS = np.full(4, 25.0)


def posterior(sigma: float, seed: int = 1) -> RotationPosterior:
    return RotationPosterior(
        chain=CHAIN,
        modes=CHAIN.draw(np.random.default_rng(seed), 1),
        covariance=np.eye(CHAIN.size)[None] * sigma**2,
        weights=np.ones(1),
    )


def samples(seed: int, count: int = 400) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).normal(size=(count, 3))


def test_a_well_known_fibre_is_aligned_by_the_recommendation() -> None:
    best = recommend(posterior(1e-4), np.random.default_rng(2), SPAN_V)

    assert best.excess.mean() < 1e-6
    assert np.all(np.abs(best.setting) <= 5)


def test_the_former_recommendation_competes() -> None:
    known = posterior(0.02)
    former = recommend(known, np.random.default_rng(3), SPAN_V)

    best = recommend(known, np.random.default_rng(3), SPAN_V, former.setting)

    expected = CHAIN.excess(best.samples, np.array([best.setting, former.setting]))
    assert expected[:, 0].mean() <= expected[:, 1].mean()


def test_an_uncertain_fibre_makes_the_claim_wider() -> None:
    narrow, wide = (
        np.quantile(recommend(posterior(s), np.random.default_rng(4), SPAN_V).excess, 0.9)
        for s in (0.01, 0.1)
    )

    assert narrow < wide


def test_no_small_step_from_the_recommendation_is_better_for_all_samples_together() -> None:
    best = recommend(posterior(0.1), np.random.default_rng(15), SPAN_V)
    around = best.setting + np.concatenate([0.05 * np.eye(4), -0.05 * np.eye(4)])

    expected = CHAIN.excess(best.samples, np.concatenate([best.setting[None], around])).mean(axis=0)

    assert expected[0] < 1.02 * expected[1:].min()


def test_no_gain_is_expected_where_nothing_depends_on_the_angles() -> None:
    remaining = samples(5)
    blind = np.full((1, len(remaining), 4), 0.3)

    assert expected_gain(remaining, blind, np.full(4, 1e6)) == pytest.approx(0)


def test_counting_all_angles_without_noise_would_remove_the_whole_excess() -> None:
    remaining = samples(6)
    seen = np.full((1, len(remaining), 4), 0.5)
    seen[0, :, :3] += 0.5 * remaining

    gain = expected_gain(remaining, seen, np.full(4, 1e12))

    whole = remaining.var(axis=0) @ EXCESS_PER_SQUARE_ANGLE
    assert gain[0] == pytest.approx(whole, rel=1e-6)


def test_more_counts_promise_more() -> None:
    remaining = samples(7)
    seen = 0.5 + 0.5 * remaining[None, :, [0, 1, 2, 0]]

    gains = [expected_gain(remaining, seen, np.full(4, n))[0] for n in (10.0, 100.0, 1000.0)]

    assert gains == sorted(gains)
    assert gains[0] > 0


def test_what_is_not_counted_promises_nothing() -> None:
    remaining = samples(8)
    seen = 0.5 + 0.5 * remaining[None, :, [0, 1, 2, 0]]

    assert expected_gain(remaining, seen, np.zeros(4))[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("inverted", [("Z",), ("X",), ("Z", "X")])
def test_bits_are_inverted_where_limits_leave_nothing_better(inverted: Inverted) -> None:
    span, middle = 0.1 * SPAN_V, np.zeros((1, 4))
    known = posterior(1e-4)
    there = half_turn(inverted) @ CHAIN.rotation(known.modes, middle)[0, 0].T
    known = replace(known, modes=replace(known.modes, receiver=there @ known.modes.receiver))

    stubborn = recommend(known, np.random.default_rng(3), span)
    best = recommend(known, np.random.default_rng(3), span, targets=EVERY)

    assert stubborn.excess.mean() > 0.1
    assert best.inverted == best.aim_inverted == inverted
    assert best.excess.mean() < 1e-6
    assert best.reachable < 1e-6


def test_no_setting_is_worse_for_being_allowed_to_invert() -> None:
    known = posterior(0.02)
    former = recommend(known, np.random.default_rng(3), SPAN_V)

    best = recommend(known, np.random.default_rng(3), SPAN_V, former.setting, EVERY)

    assert best.excess.mean() <= 1.02 * former.excess.mean()


def test_the_next_setting_lies_within_the_limits() -> None:
    known = posterior(0.3)
    best = recommend(known, np.random.default_rng(9), SPAN_V)

    setting = next_setting(known, best, np.random.default_rng(10), SPAN_V, COUNTS)

    assert setting.shape == (4,)
    assert np.all(np.abs(setting) <= 5)


def test_the_next_setting_promises_more_than_staying() -> None:
    known = posterior(0.05)
    best = recommend(known, np.random.default_rng(11), SPAN_V)
    setting = next_setting(known, best, np.random.default_rng(12), SPAN_V, COUNTS)

    both = np.array([setting, best.setting])
    predicted = CHAIN.error_probability(best.samples, both)
    predicted = np.swapaxes(predicted.reshape(len(best.samples), 2, 4), 0, 1)
    left = CHAIN.rotation(best.samples, best.setting[None])[:, 0]
    angles = np.stack([left[:, 2, 1], left[:, 0, 2], left[:, 1, 0]], axis=-1)
    chosen, stay = expected_gain(angles, predicted, COUNTS)
    assert chosen > stay


def test_hardly_any_setting_promises_more_than_the_next() -> None:
    known = posterior(0.05)
    best = recommend(known, np.random.default_rng(16), SPAN_V)
    setting = next_setting(known, best, np.random.default_rng(17), SPAN_V, COUNTS)
    anywhere = np.random.default_rng(18).uniform(-5, 5, (500, 4))
    predicted = CHAIN.error_probability(best.samples, np.concatenate([setting[None], anywhere]))
    predicted = np.swapaxes(predicted.reshape(len(best.samples), -1, 4), 0, 1)
    remaining = rotation.log(CHAIN.rotation(best.samples, best.aim[None])[:, 0])

    gain = expected_gain(remaining, predicted, COUNTS.ravel())

    assert np.mean(gain[1:] > gain[0]) < 0.01


def test_the_second_setting_is_worth_more_than_a_random_one() -> None:
    middle, rng = np.zeros((1, 4)), np.random.default_rng(19)
    setting = first_setting(CHAIN, middle, rng, SPAN_V, COUNTS.ravel())
    draws = CHAIN.draw(np.random.default_rng(20), 200)
    prior = CHAIN.log_prior(draws)[2]

    def worth(second: NDArray[np.float64]) -> float:
        p, slope = CHAIN.linearise(draws, np.concatenate([middle, second[None]]))
        weighted = slope * (COUNTS.ravel() / (p * (1 - p)))[..., None, :]
        information = (weighted @ np.swapaxes(slope, -1, -2)).sum(axis=1)
        return float(np.linalg.slogdet(prior + information)[1].mean())

    others = [worth(rng.uniform(-5, 5, 4)) for _ in range(50)]
    assert worth(setting) > np.quantile(others, 0.8)


def test_a_first_setting_needs_none_before_it() -> None:
    setting = first_setting(
        CHAIN, np.empty((0, 4)), np.random.default_rng(21), SPAN_V, COUNTS.ravel()
    )

    assert setting.shape == (4,)
    assert np.all(np.abs(setting) <= 5)


@pytest.mark.parametrize("counts", [1.0, 100.0, 1e6])
def test_no_measurement_promises_more_than_all_there_is(counts: float) -> None:
    known = posterior(0.1)
    best = recommend(known, np.random.default_rng(13), SPAN_V)
    voltages = np.random.default_rng(14).uniform(-5, 5, (40, 4))
    predicted = CHAIN.error_probability(best.samples, voltages)
    predicted = np.swapaxes(predicted.reshape(len(best.samples), 40, 4), 0, 1)
    remaining = rotation.log(CHAIN.rotation(best.samples, best.setting[None])[:, 0])

    gain = expected_gain(remaining, predicted, np.full(4, counts))

    assert np.all(gain > 0)
    assert np.all(gain < remaining.var(axis=0) @ EXCESS_PER_SQUARE_ANGLE)
