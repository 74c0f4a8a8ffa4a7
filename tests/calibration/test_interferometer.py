from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.interferometer import Encoding, Interferometer, Phases, wrapped

ENCODINGS: tuple[Encoding, ...] = ("time-bin", "four-phase")
DRIVES = np.array([3.0, 30.0, 41.0, 70.0])


def model(encoding: Encoding = "four-phase") -> Interferometer:
    return Interferometer(encoding, half_wave=12.0, centre=37.5)


def some(count: int = 5, seed: int = 0) -> Phases:
    rng = np.random.default_rng(seed)
    return Phases(
        phase=rng.uniform(-np.pi, np.pi, count),
        scale=rng.normal(0, 0.1, count),
        log_floor=rng.normal(np.log(0.01), 0.5, count),
        sign=np.where(np.arange(count) % 2, -1.0, 1.0),
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_slopes_are_those_of_finite_differences(encoding: Encoding) -> None:
    at, step = some(), 1e-6
    _, slope = model(encoding).linearise(at, DRIVES)

    for parameter in range(3):
        by = np.zeros((len(at), 3))
        by[:, parameter] = step
        above = model(encoding).error_probability(model(encoding).step(at, by), DRIVES)
        below = model(encoding).error_probability(model(encoding).step(at, -by), DRIVES)
        assert slope[..., parameter] == pytest.approx((above - below) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_pull_of_the_prior_is_its_gradient(encoding: Encoding) -> None:
    at, step = some(), 1e-6
    _, pull, _ = model(encoding).log_prior(at)

    for parameter in range(3):
        by = np.zeros((len(at), 3))
        by[:, parameter] = step
        above, *_ = model(encoding).log_prior(model(encoding).step(at, by))
        below, *_ = model(encoding).log_prior(model(encoding).step(at, -by))
        assert pull[:, parameter] == pytest.approx((above - below) / (2 * step), abs=1e-4)


def test_the_four_binomials_are_those_of_a_rotated_bloch_vector() -> None:
    at, drives = some(1), np.array([44.0])
    (theta,) = model().theta(at, drives)[0]
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])

    found = model().error_probability(at, drives)[0, 0].reshape(2, 2)

    assert found == pytest.approx(0.5 * (1 - at.visibility[0] * turn))


def test_time_bins_see_the_phase_in_the_errors_of_basis_x_alone() -> None:
    at = some()
    found = model("time-bin").error_probability(at, DRIVES)
    assert found.shape == (5, 4, 1)
    assert found[..., 0] == pytest.approx(model().error_probability(at, DRIVES)[..., 3])


@pytest.mark.parametrize(("encoding", "share"), [("time-bin", 0.5), ("four-phase", 1.0)])
def test_a_small_phase_costs_a_quarter_of_its_square_in_the_bases_that_see_it(
    encoding: Encoding, share: float
) -> None:
    at = Phases(np.array([0.02]), np.zeros(1), np.log(np.array([0.01])), np.ones(1))
    expected = share * 0.98 * 0.02**2 / 4
    assert model(encoding).excess(at, np.array([37.5]))[0, 0] == pytest.approx(expected, rel=1e-3)


def test_a_drive_that_is_asked_for_a_phase_has_it() -> None:
    at, theta = some(), np.array([0.0, 1.0, -1.0, 2.0, 7.0])
    drives = model().drive_at(at, theta)
    assert np.diagonal(model().theta(at, drives)) == pytest.approx(theta)


@pytest.mark.parametrize(
    ("phase", "expected"), [(0.1, 0.1), (3.5, 3.5 - 2 * np.pi), (-7.0, -0.717)]
)
def test_a_wrapped_phase_lies_within_half_a_turn(phase: float, expected: float) -> None:
    assert float(wrapped(np.array(phase))) == pytest.approx(expected, abs=1e-3)


def test_a_stored_model_is_restored() -> None:
    original = replace(model("time-bin"), scale=0.03, sign=-1)
    assert Interferometer.from_dict(original.to_dict()) == original


@pytest.mark.parametrize(
    "wrong",
    [{"half_wave": 0.0}, {"floor": 0.5}, {"sign": 2}, {"scale_sigma": 0.0}, {"encoding": "cow"}],
)
def test_an_impossible_model_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"positive|floor|sign|encoding"):
        replace(model(), **wrong)
