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

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics, rotation
from calibration.chain import Chain
from calibration.clicks import Clicks
from calibration.design import EXCESS_PER_SQUARE_ANGLE
from calibration.parameters import Parameters
from calibration.posterior import RotationPosterior
from calibration.tracking.loss_of_lock import LossOfLock
from calibration.tracking.report import Proposal, Rate, TrackingReport
from calibration.tracking.rotation_filters import RotationFilters

Array = NDArray[np.float64]

DITHER_SIGMAS = 0.7
"""Dither, in standard deviations of the angle that it probes: the optimum is sqrt(1/2)."""

LARGEST_DITHER_RAD = 0.3

DITHER_DAMPING = 0.03
"""A dither moves no drive by more than three times its angle: where a controller can hardly turn
about some axis (wave plates in gimbal lock), it does without."""

WINDOW_SHARE = 0.05
"""Length of a window as a share of the time in which drift doubles the variance."""

FLOOR_FREEZES_AT = 0.3
"""Score of the test for a lost lock above which the floor is no longer learnt: it must not explain
away what the test is about to find."""

EXCESS_FLUCTUATION = 12.0
"""Largest ordinary excess, in units of the expected one. The excess is a weighted chi-square of the
rotation that is left; it exceeds this once in 10^6 independent states."""

FLOOR_SIGMAS = 4.0

LARGEST_EXCESS = 0.05
"""Expected excess above which the filters' linear picture, and with it the lock, is lost."""

CENTRING_SHARE = 0.005
"""Error that centring may make in a window, as a share of the standard deviation of the angle. The
filters lag behind such a ramp by about twenty windows, so it costs 1 % of the excess."""

IK_STEPS = 6

