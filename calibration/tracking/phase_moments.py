"""What one window says of a phase that is known with a normal distribution.

Bayes' rule by quadrature, and only mean and variance are kept (assumed density): exact for one
window, whether it tells little or much. Where it tells little, nine Gauss-Hermite nodes of the
prior do; else a grid that is laid out twice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import Clicks
from calibration.interferometer import Encoding

Array = NDArray[np.float64]

QUADRATURE = 9
MOST_INFORMATION = 0.6
"""Information of a window times the variance before, up to which the nodes of the prior do."""

GRID_SIGMAS = np.linspace(-6, 6, 61)
LEAST_STEPS = 0.3
"""Smallest standard deviation to believe, in steps of the grid: a peak between two points would
look infinitely sharp."""

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(QUADRATURE)
_LOG_NODE_WEIGHTS = np.log(_NODE_WEIGHTS / _NODE_WEIGHTS.sum())


class PhaseCounts(NamedTuple):
    """Counts of one window that see the phase.

    Attributes:
        wrong: Errors of the matched bases, of probability ``(1 - V cos theta) / 2``.
        matched: Counts of the matched bases.
        plus: Counts of the mismatched bases, of probability ``(1 + V sin theta) / 2``.
        crossed: Counts of the mismatched bases; zero where they do not see the phase.
    """

    wrong: float
    matched: float
    plus: float
    crossed: float

    @classmethod
    def of(cls, clicks: Clicks, encoding: Encoding) -> PhaseCounts:
        """Reduce a table of counts to what sees the phase."""
        trials, opposite = clicks.by_basis()
        (zz, zx), (xz, xx) = trials.tolist()
        (wrong_z, plus), (minus, wrong_x) = opposite.tolist()
        if encoding == "time-bin":
            return cls(wrong_x, xx, 0, 0)
        return cls(wrong_z + wrong_x, zz + xx, plus + xz - minus, zx + xz)

    def log_uniform(self) -> float:
        """Return the log evidence of error probabilities of which nothing is known."""
        return _log_beta(self.wrong, self.matched) + _log_beta(self.plus, self.crossed)


class Look(NamedTuple):
    """What a window says, before anything is made of it.

    Attributes:
        mean: Of the phase after the window, rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        evidence: Log probability of the counts, but for what all hypotheses share, shape ``(J,)``.
        flipped: The same with the phase turned by pi, shape ``(J,)``.
    """

    mean: Array
    variance: Array
    evidence: Array
    flipped: Array


def look(mean: Array, variance: Array, floor: Array, counts: PhaseCounts) -> Look:
    """Apply Bayes' rule to J normal distributions of a phase.

    Args:
        mean: rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        floor: Error probability at phase zero, shape ``(J,)``.
        counts: Of the window.
    """
    sigma = np.sqrt(variance)
    if _information(mean, variance, floor, counts) <= MOST_INFORMATION:
        apart = sigma[:, None] * _NODES
        fit, flipped = _fit(mean[:, None] + apart, floor, counts)
        fit += _LOG_NODE_WEIGHTS
        shift, spread, evidence = _sums(apart, fit)
        return Look(mean + shift, spread, evidence, _log_sum(flipped + _LOG_NODE_WEIGHTS))
    coarse, spread, _, flipped = _on_grid(mean, mean, sigma, sigma, floor, counts)
    fine, spread, evidence, _ = _on_grid(mean, coarse, sigma, np.sqrt(spread), floor, counts)
    return Look(fine, spread, evidence, flipped)


def _information(mean: Array, variance: Array, floor: Array, counts: PhaseCounts) -> float:
    """Return what the window tells, as a multiple of what is known, at most."""
    widest = float(variance.max())
    off = float(np.abs(mean).max())
    squared = min(math.sin(min(off, math.pi / 2)) ** 2 + widest, 1.0)
    seen = squared / (squared + 4 * float(floor.min()))
    return widest * (counts.crossed + counts.matched * seen)


def _on_grid(
    prior: Array, centre: Array, prior_sigma: Array, sigma: Array, floor: Array, counts: PhaseCounts
) -> tuple[Array, Array, Array, Array]:
    """Return mean, variance, log evidence and that of the phase turned, all of shape ``(J,)``."""
    apart = sigma[:, None] * GRID_SIGMAS
    phase = centre[:, None] + apart
    fit, flipped = _fit(phase, floor, counts)
    off = (phase - prior[:, None]) / prior_sigma[:, None]
    step = GRID_SIGMAS[1] - GRID_SIGMAS[0]
    density = math.log(step / math.sqrt(2 * math.pi)) - 0.5 * off**2
    density += np.log(sigma / prior_sigma)[:, None]
    shift, spread, evidence = _sums(apart, fit + density)
    least = (LEAST_STEPS * step * sigma) ** 2
    return centre + shift, np.maximum(spread, least), evidence, _log_sum(flipped + density)


def _fit(phase: Array, floor: Array, counts: PhaseCounts) -> tuple[Array, Array]:
    """Return log likelihoods at phases of shape ``(J, N)``, and of the phase turned by pi."""
    visibility = (1 - 2 * floor)[:, None]
    wrong, right = counts.wrong, counts.matched - counts.wrong
    fraction = 0.5 - 0.5 * visibility * np.cos(phase)
    log_wrong, log_right = np.log(fraction), np.log1p(-fraction)
    fit = wrong * log_wrong + right * log_right
    flipped = right * log_wrong + wrong * log_right
    if counts.crossed:
        plus, minus = counts.plus, counts.crossed - counts.plus
        fraction = 0.5 + 0.5 * visibility * np.sin(phase)
        log_plus, log_minus = np.log(fraction), np.log1p(-fraction)
        fit += plus * log_plus + minus * log_minus
        flipped += minus * log_plus + plus * log_minus
    return fit, flipped


def _sums(apart: Array, log_density: Array) -> tuple[Array, Array, Array]:
    """Return mean, variance and log total of densities of shape ``(J, N)``."""
    highest = log_density.max(axis=-1)
    density = np.exp(log_density - highest[:, None])
    total = density.sum(axis=-1)
    density /= total[:, None]
    mean = (density * apart).sum(axis=-1)
    variance = (density * (apart - mean[:, None]) ** 2).sum(axis=-1)
    return mean, variance, highest + np.log(total)


def _log_sum(log_density: Array) -> Array:
    highest = log_density.max(axis=-1)
    return np.asarray(highest + np.log(np.exp(log_density - highest[:, None]).sum(axis=-1)))


def _log_beta(hits: float, trials: float) -> float:
    """Return the log of the mean likelihood of all probabilities alike."""
    return math.lgamma(hits + 1) + math.lgamma(trials - hits + 1) - math.lgamma(trials + 2)
