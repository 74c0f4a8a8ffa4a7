"""Holding an alignment while key is made: follows the fibre with the counts that come anyway.

A bank of filters follows the rotation in front of the controller. Near the optimum the error counts
are blind to first order, so every setting carries a dither, as small as what is not known: 0.7
standard deviations of the angle is the optimum for any drift and any count rate.

    tracker = PolarizationTracker(posterior, setting, limits, now_s=now)
    while True:
        proposal = tracker.next_setting(now)
        ...  # set the drives, count for about proposal.window_s
        report = tracker.update(clicks, setting, now)
        if report.lost:
            break  # align anew
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain
from calibration.clicks import Clicks
from calibration.design import EXCESS_PER_SQUARE_ANGLE
from calibration.parameters import Parameters
from calibration.posterior import RotationPosterior
from calibration.tracking.excess import least_excess, mean_and_q90
from calibration.tracking.loss_of_lock import LossOfLock
from calibration.tracking.report import Proposal, Rate, TrackingReport
from calibration.tracking.rotation_filters import RotationFilters
from calibration.tracking.steering import Steering
from calibration.tracking.turns import turn_vector

Array = NDArray[np.float64]

DITHER_SIGMAS = 0.7
"""Dither, in standard deviations of the angle that it probes: the optimum is sqrt(1/2)."""

LARGEST_DITHER_RAD = 0.3

WINDOW_SHARE = 0.05
"""Length of a window as a share of the time in which drift doubles the variance."""

FLOOR_FREEZES_AT = 0.3
"""Score of the test for a lost lock above which the floor is no longer learnt: it must not explain
away what the test is about to find."""

EXCESS_FLUCTUATION = 12.0
"""Largest ordinary excess, in units of the expected one. The excess is a weighted chi-square of the
rotation that is left; it exceeds this once in 10^6 independent states."""

FLOOR_SIGMAS = 4.0

CENTRING_SIGMAS = 0.05
"""Error that centring may make while drift doubles the variance, in standard deviations of the
angle: so far the filters lag behind it."""

LARGEST_EXCESS = 0.05
"""Expected excess above which the filters' linear picture, and with it the lock, is lost."""

UNKNOWN_RAD = math.pi
"""Standard deviation of an angle that may be any."""

MOST_PENDING = 64
"""Proposals whose counts may still be on their way."""

FOREIGN_RAD = 0.5
"""Distance, nominal rad, from all proposals beyond which a setting is none of them."""


@dataclass(frozen=True)
class _Asked:
    """A proposal: its setting, what of that is dither, and the dither's angles, rad."""

    setting: Array
    dither: Array
    dither_rad: tuple[float, float]


