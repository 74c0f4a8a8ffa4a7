"""Bank of binomial Kalman filters that follow a drifting fibre without knowing its drift.

Each filter holds the rotation in front of the controller and its covariance, and assumes a random
walk of a certain strength; the weights of the filters come from how well each predicts the counts.
All filters are near each other: they share one reference and one expansion about it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.tracking import symmetric
from calibration.tracking.expansion import Expansion
from calibration.tracking.turns import turn_matrix

Array = NDArray[np.float64]

add = np.add.reduce

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts: two decades in all; coarser grids cost 10 % more excess."""

REMEMBERED_WINDOWS = 2000
REMEMBERED_DOUBLINGS = 100
"""Memory of the evidence for each drift: so many windows or, if that is longer, so many times the
time in which drift doubles the variance."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
SLIDING = 10.0
"""Way from the best grid point to the peak of the evidence, in all, while the memory lasts."""

BIAS_STEPS = 0.12
"""By how much the evidence of linear filters peaks too low, in steps of the grid: they take what
the square of the angle does to the QBER for floor. Measured on the twin, ``drift^2 / rate`` from
1e-9 to 1e-7 rad^2 per photon."""

IRRELEVANT_LOG_WEIGHT = -5.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""

FLOOR_MEMORY = 5e6
"""Sifted counts over which the floor is averaged."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-6, 0.45

DRIFT_RANGE_RAD = (1e-7, 30.0)

LINEAR_INFORMATION = 1.0
"""Information of a window, times the variance before, summed over the axes, up to which one step of
scoring is exact enough. Iterating there would be biased; a single step with more information could
diverge."""

MOST_ITERATIONS = 12
CONVERGED_NATS = 1e-2
SMALLEST_SHARE = 0.1
LARGEST_STEP_SIGMA = 4.0
"""Length of a single step, in prior standard deviations, beyond which counts are an outlier."""

_MATCHED = np.array([1.0, 0.0, 0.0, 1.0])


