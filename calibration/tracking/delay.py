"""Holding each detector's delay while key is made, from when its clicks arrive within their gates.

The mean arrival after the slot's centre, the first moment of the folded histogram, tells at first
order and at no cost how far a gate is off. ``n`` clicks whose arrivals scatter by ``sigma`` tell it
to a variance of ``sigma^2 / n``; clicks that come evenly, as those outside of the gates tell, pull
it to the centre and are taken off.

Bound: of a delay that walks at random by ``q`` ps per root of a second while ``r`` clicks arrive
per second, no filter knows more than a variance of ``q sigma / sqrt(r)``, where the steady Riccati
equation ``q^2 = P^2 r / sigma^2`` has its root. A dead band ``b`` adds at most ``b^2``.

    tracker = DelayTracker(delays_ps, gate_share=0.4, now_s=now)
    while True:
        proposal = tracker.next_setting(now)
        ...  # fold by proposal.setting
        report = tracker.update(ArrivalMoments.of(window), proposal.setting, now)
        if report.lost:
            break  # look for the delays anew

A delay that jumps within its gate is followed at once; light that has left its gate shows outside
of it and is reported as lost. A jump by whole slots does not show in arrivals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import STATES, Window
from calibration.tracking.drift_bank import FILTERS, DriftBank, stored_array
from calibration.tracking.report import Proposal

Array = NDArray[np.float64]

DRIFT_SPAN_PS = (1e-4, 1e3)

WINDOW_SHARE = 0.05
"""Length of a window as a share of the time in which drift doubles the variance."""

LEAST_CLICKS = 10
"""Clicks of light below which a window tells nothing of a detector."""

LIGHT_SIGMAS = 5.0
"""By what the clicks in a gate must exceed even ones, in standard deviations, to be light."""

JUMP_SIGMAS = 6.0
"""Innovation, in standard deviations, from which a delay has jumped and the past counts nothing."""

DISPLACED_SHARE = 0.3, 2.0
"""Share of a detector's light that must have turned up outside of its gate, least and most, for the
gate to be lost: less or more is stray light."""

LOST_AFTER = 3
"""Windows on end in which it has."""

RATE_MEMORY_S = 60.0
"""Time over which rates of clicks are averaged."""


@dataclass(frozen=True)
class ArrivalMoments:
    """When the clicks of each detector arrived; all of shape ``(4,)`` in the order of STATES.

    Attributes:
        mean_ps: Mean arrival after the slot's centre within the gate, ps; NaN without clicks.
        std_ps: Its standard deviation for single clicks, ps.
        gated: Clicks within the gates.
        outside: Clicks outside of them.
        duration_s: Exposure, s.
    """

    mean_ps: Array
    std_ps: Array
    gated: NDArray[np.int64]
    outside: NDArray[np.int64]
    duration_s: float

    @classmethod
    def of(cls, window: Window) -> ArrivalMoments:
        """Take the moments of a window."""
        gated = np.asarray(window.clicks.sum(axis=(0, 1)))
        outside = np.maximum(window.singles - gated, 0)
        return cls(window.timing_mean_ps, window.timing_std_ps, gated, outside, window.duration_s)


@dataclass(frozen=True)
class DelayReport:
    """What a window told.

    Attributes:
        error_ps: Expected distance (root mean square) of the worst detector's light from the
            centre of its gate, ps.
        innovation: Windows on end with light outside of a gate, as a share of those demanded.
        lost: Whether a detector's light has left its gate; stays so.
        drift_ps: Drift of a delay in one second, as learnt, ps.
        dark: Whether nothing was learnt because nothing arrived.
    """

    error_ps: float
    innovation: float
    lost: bool
    drift_ps: float
    dark: bool


@dataclass
class _Rates:
    """Clicks per second of each detector: light in its gate, and outside of it."""

    light_hz: Array = field(default_factory=lambda: np.zeros(len(STATES)))
    outside_hz: Array = field(default_factory=lambda: np.zeros(len(STATES)))
    seconds: Array = field(default_factory=lambda: np.zeros(len(STATES)))

    def learn(self, moments: ArrivalMoments, light: Array, which: NDArray[np.bool_]) -> None:
        """Average over the recent past, for some of the detectors."""
        self.seconds = np.minimum(self.seconds + which * moments.duration_s, RATE_MEMORY_S)
        share = which * moments.duration_s / np.maximum(self.seconds, moments.duration_s)
        self.light_hz += share * (light / moments.duration_s - self.light_hz)
        self.outside_hz += share * (moments.outside / moments.duration_s - self.outside_hz)

    def has_left(self, moments: ArrivalMoments) -> NDArray[np.bool_]:
        """Tell for each detector whether its light has turned up outside of its gate."""
        beyond = moments.outside - self.outside_hz * moments.duration_s
        least, most = (share * self.light_hz * moments.duration_s for share in DISPLACED_SHARE)
        least = np.maximum(least, LIGHT_SIGMAS * np.sqrt(moments.outside + 1))
        return (beyond > least) & (beyond < most)


class DelayTracker:
    """Follows the delays of four detectors; knows delays and arrivals, nothing else.

    Args:
        delays_ps: Delays in force, by detector letter, ps.
        gate_share: Share of a slot within the gate; at 1 there is no gate and clicks that come
            evenly are not told from light.
        now_s: Time, s, of any clock that does not jump.
        drift_ps: Guess of a delay's drift in one second, ps; the bank follows the data from there.
        sigma_ps: Standard error of the delays in force, ps.
        dead_band_ps: Distance from the centre below which a gate is left where it is, ps.
        window_s: Shortest and longest window to propose, s.

    Raises:
        KeyError: A detector has no delay.
    """

    def __init__(
        self,
        delays_ps: Mapping[str, float],
        *,
        gate_share: float,
        now_s: float,
        drift_ps: float = 1.0,
        sigma_ps: float = 50.0,
        dead_band_ps: float = 2.0,
        window_s: tuple[float, float] = (0.2, 60.0),
    ) -> None:
        self._delay_ps = np.array([float(delays_ps[detector]) for detector in STATES])
        self._gate_share = gate_share
        self._dead_band_ps = dead_band_ps
        self._window_s = window_s
        self._bank = DriftBank.around(drift_ps, DRIFT_SPAN_PS)
        self._centre: Array = np.tile(self._delay_ps, (FILTERS, 1))
        self._variance: Array = np.full((FILTERS, len(STATES)), sigma_ps**2)
        self._rates = _Rates()
        self._displaced = np.zeros(len(STATES), dtype=np.int64)
        self._is_lost = False
        self._now_s = now_s

    @property
    def drift_ps(self) -> float:
        """Drift of a delay in one second, as learnt, ps."""
        return float(np.sqrt(self._bank.drift_variance))

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the delays of the next window: each at its light, or left within the dead band.

        Args:
            now_s: Time at which the window will start, s.
        """
        centre, variance = self._mixture()
        if not self._is_lost:
            is_off = np.abs(centre - self._delay_ps) > self._dead_band_ps
            self._delay_ps = np.where(is_off, np.round(centre, 1), self._delay_ps)
        setting = dict(zip(STATES, self._delay_ps.tolist(), strict=True))
        waited = self._bank.drift_variance * max(now_s - self._now_s, 0.0)
        advised_s = WINDOW_SHARE * (variance.min() + waited) / self._bank.drift_variance
        return Proposal(setting, dict(setting), (), float(np.clip(advised_s, *self._window_s)))

    def update(
        self,
        moments: ArrivalMoments,
        setting: Mapping[str, float],
        now_s: float,
        *,
        dark: bool = False,
    ) -> DelayReport:
        """Learn from one window.

        Args:
            moments: When clicks arrived.
            setting: By what delays the window was folded, by detector letter, ps.
            now_s: Time at which the window ended, s.
            dark: Whether what arrived is not to be learnt from.

        Returns:
            What is known by now. After a dark window only the uncertainty has grown.
        """
        self._let_pass(now_s)
        folded_ps = np.array([float(setting[detector]) for detector in STATES])
        light, even = self._tell_light(moments)
        is_lit = light > np.maximum(LIGHT_SIGMAS * np.sqrt(even + 1), LEAST_CLICKS)
        is_dark = dark or not is_lit.any()
        has_left = ~is_lit & self._rates.has_left(moments)
        self._displaced = np.where(has_left, self._displaced + 1, 0)
        if not is_dark:
            self._learn(moments, folded_ps, light, is_lit)
            self._rates.learn(moments, light, is_lit)
        self._is_lost |= bool(self._displaced.max() >= LOST_AFTER)
        return DelayReport(
            error_ps=self._expected_error_ps(folded_ps),
            innovation=float(self._displaced.max() / LOST_AFTER),
            lost=self._is_lost,
            drift_ps=self.drift_ps,
            dark=is_dark,
        )

    def arrivals(self) -> dict[str, tuple[float, float]]:
        """Give each detector's delay and its standard error, ps, as known by now."""
        centre, variance = self._mixture()
        pairs = zip(centre.tolist(), np.sqrt(variance).tolist(), strict=True)
        return dict(zip(STATES, pairs, strict=True))

    def snapshot(self) -> dict[str, Any]:
        """Give what was learnt of the delays, JSON-able; :meth:`restore` takes it up again."""
        return {
            "kind": "delay",
            "centre_ps": self._centre.tolist(),
            "variance_ps2": self._variance.tolist(),
            "now_s": self._now_s,
            **self._bank.to_dict(),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Take up what :meth:`snapshot` gave, by the same clock; the time since counts as drift.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed, or this is the snapshot of something else.
        """
        if stored.get("kind") != "delay":
            raise ValueError("malformed tracker: not one of delays")
        bank = DriftBank.from_dict(stored, DRIFT_SPAN_PS)
        centre = stored_array(stored, "centre_ps", len(STATES))
        variance = stored_array(stored, "variance_ps2", len(STATES))
        if not (variance > 0).all():
            raise ValueError("malformed tracker: variance_ps2 must be positive")
        self._bank, self._centre, self._variance = bank, centre, variance
        self._now_s = float(stored["now_s"])

    def _let_pass(self, now_s: float) -> None:
        """Widen the filters for the drift since the last window."""
        grown = self._bank.drift[:, None] ** 2 * max(now_s - self._now_s, 0.0)
        self._variance, self._now_s = np.asarray(self._variance + grown), now_s

    def _tell_light(self, moments: ArrivalMoments) -> tuple[Array, Array]:
        """Return the clicks of light in each gate, and those that come evenly, shape ``(4,)``."""
        even: Array = np.zeros(len(STATES))
        if self._gate_share < 1:
            even = np.asarray(moments.outside * self._gate_share / (1 - self._gate_share))
        return moments.gated - even, even

    def _learn(
        self, moments: ArrivalMoments, folded_ps: Array, light: Array, lit: NDArray[np.bool_]
    ) -> None:
        """Update the filters of the detectors that are lit."""
        share = np.where(lit, light / np.maximum(moments.gated, 1), 1.0)
        seen = folded_ps + np.where(lit, moments.mean_ps, 0.0) / share
        spread = np.where(lit, moments.std_ps, 1.0)
        noise = np.maximum(spread**2, 1.0) / (np.maximum(moments.gated, 1) * share**2)
        centre, variance = self._mixture()
        has_jumped = lit & (np.abs(seen - centre) > JUMP_SIGMAS * np.sqrt(variance + noise))
        follows = lit & ~has_jumped
        innovation, expected = seen - self._centre, self._variance + noise
        gain = np.where(follows, self._variance / expected, 0.0)
        fit = -0.5 * (np.log(expected) + innovation**2 / expected)
        kept = self._bank.weigh(np.where(follows, fit, 0.0).sum(axis=1))
        self._centre = np.where(has_jumped, seen, self._centre + gain * innovation)[kept]
        self._variance = np.where(has_jumped, noise, (1 - gain) * self._variance)[kept]

    def _mixture(self) -> tuple[Array, Array]:
        """Return mean delay, ps, and variance, ps^2, of each detector, shape ``(4,)``."""
        weights = self._bank.weights
        centre = weights @ self._centre
        return centre, weights @ (self._variance + (self._centre - centre) ** 2)

    def _expected_error_ps(self, folded_ps: Array) -> float:
        centre, variance = self._mixture()
        return float(np.sqrt(((centre - folded_ps) ** 2 + variance).max()))
