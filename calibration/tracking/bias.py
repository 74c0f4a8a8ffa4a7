"""Holding an intensity modulator at its null while key is made, from vacuum and decoy slots alone.

The pulses that should be empty tell how far the bias is off, but at the null they are blind to the
direction. Every setting therefore carries a dither of 0.7 standard deviations of the phase between
the modulator's arms, the optimum for any drift and any count rate: as the phase of an
interferometer that error counts alone see. Decoy slots tell how much light there is, so that a loss
on the way is not taken for a better extinction; no slot of the signal is looked at.

Bound: with ``r`` counts per second of light in the empty slots at the peak, a floor ``f`` and a
random walk of ``D`` rad^2/s, the steady Riccati equation and the best dither give a mean excess of
``min_d sqrt(D / I(d)) / 4 + sin^2(d / 2)`` with the information
``I(d) = r (sin(d) / 2)^2 / (f + sin^2(d / 2))``; for small dither ``d`` that is
``0.75 (D f / r)^(1/3)``. What is off the null by more than the dither tells a little more than
``I(d)``, so a filter may come to lie some per cent below.

The dither also changes the decoys, at first order: by ``cot(theta) d`` of their light, with
``sin^2(theta)`` their share of the signal's, up in one window and down in the next.

    tracker = BiasTracker(null, setting, limits, now_s=now)
    while True:
        proposal = tracker.next_setting(now)
        ...  # set the bias, count for about proposal.window_s
        report = tracker.update(VacuumCounts.of(window, pattern, levels, "vacuum"), setting, now)
        if report.lost:
            break  # look for the null anew
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibration.extinction import SineCurve
from calibration.tracking.loss_of_lock import LossOfLock
from calibration.tracking.null_filters import NullFilters, WindowCounts
from calibration.tracking.report import Proposal
from calibration.tracking.vacuum import VacuumCounts

DITHER_SIGMAS = 0.7
"""Dither, in standard deviations of the phase: the optimum is sqrt(1/2)."""

LARGEST_DITHER_RAD = 0.2

WINDOW_SHARE = 0.05
"""What a window may add to the variance by drift, or to its inverse by counts, at most."""

LARGEST_ORDINARY_SIGMAS = 4.9
"""Deviation of a Gaussian that is exceeded once in 10^6."""

FLOOR_SIGMAS = 4.0

LARGEST_EXCESS = 0.03
"""Expected excess above which the null counts as lost: 15 dB of extinction."""

SURE_HALF_WAVE_SIGMA = 0.03
"""Relative error of the half-wave voltage up to which a whole period is jumped over blindly."""

Q90_SIGMAS = 1.645

STEADY_RATIO = 1.5
"""Change of the light from one window to the next below which it is taken for the dither's."""


@dataclass(frozen=True)
class ModulatorNull:
    """What is known of a modulator: where its null is, and what passes there.

    Attributes:
        null_v: Bias of the null, V.
        null_sigma_v: Its standard error, V.
        half_wave_v: Bias from null to peak, V.
        half_wave_sigma: Its relative standard error.
        floor: Share of the peak's light that passes at the null.
    """

    null_v: float
    null_sigma_v: float
    half_wave_v: float
    half_wave_sigma: float
    floor: float

    def __post_init__(self) -> None:
        if not min(self.null_sigma_v, self.half_wave_v, self.half_wave_sigma, self.floor) > 0:
            raise ValueError("half-wave voltage, floor and standard errors must be positive")

    @classmethod
    def of(cls, curve: SineCurve, half_wave_sigma: float) -> ModulatorNull:
        """Take what a fitted curve tells; the fit gives no error of its half-wave voltage."""
        floor = max(curve.floor_hz / curve.depth_hz, 1e-7)
        sigma_v, half_wave_v = curve.null_sigma_v, curve.half_wave_v
        return cls(curve.null_v, sigma_v, half_wave_v, half_wave_sigma, floor)


@dataclass(frozen=True)
class BiasReport:
    """What a window told. Light is given as a share of that at the modulator's peak.

    Attributes:
        expected_excess: Expected light in the empty pulses above the floor, dither included.
        excess_q90: Bound on it that holds with a probability of 90 %.
        innovation: Evidence that the null is lost, as a share of what is demanded.
        lost: Whether it is lost; stays so.
        floor: Light in them at the null, as learnt.
        drift_v: Drift of the null in one second, as learnt, V.
        dark: Whether nothing was learnt because nothing arrived.
    """

    expected_excess: float
    excess_q90: float
    innovation: float
    lost: bool
    floor: float
    drift_v: float
    dark: bool


