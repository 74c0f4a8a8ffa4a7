"""Bank of binomial filters that follow a drifting phase without knowing its drift.

Each filter holds a phase and its variance and assumes a random walk of a certain strength. A window
updates it by Bayes' rule on a grid of phases, and keeps mean and variance (assumed density): exact
for one window, whether it tells little or much. The weights of the filters come from how well each
predicts the counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts, rad per square root of a second: two decades in all."""

FORGETTING = 0.9995
"""Per window, of the evidence for each drift."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""

DRIFT_RANGE_RAD = (1e-7, 30.0)

FLOOR_MEMORY = 5e6
"""Counts over which the floor is averaged."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-6, 0.45

GRID_SIGMAS = np.linspace(-6, 6, 61)
LARGEST_SIGMA_RAD = 1.2
"""Standard deviation above which a phase is as good as unknown: the grid spans the circle."""


@dataclass
class PhaseFilters:
    """State of J filters.

    Attributes:
        offsets: Phase at which each binomial has its fewest errors, rad, shape ``(R,)``.
        drift_rad: Random walk that each assumes in one second, rad, shape ``(J,)``.
        phase: Mean, rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        floor: Error probability at phase zero, as each has learnt it, shape ``(J,)``.
        floor_counts: Counts that each floor rests on, shape ``(J,)``.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
    """

    offsets: Array
    drift_rad: Array
    phase: Array
    variance: Array
    floor: Array
    floor_counts: Array
    log_weight: Array

    @classmethod
    def around(
        cls,
        drift_rad: float,
        phase: float,
        variance: float,
        *,
        floor: float,
        floor_counts: float,
        offsets: Array,
    ) -> PhaseFilters:
        """Spread filters about a guess of the drift, all in one state."""
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(
            offsets=offsets,
            drift_rad=np.array(drift_rad * SPACING**steps, dtype=np.float64),
            phase=np.full(FILTERS, phase),
            variance=np.full(FILTERS, min(variance, LARGEST_SIGMA_RAD**2)),
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
        """Mean square drift, rad^2/s."""
        return float(self.weights @ self.drift_rad**2)

    def mixture(self) -> tuple[float, float]:
        """Give mean phase, rad, and variance about it, rad^2."""
        weights = self.weights
        mean = float(weights @ self.phase)
        return mean, float(weights @ (self.variance + (self.phase - mean) ** 2))

    def predict(self, duration_s: float, other_variance: float = 0.0) -> None:
        """Let time pass.

        Args:
            duration_s: How long.
            other_variance: Added whatever the drift, rad^2.
        """
        grown = self.variance + self.drift_rad**2 * duration_s + other_variance
        self.variance = np.minimum(grown, LARGEST_SIGMA_RAD**2)

    def learn_floor(self, turned_rad: float, trials: Array, errors: Array) -> None:
        """Average what the matched bases show beyond the prediction; before :meth:`update`.

        Args:
            turned_rad: Phase that the drive adds while counting.
            trials: Counts of each binomial, shape ``(R,)``.
            errors: Counts of opposite sign, shape ``(R,)``.
        """
        is_matched = self.offsets == 0
        matched, wrong = float(trials[is_matched].sum()), float(errors[is_matched].sum())
        if matched == 0:
            return
        contrast = (1 - 2 * self.floor) * np.exp(-0.5 * self.variance)
        expected = 0.5 * (1 - contrast * np.cos(self.phase + turned_rad))
        floor = self.floor + (wrong - expected * matched) / (self.floor_counts + matched)
        self.floor = np.clip(floor, LEAST_FLOOR, LARGEST_FLOOR)
        self.floor_counts = np.minimum(self.floor_counts + matched, FLOOR_MEMORY)

    def update(self, turned_rad: float, trials: Array, errors: Array) -> None:
        """Learn the phase and the drift from one window.

        Args:
            turned_rad: Phase that the drive adds while counting.
            trials: Counts of each binomial, shape ``(R,)``.
            errors: Counts of opposite sign, shape ``(R,)``.
        """
        counts = turned_rad, trials, errors
        coarse, spread, _ = self._moments(self.phase, np.sqrt(self.variance), *counts)
        self.phase, self.variance, evidence = self._moments(coarse, np.sqrt(spread), *counts)
        evidence = np.maximum(evidence - evidence.max(), -MOST_NATS_PER_WINDOW)
        log_weight = FORGETTING * self.log_weight + evidence
        self.log_weight = np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT)
        self._move_over()

    def _moments(
        self, centre: Array, sigma: Array, turned_rad: float, trials: Array, errors: Array
    ) -> tuple[Array, Array, Array]:
        """Return mean, variance and log evidence of prior times likelihood, on a grid.

        Args:
            centre: Middle of each filter's grid, rad, shape ``(J,)``.
            sigma: A sixth of the grid's half width, rad, shape ``(J,)``.
            turned_rad: Phase that the drive adds while counting.
            trials: Counts, shape ``(R,)``.
            errors: Counts of opposite sign, shape ``(R,)``.
        """
        grid = centre[:, None] + sigma[:, None] * GRID_SIGMAS
        behind = grid[..., None] + turned_rad - self.offsets
        visibility = (1 - 2 * self.floor)[:, None, None]
        probability = 0.5 * (1 - visibility * np.cos(behind))
        fit = errors * np.log(probability) + (trials - errors) * np.log1p(-probability)
        apart = grid - self.phase[:, None]
        log_density = fit.sum(axis=-1) - 0.5 * apart**2 / self.variance[:, None]
        highest = log_density.max(axis=-1, keepdims=True)
        density = np.exp(log_density - highest)
        total = density.sum(axis=-1)
        mean = (density * grid).sum(axis=-1) / total
        variance = (density * (grid - mean[:, None]) ** 2).sum(axis=-1) / total
        step = sigma * (GRID_SIGMAS[1] - GRID_SIGMAS[0])
        evidence = highest[:, 0] + np.log(total * step) - 0.5 * np.log(self.variance)
        # A peak between two grid points would look infinitely sharp.
        return mean, np.maximum(variance, (0.3 * step) ** 2), evidence

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
            if name != "offsets":
                setattr(self, name, value[index])