class PolarizationTracker:
    """Follows the fibre; knows drives and counts, no instruments and no clock.

    Args:
        posterior: What an alignment learnt, as an object or as stored.
        setting: Setting in force, by channel.
        limits: Lowest and highest drive of each channel, in the order in which light passes them.
        now_s: Time, s, of any clock that does not jump.
        drift_rad: Guess of the fibre's drift per axis in one second, rad; right within a factor of
            ten it costs nothing, and the bank follows the data beyond that.
        window_s: Shortest and longest window to propose, s.
        most_photons: Detections that a window may take, where the shortest one allows it: a fibre
            that steps is noticed after one window or two, whatever drift would advise.
        latency_windows: Windows that are begun before the counts of one are there: settings are
            then chosen for a fibre that has drifted on, and windows are shorter.

    Raises:
        KeyError: The posterior is incomplete, or the setting lacks a channel.
        ValueError: The posterior is malformed or has another number of channels, or a limit on
            windows is out of range.
    """

    def __init__(
        self,
        posterior: RotationPosterior | Mapping[str, Any],
        setting: Mapping[str, float],
        limits: Mapping[str, tuple[float, float]],
        *,
        now_s: float,
        drift_rad: float = 0.003,
        window_s: tuple[float, float] = (0.001, 1.0),
        most_photons: float = math.inf,
        latency_windows: int = 0,
    ) -> None:
        if not isinstance(posterior, RotationPosterior):
            posterior = RotationPosterior.from_dict(posterior)
        if posterior.chain.channels != len(limits):
            raise ValueError(f"{len(limits)} channels, posterior of {posterior.chain.channels}")
        if not most_photons > 0 or latency_windows < 0:
            raise ValueError(
                f"{most_photons:g} photons per window and a latency of {latency_windows} windows: "
                "give more than none of the former, and none or more of the latter"
            )
        self._posterior = posterior
        self._names = tuple(limits)
        self._rad_per_drive = np.pi / posterior.chain.half_turn
        self._span = np.array([limits[name] for name in self._names], dtype=float).T
        self._window_s, self._most_photons = window_s, most_photons
        self._latency_windows = latency_windows
        held = self._vector(setting)
        self._steering = Steering(posterior.chain, self._mode, self._span, held)
        self._measured = held
        self._asked: deque[_Asked] = deque(maxlen=MOST_PENDING)
        variances = np.diagonal(posterior.covariance[0])
        self._gain_variance = float(variances[6 : 6 + len(limits)].mean())
        floor = float(self._mode.floor[0])
        self._bank = RotationFilters.around(
            drift_rad,
            self._mode.fibre[0],
            _turn_covariance(posterior, held),
            floor,
            (1 - floor) / (floor * float(variances[-1])),
        )
        self._test = LossOfLock()
        self._rate = Rate()
        self._windows = 0
        self._is_dark = self._is_lost = False
        self._now_s = self._proposed_s = now_s

    @property
    def floor(self) -> float:
        """QBER at perfect alignment, as learnt."""
        return self._bank.mean_floor

    @property
    def drift_rad(self) -> float:
        """Drift of the fibre per axis in one second, as learnt, rad."""
        return math.sqrt(self._bank.drift_variance)

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the setting of the next window: aligned for the expected fibre, plus dither.

        While dark or lost, the setting is held without dither.

        Args:
            now_s: Time at which the window will start, s.
        """
        fibre, covariance = self._bank.mixture()
        steering, dither, dither_rad = self._steering, np.zeros(len(self._names)), (0.0, 0.0)
        if not (self._is_dark or self._is_lost):
            steering.follow(fibre, self._centring_rad(covariance, now_s))
            covariance = self._expected_covariance(covariance, now_s)
            dither_rad = self._dither(covariance)
            dither = steering.turned((*dither_rad, 0.0))
        setting = steering.held + dither
        self._asked.append(_Asked(setting, dither, dither_rad))
        self._windows += 1
        return Proposal(
            setting=self._named(setting),
            held=self._named(steering.held),
            dither_rad=dither_rad,
            window_s=self._advised_window_s(covariance),
        )

    def update(
        self, clicks: Clicks, setting: Mapping[str, float], now_s: float, *, dark: bool = False
    ) -> TrackingReport:
        """Learn from one window.

        Without counts in the matched bases the fibre is followed only as far as the mismatched ones
        show it, and a lost lock cannot be noticed.

        Args:
            clicks: Counts of the window.
            setting: What was in force while counting, as read back, by channel.
            now_s: Time at which the window ended, s.
            dark: Whether what arrived is not light; a window without any count is dark in any case.

        Returns:
            What is known by now. After a dark window only the uncertainty has grown.
        """
        drives = self._vector(setting)
        asked = self._what_was_asked(drives)
        duration_s = max(now_s - self._now_s, 0.0)
        self._let_pass(drives - asked.dither, duration_s)
        self._now_s = now_s
        behind = self._steering.local.behind(drives)
        trials, errors = _binomials(clicks)
        photons = int(trials.sum())
        self._is_dark = dark or photons == 0
        if not self._is_dark:
            self._judge(behind, trials, errors)
            knows_floor = self._test.score < FLOOR_FREEZES_AT
            self._bank.update(behind, trials, errors, learns_floor=knows_floor)
            self._rate.count(photons, duration_s)
        mean, q90 = self._expected_excess(behind)
        floor = self.floor
        self._is_lost |= self._test.score >= 1 or mean > LARGEST_EXCESS
        return TrackingReport(
            expected_excess=mean,
            excess_q90=q90,
            innovation=self._test.score,
            lost=self._is_lost,
            photons=photons,
            floor=floor,
            drift_rad=self.drift_rad,
            dark=self._is_dark,
            dither_qber=(1 - 2 * floor) * math.hypot(*asked.dither_rad) ** 2 / 8,
            limit_excess=least_excess(self._bank.drift_variance, self._rate.hz, floor),
        )

    def posterior(self) -> RotationPosterior:
        """Give what is known by now, for storing and for the next alignment or tracker.

        The tracker knows the rotation in front of the controller only up to what the controller's
        errors do at the setting held; the fibre's covariance with them follows from that.
        """
        fibre, covariance = self._bank.mixture()
        floor, floor_counts = self.floor, float(self._bank.floor_counts.max())
        mode = replace(self._mode, fibre=fibre[None], log_floor=np.log(np.array([floor])))
        _, axes = self._chain.tangent_axes(mode, self._steering.held[None])
        others = np.s_[3 : self._chain.size - 1]
        effect = axes[0, 0, others].T
        joint = self._posterior.covariance[0].copy()
        joint[-1], joint[:, -1] = 0.0, 0.0
        joint[-1, -1] = (1 - floor) / (floor * floor_counts)
        shared = effect @ joint[others, others]
        joint[:3, others], joint[others, :3] = -shared, -shared.T
        joint[:3, :3] = covariance + shared @ effect.T
        return replace(
            self._posterior, modes=mode, covariance=joint[None], weights=np.ones(1), seen=None
        )

    def posterior_after_jump(self) -> RotationPosterior:
        """Give what is known if the fibre has become another one: all that is behind it.

        An alignment that starts from it searches three numbers only; it needs a few hundred
        detections (:mod:`calibration.recollection`).
        """
        known = self.posterior()
        joint = known.covariance[0].copy()
        joint[:3], joint[:, :3] = 0.0, 0.0
        joint[:3, :3] = UNKNOWN_RAD**2 * _ONE
        return replace(known, covariance=joint[None])

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state, JSON-able; :meth:`restore` goes on from it."""
        return {
            "posterior": self._posterior.to_dict(),
            "limits": dict(zip(self._names, self._span.T.tolist(), strict=True)),
            "window_s": list(self._window_s),
            "most_photons": self._most_photons if math.isfinite(self._most_photons) else None,
            "latency_windows": self._latency_windows,
            "held": self._named(self._steering.held),
            "centre": self._named(self._steering.local.centre),
            "measured": self._named(self._measured),
            "bank": self._bank.to_dict(),
            "test": self._test.sums.tolist(),
            "rate": [self._rate.photons, self._rate.duration_s],
            "calls_to_reset": self._steering.calls_to_reset,
            "windows": self._windows,
            "since_proposed_s": self._now_s - self._proposed_s,
            "is_dark": self._is_dark,
            "is_lost": self._is_lost,
        }

    @classmethod
    def restore(
        cls, stored: Mapping[str, Any], *, now_s: float, gap_s: float = 0.0
    ) -> PolarizationTracker:
        """Go on from a snapshot.

        Args:
            stored: What :meth:`snapshot` gave.
            now_s: Time by the present clock, s.
            gap_s: Time since the snapshot, in which the fibre drifted unseen, s.
        """
        shortest_s, longest_s = stored["window_s"]
        most_photons = stored["most_photons"]
        tracker = cls(
            stored["posterior"],
            stored["held"],
            {name: (low, high) for name, (low, high) in stored["limits"].items()},
            now_s=now_s - gap_s,
            window_s=(shortest_s, longest_s),
            most_photons=math.inf if most_photons is None else most_photons,
            latency_windows=stored["latency_windows"],
        )
        tracker._measured = tracker._vector(stored["measured"])
        tracker._bank = RotationFilters.from_dict(stored["bank"])
        tracker._test = LossOfLock(np.array(stored["test"], dtype=float))
        tracker._rate = Rate(*stored["rate"])
        tracker._steering = Steering(
            tracker._chain,
            tracker._mode,
            tracker._span,
            tracker._steering.held,
            tracker._vector(stored["centre"]),
        )
        tracker._steering.calls_to_reset = stored["calls_to_reset"]
        tracker._windows = stored["windows"]
        tracker._proposed_s = now_s - gap_s - stored["since_proposed_s"]
        tracker._is_dark, tracker._is_lost = stored["is_dark"], stored["is_lost"]
        return tracker

    @property
    def _chain(self) -> Chain:
        return self._posterior.chain

    @property
    def _mode(self) -> Parameters:
        """Best mode of the alignment: what is taken as known of controller and receiver."""
        return self._posterior.modes[:1]

    def _vector(self, setting: Mapping[str, float]) -> Array:
        return np.array([setting[name] for name in self._names], dtype=float)

    def _named(self, drives: Array) -> dict[str, float]:
        return dict(zip(self._names, drives.tolist(), strict=True))

    def _what_was_asked(self, drives: Array) -> _Asked:
        """Find the proposal that a setting in force came from; older ones were skipped."""
        apart = [(each.setting - drives) * self._rad_per_drive for each in self._asked]
        away = [float(each @ each) for each in apart]
        if not away or min(away) > FOREIGN_RAD**2:
            return _Asked(drives, np.zeros_like(drives), (0.0, 0.0))
        for _ in range(away.index(min(away))):
            self._asked.popleft()
        return self._asked.popleft()

    def _let_pass(self, held: Array, duration_s: float) -> None:
        """Widen the filters for the drift, and for how well a change of the drives is known."""
        self._bank.predict(duration_s, self._move_variance(held))
        self._measured = held

    def _move_variance(self, held: Array) -> float:
        """Tell how well the turn by a move from the setting measured last is known, rad^2."""
        moved_rad = self._rad_per_drive * (held - self._measured)
        return self._gain_variance * float(moved_rad @ moved_rad)

    def _expected_covariance(self, covariance: Array, now_s: float) -> Array:
        """Widen for the drift since the newest counts, and for the move to the setting held."""
        waited_s = max(now_s - self._now_s, 0.0)
        drifted = self._bank.drift_variance * waited_s
        return covariance + (drifted + self._move_variance(self._steering.held)) * _ONE

    def _centring_rad(self, covariance: Array, now_s: float) -> float:
        """Tell by how much drives may be pulled now, as far as what they do is known."""
        variance = _mean_variance(covariance)
        since_s = max(now_s - self._proposed_s, 0.0)
        self._proposed_s = now_s
        doublings = min(since_s * self._bank.drift_variance / variance, 1.0)
        return CENTRING_SIGMAS * doublings * math.sqrt(variance / self._gain_variance)

    def _dither(self, covariance: Array) -> tuple[float, float]:
        """Choose turns about S1 and S2 in front of the receiver, as far as the angles are unknown.

        Signs alternate, that of S1 in every window and that of S2 in every second.
        """
        behind = self._steering.behind[:2]
        variance = (behind @ covariance @ behind.T).tolist()
        sigmas = math.sqrt(variance[0][0]), math.sqrt(variance[1][1])
        signs = 1 - 2 * (self._windows % 2), 1 - 2 * (self._windows // 2 % 2)
        both = [
            sign * min(DITHER_SIGMAS * sigma, LARGEST_DITHER_RAD)
            for sign, sigma in zip(signs, sigmas, strict=True)
        ]
        return both[0], both[1]

    def _advised_window_s(self, covariance: Array) -> float:
        advised_s = WINDOW_SHARE * _mean_variance(covariance) / self._bank.drift_variance
        advised_s /= 1 + self._latency_windows
        if self._rate.hz > 0:
            advised_s = min(advised_s, self._most_photons / self._rate.hz)
        shortest_s, longest_s = self._window_s
        return min(max(advised_s, shortest_s), longest_s)

    def _judge(self, behind: Array, trials: Array, errors: Array) -> None:
        """Test whether the errors exceed what the filters and noise explain."""
        fibre, covariance = self._bank.mixture()
        spread = float(np.vdot(behind @ covariance, EXCESS_PER_SQUARE_ANGLE[:, None] * behind))
        whole = behind[:2] @ fibre[:, :2]
        floor = self.floor
        meant = 0.25 * (1 - 2 * floor) * (2 - float(whole[0, 0] + whole[1, 1]))
        unsure = math.sqrt(floor * (1 - floor) / float(self._bank.floor_counts.max()))
        limit = floor + FLOOR_SIGMAS * unsure + meant + EXCESS_FLUCTUATION * spread
        self._test.update(float(trials[0] + trials[3]), float(errors[0] + errors[3]), limit)

    def _expected_excess(self, behind: Array) -> tuple[float, float]:
        """Give mean and 90 % quantile of the excess at a setting."""
        fibre, covariance = self._bank.mixture()
        left = np.array(turn_vector(behind @ fibre))
        mean, q90 = mean_and_q90(left, behind @ covariance @ behind.T)
        visibility = 1 - 2 * self.floor
        return visibility * mean, visibility * q90


def _mean_variance(covariance: Array) -> float:
    return float(covariance[0, 0] + covariance[1, 1] + covariance[2, 2]) / 3


def _binomials(clicks: Clicks) -> tuple[Array, Array]:
    """Reduce to all counts and those of opposite sign, both of shape ``(4,)``, as by_basis does."""
    both = clicks.table.reshape(16).astype(float) @ _BY_BASIS
    return both[:4], both[4:]


def _by_basis() -> Array:
    """Tell which entries of a table of counts make up which binomial, shape ``(16, 8)``."""
    each = [Clicks(entry.reshape(4, 4)).by_basis() for entry in np.eye(16, dtype=np.int64)]
    return np.array([np.append(n.ravel(), k.ravel()) for n, k in each], dtype=np.float64)


_BY_BASIS = _by_basis()
_ONE = np.eye(3)


def _turn_covariance(posterior: RotationPosterior, drives: Array) -> Array:
    """Map the covariance of all parameters to one rotation in front of the controller."""
    mode = posterior.modes[:1]
    _, axes = posterior.chain.tangent_axes(mode, drives[None])
    effect = axes[0, 0]
    covariance: Array = effect.T @ posterior.covariance[0, :-1, :-1] @ effect
    return covariance
