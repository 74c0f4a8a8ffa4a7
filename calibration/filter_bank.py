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
from calibration.retarders import rotated_elements

Array = NDArray[np.float64]

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts: two decades in all; coarser grids cost 10 % more excess."""

FORGETTING = 0.9995
"""Per window, of the evidence for each drift."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""

DRIFT_RANGE_RAD = (1e-7, 30.0)

LINEAR_INFORMATION = 1.0
"""Information of a window, times the variance before, up to which one step of scoring is exact
enough. Iterating there would be biased; a single step with more information could diverge."""

MOST_ITERATIONS = 12
CONVERGED_NATS = 1e-3
LARGEST_STEP_SIGMA = 4.0
"""Length of a single step, in prior standard deviations, beyond which counts are an outlier."""


@dataclass
class FilterBank:
    """State of J filters; rotations ``exp([x]x) fibre`` with ``x ~ N(0, covariance)``.

    Attributes:
        drift_rad: Random walk that each assumes, per axis in one second, rad, shape ``(J,)``.
        fibre: Rotation in front of the controller, shape ``(J, 3, 3)``.
        covariance: Shape ``(J, 3, 3)``, rad^2.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
    """

    drift_rad: Array
    fibre: Array
    covariance: Array
    log_weight: Array

    @classmethod
    def around(cls, drift_rad: float, fibre: Array, covariance: Array) -> FilterBank:
        """Spread filters about a guess of the drift, all in one state."""
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(
            drift_rad=drift_rad * SPACING**steps,
            fibre=np.repeat(fibre[None], FILTERS, axis=0),
            covariance=np.repeat(covariance[None], FILTERS, axis=0),
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

    def expected(self, behind: Array, floor: float) -> Array:
        """Predict the error probabilities, the spread of the rotation included.

        Args:
            behind: Rotation behind the fibre, controller and receiver, shape ``(3, 3)``.
            floor: QBER at perfect alignment.

        Returns:
            Shape ``(J, 4)``: ``ab`` flattened, measured basis by sent basis.
        """
        block, _ = rotated_elements(behind, self.fibre)
        return _probability(block, floor) + _spread(self.covariance, behind, floor)

    def update(self, behind: Array, floor: float, trials: Array, errors: Array) -> None:
        """Learn from one window.

        Args:
            behind: Rotation behind the fibre while counting, shape ``(3, 3)``.
            floor: QBER at perfect alignment.
            trials: All counts per binomial, shape ``(4,)``.
            errors: Counts of opposite sign, shape ``(4,)``.
        """
        before = np.linalg.inv(self.covariance)
        spread = _spread(self.covariance, behind, floor)
        score, information, fit = _score(self.fibre, behind, floor, spread, trials, errors)
        after = np.linalg.inv(before + information)
        step = (after @ score[..., None])[..., 0]
        evidence = fit + 0.5 * np.sum(score * step, axis=-1)
        length = np.sqrt(np.einsum("ji,jik,jk->j", step, before, step))
        step *= np.minimum(1, LARGEST_STEP_SIGMA / np.maximum(length, LARGEST_STEP_SIGMA))[:, None]

        gained = np.linalg.eigvals(self.covariance @ information).real.max(axis=-1)
        for j in np.flatnonzero(gained > LINEAR_INFORMATION):
            one = self.fibre[j], before[j], after[j]
            step[j], after[j], evidence[j] = _iterate(*one, behind, floor, trials, errors)

        shrunk = np.linalg.slogdet(after)[1] - np.linalg.slogdet(self.covariance)[1]
        self._weigh(evidence + 0.5 * shrunk)
        self.fibre = rotation.orthonormal(rotation.exp(step) @ self.fibre)
        self.covariance = 0.5 * (after + np.swapaxes(after, -1, -2))
        self._move_over()

    def to_dict(self) -> dict[str, Any]:
        """Give the state as plain lists."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FilterBank:
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

    def _keep(self, index: list[int]) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[index])


def _probability(block: Array, floor: float) -> Array:
    return 0.5 * (1 - (1 - 2 * floor) * block)


def _spread(covariance: Array, behind: Array, floor: float) -> Array:
    """Average the loss of visibility in the matched bases over the spread, shape ``(J, 4)``."""
    turned = np.diagonal(behind @ covariance @ behind.T, axis1=-2, axis2=-1)
    spread = np.zeros((len(covariance), 4))
    spread[:, 0] = 0.25 * (1 - 2 * floor) * (turned[:, 1] + turned[:, 2])
    spread[:, 3] = 0.25 * (1 - 2 * floor) * (turned[:, 0] + turned[:, 2])
    return np.minimum(spread, 0.5 - floor)


def _score(
    fibre: Array, behind: Array, floor: float, spread: Array, trials: Array, errors: Array
) -> tuple[Array, Array, Array]:
    """Evaluate score, shape ``(J, 3)``, information and log likelihood of a window."""
    block, torque = rotated_elements(behind, fibre)
    probability = np.clip(_probability(block, floor) + spread, floor, 1 - floor)
    slope = -0.5 * (1 - 2 * floor) * torque
    variance = probability * (1 - probability)
    score = (((errors - trials * probability) / variance)[:, None] @ slope)[:, 0]
    information = np.swapaxes(slope, -1, -2) @ (slope * (trials / variance)[..., None])
    fit = errors * np.log(probability) + (trials - errors) * np.log1p(-probability)
    return score, information, fit.sum(axis=-1)


def _iterate(
    fibre: Array,
    before: Array,
    after: Array,
    behind: Array,
    floor: float,
    trials: Array,
    errors: Array,
) -> tuple[Array, Array, float]:
    """Climb to the mode of one filter's posterior, for windows that tell more than was known.

    Returns:
        Step, shape ``(3,)``, covariance there, and log posterior density relative to the prior's
        peak.
    """
    spread = _spread(after[None], behind, floor)
    step = np.zeros(3)

    def look(at: Array) -> tuple[Array, Array, float]:
        turned = (rotation.exp(at) @ fibre)[None]
        score, information, fit = _score(turned, behind, floor, spread, trials, errors)
        pull = before @ at
        return score[0] - pull, information[0] + before, float(fit[0] - 0.5 * at @ pull)

    gradient, curvature, height = look(step)
    for _ in range(MOST_ITERATIONS):
        move = np.linalg.solve(curvature, gradient)
        if move @ gradient < CONVERGED_NATS:
            break
        share = 1.0
        trial = look(step + move)
        while trial[2] < height and share > 1e-3:
            share /= 2
            trial = look(step + share * move)
        if trial[2] < height:
            break
        step = step + share * move
        gradient, curvature, height = trial
    return step, np.linalg.inv(curvature), height
