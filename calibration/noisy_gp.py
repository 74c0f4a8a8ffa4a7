"""Gaussian process on noisy values whose noise is known, value by value.

The covariance is a sum of Matern-5/2 functions: one of each coordinate alone, and one of all of
them with a length for each. What knobs do to a link mostly adds up (losses in dB do), and a sum
learns that from few values; the last term is for what does not. The constant mean is unknown
itself, and a little further noise is learnt: counts scatter more than statistics say where a bench
drifts. Hyperparameters are the maximum a posteriori under log-normal priors.
Source: C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, ch. 2, 4, 5;
sums of coordinates: D. Duvenaud et al., Adv. Neural Inf. Process. Syst. 24, 226 (2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import Bounds, minimize

Array = NDArray[np.float64]

ROOT_5 = math.sqrt(5)

MEAN_SIGMA = 1.0
"""Prior standard deviation of the constant mean, in standard deviations of the values."""

JITTER = 1e-8
"""Least variance of a value, in units of the values' variance: keeps the covariance definite."""

ITERATIONS = 60
"""Of the search for hyperparameters."""

NEIGHBOURHOOD = 0.5
"""Over how many lengths variances are averaged."""


@dataclass(frozen=True)
class LogNormal:
    """A belief about something positive.

    Attributes:
        median: Its median.
        sigma: Standard deviation of its natural logarithm.
    """

    median: float
    sigma: float


@dataclass(frozen=True)
class Beliefs:
    """What is believed of a function before it is looked at.

    Coordinates are scaled to 0 to 1, values to a standard deviation of 1.

    Attributes:
        length: Of each coordinate: over how much of it the function changes.
        alone: Variance of what each coordinate does by itself.
        together: Variance of what they do together.
        excess_noise: Variance of the noise that nobody told.
    """

    length: LogNormal = LogNormal(1.0, 0.5)
    alone: LogNormal = LogNormal(1.0, 1.0)
    together: LogNormal = LogNormal(3.0, 1.0)
    excess_noise: LogNormal = LogNormal(1e-4, 1.5)

    def spread(self, dimensions: int) -> tuple[Array, Array]:
        """Return mean and standard deviation of each logarithm, shape ``(2 d + 2,)``."""
        each = [self.length] * dimensions + [self.alone] * dimensions
        each += [self.together, self.excess_noise]
        return np.log([one.median for one in each]), np.array([one.sigma for one in each])


