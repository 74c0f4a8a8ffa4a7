"""Which of several random walks explains the data: the evidence that a bank of filters gathers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILTERS = 9
SPACING = 10**0.25
"""Ratio of neighbouring drifts, per square root of a second: two decades in all."""

FORGETTING = 0.9995
"""Per window, of the evidence for each drift."""

MOST_NATS_PER_WINDOW = 5.0
"""Evidence against a filter that one window can give: a burst must not decide alone."""

LEAST_LOG_WEIGHT = -20.0
EDGE_WEIGHT = 0.5
"""Weight of the strongest or weakest drift above which the bank moves over by one."""


@dataclass
class DriftBank:
    """J drifts on a logarithmic grid, and how plausible each is.

    Attributes:
        drift: What each filter assumes per square root of a second, ascending, shape ``(J,)``.
        span: Lowest and highest drift that the bank follows the data to.
        log_weight: Logarithm of its plausibility, shape ``(J,)``, largest 0.
    """

    drift: Array
    span: tuple[float, float]
    log_weight: Array

    @classmethod
    def around(cls, drift: float, span: tuple[float, float]) -> DriftBank:
        """Spread drifts about a guess."""
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(np.asarray(drift * SPACING**steps), span, np.zeros(FILTERS))

    @property
    def weights(self) -> Array:
        """Probability of each drift, shape ``(J,)``."""
        weights = np.exp(self.log_weight - self.log_weight.max())
        return np.asarray(weights / weights.sum())

    @property
    def drift_variance(self) -> float:
        """Mean square drift in one second."""
        return float(self.weights @ self.drift**2)

    def weigh(self, evidence: Array) -> NDArray[np.intp]:
        """Take in the log evidence of one window, and follow a drift that leaves the bank.

        Args:
            evidence: Log probability of what was seen by each filter, shape ``(J,)``.

        Returns:
            From which filter's state each of them goes on, shape ``(J,)``.
        """
        evidence = np.maximum(evidence - evidence.max(), -MOST_NATS_PER_WINDOW)
        log_weight = FORGETTING * self.log_weight + evidence
        self.log_weight = np.maximum(log_weight - log_weight.max(), LEAST_LOG_WEIGHT)
        weights, (low, high), kept = self.weights, self.span, np.arange(FILTERS)
        if weights[-1] > EDGE_WEIGHT and self.drift[-1] * SPACING < high:
            kept = np.minimum(kept + 1, FILTERS - 1)
            self.drift = self.drift * SPACING
        elif weights[0] > EDGE_WEIGHT and self.drift[0] / SPACING > low:
            kept = np.maximum(kept - 1, 0)
            self.drift = self.drift / SPACING
        self.log_weight = self.log_weight[kept]
        return kept
