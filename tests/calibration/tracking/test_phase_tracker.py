from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from calibration.clicks import Clicks
from calibration.interferometer import Encoding, Interferometer, Phases
from calibration.phase_posterior import PhasePosterior
from calibration.tracking.phase import PhaseTracker, TrackingReport

LIMITS = {"piezo": (0.0, 75.0)}
FLOOR = 0.005
VISIBILITY = 1 - 2 * FLOOR


def learnt(encoding: Encoding, phase: float = 0.0) -> PhasePosterior:
    model = Interferometer(encoding, half_wave=12.0, centre=37.5, floor=FLOOR, sign=1)
    mode = Phases(np.array([phase]), np.zeros(1), np.log(np.array([FLOOR])), np.ones(1))
    covariance = np.diag([1e-3, 0.05**2, 0.01])[None]
    return PhasePosterior(model, mode, covariance, np.ones(1))


def bound(encoding: Encoding, drift: float, rate: float) -> float:
    """Excess per basis that sees the phase; ``drift`` rad^2/s, ``rate`` of counts that see it."""
    if encoding == "four-phase":
        return float(np.sqrt(drift / (rate / 2)) / (4 * VISIBILITY))
    dither = np.logspace(-4, 0, 1000)
    cosine = VISIBILITY * np.cos(dither)
    information = rate * (VISIBILITY * np.sin(dither)) ** 2 / (1 - cosine**2)
    return float(np.min(np.sqrt(drift / information) / 4 + (1 - np.cos(dither)) / 2))


@dataclass
class Run:
    """A tracker on a drifting phase; the true half-wave voltage is 3 % off.

    Attributes:
        drift: rad^2/s.
        rate: Counts per second that see the phase.
    """

    encoding: Encoding
    drift: float
    rate: float
    seed: int = 0
    guess: float = 1.0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tracker = PhaseTracker(
            learnt(self.encoding),
            {"piezo": 37.5},
            LIMITS,
            now_s=0.0,
            drift_rad=self.guess * np.sqrt(self.drift),
            window_s=(1e-3, 1e3),
        )
        self.phase, self.now_s = 0.0, 0.0
        self.reports: list[TrackingReport] = []
        self.drives: list[float] = []

    def go(self, windows: int, ramp_rad_per_s: float = 0.0) -> float:
        """Track; return the mean excess of the bases that see the phase."""
        excess, weight = [], []
        for _ in range(windows):
            proposal = self.tracker.next_setting(self.now_s)
            turned = 1.03 * np.pi * (proposal.setting["piezo"] - 37.5) / 12
            walk = np.sqrt(self.drift * proposal.window_s) * self.rng.normal()
            middle = self.phase + 0.5 * walk + turned
            self.phase += walk + ramp_rad_per_s * proposal.window_s
            self.now_s += proposal.window_s
            clicks = self._count(middle, proposal.window_s)
            self.reports.append(self.tracker.update(clicks, proposal.setting, self.now_s))
            self.drives.append(proposal.setting["piezo"])
            excess.append(VISIBILITY * (1 - np.cos(middle)) / 2)
            weight.append(proposal.window_s)
        return float(np.average(excess, weights=weight))

    def _count(self, theta: float, duration_s: float) -> Clicks:
        c, s = np.cos(theta), np.sin(theta)
        block = np.kron([[c, s], [-s, c]], [[1, -1], [-1, 1]])
        expected = self.rate * duration_s / 16 * (1 + VISIBILITY * block)
        if self.encoding == "time-bin":  # all counts in the basis that sees the phase
            expected[:2], expected[:, :2] = 0, 0
            expected *= 4
        return Clicks(self.rng.poisson(expected))


@pytest.mark.parametrize(
    ("encoding", "drift", "rate"),
    [
        ("four-phase", 1e-4, 1e4),
        ("four-phase", 1e-2, 1e5),
        ("time-bin", 1e-4, 1e4),
        ("time-bin", 1e-2, 1e5),
    ],
)
def test_the_excess_is_near_the_bound(encoding: Encoding, drift: float, rate: float) -> None:
    run = Run(encoding, drift, rate, seed=1)
    run.go(500)
    assert run.go(2500) / bound(encoding, drift, rate) < 1.35
    assert not run.reports[-1].lost