@dataclass
class RotationFilters:
    """State of J filters; rotations ``exp([offset]x) reference`` up to ``N(0, covariance)``.

    Attributes:
        reference: Mean of the filters' rotations in front of the controller, shape ``(3, 3)``.
        drift_rad: Random walk that each assumes, per axis in one second, rad, shape ``(J,)``.
        offset: Where each filter is, rad, shape ``(3, J)``; their weighted mean is 0.
        covariance: Packed, shape ``(6, J)``, rad^2.
        floor: QBER at perfect alignment, as each has learnt it, shape ``(J,)``. A common one would
            let a filter with too weak a drift explain its excess away, for the others too.
        floor_counts: Sifted counts that each floor rests on, shape ``(J,)``.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
        remembered: Share of the evidence that the next window leaves.
    """

    reference: Array
    drift_rad: Array
    offset: Array
    covariance: Array
    floor: Array
    floor_counts: Array
    log_weight: Array
    remembered: float = 1.0

    def __post_init__(self) -> None:
        self._weights: Array = _normalised(self.log_weight)
        self._spread: Array = _ONE
        self._sum_up()

    @classmethod
    def around(
        cls, drift_rad: float, fibre: Array, covariance: Array, floor: float, floor_counts: float
    ) -> RotationFilters:
        """Spread filters about a guess of the drift, all in one state.

        Args:
            drift_rad: The guess, rad per axis in one second.
            fibre: Rotation in front of the controller, shape ``(3, 3)``.
            covariance: Shape ``(3, 3)``, rad^2.
            floor: QBER at perfect alignment.
            floor_counts: Sifted counts that it rests on.
        """
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(
            reference=np.array(fibre, dtype=np.float64),
            drift_rad=np.array(drift_rad * SPACING**steps, dtype=np.float64),
            offset=np.zeros((3, FILTERS)),
            covariance=np.repeat(symmetric.packed(covariance)[:, None], FILTERS, axis=1),
            floor=np.full(FILTERS, floor),
            floor_counts=np.full(FILTERS, floor_counts),
            log_weight=np.zeros(FILTERS),
        )

    @property
    def weights(self) -> Array:
        """Probability of each filter, shape ``(J,)``."""
        return self._weights

    @property
    def drift_variance(self) -> float:
        """Mean square drift per axis, rad^2/s."""
        return self._drift_variance

    @property
    def mean_floor(self) -> float:
        """QBER at perfect alignment."""
        return self._mean_floor

    def mixture(self) -> tuple[Array, Array]:
        """Give mean rotation and covariance about it, both of shape ``(3, 3)``."""
        return self.reference, self._spread

    def predict(self, duration_s: float, other_variance: float = 0.0) -> None:
        """Let time pass.

        Args:
            duration_s: How long.
            other_variance: Added on each axis whatever the drift, rad^2.
        """
        spread = self._spread
        variance = float(spread[0, 0] + spread[1, 1] + spread[2, 2]) / 3
        drifted = self._drift_variance * duration_s
        self.remembered = math.exp(
            -min(drifted / variance / REMEMBERED_DOUBLINGS, 1 / REMEMBERED_WINDOWS)
        )
        self.covariance[:3] += self.drift_rad**2 * duration_s + other_variance
        self._spread = spread + (drifted + other_variance) * _ONE

    def update(
        self, behind: Array, trials: Array, errors: Array, *, learns_floor: bool = True
    ) -> float:
        """Learn rotation, drift and floor from one window.

        Args:
            behind: Rotation behind the fibre while counting, shape ``(3, 3)``.
            trials: All counts per binomial, shape ``(4,)``: measured basis by sent basis.
            errors: Counts of opposite sign, shape ``(4,)``.
            learns_floor: Whether the floor may have changed.

        Returns:
            Mean square of the normalised innovations, what was counted less what the filters had
            predicted; 1 on average if they are as good as they say.
        """
        before, determinant = symmetric.inverse(self.covariance)
        counts = _Counts(behind, trials, errors)
        expansion = counts.expand(self.reference)
        shown, slope = counts.show(expansion, self.offset, self.covariance)
        if learns_floor:
            self._learn_floor(counts, shown)
        score, information, fit, surprise = counts.compare(shown, slope, self.floor)
        after, curvature = symmetric.inverse(before + information)
        step = symmetric.times(after, score)
        promise = add(score * step, 0)
        evidence = fit + 0.5 * promise
        innovation = float(self._weights @ (surprise - promise)) / max(counts.seen, 1)
        gained = symmetric.trace_of_product(self.covariance, information)
        if gained[self.log_weight > IRRELEVANT_LOG_WEIGHT].max() > LINEAR_INFORMATION:
            after, curvature, evidence = self._climb(counts, before, after)
        else:
            self.offset = self.offset + _limited(step, before, promise)
        self.covariance = after
        self._weigh(evidence - 0.5 * np.log(curvature * determinant))
        return innovation

    def to_dict(self) -> dict[str, Any]:
        """Give the state as plain lists."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: np.asarray(value).tolist() for name, value in values.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RotationFilters:
        """Restore what :meth:`to_dict` gave."""
        values = {name: np.asarray(value, dtype=float) for name, value in stored.items()}
        remembered = float(values.pop("remembered"))
        return cls(**values, remembered=remembered)

    def _learn_floor(self, counts: _Counts, shown: Array) -> None:
        """Average what the matched bases show beyond the prediction."""
        n_z, _, _, n_x = counts.trials.tolist()
        if n_z + n_x == 0:
            return
        matched = counts.trials * _MATCHED
        expected = 0.5 * (n_z + n_x) - (0.5 - self.floor) * (matched @ shown)
        beyond = counts.errors @ _MATCHED - expected
        floor = self.floor + beyond / (self.floor_counts + (n_z + n_x))
        self.floor = np.minimum(np.maximum(floor, LEAST_FLOOR), LARGEST_FLOOR)
        self.floor_counts = np.minimum(self.floor_counts + (n_z + n_x), FLOOR_MEMORY)

    def _climb(self, counts: _Counts, before: Array, after: Array) -> tuple[Array, Array, Array]:
        """Climb to the modes of filters to which a window tells more than they knew.

        Args:
            counts: The window.
            before: Inverse covariances before it, packed.
            after: Covariances that one step leads to, packed: the spread to reckon with.

        Returns:
            Covariances there, determinants of their inverses, and log posterior densities relative
            to the priors' peaks, shape ``(J,)``.
        """
        prior, at = self.offset, self.offset
        share, height = np.ones(at.shape[1]), np.full(at.shape[1], -np.inf)
        tried, move = at, np.zeros_like(at)
        inverse, determinant = after, np.ones(at.shape[1])
        for _ in range(MOST_ITERATIONS):
            expansion = counts.expand(self.reference)
            shown, slope = counts.show(expansion, tried, after)
            score, information, fit, _ = counts.compare(shown, slope, self.floor)
            away = tried - prior
            pull = symmetric.times(before, away)
            reached = fit - 0.5 * (away * pull).sum(axis=0)
            better = reached >= height
            here, curvature = symmetric.inverse(before + information)
            onward = symmetric.times(here, score - pull)
            inverse = np.where(better, here, inverse)
            determinant = np.where(better, curvature, determinant)
            at = np.where(better, tried, at)
            height = np.where(better, reached, height)
            move = np.where(better, onward, move)
            share = np.where(better, 1.0, 0.5 * share)
            gain = ((score - pull) * onward).sum(axis=0)
            if np.all((better & (gain < CONVERGED_NATS)) | (share < SMALLEST_SHARE)):
                break
            centre = at @ self._weights
            self.reference = turn_matrix(*centre.tolist()) @ self.reference
            at, prior = at - centre[:, None], prior - centre[:, None]
            tried = at + share * move
        self.offset = at
        return inverse, determinant, height

    def _weigh(self, evidence: Array) -> None:
        evidence = np.maximum(evidence - evidence.max(), -MOST_NATS_PER_WINDOW)
        log_weight = self.remembered * self.log_weight + evidence
        self.log_weight = np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT)
        self._slide()
        self._weights = _normalised(self.log_weight)
        if self._weights[-1] > EDGE_WEIGHT or self._weights[0] > EDGE_WEIGHT:
            self._move_over()
        centre = self.offset @ self._weights
        self.offset = self.offset - centre[:, None]
        turned = turn_matrix(*centre.tolist()) @ self.reference
        self.reference = turned @ (1.5 * _ONE - 0.5 * (turned.T @ turned))  # undoes rounding
        self._sum_up()

    def _move_over(self) -> None:
        """Follow a drift that leaves the bank's range."""
        weights, (low, high) = self._weights, DRIFT_RANGE_RAD
        if weights[-1] > EDGE_WEIGHT and self.drift_rad[-1] * SPACING < high:
            self._keep([*range(1, FILTERS), FILTERS - 1])
            self.drift_rad[-1] *= SPACING
        elif weights[0] > EDGE_WEIGHT and self.drift_rad[0] / SPACING > low:
            self._keep([0, *range(FILTERS - 1)])
            self.drift_rad[0] /= SPACING

    def _slide(self) -> None:
        """Move the grid so that its best drift comes to lie where the evidence peaks.

        Between two grid points the lower one would win, explain excess by its floor and lag.
        """
        best = int(self.log_weight.argmax())
        if not 0 < best < FILTERS - 1:
            return
        below, peak, above = self.log_weight[best - 1 : best + 2].tolist()
        curvature = below - 2 * peak + above
        if curvature < 0:
            away = 0.5 * (below - above) / curvature + BIAS_STEPS
            share = SLIDING * (1 - self.remembered)
            self.drift_rad = self.drift_rad * SPACING ** (share * away)

    def _keep(self, index: list[int]) -> None:
        for name in ("drift_rad", "offset", "covariance", "floor", "floor_counts", "log_weight"):
            setattr(self, name, getattr(self, name)[..., index])
        self._weights = _normalised(self.log_weight)

    def _sum_up(self) -> None:
        weights = self._weights
        self._drift_variance = float(weights @ (self.drift_rad * self.drift_rad))
        self._mean_floor = float(weights @ self.floor)
        apart = (self.offset * weights) @ self.offset.T
        self._spread = symmetric.unpacked(self.covariance @ weights) + apart


