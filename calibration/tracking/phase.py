"""Holding a phase while key is made: follows the interferometers with the counts that come anyway.

Where counts of mismatched bases see the sine, nothing need be done to see a drift. Where error
counts alone see the phase, they are blind at the optimum: every setting then carries a dither tied
to the uncertainty of the phase, the optimum for any drift and any count rate. Slips by pi are found
from the counts and undone. What a change of the drive or of the temperature does to the phase is
learnt on the way.

    tracker = PhaseTracker(posterior, setting, limits, now_s=now)
    while True:
        proposal = tracker.next_setting(now)
        ...  # set the drive, count for about proposal.window_s
        report = tracker.update(clicks, setting, now)
        if report.lost:
            break  # calibrate anew
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import Clicks
from calibration.interferometer import SCALE, Interferometer, Phases, wrapped
from calibration.phase_design import with_headroom
from calibration.phase_posterior import PhasePosterior
from calibration.tracking.loss_of_lock import LossOfLock
from calibration.tracking.phase_drive import PhaseDrive
from calibration.tracking.phase_filters import FLOOR_MEMORY, PHASE, PLAY, STATES, PhaseFilters
from calibration.tracking.phase_moments import PhaseCounts, log_evidence
from calibration.tracking.report import Proposal, Rate, TrackingReport
from calibration.tracking.slips import SlipTest

Array = NDArray[np.float64]

LARGEST_DITHER_RAD = 0.3

EVEN_DITHERS = (1.0, -1.0)
UNEVEN_DITHERS = (1.34, -0.45, 0.45, -1.34)
"""Dithers of successive windows, as multiples of the optimum; mean square 1. Even ones alone could
not tell a wrong play, which makes all of them larger or smaller, from a wrong floor."""

WINDOW_SHARE = 0.04
"""Length of a window as a share of the time in which drift doubles the variance. Counts wait for
half of it on average, and longer where they come late."""

MOST_PHOTONS = 400
"""Detections of a window: a slip is to be found and undone within 500."""

DOUBTFUL_PHOTONS = 40
"""Detections of the windows that follow one that was not believed."""

FLOOR_FREEZES_AT = 0.3
"""Score of the test for a lost lock above which the floor is no longer learnt: it must not explain
away what the test is about to find."""

LARGEST_ORDINARY_SIGMAS = 4.9
"""Deviation of a Gaussian that is exceeded once in 10^6."""

FLOOR_SIGMAS = 4.0

LARGEST_EXCESS = 0.05
"""Excess at one standard deviation of the phase above which the lock counts as lost."""

Q90_SIGMAS = 1.645

PLAY_ERROR = 0.25
"""Relative error of the half width of the play that is believed at first."""


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
        latency_windows: Windows whose counts are not there yet when the next setting is chosen.
        play: Half width of the drive's play, in its unit, that the tracker is to take off itself
            and to learn better; 0 where there is none, or the knob does it.
        rad_per_kelvin: Response to temperature to reckon with, standard deviation, rad/K; learnt
            where :meth:`update` is told a temperature.

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
        latency_windows: int = 0,
        play: float = 0.0,
        rad_per_kelvin: float = 5.0,
    ) -> None:
        if not isinstance(posterior, PhasePosterior):
            posterior = PhasePosterior.from_dict(posterior)
        if len(limits) != 1:
            raise ValueError(f"a phase has one drive, not {len(limits)}")
        self._posterior = posterior
        ((self._name, span),) = limits.items()
        self._window_s = window_s
        self._latency_windows = latency_windows
        self._has_play = play > 0
        self._drive = PhaseDrive(
            limits=span,
            span=with_headroom(span, posterior.model.half_wave),
            rad_per_drive=float(np.pi * self._mode.sign[0] / posterior.model.half_wave),
            measured=float(setting[self._name]),
        )
        floor = float(self._mode.floor[0])
        mean, covariance = self._start(play, rad_per_kelvin)
        self._filters = PhaseFilters.around(
            drift_rad,
            mean,
            covariance,
            floor=floor,
            floor_counts=(1 - floor) / (floor * float(posterior.covariance[0, 2, 2])),
        )
        self._expected = self._filters.expected()
        errors, trials = posterior.z_errors
        self._elsewhere = _Elsewhere(errors, trials, posterior.sifted_share)
        self._test, self._slip_test = LossOfLock(), SlipTest()
        self._slips = 0
        self._rate, self._seeing_rate = Rate(), Rate()
        self._advised_s = math.inf
        self._dithers_rad = deque([0.0], maxlen=latency_windows + 1)
        self._dithered_rad = 0.0
        self._windows = 0
        self._is_dark = self._is_lost = False
        self._now_s = now_s

    def _start(self, play: float, rad_per_kelvin: float) -> tuple[Array, Array]:
        """Return mean and covariance of the state: the phase at the setting in force."""
        lever = self._lever
        to_phase = np.array([1.0, lever])
        joint = self._posterior.covariance[0][: SCALE + 1, : SCALE + 1]
        turned = float(self._mode.phase[0]) + lever * (1 + float(self._mode.scale[0]))
        mean = np.array([float(wrapped(np.array(turned))), float(self._mode.scale[0]), 0.0, play])
        covariance = np.zeros((STATES, STATES))
        covariance[SCALE, SCALE] = joint[SCALE, SCALE]
        covariance[PHASE, PHASE] = to_phase @ joint @ to_phase
        covariance[PHASE, SCALE] = covariance[SCALE, PHASE] = to_phase @ joint[:, SCALE]
        covariance[2, 2], covariance[PLAY, PLAY] = rad_per_kelvin**2, (PLAY_ERROR * play) ** 2
        return mean, covariance

    @property
    def floor(self) -> float:
        """Share of errors among the sifted counts at phase zero, as learnt."""
        share = self._elsewhere.sifted_share
        other = self._elsewhere.errors / max(self._elsewhere.trials, 1.0)
        return share * self._expected.floor + (1 - share) * other

    @property
    def drift_rad(self) -> float:
        """Drift of the phase in one second, as learnt, rad."""
        return math.sqrt(self._expected.drift_variance)

    def next_setting(self, now_s: float) -> Proposal:
        """Choose the setting of the next window: phase zero as expected, plus dither if needed.

        A drive that nears the end of its range goes back by whole periods, to the middle. While
        dark or lost, the setting is held without dither.

        Args:
            now_s: Time at which the window will start, s.
        """
        dither_rad = 0.0
        if not (self._is_dark or self._is_lost):
            self._drive.to_zero(self._expected)
            dither_rad = self._dither(max(now_s - self._now_s, 0.0))
        setting, held = self._drive.ask(self._expected, dither_rad)
        self._dithers_rad.append(dither_rad)
        self._windows += 1
        self._advised_s = self._choose_window_s()
        return Proposal(
            setting={self._name: setting},
            held={self._name: held},
            dither_rad=(dither_rad,),
            window_s=self._advised_s,
        )

    def update(
        self,
        clicks: Clicks,
        setting: Mapping[str, float],
        now_s: float,
        *,
        dark: bool = False,
        temperature_c: float | None = None,
    ) -> TrackingReport:
        """Learn from one window.

        Args:
            clicks: Counts of the window.
            setting: What was in force while counting, as read back, by the name of the drive.
            now_s: Time at which the window ended, s.
            dark: Whether what arrived is not light; a window without any count is dark in any case.
            temperature_c: Of what the phase depends on, mean over the window, deg C; None where no
                sensor tells.

        Returns:
            What is known by now. After a dark window only the uncertainty has grown.
        """
        elapsed_s = max(now_s - self._now_s, 0.0)
        window_s = min(elapsed_s, self._advised_s)
        self._now_s = now_s
        drive = float(setting[self._name])
        moved = self._drive.arrive(drive, temperature_c, self._expected.play)
        dithered_rad = self._dithers_rad[0] - self._dithered_rad
        self._dithered_rad = self._dithers_rad[0]
        self._filters.shift(*moved, dithered_rad)
        self._filters.predict(elapsed_s - window_s)
        self._is_dark = dark or clicks.photons == 0
        if self._is_dark:
            self._filters.predict(window_s)
        else:
            self._learn(clicks, window_s)
        self._expected = self._filters.expected()
        return self._report(clicks.photons)

    def _learn(self, clicks: Clicks, window_s: float) -> None:
        """Take in the counts of a window, unless they make no sense yet."""
        counts = PhaseCounts.of(clicks, self._model.encoding)
        self._rate.count(clicks.photons, window_s)
        self._seeing_rate.count(int(counts.matched + counts.crossed), window_s)
        self._expected = self._filters.expected()
        seen = self._filters.look(counts, window_s)
        verdict = self._slip_test.judge(
            self._mixed(seen.evidence), self._evidence_for_slip(counts), counts.log_uniform()
        )
        if verdict == "doubtful":
            self._filters.predict(window_s)
            return
        if verdict == "slipped":
            self._slips += 1
            self._filters.turn(math.pi)
            self._expected = self._filters.expected()
            seen = self._filters.look(counts, window_s)
        self._judge(counts)
        if self._test.score < FLOOR_FREEZES_AT:
            self._filters.learn_floor(counts, window_s)
            if self._model.encoding == "time-bin":
                (trials, _), _ = clicks.by_basis()[0].tolist()
                (errors, _), _ = clicks.by_basis()[1].tolist()
                self._elsewhere.learn(errors, trials, counts.matched)
        self._filters.update(seen, window_s)

    def _mixed(self, evidence: Array) -> float:
        """Return the log evidence of all filters together."""
        highest = float(evidence.max())
        return highest + math.log(float(self._filters.weights @ np.exp(evidence - highest)))

    def _evidence_for_slip(self, counts: PhaseCounts) -> float:
        """Return the log evidence with the phase turned by pi."""
        expected = self._expected
        return log_evidence(expected.phase + math.pi, expected.variance, expected.floor, counts)

    def _report(self, photons: int) -> TrackingReport:
        mean, q90 = self._expected_excess()
        unknown = self._model.share_of_bases * self._lost_to(math.sqrt(self._expected.variance))
        self._is_lost |= bool(self._test.score >= 1 or unknown > LARGEST_EXCESS)
        return TrackingReport(
            expected_excess=mean,
            excess_q90=q90,
            innovation=self._test.score,
            lost=self._is_lost,
            photons=photons,
            floor=self.floor,
            drift_rad=self.drift_rad,
            dark=self._is_dark,
            dither_qber=self._model.share_of_bases * self._lost_to(abs(self._dithers_rad[0])),
            limit_excess=self._limit_excess,
            slips=self._slips,
        )

    @property
    def _lever(self) -> float:
        """Nominal phase of the newest output counted, relative to the centre, rad."""
        return self._drive.rad_per_drive * (self._drive.measured - self._model.centre)

    def posterior(self) -> PhasePosterior:
        """Give what is known by now, for storing and for the next calibration or tracker.

        The phase is known at the drive held; at the centre of the range only up to what the error
        of the half-wave voltage makes of the distance.
        """
        expected, spread = self._expected, self._filters.spread()
        floor, counts = expected.floor, float(self._filters.floor_counts.max())
        lever = self._lever
        phase = expected.phase - lever * (1 + expected.scale)
        mode = replace(
            self._mode,
            phase=wrapped(np.array([phase])),
            scale=np.array([expected.scale]),
            log_floor=np.log(np.array([floor])),
        )
        to_centre = np.array([[1.0, -lever], [0.0, 1.0]])
        joint = np.zeros((1, 3, 3))
        joint[0, :2, :2] = to_centre @ spread[:2, :2] @ to_centre.T
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

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state, JSON-able; :meth:`restore` goes on from it."""
        return {
            "posterior": self._posterior.to_dict(),
            "name": self._name,
            "window_s": list(self._window_s),
            "latency_windows": self._latency_windows,
            "has_play": self._has_play,
            "drive": asdict(self._drive),
            "filters": self._filters.to_dict(),
            "elsewhere": asdict(self._elsewhere),
            "test": self._test.sums.tolist(),
            "slip_test": asdict(self._slip_test),
            "slips": self._slips,
            "rate": asdict(self._rate),
            "seeing_rate": asdict(self._seeing_rate),
            "dithers_rad": list(self._dithers_rad),
            "dithered_rad": self._dithered_rad,
            "windows": self._windows,
            "is_dark": self._is_dark,
            "is_lost": self._is_lost,
        }

    @classmethod
    def restore(
        cls, stored: Mapping[str, Any], *, now_s: float, gap_s: float = 0.0
    ) -> PhaseTracker:
        """Go on from a snapshot.

        Args:
            stored: What :meth:`snapshot` gave.
            now_s: Time by the present clock, s.
            gap_s: Time since the snapshot, in which the phase drifted unseen, s.
        """
        name, drive = stored["name"], PhaseDrive.restored(stored["drive"])
        shortest_s, longest_s = stored["window_s"]
        tracker = cls(
            stored["posterior"],
            {name: drive.measured},
            {name: drive.limits},
            now_s=now_s - gap_s,
            window_s=(shortest_s, longest_s),
            latency_windows=stored["latency_windows"],
        )
        tracker._drive, tracker._has_play = drive, stored["has_play"]
        tracker._filters = PhaseFilters.from_dict(stored["filters"])
        tracker._expected = tracker._filters.expected()
        tracker._elsewhere = _Elsewhere(**stored["elsewhere"])
        tracker._test = LossOfLock(np.array(stored["test"], dtype=float))
        tracker._slip_test, tracker._slips = SlipTest(**stored["slip_test"]), stored["slips"]
        tracker._rate = Rate(**stored["rate"])
        tracker._seeing_rate = Rate(**stored["seeing_rate"])
        tracker._dithers_rad.extend(stored["dithers_rad"])
        tracker._dithered_rad = stored["dithered_rad"]
        tracker._windows = stored["windows"]
        tracker._is_dark, tracker._is_lost = stored["is_dark"], stored["is_lost"]
        return tracker

    @property
    def _model(self) -> Interferometer:
        return self._posterior.model

    @property
    def _mode(self) -> Phases:
        """Best mode of the calibration."""
        return self._posterior.modes[:1]

    @property
    def _limit_excess(self) -> float:
        """Least mean excess at the drift learnt and the present rate, for small angles."""
        if self._seeing_rate.hz == 0:
            return 0.0
        variance_per_count = self._expected.drift_variance / self._seeing_rate.hz
        floor = self._expected.floor
        if self._model.encoding == "four-phase":
            return math.sqrt(2 * variance_per_count) / (4 * (1 - 2 * floor))
        return self._model.share_of_bases * 0.75 * math.cbrt(variance_per_count * floor)

    def _dither(self, waited_s: float) -> float:
        """Return the phase to step aside; none where the sine is seen.

        Least sum of what is not known and what is paid, in the steady state of any drift and rate:
        the information of a count about the phase is ``d^2 / (d^2 + 4 e)`` at a step ``d``, where
        ``e`` is the error probability without it.
        """
        if self._model.encoding == "four-phase":
            return 0.0
        variance = self._expected.variance + self._expected.drift_variance * waited_s
        errors = self._expected.floor + variance / 4
        step = math.sqrt(2 * errors * (math.sqrt(1 + variance / (2 * errors)) - 1))
        pattern = UNEVEN_DITHERS if self._has_play else EVEN_DITHERS
        return pattern[self._windows % len(pattern)] * min(step, LARGEST_DITHER_RAD)

    def _choose_window_s(self) -> float:
        """Choose how long to count: short against drift, and against the time to undo a slip."""
        share = WINDOW_SHARE / (1 + 2 * self._latency_windows)
        photons = DOUBTFUL_PHOTONS if self._slip_test.doubts else MOST_PHOTONS
        advised_s = share * self._expected.variance / self._expected.drift_variance
        if self._rate.hz > 0:
            advised_s = min(advised_s, photons / self._rate.hz)
        return min(max(advised_s, self._window_s[0]), self._window_s[1])

    def _judge(self, counts: PhaseCounts) -> None:
        """Test whether the errors exceed what the filters and noise explain."""
        floor, known = self._expected.floor, float(self._filters.floor_counts.max())
        deviation = LARGEST_ORDINARY_SIGMAS * math.sqrt(self._expected.variance)
        unsure = math.sqrt(floor * (1 - floor) / known)
        explained = self._lost_to(abs(self._expected.phase) + deviation)
        limit = floor + FLOOR_SIGMAS * unsure + explained
        self._test.update(counts.matched, counts.wrong, limit)

    def _expected_excess(self) -> tuple[float, float]:
        """Give mean and 90 % quantile of the excess at the setting counted last."""
        off, variance = abs(self._expected.phase), self._expected.variance
        share, contrast = self._model.share_of_bases, 1 - 2 * self._expected.floor
        mean = 0.5 * share * contrast * (1 - math.exp(-0.5 * variance) * math.cos(off))
        return mean, share * self._lost_to(off + Q90_SIGMAS * math.sqrt(variance))

    def _lost_to(self, phase_rad: float) -> float:
        """Return the excess at a phase of the bases that see it."""
        return 0.5 * (1 - 2 * self._expected.floor) * (1 - math.cos(min(phase_rad, math.pi)))
