from dataclasses import replace

import numpy as np
import pytest

from calibration.interferometer import Interferometer, Phases
from calibration.phase_design import expected_gain, nearest_zero, recommend, with_headroom
from calibration.phase_posterior import PhasePosterior

SPAN = (0.0, 75.0)
MODEL = Interferometer("four-phase", half_wave=12.0, centre=37.5, sign=1)


def known(phase: float, sigma_rad: float = 0.01, sigma_scale: float = 0.01) -> PhasePosterior:
    mode = Phases(np.array([phase]), np.zeros(1), np.log(np.array([0.01])), np.ones(1))
    covariance = np.diag([sigma_rad**2, sigma_scale**2, 1e-4])[None]
    return PhasePosterior(MODEL, mode, covariance, np.ones(1))


@pytest.mark.parametrize("phase", [-3.0, -1.0, 0.0, 1.0, 3.0])
def test_of_all_drives_in_phase_the_one_nearest_to_the_middle_is_recommended(phase: float) -> None:
    best = recommend(known(phase), np.random.default_rng(0), SPAN)

    assert best.drive == pytest.approx(37.5 - 12 * phase / np.pi, abs=0.2)
    assert abs(best.drive - 37.5) <= 12.2


def test_a_falling_phase_is_wrapped_the_other_way() -> None:
    rising = known(1.0)
    falling = replace(rising, modes=replace(rising.modes, sign=-np.ones(1)))
    best = recommend(falling, np.random.default_rng(0), SPAN)
    assert best.drive == pytest.approx(37.5 + 12 / np.pi, abs=0.2)


def test_the_nearest_zero_is_within_a_half_wave_voltage() -> None:
    modes = known(2.0).modes
    for drive in (0.0, 20.0, 75.0):
        (found,) = nearest_zero(MODEL, modes, drive)
        assert abs(found - drive) <= 12
        assert np.cos(MODEL.theta(modes, np.array([found]))) == pytest.approx(1.0)


def test_what_is_expected_is_the_variance_of_the_phase_over_four() -> None:
    best = recommend(known(0.0, sigma_rad=0.06), np.random.default_rng(0), SPAN)
    assert best.excess.mean() == pytest.approx(0.98 * 0.06**2 / 4, rel=0.15)


@pytest.mark.parametrize(
    ("span", "half_wave", "expected"),
    [((0, 75), 12.0, (3.75, 71.25)), ((0, 30), 12.0, (0, 30))],
)
def test_headroom_is_left_where_a_period_fits_inside(
    span: tuple[float, float], half_wave: float, expected: tuple[float, float]
) -> None:
    assert with_headroom(span, half_wave) == pytest.approx(expected)


def test_the_expected_gain_is_that_of_a_linear_gaussian_measurement() -> None:
    rng = np.random.default_rng(0)
    left = 0.02 * rng.normal(size=200_000)
    predicted = (0.5 + 0.45 * left)[None, :, None]

    (gain,) = expected_gain(left, predicted, np.array([500.0]))

    information = 500 * 0.45**2 / 0.25
    assert gain == pytest.approx(0.02**2 - 1 / (1 / 0.02**2 + information), rel=0.02)