@pytest.mark.parametrize("guess", [0.1, 10.0])
@pytest.mark.parametrize("encoding", ["time-bin", "four-phase"])
def test_a_drift_guessed_wrong_by_ten_is_learnt(encoding: Encoding, guess: float) -> None:
    run = Run(encoding, 1e-2, 1e5, seed=2, guess=guess)
    run.go(2000)
    assert run.tracker.drift_rad == pytest.approx(0.1, rel=0.35)
    assert run.go(1500) / bound(encoding, 1e-2, 1e5) < 1.6


def test_where_the_sine_is_seen_there_is_no_dither() -> None:
    run = Run("four-phase", 1e-2, 1e5)
    assert all(run.tracker.next_setting(0.0).dither_rad == (0.0,) for _ in range(4))


def test_where_errors_alone_see_the_phase_the_dither_follows_its_uncertainty() -> None:
    tracker = Run("time-bin", 1e-2, 1e5).tracker
    one, other = (tracker.next_setting(0.0).dither_rad[0] for _ in range(2))
    assert one == pytest.approx(-other)
    assert abs(one) == pytest.approx(0.7 * np.sqrt(1e-3), rel=0.01)


@pytest.mark.parametrize("encoding", ["time-bin", "four-phase"])
def test_a_drive_at_the_end_of_its_range_goes_back_by_whole_periods(encoding: Encoding) -> None:
    run = Run(encoding, 1.0, 1e6, seed=3)
    run.go(100)
    excess = run.go(1800, ramp_rad_per_s=15.0)
    assert abs(run.phase) > 20
    assert not run.reports[-1].lost
    assert max(np.abs(np.diff(run.drives))) > 20
    assert min(run.drives) >= 0
    assert max(run.drives) <= 75
    assert excess < 0.01


def lose_lock(run: Run) -> None:
    run.phase += 1.5


def flip(run: Run) -> None:
    run.phase += np.pi


@pytest.mark.parametrize("knock", [lose_lock, flip])
@pytest.mark.parametrize("encoding", ["time-bin", "four-phase"])
def test_a_knock_is_noticed_or_undone(encoding: Encoding, knock: Callable[[Run], None]) -> None:
    run = Run(encoding, 1e-4, 1e4, seed=4)
    run.go(300)
    knock(run)
    excess = run.go(300)
    assert run.reports[-1].lost or excess < 0.02


def test_no_lock_is_lost_by_noise() -> None:
    run = Run("time-bin", 1e-2, 1e5, seed=5)
    run.go(4000)
    assert max(report.innovation for report in run.reports) < 1


def test_in_the_dark_only_the_uncertainty_grows() -> None:
    run = Run("time-bin", 1e-2, 1e5)
    run.go(200)
    before = run.tracker.next_setting(run.now_s)
    dark = run.tracker.update(Clicks(np.zeros((4, 4), dtype=np.int64)), before.setting, run.now_s)
    after = run.tracker.next_setting(run.now_s + 10)
    assert dark.dark
    assert after.dither_rad == (0.0,)
    assert after.held == pytest.approx(before.held)


def test_what_a_tracker_knows_starts_the_next_one() -> None:
    run = Run("time-bin", 1e-2, 1e5, seed=6)
    run.go(500)
    held = run.tracker.next_setting(run.now_s).held
    stored = run.tracker.posterior().to_dict()
    successor = PhaseTracker(stored, held, LIMITS, now_s=0.0)
    assert successor.next_setting(0.0).held["piezo"] == pytest.approx(held["piezo"], abs=1e-6)
    assert successor.floor == pytest.approx(run.tracker.floor, rel=1e-6)


@pytest.mark.parametrize(
    ("posterior", "limits", "error"),
    [
        ({"kind": "rotation"}, LIMITS, ValueError),
        (learnt("time-bin"), {**LIMITS, "other": (0.0, 1.0)}, ValueError),
    ],
)
def test_what_is_no_phase_is_refused(
    posterior: Any, limits: dict[str, tuple[float, float]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        PhaseTracker(posterior, {"piezo": 37.5}, limits, now_s=0.0)
