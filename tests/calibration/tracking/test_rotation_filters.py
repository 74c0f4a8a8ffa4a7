import json

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import rotation
from calibration.tracking.rotation_filters import FILTERS, RotationFilters

Array = NDArray[np.float64]

FLOOR = 0.005
DITHERS = [np.array([s * 0.08, t * 0.08, 0]) for s in (1, -1) for t in (1, -1)]


def make_bank(drift_rad: float = 0.01, sigma: float = 0.05) -> RotationFilters:
    return RotationFilters.around(drift_rad, np.eye(3), sigma**2 * np.eye(3), FLOOR, 1e4)


def expected_counts(fibre: Array, behind: Array, per_binomial: float, floor: float) -> Array:
    block = (behind @ fibre)[:2, :2].ravel()
    counts: Array = per_binomial * 0.5 * (1 - (1 - 2 * floor) * block)
    return counts


def follow(
    bank: RotationFilters, fibre: Array, windows: int, *, drift_rad: float = 0.0, seed: int = 1
) -> Array:
    """Let a bank watch a fibre through alternating dithers, one window a second."""
    rng = np.random.default_rng(seed)
    for window in range(windows):
        fibre = rotation.exp(drift_rad * rng.normal(size=3)) @ fibre
        estimate, _ = bank.mixture()
        behind = rotation.exp(DITHERS[window % 4]) @ estimate.T
        trials = np.full(4, 2000.0)
        share = expected_counts(fibre, behind, 1.0, FLOOR)
        errors = rng.binomial(2000, share).astype(float)
        bank.predict(1.0)
        bank.update(behind, trials, errors)
    return fibre


def test_a_fibre_at_rest_is_found() -> None:
    bank = make_bank(drift_rad=1e-4)
    fibre = rotation.exp(np.array([0.06, -0.04, 0.05]))

    follow(bank, fibre, 300)

    estimate, covariance = bank.mixture()
    missed = rotation.log(fibre @ estimate.T)
    assert np.linalg.norm(missed) < 0.02
    assert np.trace(covariance) < 3 * 0.05**2 / 10


@pytest.mark.parametrize("guess", [0.003, 0.03])
def test_the_drift_is_learnt_from_the_counts(guess: float) -> None:
    bank = make_bank(drift_rad=guess)

    follow(bank, np.eye(3), 500, drift_rad=0.01)

    assert 0.006 < np.sqrt(bank.drift_variance) < 0.017


def test_a_drift_far_off_the_guess_is_still_learnt() -> None:
    bank = make_bank(drift_rad=2e-4)

    follow(bank, np.eye(3), 1000, drift_rad=0.01)

    assert 0.005 < np.sqrt(bank.drift_variance) < 0.02


def test_errors_scatter_as_far_as_the_covariance_says() -> None:
    scores = []
    for seed in range(20):
        bank = make_bank(drift_rad=0.01)
        fibre = follow(bank, np.eye(3), 40, drift_rad=0.01, seed=seed)
        estimate, covariance = bank.mixture()
        missed = rotation.log(fibre @ estimate.T)
        scores.append(missed @ np.linalg.solve(covariance, missed) / 3)

    assert 0.5 < np.mean(scores) < 1.7


def test_waiting_widens_every_filter_by_its_own_drift() -> None:
    bank = make_bank()
    before = bank.covariance.copy()

    bank.predict(4.0, other_variance=1e-4)

    grown = (bank.covariance - before)[:3].mean(axis=0)
    assert grown == pytest.approx(4 * bank.drift_rad**2 + 1e-4)


def test_the_floor_is_learnt_where_it_is_higher_than_thought() -> None:
    bank = make_bank(drift_rad=1e-4, sigma=1e-3)
    rng = np.random.default_rng(4)
    for _ in range(400):
        errors = rng.poisson(expected_counts(np.eye(3), np.eye(3), 2000, 0.008)).astype(float)
        bank.update(np.eye(3), np.full(4, 2000.0), errors)

    assert float(bank.weights @ bank.floor) == pytest.approx(0.008, rel=0.05)


def test_more_information_than_was_known_is_taken_in_without_overshooting() -> None:
    bank = make_bank(drift_rad=1e-3, sigma=0.3)
    fibre = rotation.exp(np.array([0.25, -0.3, 0.2]))
    for window in range(8):
        behind = rotation.exp(3 * DITHERS[window % 4])
        trials = np.full(4, 1e6)
        counts = expected_counts(fibre, behind, 1e6, FLOOR)
        bank.update(behind, trials, counts, learns_floor=False)

    estimate, _ = bank.mixture()
    assert np.linalg.norm(rotation.log(fibre @ estimate.T)) < 0.02


def test_one_burst_of_errors_does_not_carry_the_bank_away() -> None:
    bank = make_bank()
    follow(bank, np.eye(3), 100, drift_rad=0.002)
    before, covariance = bank.mixture()

    bank.update(rotation.exp(DITHERS[0]) @ before.T, np.full(4, 2000.0), np.full(4, 1000.0))

    after, _ = bank.mixture()
    moved = np.linalg.norm(rotation.log(after @ before.T))
    assert moved < 6 * np.sqrt(np.trace(covariance))


def test_only_mismatched_counts_are_of_use_too() -> None:
    bank = make_bank(drift_rad=1e-4)
    fibre = rotation.exp(np.array([0, 0, 0.05]))
    trials = np.array([0.0, 5000, 5000, 0])
    for _ in range(50):
        errors = expected_counts(fibre, np.eye(3), 5000, FLOOR) * (trials > 0)
        bank.update(np.eye(3), trials, errors)

    estimate, _ = bank.mixture()
    assert rotation.log(estimate)[2] == pytest.approx(0.05, abs=0.005)


def test_a_bank_survives_storage() -> None:
    bank = make_bank()
    follow(bank, np.eye(3), 20, drift_rad=0.01)

    restored = RotationFilters.from_dict(json.loads(json.dumps(bank.to_dict())))

    assert restored.to_dict() == bank.to_dict()
    assert len(restored.drift_rad) == FILTERS
