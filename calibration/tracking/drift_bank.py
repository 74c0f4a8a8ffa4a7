"""Which of several random walks explains the data: the evidence that a bank of filters gathers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        weights: Its probability, shape ``(J,)``.
        drift_variance: Mean square drift in one second.
    """

    drift: Array
    span: tuple[float, float]
    log_weight: Array
    weights: Array = field(init=False)
    drift_variance: float = field(init=False)

    def __post_init__(self) -> None:
        self._normalise()

    @classmethod
    def around(cls, drift: float, span: tuple[float, float]) -> DriftBank:
        """Spread drifts about a guess."""
        steps = np.arange(FILTERS) - FILTERS // 2
        return cls(np.asarray(drift * SPACING**steps), span, np.zeros(FILTERS))

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-able description; :meth:`from_dict` restores it."""
        return {"drift": self.drift.tolist(), "log_weight": self.log_weight.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], span: tuple[float, float]) -> DriftBank:
        """Restore what :meth:`to_dict` gave.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed.
        """
        drift, log_weight = stored_array(stored, "drift"), stored_array(stored, "log_weight")
        if not (drift > 0).all():
            raise ValueError("malformed tracker: a drift is not positive")
        return cls(drift, span, log_weight - log_weight.max())

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
        self._normalise()
        weights, (low, high), kept = self.weights, self.span, np.arange(FILTERS)
        if weights[-1] > EDGE_WEIGHT and self.drift[-1] * SPACING < high:
            kept = np.minimum(kept + 1, FILTERS - 1)
            self.drift = self.drift * SPACING
        elif weights[0] > EDGE_WEIGHT and self.drift[0] / SPACING > low:
            kept = np.maximum(kept - 1, 0)
            self.drift = self.drift / SPACING
        self.log_weight = self.log_weight[kept]
        self._normalise()
        return kept

    def _normalise(self) -> None:
        weights = np.exp(self.log_weight)
        self.weights = np.asarray(weights / weights.sum())
        self.drift_variance = float(self.weights @ self.drift**2)


def stored_array(stored: Mapping[str, Any], name: str, *per_filter: int) -> Array:
    """Read one array of a stored bank: a finite number, or several, for each filter.

    Raises:
        KeyError: It is missing.
        ValueError: It is malformed.
    """
    values = np.array(stored[name], dtype=np.float64)
    if values.shape != (FILTERS, *per_filter) or not np.isfinite(values).all():
        raise ValueError(f"malformed tracker: {name} is not a number for each of {FILTERS} filters")
    return values
