"""Bank of binomial filters that follow a drifting phase without knowing its drift.

Each filter holds the phase at what is set, together with what turns a change of the setting into a
change of the phase: the drive's scale, the response to temperature, the play. It assumes a random
walk of a certain strength; the weights of the filters come from how well each predicts the counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.tracking.phase_moments import Look, PhaseCounts, look

Array = NDArray[np.float64]

STATES = 4
PHASE, SCALE, WARMTH, PLAY = range(STATES)
"""Phase at what is set, rad; relative error of the phase per drive; rad/K; half width of the play,
in units of the drive."""

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts, rad per square root of a second: two decades in all."""

FORGETTING = 0.01
"""Share of the evidence for each drift that is forgotten while drift doubles the variance."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
IRRELEVANT_LOG_WEIGHT = -8.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""

TELLING_MOVE_RAD = 0.5
"""Change of the drive from which on its scale is learnt. Small ones follow the drift: one that goes
on and on in one direction would look like a drive that does too little."""

DRIFT_RANGE_RAD = (1e-7, 30.0)

FLOOR_MEMORY = 5e6
"""Counts over which the floor is averaged."""

LEAST_FLOOR, LARGEST_FLOOR = 1e-6, 0.45

LARGEST_SIGMA_RAD = 1.2
"""Standard deviation above which a phase is as good as unknown: the grid spans the circle."""


class Expected(NamedTuple):
    """What all filters together expect.

    Attributes:
        phase: At what is set, rad.
        scale: Relative error of the phase per drive.
        rad_per_kelvin: Response to temperature.
        play: Half width of the play, in units of the drive.
        play_sigma: Its standard deviation.
        variance: Of the phase, rad^2.
        drift_variance: Mean square drift, rad^2/s.
        floor: Error probability at phase zero.
    """

    phase: float
    scale: float
    rad_per_kelvin: float
    play: float
    play_sigma: float
    variance: float
    drift_variance: float
    floor: float


@dataclass
class PhaseFilters:
    """State of J filters.

    Attributes:
        drift_rad: Random walk that each assumes in one second, rad, shape ``(J,)``.
        mean: Of phase, scale, response to temperature and play, shape ``(J, 4)``.
        covariance: Shape ``(J, 4, 4)``.
        floor: Error probability at phase zero, as each has learnt it, shape ``(J,)``. A common one
            would let a filter with too weak a drift explain its excess away, for the others too.
        floor_counts: Counts that each floor rests on, shape ``(J,)``.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
        weights: Probability of each filter, shape ``(J,)``.
    """

    drift_rad: Array
    mean: Array
    covariance: Array
    floor: Array
    floor_counts: Array
    log_weight: Array
    weights: Array

    @classmethod
    def around(
        cls, drift_rad: float, mean: Array, covariance: Array, *, floor: float, floor_counts: float
    ) -> PhaseFilters:
        """Spread filters about a guess of the drift, all in one state."""
        steps = np.arange(FILTERS) - FILTERS // 2
        filters = cls(
            drift_rad=np.array(drift_rad * SPACING**steps, dtype=np.float64),
            mean=np.tile(mean, (FILTERS, 1)).astype(np.float64),
            covariance=np.tile(covariance, (FILTERS, 1, 1)).astype(np.float64),
            floor=np.full(FILTERS, floor),
            floor_counts=np.full(FILTERS, floor_counts),
            log_weight=np.zeros(FILTERS),
            weights=np.full(FILTERS, 1 / FILTERS),
        )
        filters._limit()
        return filters

    def expected(self) -> Expected:
        """Sum up what all filters expect."""
        weights = self.weights
        state = weights @ self.mean
        off = self.mean[:, PHASE] - state[PHASE]
        variance = weights @ (self.covariance[:, PHASE, PHASE] + off**2)
        phase, scale, warmth, play = state.tolist()
        play_variance = float(weights @ self.covariance[:, PLAY, PLAY])
        return Expected(
            phase=phase,
            scale=scale,
            rad_per_kelvin=warmth,
            play=max(play, 0.0),
            play_sigma=math.sqrt(max(play_variance, 0.0)),
            variance=float(variance),
            drift_variance=float(weights @ self.drift_rad**2),
            floor=float(weights @ self.floor),
        )

    def spread(self) -> Array:
        """Give the covariance of the state over all filters, shape ``(4, 4)``."""
        apart = self.mean - self.weights @ self.mean
        between = (apart * self.weights[:, None]).T @ apart
        return np.asarray(np.tensordot(self.weights, self.covariance, axes=1) + between)

    def shift(
        self, turned_rad: float, warmed_k: float, reversed_sides: float, dithered_rad: float = 0.0
    ) -> None:
        """Change the setting or the temperature.

        Args:
            turned_rad: Phase that the drive's change adds if the scale is nominal.
            warmed_k: Change of the temperature.
            reversed_sides: Nominal phase per drive, times the change of the side on which the play
                is taken up, rad per drive.
            dithered_rad: What of the change is to and fro, and adds no uncertainty.
        """
        moved = turned_rad - reversed_sides * self.mean[:, PLAY]
        added = moved * (1 + self.mean[:, SCALE]) + warmed_k * self.mean[:, WARMTH]
        self.mean[:, PHASE] += added
        by = np.array([1.0, float(self.weights @ moved), warmed_k, -reversed_sides])
        if abs(by[SCALE]) < TELLING_MOVE_RAD:
            kept = moved - dithered_rad
            self.covariance[:, PHASE, PHASE] += self.covariance[:, SCALE, SCALE] * kept**2
            by[SCALE] = 0.0
        if by[1:].any():
            shifted = self.covariance @ by
            self.covariance[:, PHASE, :] = shifted
            self.covariance[:, :, PHASE] = shifted
            self.covariance[:, PHASE, PHASE] = shifted @ by
        self.turn(0.0)

    def turn(self, by_rad: float) -> None:
        """Add a phase to all, and take off whole turns."""
        phase = self.mean[:, PHASE]
        turns = round((float(self.weights @ phase) + by_rad) / (2 * math.pi))
        phase += by_rad - 2 * math.pi * turns

    def predict(self, duration_s: float) -> None:
        """Let time pass without counts."""
        self.covariance[:, PHASE, PHASE] += self.drift_rad**2 * duration_s
        self._limit()

    def look(self, counts: PhaseCounts, duration_s: float) -> Look:
        """Tell what a window says; its counts come from the mean of the phase over the window."""
        average = self.covariance[:, PHASE, PHASE] + self.drift_rad**2 * (duration_s / 3)
        widest = float(average[self.log_weight > IRRELEVANT_LOG_WEIGHT].max())
        return look(self.mean[:, PHASE], average, self.floor, counts, widest=widest)

    def learn_floor(self, counts: PhaseCounts, duration_s: float) -> None:
        """Average what the matched bases show beyond the prediction; before :meth:`update`."""
        if counts.matched == 0:
            return
        average = self.covariance[:, PHASE, PHASE] + self.drift_rad**2 * (duration_s / 3)
        contrast = (1 - 2 * self.floor) * np.exp(-0.5 * average)
        wrong = 0.5 * (1 - contrast * np.cos(self.mean[:, PHASE]))
        beyond = (counts.wrong - wrong * counts.matched) / (self.floor_counts + counts.matched)
        self.floor = np.minimum(np.maximum(self.floor + beyond, LEAST_FLOOR), LARGEST_FLOOR)
        self.floor_counts = np.minimum(self.floor_counts + counts.matched, FLOOR_MEMORY)

    def update(self, seen: Look, duration_s: float) -> None:
        """Take in what a window says, of the phase and of the drift, and let its time pass."""
        walked = self.drift_rad**2 * duration_s
        average = self.covariance[:, PHASE, PHASE] + walked / 3
        with_average = self.covariance[:, PHASE].copy()
        with_average[:, PHASE] += walked / 2
        gain = with_average / average[:, None]
        self.mean += gain * (seen.mean - self.mean[:, PHASE])[:, None]
        self.covariance[:, PHASE, PHASE] += walked
        lost = (average - seen.variance)[:, None, None]
        self.covariance -= lost * gain[:, :, None] * gain[:, None, :]
        self._limit()
        best = int(self.weights.argmax())
        share = min(float(walked[best] / self.covariance[best, PHASE, PHASE]), 1.0)
        self._weigh(seen.evidence, share)
        self._move_over()

    def to_dict(self) -> dict[str, Any]:
        """Give the state as plain lists."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PhaseFilters:
        """Restore what :meth:`to_dict` gave."""
        return cls(**{name: np.asarray(value, dtype=float) for name, value in stored.items()})

    def _limit(self) -> None:
        """Keep the variance of the phase to what is left of a circle."""
        variance = self.covariance[:, PHASE, PHASE]
        if variance.max() > LARGEST_SIGMA_RAD**2:
            shrunk = np.minimum(LARGEST_SIGMA_RAD / np.sqrt(variance), 1.0)[:, None]
            self.covariance[:, PHASE, :] *= shrunk
            self.covariance[:, :, PHASE] *= shrunk

    def _weigh(self, evidence: Array, share: float) -> None:
        evidence = np.maximum(evidence - evidence.max(), -MOST_NATS_PER_WINDOW)
        log_weight = (1 - FORGETTING * share) * self.log_weight + evidence
        self.log_weight = np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT)
        self._normalise()

    def _normalise(self) -> None:
        weights = np.exp(self.log_weight)
        self.weights = weights / weights.sum()

    def _move_over(self) -> None:
        """Follow a drift that leaves the bank's range."""
        low, high = DRIFT_RANGE_RAD
        if self.weights[-1] > EDGE_WEIGHT and self.drift_rad[-1] * SPACING < high:
            self._keep([*range(1, FILTERS), FILTERS - 1])
            self.drift_rad[-1] *= SPACING
        elif self.weights[0] > EDGE_WEIGHT and self.drift_rad[0] / SPACING > low:
            self._keep([0, *range(FILTERS - 1)])
            self.drift_rad[0] /= SPACING

    def _keep(self, index: list[int]) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[index])
        self._normalise()
