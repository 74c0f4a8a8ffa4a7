"""Bank of binomial Kalman filters that follow a drifting fibre without knowing its drift.

Each filter holds the rotation in front of the controller and its covariance, and assumes a random
walk of a certain strength; the weights of the filters come from how well each predicts the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import rotation
from calibration.chain import rotated_elements

Array = NDArray[np.float64]

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts: two decades in all; coarser grids cost 10 % more excess."""

FORGETTING = 0.9995
"""Per window, of the evidence for each drift."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
SLIDING = 0.005
"""Share per window of the way from the best grid point to the peak of the evidence."""

BIAS_STEPS = 0.12
"""By how much the evidence of linear filters peaks too low, in steps of the grid: they take what
the square of the angle does to the QBER for floor. Measured on the twin, ``drift^2 / rate`` from
1e-9 to 1e-7 rad^2 per photon."""

IRRELEVANT_LOG_WEIGHT = -10.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""

FLOOR_MEMORY = 5e6
"""Sifted counts over which the floor is averaged."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-6, 0.45

DRIFT_RANGE_RAD = (1e-7, 30.0)

LINEAR_INFORMATION = 1.0
"""Information of a window, times the variance before, up to which one step of scoring is exact
enough. Iterating there would be biased; a single step with more information could diverge."""

MOST_ITERATIONS = 12
CONVERGED_NATS = 1e-2
SMALLEST_SHARE = 0.1
LARGEST_STEP_SIGMA = 4.0
"""Length of a single step, in prior standard deviations, beyond which counts are an outlier."""


_MATCHED = np.array([1.0, 0.0, 0.0, 1.0])


@dataclass
class RotationFilters:
    """State of J filters; rotations ``exp([x]x) fibre`` with ``x ~ N(0, covariance)``.

    Attributes:
        drift_rad: Random walk that each assumes, per axis in one second, rad, shape ``(J,)``.
        fibre: Rotation in front of the controller, shape ``(J, 3, 3)``.
        covariance: Shape ``(J, 3, 3)``, rad^2.
        floor: QBER at perfect alignment, as each has learnt it, shape ``(J,)``. A common one would
            let a filter with too weak a drift explain its excess away, for the others too.
        floor_counts: Sifted counts that each floor rests on, shape ``(J,)``.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
    """

    drift_rad: Array
    fibre: Array
    covariance: Array
    floor: Array
    floor_counts: Array
    log_weight: Array

    @classmethod
    def around(
        cls, drift_rad: float, fibre: Array, covariance: Array, floor: float, floor_counts: float
    ) -> RotationFilters:
        """Spread filters about a guess of the drift, all in one state."""
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(
            drift_rad=np.array(drift_rad * SPACING**steps, dtype=np.float64),
            fibre=np.repeat(fibre[None], FILTERS, axis=0),
            covariance=np.repeat(covariance[None], FILTERS, axis=0),
            floor=np.full(FILTERS, floor),
            floor_counts=np.full(FILTERS, floor_counts),
            log_weight=np.zeros(FILTERS),
        )

    @property
    def weights(self) -> Array:
        """Probability of each filter, shape ``(J,)``."""
        weights = np.exp(self.log_weight - self.log_weight.max())
        normalised: Array = weights / weights.sum()
        return normalised

    @property
    def drift_variance(self) -> float:
        """Mean square drift per axis, rad^2/s."""
        return float(self.weights @ self.drift_rad**2)

    def mixture(self) -> tuple[Array, Array]:
        """Give mean rotation, shape ``(3, 3)``, and covariance about it, shape ``(3, 3)``."""
        weights = self.weights
        best = self.fibre[np.argmax(weights)]
        apart = rotation.log(self.fibre @ best.T)
        mean = weights @ apart
        apart -= mean
        within = np.tensordot(weights, self.covariance, axes=1)
        return rotation.exp(mean) @ best, within + (apart * weights[:, None]).T @ apart

    def predict(self, duration_s: float, other_variance: float = 0.0) -> None:
        """Let time pass.

        Args:
            duration_s: How long.
            other_variance: Added on each axis whatever the drift, rad^2.
        """
        added = self.drift_rad**2 * duration_s + other_variance
        self.covariance = self.covariance + added[:, None, None] * np.eye(3)

    def learn_floor(self, behind: Array, trials: Array, errors: Array) -> None:
        """Average what the matched bases show beyond the prediction; before :meth:`update`.

        Args:
            behind: Rotation behind the fibre while counting, shape ``(3, 3)``.
            trials: All counts per binomial, shape ``(4,)``: measured basis by sent basis.
            errors: Counts of opposite sign, shape ``(4,)``.
        """
        matched = trials * _MATCHED
        if matched.sum() == 0:
            return
        block, _ = rotated_elements(behind, self.fibre)
        expected = _probability(block, self.floor) + _spread(self.covariance, behind, self.floor)
        beyond = errors @ _MATCHED - expected @ matched
        floor = self.floor + beyond / (self.floor_counts + matched.sum())
        self.floor = np.clip(floor, LEAST_FLOOR, LARGEST_FLOOR)
        self.floor_counts = np.minimum(self.floor_counts + matched.sum(), FLOOR_MEMORY)

    def update(self, behind: Array, trials: Array, errors: Array) -> None:
        """Learn the rotation and the drift from one window.

        Args:
            behind: Rotation behind the fibre while counting, shape ``(3, 3)``.
            trials: All counts per binomial, shape ``(4,)``.
            errors: Counts of opposite sign, shape ``(4,)``.
        """
        before, floor = _inverse(self.covariance), self.floor
        spread = _spread(self.covariance, behind, floor)
        score, information, fit = _score(self.fibre, behind, floor, spread, trials, errors)
        after = _inverse(before + information)
        step = (after @ score[..., None])[..., 0]
        evidence = fit + 0.5 * np.sum(score * step, axis=-1)
        length = np.sqrt(np.einsum("ji,jik,jk->j", step, before, step))
        step *= np.minimum(1, LARGEST_STEP_SIGMA / np.maximum(length, LARGEST_STEP_SIGMA))[:, None]

        gained = np.linalg.eigvals(self.covariance @ information).real.max(axis=-1)
        rich = (gained > LINEAR_INFORMATION) & (self.log_weight > IRRELEVANT_LOG_WEIGHT)
        if np.any(rich):
            known = self.fibre[rich], before[rich], after[rich], floor[rich]
            step[rich], after[rich], evidence[rich] = _iterate(*known, behind, trials, errors)
        shrunk = np.linalg.slogdet(after)[1] - np.linalg.slogdet(self.covariance)[1]
        self._weigh(evidence + 0.5 * shrunk)
        self.fibre = rotation.orthonormal(rotation.exp(step) @ self.fibre)
        self.covariance = 0.5 * (after + np.swapaxes(after, -1, -2))
        self._slide()
        self._move_over()

    def to_dict(self) -> dict[str, Any]:
        """Give the state as plain lists."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RotationFilters:
        """Restore what :meth:`to_dict` gave."""
        return cls(**{name: np.asarray(value, dtype=float) for name, value in stored.items()})

    def _weigh(self, evidence: Array) -> None:
        evidence = np.maximum(evidence - evidence.max(), -MOST_NATS_PER_WINDOW)
        log_weight = FORGETTING * self.log_weight + evidence
        self.log_weight = np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT)

    def _move_over(self) -> None:
        """Follow a drift that leaves the bank's range."""
        weights, (low, high) = self.weights, DRIFT_RANGE_RAD
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
        best = int(np.argmax(self.log_weight))
        if not 0 < best < FILTERS - 1:
            return
        below, peak, above = self.log_weight[best - 1 : best + 2]
        curvature = below - 2 * peak + above
        if curvature < 0:
            away = 0.5 * (below - above) / curvature + BIAS_STEPS
            self.drift_rad = self.drift_rad * SPACING ** (SLIDING * away)

    def _keep(self, index: list[int]) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[index])