class BiasTracker:
    """Follows the null of an intensity modulator; knows a bias and counts, nothing else.

    Args:
        null: What the bias stage learnt.
        setting: Setting in force, by the name of the bias's knob.
        limits: Lowest and highest bias, V, by its name.
        now_s: Time, s, of any clock that does not jump.
        drift_v: Guess of the null's drift in one second, V; the bank follows the data from there.
        window_s: Shortest and longest window to propose, s.

    Raises:
        KeyError: The setting lacks the knob.
        ValueError: There is not one knob.
    """

    def __init__(
        self,
        null: ModulatorNull,
        setting: Mapping[str, float],
        limits: Mapping[str, tuple[float, float]],
        *,
        now_s: float,
        drift_v: float = 0.002,
        window_s: tuple[float, float] = (0.2, 60.0),
    ) -> None:
        if len(limits) != 1:
            raise ValueError(f"a modulator has one bias, not {len(limits)}")
        ((self._name, self._limits),) = limits.items()
        self._null = null
        self._window_s = window_s
        self._rad_per_v = np.pi / null.half_wave_v
        self._held_v = float(setting[self._name])
        off_v = self._held_v - null.null_v
        variance = null.null_sigma_v**2 + (null.half_wave_sigma * off_v) ** 2
        self._filters = NullFilters.around(
            drift_v * self._rad_per_v, variance * self._rad_per_v**2, null.floor
        )
        self._test = LossOfLock()
        self._windows = 0
        self._light_hz: float | None = None
        self._is_dark = self._is_lost = False
        self._now_s = now_s

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the bias of the next window: the null as expected, plus dither.

        A null that leaves the limits is given up for the one a period of twice the half-wave
        voltage away, if that is well enough known; else it is lost. While dark or lost, the bias
        is held without dither.

        Args:
            now_s: Time at which the window will start, s.
        """
        phase, _ = self._filters.mixture()
        if not (self._is_dark or self._is_lost):
            self._hold(self._null.null_v - phase / self._rad_per_v)
        _, variance = self._filters.mixture()
        variance += self._filters.bank.drift_variance * max(now_s - self._now_s, 0.0)
        is_followed = not (self._is_dark or self._is_lost)
        dither_rad = self._dither(variance) if is_followed else 0.0
        bias_v = float(np.clip(self._held_v + dither_rad / self._rad_per_v, *self._limits))
        self._windows += 1
        return Proposal(
            setting={self._name: bias_v},
            held={self._name: self._held_v},
            dither_rad=(dither_rad,),
            window_s=self._advised_window_s(variance, dither_rad),
        )

    def update(
        self,
        counts: VacuumCounts,
        setting: Mapping[str, float],
        now_s: float,
        *,
        dark: bool = False,
    ) -> BiasReport:
        """Learn from one window.

        Args:
            counts: Counts of the window.
            setting: What was in force while counting, as read back, by the name of the knob.
            now_s: Time at which the window ended, s.
            dark: Whether what arrived is not light; a window without light in the decoys is dark
                in any case.

        Returns:
            What is known by now. After a dark window only the uncertainty has grown.
        """
        self._filters.predict(max(now_s - self._now_s, 0.0))
        self._now_s = now_s
        turned = self._turned(float(setting[self._name]))
        self._is_dark = dark or counts.light <= 0
        if self._is_dark:
            self._light_hz = None
        else:
            self._judge(turned, counts)
            light = self._steady_light(counts)
            self._filters.update(WindowCounts(turned, counts.seen, light, counts.background))
        mean, q90 = self._expected_excess(turned)
        if not self._is_dark:  # what was lost in the dark shows when light is back
            self._is_lost |= bool(self._test.score >= 1 or mean > LARGEST_EXCESS)
        return BiasReport(
            expected_excess=mean,
            excess_q90=q90,
            innovation=self._test.score,
            lost=self._is_lost,
            floor=self._filters.floor_mixture()[0],
            drift_v=self.drift_v,
            dark=self._is_dark,
        )

    @property
    def drift_v(self) -> float:
        """Drift of the null in one second, as learnt, V."""
        return float(np.sqrt(self._filters.bank.drift_variance) / self._rad_per_v)

    def null(self) -> ModulatorNull:
        """Give what is known by now, for the next tracker: the null that is held."""
        phase, variance = self._filters.mixture()
        null_v = self._null.null_v - phase / self._rad_per_v
        period_v = 2 * self._null.half_wave_v
        null_v += period_v * round((self._held_v - null_v) / period_v)
        return ModulatorNull(
            null_v,
            float(np.sqrt(variance)) / self._rad_per_v,
            self._null.half_wave_v,
            self._null.half_wave_sigma,
            self._filters.floor_mixture()[0],
        )

    def snapshot(self) -> dict[str, Any]:
        """Give all that was learnt, JSON-able; :meth:`restore` takes it up again."""
        return {
            "kind": "bias",
            "null_v": self._null.null_v,
            "half_wave_v": self._null.half_wave_v,
            "now_s": self._now_s,
            **self._filters.to_dict(),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Take up what :meth:`snapshot` gave, by the same clock; the time since counts as drift.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed, or this is the snapshot of something else.
        """
        if stored.get("kind") != "bias":
            raise ValueError("malformed tracker: not one of a bias")
        filters = NullFilters.from_dict(stored)
        null_v, half_wave_v = float(stored["null_v"]), float(stored["half_wave_v"])
        self._null = replace(self._null, null_v=null_v, half_wave_v=half_wave_v)
        self._rad_per_v = np.pi / half_wave_v
        self._filters, self._now_s = filters, float(stored["now_s"])

    def _turned(self, bias_v: float) -> float:
        """Return the phase that a bias adds to that at the null of the calibration, rad."""
        return float(self._rad_per_v * (bias_v - self._null.null_v))

    def _hold(self, null_v: float) -> None:
        """Go to the null nearest to the bias held, within limits."""
        period_v, sigma = 2 * self._null.half_wave_v, self._null.half_wave_sigma
        first, last = (np.array(self._limits) - null_v) / period_v
        nulls = null_v + period_v * np.arange(np.ceil(first), np.floor(last) + 1)
        nearest_v = min(nulls.tolist(), key=lambda each: abs(each - self._held_v), default=null_v)
        moved_rad = self._rad_per_v * (nearest_v - self._held_v)
        is_jump = abs(moved_rad) > np.pi
        if not nulls.size or (is_jump and sigma > SURE_HALF_WAVE_SIGMA):
            self._is_lost = True
            return
        self._filters.predict(0.0, (sigma * moved_rad) ** 2)
        self._held_v = nearest_v

    def _dither(self, variance: float) -> float:
        """Return the phase to step aside, to the other side than in the window before."""
        side = (-1.0) ** self._windows
        return float(side * min(DITHER_SIGMAS * np.sqrt(variance), LARGEST_DITHER_RAD))

    def _advised_window_s(self, variance: float, dither_rad: float) -> float:
        """Return the length of a window that changes what is known by a small share."""
        advised_s = variance / self._filters.bank.drift_variance
        if self._light_hz is None:
            advised_s = 0.0
        elif dither_rad != 0:
            floor, _ = self._filters.floor_mixture()
            slope, leak = np.sin(dither_rad) / 2, np.sin(dither_rad / 2) ** 2
            advised_s = min(advised_s, (floor + leak) / (self._light_hz * slope**2 * variance))
        return float(np.clip(WINDOW_SHARE * advised_s, *self._window_s))

    def _steady_light(self, counts: VacuumCounts) -> float:
        """Return the light without what the dither makes of the decoys: mean of both sides."""
        own_hz, last_hz = counts.light / counts.duration_s, self._light_hz
        self._light_hz = own_hz
        if last_hz is None or not 1 / STEADY_RATIO < own_hz / last_hz < STEADY_RATIO:
            return counts.light
        return 0.5 * (own_hz + last_hz) * counts.duration_s

    def _judge(self, turned: float, counts: VacuumCounts) -> None:
        """Test whether the counts exceed what the filters and noise explain."""
        phase, variance = self._filters.mixture()
        floor, floor_variance = self._filters.floor_mixture()
        farthest = _off(phase + turned) + LARGEST_ORDINARY_SIGMAS * float(np.sqrt(variance))
        limit = (
            floor + FLOOR_SIGMAS * np.sqrt(floor_variance) + np.sin(min(farthest, np.pi) / 2) ** 2
        )
        limit += counts.background / counts.light
        self._test.update(max(counts.light, counts.seen), counts.seen, float(limit))

    def _expected_excess(self, turned: float) -> tuple[float, float]:
        """Give mean and 90 % quantile of the excess at a bias."""
        phase, variance = self._filters.mixture()
        off = _off(phase + turned)
        mean = 0.5 * (1 - np.exp(-0.5 * variance) * np.cos(off))
        farthest = min(off + Q90_SIGMAS * float(np.sqrt(variance)), np.pi)
        return float(mean), float(np.sin(farthest / 2) ** 2)


def _off(phase: float) -> float:
    """Return the distance of a phase from zero, around the circle, rad."""
    return float(abs(np.angle(np.exp(1j * phase))))
