"""Bank of Poisson filters that follow the null of an intensity modulator.

In pulses that should be empty a Mach-Zehnder lets through ``floor + (1 - cos phi) / 2`` of the
light of its peak, with ``phi`` the phase between its arms, zero at the null. Each filter holds
phase and floor with their covariance, and assumes a random walk of the phase of a certain strength.
A window updates both by Bayes' rule on a grid of phases, with a linear update of the floor at each,
and keeps the moments (assumed density). Without the covariance either would explain away what the
other one means: a window tells their sum alone, and which it was shows over windows of both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from calibration.tracking.drift_bank import FILTERS, DriftBank, stored_array

Array = NDArray[np.float64]

DRIFT_SPAN_RAD = (1e-6, 1.0)

FLOOR_SIGMA = 0.7
"""Relative standard error of the first guess of the floor."""

FLOOR_DRIFT = 5e-4
"""Random walk of the floor, relative, per root of a second."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-7, 0.3

STATE = "phase", "variance", "floor", "floor_variance", "covariance"
"""Arrays that make up the state of the filters beside their bank."""

GRID_SIGMAS = np.linspace(-5, 5, 41)

COARSE_SHARE = 0.25
"""Variance after a window over that before it below which the grid is drawn anew, more finely."""

LARGEST_SIGMA_RAD = 1.2
"""Standard deviation above which a phase is as good as unknown."""

LARGEST_CORRELATION = 0.999


class WindowCounts(NamedTuple):
    """What one window tells a filter.

    Attributes:
        turned_rad: Phase that the bias added while counting.
        seen: Counts in the pulses that should be empty.
        light: What they would hold at the modulator's peak.
        background: Expected counts among them that are not light.
    """

    turned_rad: float
    seen: float
    light: float
    background: float


