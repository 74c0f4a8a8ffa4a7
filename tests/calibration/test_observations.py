from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from calibration import rotation
from calibration.observations import POOLED, XX, ZZ, Observations, readings
from calibration.parameters import Parameters
from calibration.posterior import log_posterior
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
POOLED_ONLY, Z_AND_X = [POOLED], [ZZ, XX]


def observe(rows: list[int] | slice, *, z_share: float = 0.5) -> Observations:
    """Draw counts of seven settings, a different number in each."""
    rng = np.random.default_rng(1)
    reading = readings(z_share)[rows]
    trials = rng.integers(1, 60, (7, len(reading)))
    return Observations(
        drives=rng.uniform(-5, 5, (7, 4)),
        trials=trials.astype(float),
        errors=rng.binomial(trials, 0.3).astype(float),
        age_s=np.arange(7.0)[::-1],
        reading=reading,
    )


def parameters(count: int) -> Parameters:
    return CHAIN.draw(np.random.default_rng(2), count)


def pairs_by_hand(at: Parameters, drives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ``p_ab`` of one member at every setting, shape ``(M, 2, 2)``."""
    whole = CHAIN.rotation(at, drives)[0]
    return np.array([[[0.5 * (1 - at.visibility[0] * r[a, b]) for b in (0, 1)] for a in (0, 1)]
                     for r in whole])  # fmt: skip


@pytest.mark.parametrize("rows", [slice(None), slice(4), Z_AND_X, POOLED_ONLY])
def test_the_likelihood_is_that_of_binomials(rows: list[int] | slice) -> None:
    seen, at = observe(rows, z_share=0.7), parameters(3)

    found = log_posterior(CHAIN, seen, at) - CHAIN.log_prior(at)[0]

    expected = []
    for member in range(3):
        p = pairs_by_hand(at[member : member + 1], seen.drives)
        pooled = 0.7 * p[:, 0, 0] + 0.3 * p[:, 1, 1]
        every = np.column_stack([p.reshape(-1, 4), pooled])[:, rows]
        expected.append(binom(seen.trials, every).logpmf(seen.errors).sum())
    assert np.diff(found) == pytest.approx(np.diff(expected))


@pytest.mark.parametrize("rows", [slice(None), Z_AND_X, POOLED_ONLY])
def test_derivatives_agree_with_difference_quotients(rows: list[int] | slice) -> None:
    seen, at, step = observe(rows, z_share=0.6), parameters(1), 1e-6

    _, slope = seen.linearise(CHAIN, at)

    for direction, tangent in enumerate(step * np.eye(CHAIN.size)):
        ahead = seen.error_probability(CHAIN, CHAIN.step(at, tangent[None]))
        behind = seen.error_probability(CHAIN, CHAIN.step(at, -tangent[None]))
        quotient = (ahead - behind) / (2 * step)
        assert slope[:, :, direction] == pytest.approx(quotient, abs=1e-8)


def test_both_predictions_agree() -> None:
    seen, at = observe(slice(None)), parameters(3)

    probability, _ = seen.linearise(CHAIN, at)

    assert probability == pytest.approx(seen.error_probability(CHAIN, at))


@pytest.mark.parametrize(
    ("rows", "z_share", "hides"),
    [
        (POOLED_ONLY, 0.5, True),
        (POOLED_ONLY, 0.9, False),
        (Z_AND_X, 0.5, False),
        (slice(4), 0.5, False),
    ],
)
def test_only_a_pooled_qber_hides_a_turn_about_s3(
    rows: list[int] | slice, z_share: float, hides: bool
) -> None:
    seen, at = observe(rows, z_share=z_share), parameters(1)
    turn = rotation.exp(np.array([0.0, 0.0, 0.8]))
    turned = replace(at, fibre=at.fibre @ turn.T, receiver=turn @ at.receiver)

    change = seen.error_probability(CHAIN, turned) - seen.error_probability(CHAIN, at)

    assert seen.hides_turns is hides
    assert bool(np.abs(change).max() < 1e-12) is hides


def test_detections_that_are_not_told_count_as_cost() -> None:
    told = observe(POOLED_ONLY)

    seen = replace(told, photons=2 * told.trials.sum(axis=1))

    assert seen.cost == 2 * told.cost
    assert seen.shares == pytest.approx(0.5)


def test_the_first_settings_are_dated_from_the_last_of_them() -> None:
    assert observe(Z_AND_X).part(slice(3)).age_s.tolist() == [2, 1, 0]


def test_counts_that_do_not_fit_the_reading_are_refused() -> None:
    seen = observe(Z_AND_X)

    with pytest.raises(ValueError, match=r"counts of shape \(7, 2\), expected \(7, 4\)"):
        replace(seen, reading=np.eye(4))
