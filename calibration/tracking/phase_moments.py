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
LITTLE_INFORMATION, MUCH_INFORMATION = 1.0, 10.0
"""Information of a window times the variance before: up to which the nodes of the prior do, and
from which on a grid is needed."""

GRID_STEP = 0.2
LEAST_STEPS = 0.3
"""Smallest standard deviation to believe, in steps of the grid: a peak between two points would
look infinitely sharp."""

LEAST_SHARE = LEAST_STEPS * GRID_STEP
"""The same, as a share of the width over which the points are laid out."""


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

    def most_information(self, phase: float, variance: float, floor: float) -> float:
        """Return the Fisher information about a phase that is known about so well, at most."""
        squared = min(math.sin(min(abs(phase), math.pi / 2)) ** 2 + variance, 1.0)
        return self.crossed + self.matched * squared / (squared + 4 * floor)

    def log_uniform(self) -> float:
        """Return the log evidence of error probabilities of which nothing is known."""
        return _log_beta(self.wrong, self.matched) + _log_beta(self.plus, self.crossed)


class Look(NamedTuple):
    """What a window says, before anything is made of it.

    Attributes:
        mean: Of the phase after the window, rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        evidence: Log probability of the counts, but for what all hypotheses share, shape ``(J,)``.
    """

    mean: Array
    variance: Array
    evidence: Array


def look(mean: Array, variance: Array, floor: Array, counts: PhaseCounts, *, widest: float) -> Look:
    """Apply Bayes' rule to J normal distributions of a phase.

    Args:
        mean: rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        floor: Error probability at phase zero, shape ``(J,)``.
        counts: Of the window.
        widest: Largest variance for which the result has to be exact, rad^2.
    """
    sigma = np.sqrt(variance)
    told = widest * counts.most_information(float(mean[0]), widest, float(floor[0]))
    if told > MUCH_INFORMATION:
        found = _on(_GRID, mean, sigma, mean, sigma, floor, counts)
        root = np.sqrt(np.maximum(found.variance, (LEAST_SHARE * sigma) ** 2))
        return _on(_GRID, found.mean, root, mean, sigma, floor, counts)
    found = _on(_NODES, mean, sigma, mean, sigma, floor, counts)
    if told < LITTLE_INFORMATION:
        return found
    root = np.sqrt(np.maximum(found.variance, variance / (1 + told)))
    return _on(_NODES, found.mean, root, mean, sigma, floor, counts)


def log_evidence(phase: float, variance: float, floor: float, counts: PhaseCounts) -> float:
    """Return the log probability of counts at a phase known about so well, in the units of Look."""
    contrast = (1 - 2 * floor) * math.exp(-0.5 * variance)
    fit = _log_binomial(counts.wrong, counts.matched, (1 - contrast * math.cos(phase)) / 2)
    return fit + _log_binomial(counts.plus, counts.crossed, (1 + contrast * math.sin(phase)) / 2)


def _on(
    points: _Points,
    centre: Array,
    width: Array,
    prior: Array,
    sigma: Array,
    floor: Array,
    counts: PhaseCounts,
) -> Look:
    """Integrate prior times likelihood over points about a centre; all arrays ``(J,)``."""
    apart = width[:, None] * points.at
    phase = centre[:, None] + apart
    log_density = _fit(phase, floor, counts)
    log_density += points.log_weight
    if centre is not prior:
        off = (phase - prior[:, None]) / sigma[:, None]
        log_density += np.log(width / sigma)[:, None] + 0.5 * (points.at**2 - off**2)
    highest = log_density.max(axis=-1)
    density = np.exp(log_density - highest[:, None])
    total = density.sum(axis=-1)
    density /= total[:, None]
    density *= apart
    shift = density.sum(axis=-1)
    density *= apart
    variance = np.maximum(density.sum(axis=-1) - shift**2, (LEAST_SHARE * width) ** 2)
    return Look(centre + shift, variance, highest + np.log(total))


def _fit(phase: Array, floor: Array, counts: PhaseCounts) -> Array:
    """Return log likelihoods at phases of shape ``(J, N)``."""
    half_visibility = (0.5 - floor)[:, None]
    fraction = 0.5 - half_visibility * np.cos(phase)
    fit = counts.wrong * np.log(fraction)
    fit += (counts.matched - counts.wrong) * np.log1p(-fraction)
    if counts.crossed:
        fraction = 0.5 + half_visibility * np.sin(phase)
        fit += counts.plus * np.log(fraction)
        fit += (counts.crossed - counts.plus) * np.log1p(-fraction)
    return np.asarray(fit)


def _log_binomial(hits: float, trials: float, probability: float) -> float:
    return hits * math.log(probability) + (trials - hits) * math.log1p(-probability)


def _log_beta(hits: float, trials: float) -> float:
    """Return the log of the mean likelihood of all probabilities alike."""
    return math.lgamma(hits + 1) + math.lgamma(trials - hits + 1) - math.lgamma(trials + 2)