@dataclass
class NullFilters:
    """State of J filters; all arrays but the bank's of shape ``(J,)``.

    Attributes:
        bank: The drift that each assumes, rad per root of a second.
        phase: Mean, rad.
        variance: rad^2.
        floor: Mean share of the peak's light at the null.
        floor_variance: Its variance.
        covariance: Of phase and floor, rad.
    """

    bank: DriftBank
    phase: Array
    variance: Array
    floor: Array
    floor_variance: Array
    covariance: Array

    @classmethod
    def around(cls, drift_rad: float, variance: float, floor: float) -> NullFilters:
        """Spread filters about a guess of the drift, all at phase zero and one floor."""
        return cls(
            bank=DriftBank.around(drift_rad, DRIFT_SPAN_RAD),
            phase=np.zeros(FILTERS),
            variance=np.full(FILTERS, min(variance, LARGEST_SIGMA_RAD**2)),
            floor=np.full(FILTERS, floor),
            floor_variance=np.full(FILTERS, (FLOOR_SIGMA * floor) ** 2),
            covariance=np.zeros(FILTERS),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-able description; :meth:`from_dict` restores it."""
        return self.bank.to_dict() | {name: getattr(self, name).tolist() for name in STATE}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> NullFilters:
        """Restore what :meth:`to_dict` gave.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed.
        """
        state = {name: stored_array(stored, name) for name in STATE}
        if not min(state[name].min() for name in ("variance", "floor", "floor_variance")) > 0:
            raise ValueError("malformed tracker: variances and floor must be positive")
        return cls(DriftBank.from_dict(stored, DRIFT_SPAN_RAD), **state)

    def mixture(self) -> tuple[float, float]:
        """Give mean phase, rad, and variance about it, rad^2."""
        return _mixture(self.bank.weights, self.phase, self.variance)

    def floor_mixture(self) -> tuple[float, float]:
        """Give the mean floor and the variance about it."""
        return _mixture(self.bank.weights, self.floor, self.floor_variance)

    def predict(self, duration_s: float, other_variance: float = 0.0) -> None:
        """Let time pass; a variance may be added whatever the drift, rad^2."""
        grown = self.variance + self.bank.drift**2 * duration_s + other_variance
        self.variance = np.minimum(grown, LARGEST_SIGMA_RAD**2)
        grown = self.floor_variance + (FLOOR_DRIFT * self.floor) ** 2 * duration_s
        self.floor_variance = np.minimum(grown, (FLOOR_SIGMA * self.floor) ** 2)
        largest = LARGEST_CORRELATION * np.sqrt(self.variance * self.floor_variance)
        self.covariance = np.clip(self.covariance, -largest, largest)

    def update(self, counts: WindowCounts) -> None:
        """Learn phase, floor and drift from one window."""
        sigma = np.sqrt(self.variance)
        moments, evidence = self._moments(self.phase, sigma, counts)
        if bool((moments["variance"] < COARSE_SHARE * self.variance).any()):
            sigma = np.sqrt(moments["variance"])
            moments, evidence = self._moments(moments["phase"], sigma, counts)
        kept = self.bank.weigh(evidence)
        for name in STATE:
            setattr(self, name, moments[name][kept])

    def _moments(
        self, centre: Array, sigma: Array, counts: WindowCounts
    ) -> tuple[dict[str, Array], Array]:
        """Return moments of prior times likelihood and the log evidence, from a grid.

        The grids reach five times ``sigma`` to either side of ``centre``, both of shape ``(J,)``.
        """
        grid = centre[:, None] + sigma[:, None] * GRID_SIGMAS
        floor, spread = self._floor_at(grid)
        passed = np.maximum(floor, LEAST_FLOOR) + 0.5 - 0.5 * np.cos(grid + counts.turned_rad)
        expected = counts.light * passed + counts.background
        # An unknown floor widens the Poisson distribution of the counts.
        wider = 1 + counts.light**2 * spread / expected.mean(axis=-1, keepdims=True)
        deviance = expected - counts.seen + xlogy(counts.seen, counts.seen / expected)
        prior = 0.5 * (grid - self.phase[:, None]) ** 2 / self.variance[:, None]
        log_density = -deviance / wider - prior
        highest = log_density.max(axis=-1, keepdims=True)
        density = np.exp(log_density - highest)
        total = density.sum(axis=-1, keepdims=True)
        step = sigma * (GRID_SIGMAS[1] - GRID_SIGMAS[0])
        evidence = (highest + np.log(total) - 0.5 * np.log(wider))[:, 0]
        gain = counts.light * spread / (expected + counts.light**2 * spread)
        floor += gain * (counts.seen - expected)
        moments = _joint(density / total, grid, floor, spread * (1 - counts.light * gain))
        # A peak between two grid points would look infinitely sharp.
        moments["variance"] = np.maximum(moments["variance"], (0.3 * step) ** 2)
        return moments, evidence + np.log(step) - 0.5 * np.log(self.variance)

    def _floor_at(self, grid: Array) -> tuple[Array, Array]:
        """Return mean and variance of the floor where the phase is known."""
        slope = self.covariance / self.variance
        floor = self.floor[:, None] + slope[:, None] * (grid - self.phase[:, None])
        return floor, (self.floor_variance - self.covariance * slope)[:, None]


def _joint(density: Array, phase: Array, floor: Array, floor_variance: Array) -> dict[str, Array]:
    """Return the moments of a density over phases with a Gaussian floor at each, shape (J, G)."""
    mean_phase, mean_floor = (density * phase).sum(axis=-1), (density * floor).sum(axis=-1)
    off, beside = phase - mean_phase[:, None], floor - mean_floor[:, None]
    return {
        "phase": mean_phase,
        "variance": (density * off**2).sum(axis=-1),
        "floor": np.clip(mean_floor, LEAST_FLOOR, LARGEST_FLOOR),
        "floor_variance": (density * (floor_variance + beside**2)).sum(axis=-1),
        "covariance": (density * off * beside).sum(axis=-1),
    }


def _mixture(weights: Array, mean: Array, variance: Array) -> tuple[float, float]:
    middle = float(weights @ mean)
    return middle, float(weights @ (variance + (mean - middle) ** 2))
