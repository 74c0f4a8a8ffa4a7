"""Holding a phase while key is made: follows the interferometers with the counts that come anyway.

Where counts of mismatched bases see the sine, nothing need be done to see a drift. Where error
counts alone see the phase, they are blind at the optimum: every setting then carries a dither of
0.7 standard deviations of the phase, the optimum for any drift and any count rate.

    tracker = PhaseTracker(posterior, setting, limits, now_s=now)
    while True:
        proposal = tracker.next_setting(now)
        ...  # set the drive, count for about proposal.window_s
        report = tracker.update(clicks, setting, now)
        if report.lost:
            break  # calibrate anew
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import Clicks
from calibration.interferometer import PHASE, SCALE, Interferometer, Phases, wrapped
from calibration.phase_design import nearest_zero, with_headroom
from calibration.phase_posterior import PhasePosterior
from calibration.tracking.loss_of_lock import LossOfLock
from calibration.tracking.phase_filters import FLOOR_MEMORY, PhaseFilters
from calibration.tracking.report import Proposal, Rate, TrackingReport

Array = NDArray[np.float64]

DITHER_SIGMAS = 0.7
"""Dither, in standard deviations of the phase: the optimum is sqrt(1/2)."""

LARGEST_DITHER_RAD = 0.3

WINDOW_SHARE = 0.05
"""Length of a window as a share of the time in which drift doubles the variance."""

FLOOR_FREEZES_AT = 0.3
"""Score of the test for a lost lock above which the floor is no longer learnt: it must not explain
away what the test is about to find."""

LARGEST_ORDINARY_SIGMAS = 4.9
"""Deviation of a Gaussian that is exceeded once in 10^6."""

FLOOR_SIGMAS = 4.0

LARGEST_EXCESS = 0.05
"""Expected excess above which the lock counts as lost."""

Q90_SIGMAS = 1.645


@dataclass
class _Elsewhere:
    """Errors of the matched basis that does not see the phase."""

    errors: float
    trials: float
    sifted_share: float

    def learn(self, errors: float, trials: float, seeing: float) -> None:
        """Take in one window; old ones fade."""
        self.errors, self.trials = self.errors + errors, self.trials + trials
        if (fading := FLOOR_MEMORY / max(self.trials, 1.0)) < 1:
            self.errors, self.trials = self.errors * fading, self.trials * fading
        if trials + seeing > 0:
            self.sifted_share = seeing / (trials + seeing)


class PhaseTracker:
    """Follows the phase; knows a drive and counts, no instruments and no clock.

    Args:
        posterior: What a calibration learnt, as an object or as stored.
        setting: Setting in force, by the name of the drive.
        limits: Lowest and highest value of the drive, by its name.
        now_s: Time, s, of any clock that does not jump.
        drift_rad: Guess of the phase's drift in one second, rad; right within a factor of ten it
            costs little, and the bank follows the data beyond that.
        window_s: Shortest and longest window to propose, s.

    Raises:
        KeyError: The posterior is incomplete, or the setting lacks the drive.
        ValueError: The posterior is malformed, or there is not one drive.
    """

    def __init__(
        self,
        posterior: PhasePosterior | Mapping[str, Any],
        setting: Mapping[str, float],
        limits: Mapping[str, tuple[float, float]],
        *,
        now_s: float,
        drift_rad: float = 0.03,
        window_s: tuple[float, float] = (0.001, 1.0),
    ) -> None:
        if not isinstance(posterior, PhasePosterior):
            posterior = PhasePosterior.from_dict(posterior)
        if len(limits) != 1:
            raise ValueError(f"a phase has one drive, not {len(limits)}")
        self._posterior = posterior
        ((self._name, span),) = limits.items()
        self._span = with_headroom(span, posterior.model.half_wave)
        self._limits = span
        self._window_s = window_s
        self._held = self._measured = float(setting[self._name])
        lever = np.array([1.0, float(self._mode.sign[0] * self._lever(self._held))])
        joint = posterior.covariance[0][: SCALE + 1, : SCALE + 1]
        floor = float(self._mode.floor[0])
        self._filters = PhaseFilters.around(
            drift_rad,
            float(self._mode.phase[0]),
            float(lever @ joint @ lever),
            floor=floor,
            floor_counts=(1 - floor) / (floor * float(posterior.covariance[0, 2, 2])),
            offsets=posterior.model.offsets,
        )
        errors, trials = posterior.z_errors
        self._elsewhere = _Elsewhere(errors, trials, posterior.sifted_share)
        self._test = LossOfLock()
        self._rate = Rate()
        self._dither_rad = 0.0
        self._windows = 0
        self._is_dark = self._is_lost = False
        self._now_s = now_s

    @property
    def floor(self) -> float:
        """Share of errors among the sifted counts at phase zero, as learnt."""
        share = self._elsewhere.sifted_share
        other = self._elsewhere.errors / max(self._elsewhere.trials, 1.0)
        return share * self._seen_floor + (1 - share) * other

    @property
    def drift_rad(self) -> float:
        """Drift of the phase in one second, as learnt, rad."""
        return float(np.sqrt(self._filters.drift_variance))

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the setting of the next window: phase zero as expected, plus dither if needed.

        A drive that nears the end of its range goes back by whole periods, to the middle. While
        dark or lost, the setting is held without dither.

        Args:
            now_s: Time at which the window will start, s.
        """
        phase, variance = self._filters.mixture()
        dither_rad = 0.0
        if not (self._is_dark or self._is_lost):
            self._held = self._in_phase(phase)
            waited_s = max(now_s - self._now_s, 0.0)
            variance += self._filters.drift_variance * waited_s
            dither_rad = self._dither(variance)
        shift = dither_rad / self._rad_per_drive
        drive = float(np.clip(self._held + shift, *self._limits))
        self._dither_rad = dither_rad
        self._windows += 1
        return Proposal(
            setting={self._name: drive},
            held={self._name: self._held},
            dither_rad=(dither_rad,),
            window_s=self._advised_window_s(variance),
        )

    def update(
        self, clicks: Clicks, setting: Mapping[str, float], now_s: float, *, dark: bool = False
    ) -> TrackingReport:
        """Learn from one window.

        Args:
            clicks: Counts of the window.
            setting: What was in force while counting, as read back, by the name of the drive.
            now_s: Time at which the window ended, s.
            dark: Whether what arrived is not light; a window without any count is dark in any case.

        Returns:
            What is known by now. After a dark window only the uncertainty has grown.
        """
        drive = float(setting[self._name])
        duration_s = max(now_s - self._now_s, 0.0)
        self._let_pass(drive, now_s)
        turned = self._turned(drive)
        n, k = (table.ravel().astype(float) for table in clicks.by_basis())
        rows = list(self._model.rows)
        trials, errors = n[rows], k[rows]
        self._is_dark = dark or clicks.photons == 0
        if not self._is_dark:
            self._judge(turned, trials, errors)
            if self._test.score < FLOOR_FREEZES_AT:
                self._filters.learn_floor(turned, trials, errors)
                if 0 not in rows:
                    self._elsewhere.learn(k[0], n[0], float(trials.sum()))
            self._filters.update(turned, trials, errors)
            self._rate.count(clicks.photons, duration_s)
        mean, q90 = self._expected_excess(turned)
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

    def posterior(self) -> PhasePosterior:
        """Give what is known by now, for storing and for the next calibration or tracker.

        The phase is known at the drive held; at the centre of the range only up to what the error
        of the half-wave voltage makes of the distance.
        """
        phase, variance = self._filters.mixture()
        floor, counts = self._seen_floor, float(self._filters.floor_counts.max())
        mode = replace(
            self._mode,
            phase=wrapped(np.array([phase])),
            log_floor=np.log(np.array([floor])),
        )
        lever = float(self._mode.sign[0] * self._lever(self._held))
        scale_variance = float(self._posterior.covariance[0, SCALE, SCALE])
        joint = np.zeros((1, 3, 3))
        joint[0, SCALE, SCALE] = scale_variance
        joint[0, PHASE, SCALE] = joint[0, SCALE, PHASE] = -lever * scale_variance
        joint[0, PHASE, PHASE] = variance + lever**2 * scale_variance
        joint[0, 2, 2] = (1 - floor) / (floor * counts)
        return replace(
            self._posterior,
            modes=mode,
            covariance=joint,
            weights=np.ones(1),
            z_errors=(self._elsewhere.errors, self._elsewhere.trials),
            sifted_share=self._elsewhere.sifted_share,
            seen=None,
        )

    @property
    def _dither_qber(self) -> float:
        """QBER that the dither of the newest setting costs."""
        share = 0.5 * self._model.share_of_bases * (1 - 2 * self._seen_floor)
        return float(share * (1 - np.cos(self._dither_rad)))

    @property
    def _limit_excess(self) -> float:
        """Least mean excess at the drift learnt and the present rate, for small angles."""
        if self._rate.hz == 0:
            return 0.0
        variance_per_photon = self._filters.drift_variance / self._rate.hz
        if self._model.encoding == "four-phase":
            return float(np.sqrt(2 * variance_per_photon) / (4 * (1 - 2 * self._seen_floor)))
        return float(0.75 * np.cbrt(variance_per_photon * self._seen_floor))

    @property
    def _model(self) -> Interferometer:
        return self._posterior.model

    @property
    def _mode(self) -> Phases:
        """Best mode of the calibration: what is taken as known of the half-wave voltage."""
        return self._posterior.modes[:1]

    @property
    def _rad_per_drive(self) -> float:
        slope = self._mode.sign[0] * (1 + self._mode.scale[0])
        return float(np.pi * slope / self._model.half_wave)

    @property
    def _seen_floor(self) -> float:
        """Error probability at phase zero of the bases that see the phase."""
        return float(self._filters.weights @ self._filters.floor)

    def _lever(self, drive: float) -> float:
        return float(self._model.lever(np.array([drive]))[0])

    def _turned(self, drive: float) -> float:
        """Return the phase that a drive adds to that at the centre, rad."""
        return self._rad_per_drive * (drive - self._model.centre)

    def _in_phase(self, phase: float) -> float:
        """Return the drive of phase zero: near the one held, or else near the middle."""
        expected = replace(self._mode, phase=np.array([phase]))
        low, high = self._span
        drive = float(nearest_zero(self._model, expected, self._held)[0])
        if not low <= drive <= high:
            drive = float(nearest_zero(self._model, expected, (low + high) / 2)[0])
        return float(np.clip(drive, *self._limits))

    def _let_pass(self, drive: float, now_s: float) -> None:
        """Widen the filters for the drift, and for how well a change of the drive is known."""
        moved_rad = self._lever(drive) - self._lever(self._measured)
        scale_variance = float(self._posterior.covariance[0, SCALE, SCALE])
        self._filters.predict(max(now_s - self._now_s, 0.0), scale_variance * moved_rad**2)
        self._now_s, self._measured = now_s, drive

    def _dither(self, variance: float) -> float:
        """Return the phase to step aside, as far as it is unknown; none where the sine is seen."""
        if self._model.encoding == "four-phase":
            return 0.0
        side = (-1.0) ** self._windows
        return float(side * min(DITHER_SIGMAS * np.sqrt(variance), LARGEST_DITHER_RAD))

    def _advised_window_s(self, variance: float) -> float:
        advised_s = WINDOW_SHARE * variance / self._filters.drift_variance
        return float(np.clip(advised_s, *self._window_s))

    def _judge(self, turned: float, trials: Array, errors: Array) -> None:
        """Test whether the errors exceed what the filters and noise explain."""
        phase, variance = self._filters.mixture()
        is_matched = self._model.offsets == 0
        floor, counts = self._seen_floor, self._filters.floor_counts.max()
        off = abs(float(wrapped(np.array(phase + turned))))
        farthest = min(off + LARGEST_ORDINARY_SIGMAS * float(np.sqrt(variance)), np.pi)
        unsure = np.sqrt(floor * (1 - floor) / counts)
        limit = floor + FLOOR_SIGMAS * unsure + 0.5 * (1 - 2 * floor) * (1 - np.cos(farthest))
        wrong, matched = errors[is_matched].sum(), trials[is_matched].sum()
        self._test.update(float(matched), float(wrong), float(limit))

    def _expected_excess(self, turned: float) -> tuple[float, float]:
        """Give mean and 90 % quantile of the excess at a setting."""
        phase, variance = self._filters.mixture()
        off = abs(float(wrapped(np.array(phase + turned))))
        share = 0.5 * self._model.share_of_bases * (1 - 2 * self._seen_floor)
        mean = share * (1 - np.exp(-0.5 * variance) * np.cos(off))
        farthest = min(off + Q90_SIGMAS * float(np.sqrt(variance)), np.pi)
        return float(mean), float(share * (1 - np.cos(farthest)))
