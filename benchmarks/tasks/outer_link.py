"""What a method sees of the outer task: knobs to set, and key rates measured from counts."""

import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.outer_twin import KNOBS, OuterOptions, OuterTwin
from benchmarks.tasks.cases import Scoring
from benchmarks.tasks.link import BudgetSpentError, Step
from calibration.measured_key import KeyRate, measured_key_rate

FILE = Path(__file__).with_name("outer.toml")

MOST_SETTINGS = 120
"""A calibration of a bench takes no more: at half a second each, one minute."""


@dataclass(frozen=True)
class Interval:
    """What a method says of the key rate at its recommendation, and what it is."""

    low: float
    high: float
    truth: float


class OuterLink:
    """A whole link, as a method of the benchmark sees it.

    Args:
        twin: The link itself; a method must not look at it.
        budget_photons: Detections that may be looked at.

    Attributes:
        names: Of the knobs.
        limits: Lowest and highest settings, shape ``(2, 7)``.
        photons: Detections so far.
        settings: Exposures so far.
        steps: What was recommended; the excess is the share of the reachable key rate given away.
        intervals: What was said of the key rate, where something was.
        suggestion_s: Processor time before each exposure, this class's own not counted.
    """

    names = KNOBS

    def __init__(self, twin: OuterTwin, *, budget_photons: int) -> None:
        self._twin = twin
        self._budget_photons = budget_photons
        self.limits = twin.limits
        self.photons = 0
        self.settings = 0
        self.steps: list[Step] = []
        self.intervals: list[Interval] = []
        self.suggestion_s: list[float] = []
        self._resumed_s = time.process_time()
        self._thinking_s = 0.0

    @property
    def middle(self) -> NDArray[np.float64]:
        """The setting in force at the start, shape ``(7,)``."""
        return np.asarray(self.limits.mean(axis=0))

    def measure(self, setting: ArrayLike, photons: float) -> KeyRate | None:
        """Set the knobs, count about so many detections, tell the key rate.

        Args:
            setting: Shape ``(7,)``; brought within the limits.
            photons: Detections wanted.

        Returns:
            The key rate in secret bits per signal pulse, or None where nothing was sifted.

        Raises:
            BudgetSpentError: Nothing may be looked at any more.
        """
        self._pause()
        left = self._budget_photons - self.photons
        if left <= 0 or self.settings == MOST_SETTINGS:
            raise BudgetSpentError
        self.suggestion_s.append(self._thinking_s)
        self._thinking_s = 0.0
        knobs = np.clip(np.asarray(setting, dtype=float), *self.limits)
        counts = self._twin.measure(knobs, max(min(photons, left), 1))
        self.photons += counts.clicks + counts.empty_clicks
        self.settings += 1
        mean_photons = self._twin.mean_photons(knobs)
        rate = measured_key_rate(counts, mean_photons) if counts.sifted else None
        self._resumed_s = time.process_time()
        return rate

    def recommend(self, setting: ArrayLike, *, low: float = np.nan, high: float = np.nan) -> None:
        """Say which setting would be used if the search ended here.

        Args:
            setting: Shape ``(7,)``.
            low: Key rate there that is exceeded with a probability of 95 %, if that is claimed.
            high: Key rate there that is not exceeded with a probability of 95 %.
        """
        self._pause()
        knobs = np.clip(np.asarray(setting, dtype=float), *self.limits)
        seconds, loss = self._twin.elapsed_s, self._twin.loss(knobs)
        self.steps.append(Step(self.photons, self.settings, seconds, loss, np.nan))
        if np.isfinite(low):
            self.intervals.append(Interval(low, high, self._twin.key_rate(knobs)))
        self._resumed_s = time.process_time()

    def _pause(self) -> None:
        self._thinking_s += time.process_time() - self._resumed_s


def read(path: Path = FILE) -> tuple[int, Scoring, dict[str, OuterOptions]]:
    """Read the task: its version, its scoring and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = {name: _case(case) for name, case in task["cases"].items()}
    return task["version"], Scoring(**task["scoring"]), cases


def _case(described: Mapping[str, Any]) -> OuterOptions:
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described.items()
    }
    return OuterOptions(**options)
