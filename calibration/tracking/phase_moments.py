"""What one window says of a phase that is known with a normal distribution.

Bayes' rule by quadrature, and only mean and variance are kept (assumed density): exact for one
window, whether it tells little or much. Where it tells little, the Gauss-Hermite nodes of the prior
do; where it tells as much as was known, they are laid out once more about what they found; else a
grid is.
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
LITTLE_INFORMATION, MUCH_INFORMATION = 0.6, 10.0
"""Information of a window times the variance before: up to which the nodes of the prior do, and
from which on a grid is needed."""

GRID_STEP = 0.2
LEAST_STEPS = 0.3
"""Smallest standard deviation to believe, in steps of the grid: a peak between two points would
look infinitely sharp."""


class _Points(NamedTuple):
    """Where to integrate, for a normal distribution of variance 1.

    Attributes:
        at: Shape ``(N,)``.
        log_weight: The distribution's density included, shape ``(N,)``.
    """

    at: Array
    log_weight: Array


def _nodes(count: int) -> _Points:
    at, weights = np.polynomial.hermite_e.hermegauss(count)
    return _Points(at, np.log(weights / weights.sum()))


def _grid(sigmas: float, step: float) -> _Points:
    at = np.arange(-sigmas, sigmas + step / 2, step)
    return _Points(at, math.log(step / math.sqrt(2 * math.pi)) - 0.5 * at**2)


_NODES, _GRID = _nodes(QUADRATURE), _grid(6.0, GRID_STEP)


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
    told = _information(mean, variance, floor, counts)
    if told > MUCH_INFORMATION:
        coarse, spread, _, flipped = _on(_GRID, mean, sigma, mean, sigma, floor, counts)
        root = np.sqrt(np.maximum(spread, (LEAST_STEPS * GRID_STEP * sigma) ** 2))
        fine, spread, evidence, _ = _on(_GRID, coarse, root, mean, sigma, floor, counts)
        return Look(fine, spread, evidence, flipped)
    found = _on(_NODES, mean, sigma, mean, sigma, floor, counts)
    if told < LITTLE_INFORMATION:
        return Look(*found)
    coarse, spread, _, flipped = found
    root = np.sqrt(np.maximum(spread, variance / (1 + told)))
    fine, spread, evidence, _ = _on(_NODES, coarse, root, mean, sigma, floor, counts)
    return Look(fine, spread, evidence, flipped)


def _information(mean: Array, variance: Array, floor: Array, counts: PhaseCounts) -> float:
    """Return what the window tells, as a multiple of what is known, at most."""
    widest = float(variance.max())
    off = float(np.abs(mean).max())
    squared = min(math.sin(min(off, math.pi / 2)) ** 2 + widest, 1.0)
    seen = squared / (squared + 4 * float(floor.min()))
    return widest * (counts.crossed + counts.matched * seen)


def _on(
    points: _Points,
    centre: Array,
    width: Array,
    prior: Array,
    sigma: Array,
    floor: Array,
    counts: PhaseCounts,
) -> tuple[Array, Array, Array, Array]:
    """Integrate over points about a centre; all arrays of shape ``(J,)``.

    Returns:
        Mean, variance and log total of prior times likelihood, and the log total of the prior times
        the likelihood of the phase turned by pi.
    """
    apart = width[:, None] * points.at
    phase = centre[:, None] + apart
    fit, flipped = _fit(phase, floor, counts)
    density: Array = points.log_weight
    if centre is not prior:
        off = (phase - prior[:, None]) / sigma[:, None]
        density = density + np.log(width / sigma)[:, None] + 0.5 * (points.at**2 - off**2)
    fit += density
    flipped += density
    shift, spread, evidence = _sums(apart, fit)
    return centre + shift, spread, evidence, _log_sum(flipped)


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
