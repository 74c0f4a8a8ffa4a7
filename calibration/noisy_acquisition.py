"""Where to look next and for how long, and what to recommend, by a Gaussian process.

The worth of a look is its knowledge gradient: by how much the highest posterior mean, which is what
will be recommended, is expected to rise. A look so noisy that it cannot change the recommendation
is worth nothing, however high its value may turn out.
Source: P. Frazier, W. Powell and S. Dayanik, INFORMS J. Comput. 21, 599 (2009).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from scipy.stats import norm, qmc

from calibration.noisy_gp import GaussianProcess

Array = NDArray[np.float64]

ANYWHERE, NEAR = 256, 512
"""Points considered over all ranges, and about what is recommended now."""

NEAREST, FARTHEST = 0.02, 0.4
"""Spread of the latter, as shares of the ranges: uniform in its logarithm."""

CANDIDATES, RIVALS = 256, 160
"""How many points are weighed as the next one, and among how many it may change the best one."""

OPTIMISM = 2.0
"""Points are shortlisted by posterior mean plus so many standard deviations."""

OUTCOMES = norm.ppf((np.arange(15) + 0.5) / 15)
"""What a look may show, in standard deviations; equally likely."""

CLIMBS = 4
"""The best points looked at, from which the posterior mean is climbed."""

REACH = 0.5
"""How far from what was looked at a recommendation may be, in lengths of the function."""


def recommend(process: GaussianProcess) -> Array:
    """Return the point of the highest posterior mean within reach of what was looked at.

    From the points looked at that are best by posterior mean the mean is climbed, within a box of
    ``REACH`` lengths about each: farther away it is a guess of the prior's.
    """
    means, _ = process.predict(process.points)
    reach = REACH * process.hyper.lengths
    found: list[tuple[float, Array]] = []
    for number in np.argsort(-means)[:CLIMBS]:
        point = process.points[number]
        low, high = np.maximum(point - reach, 0.0), np.minimum(point + reach, 1.0)
        climbed: Any = minimize(
            partial(_minus_mean, process),
            point,
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(low, high),
            options={"maxiter": 50},
        )
        found.append((float(climbed.fun), np.clip(climbed.x, low, high)))
    return min(found, key=lambda each: each[0])[1]


def most_informative(
    process: GaussianProcess,
    best: Array,
    noises: Sequence[float],
    costs: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Array, int]:
    """Choose the next look: most knowledge gradient for what it costs.

    Args:
        process: What is known.
        best: What would be recommended now, shape ``(d,)``.
        noises: Variance of a value at each exposure on offer.
        costs: What each exposure costs, all else included, same length.
        rng: Chooses what is considered.

    Returns:
        The point, shape ``(d,)``, and the number of the exposure.
    """
    points = _points(best, rng)
    means, sigmas = process.predict(points)
    order = np.argsort(-(means + OPTIMISM * sigmas))
    candidates = points[order[:CANDIDATES]]
    rivals = np.vstack([best[None], points[order[:RIVALS]]])
    rival_means, _ = process.predict(rivals)
    covariance = process.covariance(candidates, rivals)
    variances = sigmas[order[:CANDIDATES]] ** 2
    worth = np.empty((len(candidates), len(noises)))
    for number, (noise, cost) in enumerate(zip(noises, costs, strict=True)):
        shift = covariance / np.sqrt(variances + noise)[:, None]
        highest = [(rival_means + shift * outcome).max(axis=1) for outcome in OUTCOMES]
        worth[:, number] = (np.mean(highest, axis=0) - rival_means.max()) / cost
    point, exposure = np.unravel_index(int(np.argmax(worth)), worth.shape)
    return candidates[point], int(exposure)


def _points(best: Array, rng: np.random.Generator) -> Array:
    """Return points to consider, shape ``(n, d)``: some anywhere, more at all distances nearby."""
    dimensions = len(best)
    anywhere = qmc.Sobol(dimensions, rng=rng).random(ANYWHERE)
    spread = np.exp(rng.uniform(np.log(NEAREST), np.log(FARTHEST), (NEAR, 1)))
    moved = rng.choice([1.5 / dimensions, 0.5, 1.0], size=(NEAR, 1))
    steps = spread * rng.normal(size=(NEAR, dimensions))
    steps *= rng.random((NEAR, dimensions)) < moved
    return np.vstack([anywhere, np.clip(best + steps, 0.0, 1.0)])


def _minus_mean(process: GaussianProcess, point: Array) -> tuple[float, Array]:
    mean, slope = process.slope(point)
    return -mean / process.scale, -slope / process.scale