_NORMAL = np.random.default_rng(0).normal(size=(512, 3))


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

    Raises:
        KeyError: The posterior is incomplete, or the setting lacks a channel.
        ValueError: The posterior is malformed or has another number of channels.
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
    ) -> None:
        if not isinstance(posterior, RotationPosterior):
            posterior = RotationPosterior.from_dict(posterior)
        if posterior.chain.channels != len(limits):
            raise ValueError(f"{len(limits)} channels, posterior of {posterior.chain.channels}")
        self._posterior = posterior
        self._names = tuple(limits)
        self._span = np.array([limits[name] for name in self._names], dtype=float).T
        self._window_s = window_s
        self._held = self._vector(setting)
        self._measured = self._held
        variances = np.diagonal(posterior.covariance[0])
        self._gain_variance = float(variances[6 : 6 + len(limits)].mean())
        floor = float(self._mode.floor[0])
        self._bank = RotationFilters.around(
            drift_rad,
            self._mode.fibre[0],
            _turn_covariance(posterior, self._held),
            floor,
            (1 - floor) / (floor * float(variances[-1])),
        )
        self._test = LossOfLock()
        self._rate = Rate()
        self._dither_rad = np.zeros(2)
        self._windows = 0
        self._is_dark = self._is_lost = False
        self._now_s = now_s

    @property
    def floor(self) -> float:
        """QBER at perfect alignment, as learnt."""
        return float(self._bank.weights @ self._bank.floor)

    @property
    def drift_rad(self) -> float:
        """Drift of the fibre per axis in one second, as learnt, rad."""
        return float(np.sqrt(self._bank.drift_variance))

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the setting of the next window: aligned for the expected fibre, plus dither.

        While dark or lost, the setting is held without dither.

        Args:
            now_s: Time at which the window will start, s.
        """
        fibre, covariance = self._bank.mixture()
        dither, dither_rad = np.zeros(len(self._names)), np.zeros(2)
        if not (self._is_dark or self._is_lost):
            members = replace(self._mode, fibre=fibre[None])
            start = self._held + self._centring(members, covariance)
            aligned, _ = kinematics.align(
                self._chain, members, start[None], self._span, steps=IK_STEPS, is_local=True
            )
            self._held = aligned[0]
            waited_s = max(now_s - self._now_s, 0.0)
            covariance = covariance + self._bank.drift_variance * waited_s * np.eye(3)
            dither, dither_rad = self._dither(members, covariance)
        setting = np.clip(self._held + dither, *self._span)
        self._dither_rad = dither_rad
        self._windows += 1
        return Proposal(
            setting=self._named(setting),
            held=self._named(self._held),
            dither_rad=(float(dither_rad[0]), float(dither_rad[1])),
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
        duration_s = max(now_s - self._now_s, 0.0)
        self._let_pass(drives, now_s)
        behind = self._behind(drives)
        n, k = clicks.by_basis()
        trials, errors = n.ravel().astype(float), k.ravel().astype(float)
        self._is_dark = dark or clicks.photons == 0
        if not self._is_dark:
            self._judge(behind, trials, errors)
            if self._test.score < FLOOR_FREEZES_AT:
                self._bank.learn_floor(behind, trials, errors)
            self._bank.update(behind, trials, errors)
            self._rate.count(clicks.photons, duration_s)
        mean, q90 = self._expected_excess(behind)
        self._is_lost |= bool(self._test.score >= 1 or mean > LARGEST_EXCESS)
        return TrackingReport(
            expected_excess=mean,
            excess_q90=q90,
            innovation=self._test.score,
            lost=self._is_lost,
            photons=clicks.photons,
            floor=self.floor,
            drift_rad=self.drift_rad,
            dark=self._is_dark,
            dither_qber=self._dither_qber,
            limit_excess=self._limit_excess,
        )

    def posterior(self) -> RotationPosterior:
        """Give what is known by now, for storing and for the next alignment or tracker.

        The tracker knows the rotation in front of the controller only up to what the controller's
        errors do at the setting held; the fibre's covariance with them follows from that.
        """
        fibre, covariance = self._bank.mixture()
        floor, floor_counts = self.floor, float(self._bank.floor_counts.max())
        mode = replace(self._mode, fibre=fibre[None], log_floor=np.log(np.array([floor])))
        _, axes = self._chain.tangent_axes(mode, self._held[None])
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

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state, JSON-able; :meth:`restore` goes on from it."""
        return {
            "posterior": self._posterior.to_dict(),
            "limits": dict(zip(self._names, self._span.T.tolist(), strict=True)),
            "window_s": list(self._window_s),
            "held": self._named(self._held),
            "measured": self._named(self._measured),
            "bank": self._bank.to_dict(),
            "test": self._test.sums.tolist(),
            "rate": [self._rate.photons, self._rate.duration_s],
            "dither_rad": self._dither_rad.tolist(),
            "windows": self._windows,
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
        tracker = cls(
            stored["posterior"],
            stored["held"],
            {name: (low, high) for name, (low, high) in stored["limits"].items()},
            now_s=now_s - gap_s,
            window_s=(shortest_s, longest_s),
        )
        tracker._measured = tracker._vector(stored["measured"])
        tracker._bank = RotationFilters.from_dict(stored["bank"])
        tracker._test = LossOfLock(np.array(stored["test"], dtype=float))
        tracker._rate = Rate(*stored["rate"])
        tracker._dither_rad = np.array(stored["dither_rad"], dtype=float)
        tracker._windows = stored["windows"]
        tracker._is_dark, tracker._is_lost = stored["is_dark"], stored["is_lost"]
        return tracker

    @property
    def _dither_qber(self) -> float:
        """QBER that the dither of the newest setting costs; small angles."""
        square = float(self._dither_rad @ self._dither_rad)
        return (1 - 2 * self.floor) * square / 8

    @property
    def _limit_excess(self) -> float:
        """Riccati-with-dither bound for small angles."""
        if self._rate.hz == 0:
            return 0.0
        variance_per_photon = self._bank.drift_variance / self._rate.hz
        with_dither = 0.75 * (4 * self.floor * variance_per_photon) ** (1 / 3)
        return float(with_dither + 0.25 * np.sqrt(2 * variance_per_photon))

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

    def _behind(self, drives: Array) -> Array:
        """Compute the rotation of controller and receiver, shape ``(3, 3)``."""
        behind: Array = (
            self._mode.receiver[0] @ self._chain.controller(self._mode, drives[None])[0, 0]
        )
        return behind

    def _let_pass(self, drives: Array, now_s: float) -> None:
        """Widen the filters for the drift, and for how well a change of the drives is known."""
        moved_rad = np.pi / self._chain.half_turn * (drives - self._measured)
        move_variance = self._gain_variance * float(moved_rad @ moved_rad)
        self._bank.predict(max(now_s - self._now_s, 0.0), move_variance)
        self._now_s, self._measured = now_s, drives

    def _centring(self, members: Parameters, covariance: Array) -> Array:
        """Pull channels from their limits along turns that cancel each other.

        They do so as far as the effect of the drives is known, which limits the pace.
        """
        low, high = self._span
        off_centre = np.clip((2 * self._held - low - high) / (high - low), -1, 1)
        _, axes = self._chain.actuator_axes(members, self._held[None])
        effect = axes[0, 0].T
        sigma = np.sqrt(np.trace(covariance) / 3 / self._gain_variance)
        pull: Array = -CENTRING_SHARE * sigma * off_centre**3
        pull -= np.linalg.pinv(effect) @ (effect @ pull)
        return pull * self._chain.half_turn / np.pi

    def _dither(self, members: Parameters, covariance: Array) -> tuple[Array, Array]:
        """Turn about S1 and S2 in front of the receiver, as far as the angles are unknown."""
        controller, axes = self._chain.actuator_axes(members, self._held[None])
        behind = members.receiver[0] @ controller[0, 0]
        sigma = np.sqrt(np.diagonal(behind @ covariance @ behind.T)[:2])
        signs = np.array([(-1.0) ** self._windows, (-1.0) ** (self._windows // 2)])
        dither_rad = signs * np.minimum(DITHER_SIGMAS * sigma, LARGEST_DITHER_RAD)
        turn = behind.T @ np.append(dither_rad, 0.0)
        effect = np.swapaxes(axes[0], -1, -2)
        step = kinematics.shortest_step(effect, turn[None], DITHER_DAMPING)[0]
        return step * self._chain.half_turn / np.pi, dither_rad

    def _advised_window_s(self, covariance: Array) -> float:
        variance = float(np.trace(covariance)) / 3
        advised_s = WINDOW_SHARE * variance / self._bank.drift_variance
        return float(np.clip(advised_s, *self._window_s))

    def _judge(self, behind: Array, trials: Array, errors: Array) -> None:
        """Test whether the errors exceed what the filters and noise explain."""
        fibre, covariance = self._bank.mixture()
        spread = np.diagonal(behind @ covariance @ behind.T) @ EXCESS_PER_SQUARE_ANGLE
        whole = behind @ fibre
        floor, floor_counts = self.floor, self._bank.floor_counts.max()
        meant = 0.25 * (1 - 2 * floor) * (2 - whole[0, 0] - whole[1, 1])
        unsure = np.sqrt(floor * (1 - floor) / floor_counts)
        limit = floor + FLOOR_SIGMAS * unsure + meant + EXCESS_FLUCTUATION * spread
        self._test.update(trials[0] + trials[3], errors[0] + errors[3], float(limit))

    def _expected_excess(self, behind: Array) -> tuple[float, float]:
        """Give mean and 90 % quantile of the excess at a setting."""
        fibre, covariance = self._bank.mixture()
        left = rotation.log(behind @ fibre)
        root = np.linalg.cholesky(behind @ covariance @ behind.T)
        sampled = (left + _NORMAL @ root.T) ** 2 @ EXCESS_PER_SQUARE_ANGLE
        mean = (left**2 + np.sum(root**2, axis=-1)) @ EXCESS_PER_SQUARE_ANGLE
        visibility = 1 - 2 * self.floor
        return float(visibility * mean), float(visibility * np.quantile(sampled, 0.9))


def _turn_covariance(posterior: RotationPosterior, drives: Array) -> Array:
    """Map the covariance of all parameters to one rotation in front of the controller."""
    mode = posterior.modes[:1]
    _, axes = posterior.chain.tangent_axes(mode, drives[None])
    effect = axes[0, 0]
    covariance: Array = effect.T @ posterior.covariance[0, :-1, :-1] @ effect
    return covariance
