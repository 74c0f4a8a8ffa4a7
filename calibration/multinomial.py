"""Fits of shares to counts: exact multinomial likelihood with Gaussian priors.

Rows of counts are independent, each a multinomial whose shares follow from a few parameters. The
fit is the maximum of the posterior, its covariance the inverse of the expected (Fisher)
information. Source: Y. Pawitan, In All Likelihood, ch. 8 (score function and Fisher information).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

LEAST_SHARE = 1e-12
"""Smallest share that a model is taken to predict."""

Floats = NDArray[np.float64]

Shares = Callable[[Floats], tuple[Floats, Floats]]
"""Shares, shape ``(rows, cells)``, of parameters, and their slopes, ``(rows, cells, n)``."""


@dataclass(frozen=True)
class Prior:
    """Independent normal distributions of parameters.

    Attributes:
        mean: Shape ``(n,)``.
        sigma: Standard deviations, same shape, positive.
    """

    mean: Floats
    sigma: Floats


@dataclass(frozen=True)
class MultinomialFit:
    """Where the posterior is highest.

    Attributes:
        parameters: Shape ``(n,)``.
        covariance: Shape ``(n, n)``.
        misfit: Relative deviation of the counts from the shares beyond that of their noise, root
            mean square.
    """

    parameters: Floats
    covariance: Floats
    misfit: float


def fit_multinomial(
    shares: Shares, counts: NDArray[np.int64], prior: Prior, start: Floats
) -> MultinomialFit:
    """Fit parameters to counts.

    Args:
        shares: The model.
        counts: Shape ``(rows, cells)``, some of them above 0.
        prior: What is known beforehand.
        start: Where to begin, shape ``(n,)``.

    Raises:
        ValueError: There are no counts.
    """
    if counts.sum() == 0:
        raise ValueError("no counts")
    weights = 1 / prior.sigma**2

    def cost(parameters: Floats) -> float:
        p = np.maximum(shares(parameters)[0], LEAST_SHARE)
        stretch = parameters - prior.mean
        return float(-(counts * np.log(p)).sum() + (weights * stretch**2).sum() / 2)

    def gradient(parameters: Floats) -> Floats:
        p, slopes = shares(parameters)
        ratio = counts / np.maximum(p, LEAST_SHARE)
        return np.asarray(weights * (parameters - prior.mean) - np.einsum("rc,rcn", ratio, slopes))

    def information(parameters: Floats) -> Floats:
        p, slopes = shares(parameters)
        each = counts.sum(axis=1, keepdims=True) / np.maximum(p, LEAST_SHARE)
        return np.asarray(np.einsum("rc,rcm,rcn->mn", each, slopes, slopes) + np.diag(weights))

    best = minimize(cost, start, jac=gradient, hess=information, method="trust-exact").x
    return MultinomialFit(
        np.asarray(best),
        np.asarray(np.linalg.inv(information(best)), dtype=np.float64),
        _misfit(shares(best)[0], counts, len(start)),
    )


def _misfit(p: Floats, counts: NDArray[np.int64], n_parameters: int) -> float:
    """Return the root of the likelihood ratio (G) above its degrees of freedom, per count."""
    expected = counts.sum(axis=1, keepdims=True) * np.maximum(p, LEAST_SHARE)
    seen = counts > 0
    deviance = 2 * float((counts[seen] * np.log(counts[seen] / expected[seen])).sum())
    freedom = max(counts.size - len(counts) - n_parameters, 0)
    return float(np.sqrt(max(deviance - freedom, 0.0) / counts.sum()))
