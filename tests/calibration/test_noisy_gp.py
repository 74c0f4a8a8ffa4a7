import numpy as np
import pytest
from scipy.optimize import approx_fprime

from calibration.noisy_gp import GaussianProcess, fit, smooth_noise

Array = np.ndarray


def truth(points: Array) -> Array:
    return np.asarray(np.sin(3 * points[:, 0]) + points[:, 1] * points[:, 2])


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    points = np.random.default_rng(1).random((30, 3))
    return fit(points, truth(points), np.full(30, 1e-6))


def test_a_smooth_function_is_learnt_between_its_values(process: GaussianProcess) -> None:
    points = 0.1 + 0.8 * np.random.default_rng(2).random((50, 3))

    means, sigmas = process.predict(points)

    assert np.abs(means - truth(points)).max() < 0.1
    assert sigmas.max() < 0.2


def test_the_slope_is_that_of_the_mean(process: GaussianProcess) -> None:
    point = np.array([0.3, 0.6, 0.45])

    mean, slope = process.slope(point)

    assert mean == pytest.approx(process.predict(point[None])[0][0])
    measured = approx_fprime(point, lambda x: process.predict(x[None])[0][0], 1e-6)
    assert slope == pytest.approx(measured, abs=1e-4)


def test_the_covariance_of_a_point_with_itself_is_its_variance(process: GaussianProcess) -> None:
    points = np.random.default_rng(3).random((4, 3))

    covariance = process.covariance(points, points)

    assert np.diag(covariance) == pytest.approx(process.predict(points)[1] ** 2, rel=1e-3)


def test_a_value_counts_by_its_noise() -> None:
    points = np.array([[0.2], [0.5], [0.5], [0.8]])
    values = np.array([0.0, 1.0, 3.0, 0.0])

    (mean,), _ = fit(points, values, np.array([1e-4, 1e-4, 1.0, 1e-4])).predict(points[1:2])

    assert mean == pytest.approx(1.0, abs=0.1)


def test_a_lucky_small_variance_is_averaged_away() -> None:
    points = np.tile([[0.5, 0.5]], (10, 1))
    variances = np.full(10, 1.0)
    variances[0] = 0.5

    assert smooth_noise(points, variances, np.ones(2))[0] == pytest.approx(0.5**0.1)


@pytest.mark.parametrize("variance", [-1.0, np.nan, np.inf])
def test_an_impossible_variance_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variances finite and not negative"):
        fit(np.array([[0.5]]), np.array([1.0]), np.array([variance]))
