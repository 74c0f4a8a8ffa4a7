"""Twin of a link over a day: its fibre walks, warms, sways in the wind, is knocked, is cut."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.tracking_twin import Held, TrackingOptions, TrackingTwin

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DayOptions(TrackingOptions):
    """What the bench is like, and its weather.

    Attributes:
        day_s: Length of a day, s.
        gusts: Standard deviation of the logarithm of the drift: wind comes and goes.
        gust_s: Time in which the wind changes.
        warmth_rad: Turn of the fibre about some axis from night to day, and back.
        knocks: Sudden turns in a day, at any time.
        knock_rad: Standard deviation of each, per axis.
        cuts: Times in a day that the fibre is cut; what is there afterwards is another fibre.
        cut_s: How long the link is dark then.
    """

    dark_probability: float = 1e-6
    day_s: float = 86_400.0
    gusts: float = 0.0
    gust_s: float = 300.0
    warmth_rad: float = 0.0
    knocks: int = 0
    knock_rad: float = 0.0
    cuts: int = 0
    cut_s: float = 0.0


class DayTwin(TrackingTwin):
    """One bench and its day, drawn at random.

    Args:
        seed: Fixes the bench, its weather and all noise.
        options: What it is like.

    Attributes:
        lit_s: Time with light on the fibre so far, once it drifts.
    """

    options: DayOptions

    def __init__(self, seed: int, options: DayOptions) -> None:
        super().__init__(seed, options)
        weather = np.random.default_rng([seed, 0xDA])
        self._axis = Rotation.random(rng=weather).as_matrix()[0]
        self._noon_rad = weather.uniform(0, 2 * np.pi)
        self._knocks_at_s = np.sort(weather.uniform(0, options.day_s, options.knocks))
        self._knocks = options.knock_rad * weather.normal(size=(options.knocks, 3))
        self._cuts_at_s = np.sort(weather.uniform(0, options.day_s, options.cuts))
        self._others = Rotation.random(options.cuts, rng=weather).as_rotvec()
        self._gust = 0.0
        self.lit_s = 0.0

    @property
    def is_dark(self) -> bool:
        """Whether the fibre is cut at this moment."""
        since_s = self.elapsed_s - self._cuts_at_s
        return bool(np.any((since_s >= 0) & (since_s < self.options.cut_s)))

    @property
    def quiet_s(self) -> float:
        """Time since the fibre was last knocked or dark, s; infinite if it never was."""
        ends_s = np.concatenate([self._knocks_at_s, self._cuts_at_s + self.options.cut_s])
        passed = ends_s[ends_s <= self.elapsed_s]
        return self.elapsed_s - float(passed.max()) if len(passed) else np.inf

    def hold(self, drives: Array, duration_s: float) -> Held:
        """Set the drives and count for a while; a cut fibre shows dark counts."""
        begun_s = self.elapsed_s
        held = super().hold(drives, duration_s)
        dark_s = self._dark_s(begun_s, begun_s + duration_s)
        self.lit_s += duration_s - dark_s
        if dark_s == 0:
            return held
        per_gate = self.options.clock_hz / 4 * self.options.dark_probability
        dark = self._rng.poisson(per_gate * dark_s, size=(4, 4))
        lit = self._rng.binomial(held.table, max(1 - dark_s / duration_s, 0.0))
        return Held(lit + dark, held.qber)

    def _dark_s(self, begun_s: float, ended_s: float) -> float:
        """Tell for how long of an interval the fibre is cut; cuts do not overlap."""
        dark_from = np.maximum(self._cuts_at_s, begun_s)
        dark_to = np.minimum(self._cuts_at_s + self.options.cut_s, ended_s)
        return min(float(np.maximum(dark_to - dark_from, 0).sum()), ended_s - begun_s)

    def _pass(self, duration_s: float) -> None:
        if self.is_drifting:
            self.lit_s += duration_s - self._dark_s(self.elapsed_s, self.elapsed_s + duration_s)
        super()._pass(duration_s)

    def _turns(self, steps_s: Array) -> Array:
        """Add weather and accidents to the walk."""
        at_s = self.elapsed_s + np.concatenate([[0.0], np.cumsum(steps_s)])
        walk = self.options.drift_rad * self._gusting(float(steps_s.sum())) * np.sqrt(steps_s)
        turns = walk[:, None] * self._rng.normal(size=(len(steps_s), 3))
        hour_rad = 2 * np.pi * at_s / self.options.day_s
        warmth = 0.5 * self.options.warmth_rad * np.sin(hour_rad + self._noon_rad)
        turns += np.diff(warmth)[:, None] * self._axis
        happened = [
            (self._knocks_at_s, self._knocks),
            (self._cuts_at_s + self.options.cut_s / 2, self._others),
        ]
        for when_s, what in happened:
            for k in np.flatnonzero((when_s >= at_s[0]) & (when_s < at_s[-1])):
                turns[np.searchsorted(at_s, when_s[k], side="right") - 1] += what[k]
        return np.asarray(Rotation.from_rotvec(turns).as_matrix())

    def _gusting(self, duration_s: float) -> float:
        """Let the wind change; give what it multiplies the drift by."""
        if self.options.gusts == 0:
            return 1.0
        kept = np.exp(-duration_s / self.options.gust_s)
        fresh = self.options.gusts * np.sqrt(1 - kept**2) * self._rng.normal()
        self._gust = kept * self._gust + fresh
        return float(np.exp(self._gust))