class _Counts:
    """Counts of one window, and what filters make of them."""

    def __init__(self, behind: Array, trials: Array, errors: Array) -> None:
        self._behind = behind
        self.trials, self.errors = trials, errors
        self._column = trials[:, None]
        self._per_trial = 1 / np.maximum(trials, 1.0)

    @property
    def seen(self) -> int:
        """Number of binomials with counts."""
        return int(np.count_nonzero(self.trials))

    def expand(self, reference: Array) -> Expansion:
        """Expand what is shown about a rotation in front."""
        return Expansion.about(self._behind, reference)

    def show(self, expansion: Expansion, offset: Array, covariance: Array) -> tuple[Array, Array]:
        """Average elements ``(4, J)`` over the spread, and give their slopes ``(4, 3, J)``."""
        element, slope = expansion.at(offset)
        return np.minimum(np.maximum(element + expansion.loss @ covariance, -1.0), 1.0), slope

    def compare(
        self, shown: Array, slope: Array, floor: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Evaluate score ``(3, J)``, information ``(6, J)``, log likelihood and chi-square."""
        half_visibility = 0.5 - floor
        right, wrong = 0.5 + half_visibility * shown, 0.5 - half_visibility * shown
        variance = right * wrong
        beyond = self.errors[:, None] - self._column * wrong
        weighted = beyond / variance
        score = -half_visibility * add(weighted[:, None] * slope, 0)
        weight = self._column * (half_visibility * half_visibility) / variance
        information = add(weight[:, None] * symmetric.outer(slope), 0)
        fit = self.errors @ np.log(wrong) + (self.trials - self.errors) @ np.log(right)
        surprise = self._per_trial @ (weighted * beyond)
        return score, information, fit, surprise


def _limited(step: Array, before: Array, promise: Array) -> Array:
    """Shorten steps that are too long to be noise; ``promise`` bounds their squared length."""
    if promise.max() < LARGEST_STEP_SIGMA**2:
        return step
    length = np.sqrt((step * symmetric.times(before, step)).sum(axis=0))
    limited: Array = step * np.minimum(1, LARGEST_STEP_SIGMA / np.maximum(length, 1e-9))
    return limited


def _normalised(log_weight: Array) -> Array:
    weights = np.exp(log_weight - log_weight.max())
    normalised: Array = weights / add(weights)
    return normalised


_ONE = np.eye(3)