def _probability(block: Array, floor: Array) -> Array:
    return 0.5 * (1 - (1 - 2 * floor[:, None]) * block)


def _spread(covariance: Array, behind: Array, floor: Array) -> Array:
    """Average the loss of visibility in the matched bases over the spread, shape ``(J, 4)``."""
    turned = np.diagonal(behind @ covariance @ behind.T, axis1=-2, axis2=-1)
    spread = np.zeros((len(covariance), 4))
    spread[:, 0] = 0.25 * (1 - 2 * floor) * (turned[:, 1] + turned[:, 2])
    spread[:, 3] = 0.25 * (1 - 2 * floor) * (turned[:, 0] + turned[:, 2])
    return np.minimum(spread, 0.5 - floor[:, None])


def _score(
    fibre: Array, behind: Array, floor: Array, spread: Array, trials: Array, errors: Array
) -> tuple[Array, Array, Array]:
    """Evaluate score, shape ``(J, 3)``, information and log likelihood of a window."""
    block, torque = rotated_elements(behind, fibre)
    low = floor[:, None]
    probability = np.clip(_probability(block, floor) + spread, low, 1 - low)
    slope = (floor - 0.5)[:, None, None] * torque
    variance = probability * (1 - probability)
    score = (((errors - trials * probability) / variance)[:, None] @ slope)[:, 0]
    information = np.swapaxes(slope, -1, -2) @ (slope * (trials / variance)[..., None])
    fit = errors * np.log(probability) + (trials - errors) * np.log1p(-probability)
    return score, information, fit.sum(axis=-1)


def _iterate(
    fibre: Array,
    before: Array,
    after: Array,
    floor: Array,
    behind: Array,
    trials: Array,
    errors: Array,
) -> tuple[Array, Array, Array]:
    """Climb to the modes of filters to which the window tells more than they knew.

    Returns:
        Steps, shape ``(J, 3)``, covariances there, and log posterior densities relative to the
        prior's peak, shape ``(J,)``.
    """
    spread = _spread(after, behind, floor)

    def look(at: Array) -> tuple[Array, Array, Array]:
        turned = rotation.exp(at) @ fibre
        score, information, fit = _score(turned, behind, floor, spread, trials, errors)
        pull = (before @ at[..., None])[..., 0]
        return score - pull, before + information, fit - 0.5 * np.sum(at * pull, axis=-1)

    at, share = np.zeros((len(fibre), 3)), np.ones(len(fibre))
    gradient, curvature, height = look(at)
    for _ in range(MOST_ITERATIONS):
        move = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        arrived = np.sum(move * gradient, axis=-1) < CONVERGED_NATS
        if np.all(arrived | (share < SMALLEST_SHARE)):
            break
        tried = at + share[:, None] * move
        new_gradient, new_curvature, new_height = look(tried)
        better = new_height > height
        at[better], gradient[better] = tried[better], new_gradient[better]
        curvature[better], height[better] = new_curvature[better], new_height[better]
        share = np.where(better, 1.0, 0.5 * share)
    return at, _inverse(curvature), height


def _inverse(matrix: Array) -> Array:
    inverse: Array = np.linalg.inv(matrix).astype(np.float64, copy=False)
    return inverse