@dataclass(frozen=True)
class Hyper:
    """Hyperparameters, as believed after a fit.

    Attributes:
        logs: Natural logarithms of ``d`` lengths, ``d`` variances of coordinates alone, the
            variance of all together and that of the excess noise.
    """

    logs: Array

    @property
    def lengths(self) -> Array:
        """Shape ``(d,)``."""
        return np.exp(self.logs[: len(self.logs) // 2 - 1])

    @property
    def alone(self) -> Array:
        """Shape ``(d,)``."""
        return np.exp(self.logs[len(self.logs) // 2 - 1 : -2])

    @property
    def together(self) -> float:
        """Variance of what all coordinates do together."""
        return math.exp(self.logs[-2])

    @property
    def excess_noise(self) -> float:
        """Variance of the noise that nobody told."""
        return math.exp(self.logs[-1])

    @property
    def variance(self) -> float:
        """Variance of the function at a point, its mean's included."""
        return float(self.alone.sum()) + self.together + MEAN_SIGMA**2

    def covariance(self, squares: Array) -> Array:
        """Return the covariance of function values.

        Args:
            squares: Squared differences of coordinates in lengths, shape ``(..., d)``.
        """
        alone = _matern(np.sqrt(squares)) @ self.alone
        return np.asarray(alone + self.together * _matern(_radius(squares)) + MEAN_SIGMA**2)


@dataclass(frozen=True)
class GaussianProcess:
    """What is known of a function after some values of it; see :func:`fit`.

    Attributes:
        points: Where values were taken, shape ``(n, d)``.
        hyper: Hyperparameters.
        origin: Value that counts as 0 inside.
        scale: Difference of values that counts as 1 inside.
    """

    points: Array
    hyper: Hyper
    origin: float
    scale: float
    _factor: Array
    _weights: Array

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the function, without noise.

        Args:
            points: Shape ``(m, d)``.

        Returns:
            Two arrays of shape ``(m,)``, in the unit of the values.
        """
        cross = self.hyper.covariance(_squares(points, self.points, self.hyper.lengths))
        half = solve_triangular(self._factor, cross.T, lower=True)
        variance = np.maximum(self.hyper.variance - (half**2).sum(axis=0), JITTER)
        return self.origin + self.scale * (cross @ self._weights), self.scale * np.sqrt(variance)

    def covariance(self, points: Array, others: Array) -> Array:
        """Return the covariance of the function between points, shape ``(m, k)``."""
        lengths = self.hyper.lengths
        left, right = (
            solve_triangular(
                self._factor,
                self.hyper.covariance(_squares(each, self.points, lengths)).T,
                lower=True,
            )
            for each in (points, others)
        )
        between = self.hyper.covariance(_squares(points, others, lengths))
        return np.asarray(self.scale**2 * (between - left.T @ right))

    def slope(self, point: Array) -> tuple[float, Array]:
        """Return the mean at a point of shape ``(d,)``, and its gradient."""
        lengths = self.hyper.lengths
        away = (point - self.points) / lengths
        steep = self.hyper.alone * _steepness(np.abs(away))
        steep += self.hyper.together * _steepness(_radius(away**2))[:, None]
        mean = float(self.hyper.covariance(away**2) @ self._weights)
        gradient = self._weights @ (-steep * away / lengths)
        return self.origin + self.scale * mean, self.scale * gradient


def fit(
    points: Array,
    values: Array,
    variances: Array,
    *,
    beliefs: Beliefs | None = None,
    start: Hyper | None = None,
) -> GaussianProcess:
    """Learn a function from noisy values.

    Args:
        points: Where they were taken, each coordinate scaled to 0 to 1, shape ``(n, d)``.
        values: Shape ``(n,)``.
        variances: Known variance of each value's noise, shape ``(n,)``.
        beliefs: What is believed beforehand.
        start: Hyperparameters to begin with, such as those of a former fit; the medians of the
            beliefs otherwise.

    Raises:
        ValueError: There is no value, or a variance is negative or not finite.
    """
    if len(values) == 0:
        raise ValueError("a Gaussian process needs at least one value")
    if not (np.isfinite(values).all() and np.isfinite(variances).all() and variances.min() >= 0):
        raise ValueError("values must be finite, and their variances finite and not negative")
    centre, sigmas = (beliefs if beliefs is not None else Beliefs()).spread(points.shape[1])
    origin = float(np.median(values))
    scale = float(np.std(values)) or 1.0
    inside, noise = (values - origin) / scale, variances / scale**2
    differences = np.abs(points[:, None] - points[None])
    bounds = np.array([centre - 4 * sigmas, centre + 4 * sigmas])
    found: Any = minimize(
        partial(_loss, differences, inside, noise, centre, sigmas),
        centre if start is None else np.clip(start.logs, *bounds),
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(*bounds),
        options={"maxiter": ITERATIONS},
    )
    hyper = Hyper(np.asarray(found.x))
    factor = _factor(hyper, (differences / hyper.lengths) ** 2, noise)
    return GaussianProcess(points, hyper, origin, scale, factor, cho_solve((factor, True), inside))


def smooth_noise(points: Array, variances: Array, lengths: Array) -> Array:
    """Average variances over neighbours, in the logarithm.

    An estimated variance errs together with its value (fewer errors by chance: a better value, and
    a smaller variance), which would give lucky values more weight and bias the mean upwards, as
    Neyman's chi-square does. Neighbours' luck is independent.

    Args:
        points: Where they belong, shape ``(n, d)``.
        variances: For the same exposure, shape ``(n,)``.
        lengths: Over which the function changes, shape ``(d,)``.
    """
    weights = _matern(_radius(_squares(points, points, lengths)) / NEIGHBOURHOOD)
    logs = np.log(np.maximum(variances, np.finfo(float).tiny))
    return np.asarray(np.exp(weights @ logs / weights.sum(axis=1)))


def _loss(
    differences: Array, values: Array, noise: Array, centre: Array, sigmas: Array, logs: Array
) -> tuple[float, Array]:
    """Return minus the log posterior of hyperparameters, and its gradient.

    Args:
        differences: Absolute differences of coordinates, shape ``(n, n, d)``.
        values: Scaled values, shape ``(n,)``.
        noise: Their known variances, same shape.
        centre: Mean of the logarithms beforehand, shape ``(2 d + 2,)``.
        sigmas: Their standard deviations, same shape.
        logs: The logarithms, same shape.
    """
    hyper = Hyper(logs)
    away = differences / hyper.lengths
    squares = away**2
    radius = _radius(squares)
    factor = _factor(hyper, squares, noise)
    weights = cho_solve((factor, True), values)
    outer = cho_solve((factor, True), np.eye(len(values))) - np.outer(weights, weights)
    steep = hyper.alone * _steepness(away) + hyper.together * _steepness(radius)[..., None]
    gradient = 0.5 * np.concatenate(
        [
            np.einsum("ij,ijk->k", outer, steep * squares),
            hyper.alone * np.einsum("ij,ijk->k", outer, _matern(away)),
            [hyper.together * float((outer * _matern(radius)).sum())],
            [hyper.excess_noise * float(np.trace(outer))],
        ]
    )
    misfit = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    surprise = (logs - centre) / sigmas
    return misfit + 0.5 * float(surprise @ surprise), gradient + surprise / sigmas


def _factor(hyper: Hyper, squares: Array, noise: Array) -> Array:
    """Return the lower Cholesky factor of the covariance of the values."""
    covariance = hyper.covariance(squares)
    covariance[np.diag_indices_from(covariance)] += noise + hyper.excess_noise + JITTER
    return np.asarray(cholesky(covariance, lower=True))


def _squares(points: Array, others: Array, lengths: Array) -> Array:
    return np.asarray(((points[:, None] - others[None]) / lengths) ** 2)


def _radius(squares: Array) -> Array:
    return np.asarray(np.sqrt(squares.sum(axis=-1)))


def _matern(radius: Array) -> Array:
    """Return the Matern-5/2 correlation at a distance in lengths."""
    return np.asarray((1 + ROOT_5 * radius + 5 / 3 * radius**2) * np.exp(-ROOT_5 * radius))


def _steepness(radius: Array) -> Array:
    """Return minus the slope of the correlation with the distance, over the distance."""
    return np.asarray(5 / 3 * (1 + ROOT_5 * radius) * np.exp(-ROOT_5 * radius))
