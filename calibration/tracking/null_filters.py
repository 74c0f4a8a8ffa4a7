"""Bank of Poisson filters that follow the null of an intensity modulator.

In pulses that should be empty a Mach-Zehnder lets through ``floor + (1 - cos phi) / 2`` of the
light of its peak, with ``phi`` the phase between its arms, zero at the null. Each filter holds a
phase and its variance and assumes a random walk of a certain strength. A window updates it by
Bayes' rule on a grid of phases, and keeps mean and variance (assumed density).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.tracking.drift_bank import FILTERS, DriftBank, stored_array

Array = NDArray[np.float64]

DRIFT_SPAN_RAD = (1e-6, 1.0)

FLOOR_MEMORY = 5e6, 100.0
"""Counts of light, and windows, over which the floor is averaged at least."""

LARGEST_FLOOR_GAIN = 0.03
"""Share of what a window shows beyond the prediction that the floor takes at most: dither makes
windows differ, and that is not to be explained away."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-7, 0.3

STATE = "phase", "variance", "floor", "floor_light"
"""Arrays that make up the state of the filters beside their bank."""

GRID_SIGMAS = np.linspace(-6, 6, 61)
COARSE_SHARE = 0.25
"""Variance after a window over that before it below which the grid is drawn anew, more finely."""

LARGEST_SIGMA_RAD = 1.2
"""Standard deviation above which a phase is as good as unknown."""


@dataclass
class NullFilters:
    """State of J filters.

    Attributes:
        bank: The drift that each assumes, rad per root of a second.
        phase: Mean, rad, shape ``(J,)``.
        variance: rad^2, shape ``(J,)``.
        floor: Share of the peak's light at the null, as each has learnt it, shape ``(J,)``.
        floor_light: Counts of light that each floor rests on, shape ``(J,)``.
    """

    bank: DriftBank
    phase: Array
    variance: Array
    floor: Array
    floor_light: Array

    @classmethod
    def around(
        cls, drift_rad: float, variance: float, floor: float, floor_light: float
    ) -> NullFilters:
        """Spread filters about a guess of the drift, all at phase zero."""
        return cls(
            bank=DriftBank.around(drift_rad, DRIFT_SPAN_RAD),
            phase=np.zeros(FILTERS),
            variance=np.full(FILTERS, min(variance, LARGEST_SIGMA_RAD**2)),
            floor=np.full(FILTERS, floor),
            floor_light=np.full(FILTERS, floor_light),
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
        if not min(state["variance"].min(), state["floor"].min(), state["floor_light"].min()) > 0:
            raise ValueError("malformed tracker: variance, floor and floor_light must be positive")
        return cls(DriftBank.from_dict(stored, DRIFT_SPAN_RAD), **state)

    def mixture(self) -> tuple[float, float]:
        """Give mean phase, rad, and variance about it, rad^2."""
        weights = self.bank.weights
        mean = float(weights @ self.phase)
        return mean, float(weights @ (self.variance + (self.phase - mean) ** 2))

    def mean_floor(self) -> tuple[float, float]:
        """Give the mean floor and its standard error."""
        floor = float(self.bank.weights @ self.floor)
        return floor, float(np.sqrt(floor / self.floor_light.max()))

    def predict(self, duration_s: float, other_variance: float = 0.0) -> None:
        """Let time pass; a variance may be added whatever the drift, rad^2."""
        grown = self.variance + self.bank.drift**2 * duration_s + other_variance
        self.variance = np.minimum(grown, LARGEST_SIGMA_RAD**2)

    def learn_floor(self, turned_rad: float, seen: float, light: float, background: float) -> None:
        """Average what is seen beyond the prediction; before :meth:`update`.

        Args:
            turned_rad: Phase that the bias adds while counting.
            seen: Counts in the pulses that should be empty.
            light: What they would hold at the modulator's peak.
            background: Expected counts among them that are not light.
        """
        off, spread = self.phase + turned_rad, self.variance
        excess = (1 - np.exp(-0.5 * spread) * np.cos(off)) / 2
        expected = light * (self.floor + excess) + background
        # What the phase may do to the counts beside their own noise says nothing of the floor.
        unsure = light**2 * (spread**2 / 8 + np.sin(off) ** 2 * spread / 4)
        weight = light * expected / (expected + unsure)
        gain = np.minimum(weight / (self.floor_light + weight), LARGEST_FLOOR_GAIN)
        floor = self.floor + gain * (seen - expected) / light
        self.floor = np.clip(floor, LEAST_FLOOR, LARGEST_FLOOR)
        counts, windows = FLOOR_MEMORY
        memory = np.maximum(counts, windows * weight)
        self.floor_light = np.minimum(self.floor_light + weight, memory)

    def update(self, turned_rad: float, seen: float, light: float, background: float) -> None:
        """Learn the phase and the drift from one window; arguments as of :meth:`learn_floor`."""
        counts = turned_rad, seen, light, background
        prior, moments = self.variance, self._moments(self.phase, np.sqrt(self.variance), *counts)
        if bool((moments[1] < COARSE_SHARE * prior).any()):
            moments = self._moments(moments[0], np.sqrt(moments[1]), *counts)
        self.phase, self.variance, evidence = moments
        kept = self.bank.weigh(evidence)
        for name in STATE:
            setattr(self, name, getattr(self, name)[kept])

    def _moments(
        self,
        centre: Array,
        sigma: Array,
        turned_rad: float,
        seen: float,
        light: float,
        background: float,
    ) -> tuple[Array, Array, Array]:
        """Return mean, variance and log evidence of prior times likelihood, on a grid.

        The grids reach six times ``sigma`` to either side of ``centre``, both of shape ``(J,)``.
        """
        grid = centre[:, None] + sigma[:, None] * GRID_SIGMAS
        passed = self.floor[:, None] + 0.5 - 0.5 * np.cos(grid + turned_rad)
        expected = light * passed + background
        apart = grid - self.phase[:, None]
        log_density = seen * np.log(expected) - expected
        log_density -= 0.5 * apart**2 / self.variance[:, None]
        highest = log_density.max(axis=-1, keepdims=True)
        density = np.exp(log_density - highest)
        total = density.sum(axis=-1)
        mean = (density * grid).sum(axis=-1) / total
        variance = (density * (grid - mean[:, None]) ** 2).sum(axis=-1) / total
        step = sigma * (GRID_SIGMAS[1] - GRID_SIGMAS[0])
        evidence = highest[:, 0] + np.log(total * step) - 0.5 * np.log(self.variance)
        # A peak between two grid points would look infinitely sharp.
        return mean, np.maximum(variance, (0.3 * step) ** 2), evidence
