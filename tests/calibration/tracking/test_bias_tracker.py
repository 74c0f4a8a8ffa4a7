"""The null of a modulator held under drift, by counts drawn from the modulator itself."""

import json
from dataclasses import dataclass, field
from math import asin, pi, sqrt
from typing import Any

import numpy as np
import pytest

from calibration.clicks import Window
from calibration.extinction import SineCurve
from calibration.folding import Pattern
from calibration.tracking.bias import BiasReport, BiasTracker, ModulatorNull
from calibration.tracking.vacuum import VacuumCounts

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
LEVELS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
LIMITS = {"bias": (-8.0, 8.0)}
HALF_WAVE_V = 5.3
NULL_V = 1.3
PARTS = 4
"""Parts into which a window is cut: the null drifts while it lasts."""


def bound(drift_rad: float, rate_hz: float, floor: float) -> float:
    """Least mean excess of the empty pulses, in the light of the peak."""
    dither = np.logspace(-5, 0, 4000)
    information = rate_hz * (np.sin(dither) / 2) ** 2 / (floor + np.sin(dither / 2) ** 2)
    return float(np.min(drift_rad / np.sqrt(information) / 4 + np.sin(dither / 2) ** 2))


@dataclass
class Run:
    """A tracker on a drifting modulator; it believes in a half-wave voltage of 5.2 V.

    Attributes:
        drift_v: Of the null, V per root of a second.
        rate_hz: Counts of the empty slots at the peak.
        floor: Share of that at the null.
        background_hz: Counts in them that are not light.
    """

    drift_v: float = 0.005
    rate_hz: float = 6e4
    floor: float = 1e-3
    seed: int = 1000
    guess: float = 1.0
    background_hz: float = 0.0
    half_wave_sigma: float = 0.1
    start_v: float = NULL_V
    now_s: float = 0.0
    reports: list[BiasReport] = field(default_factory=list)
    bias_v: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.null_v = self.start_v
        self.rng = np.random.default_rng(self.seed)
        self.tracker = self.make_tracker()

    def make_tracker(self) -> BiasTracker:
        null = ModulatorNull(self.start_v, 0.05, 5.2, self.half_wave_sigma, 1.5 * self.floor)
        guess_v = self.guess * self.drift_v
        return BiasTracker(null, {"bias": self.start_v}, LIMITS, now_s=self.now_s, drift_v=guess_v)

    def go(self, windows: int, ramp_v_per_s: float = 0.0) -> float:
        """Track; return the mean excess."""
        excess, weight = [], []
        for _ in range(windows):
            proposal = self.tracker.next_setting(self.now_s)
            bias_v, window_s = proposal.setting["bias"], proposal.window_s
            angles = bias_v - self._walk(window_s, ramp_v_per_s)
            angles *= pi / (2 * HALF_WAVE_V)
            counts = self.count(angles, window_s)
            self.now_s += window_s
            self.reports.append(self.tracker.update(counts, {"bias": bias_v}, self.now_s))
            self.bias_v.append(bias_v)
            excess.append(float(np.mean(np.sin(angles) ** 2)))
            weight.append(window_s)
        return float(np.average(excess, weights=weight))

    def count(self, angles: np.ndarray[Any, Any], window_s: float) -> VacuumCounts:
        """Count empty pulses and decoys, which the bias changes too."""
        background = self.background_hz * window_s
        passed = self.floor + float(np.mean(np.sin(angles) ** 2))
        decoy = float(np.mean(np.sin(asin(sqrt(0.2)) + angles) ** 2))
        seen = self.rng.poisson(self.rate_hz * window_s * passed + background)
        decoys = self.rng.poisson(self.rate_hz * window_s * decoy)
        return VacuumCounts(int(seen), decoys / 0.2, background, window_s)

    def bound(self) -> float:
        noise = self.floor + self.background_hz / self.rate_hz
        return bound(pi / HALF_WAVE_V * self.drift_v, self.rate_hz, noise)

    def _walk(self, window_s: float, ramp_v_per_s: float) -> np.ndarray[Any, Any]:
        steps = self.drift_v * sqrt(window_s / PARTS) * self.rng.normal(size=PARTS)
        path = self.null_v + np.cumsum(steps + ramp_v_per_s * window_s / PARTS)
        self.null_v = float(path[-1])
        return path - steps / 2


@pytest.mark.parametrize(("drift_v", "rate_hz", "floor"), [(0.0002, 6e4, 5e-4), (0.02, 6e4, 1e-3)])
def test_the_excess_is_near_the_bound(drift_v: float, rate_hz: float, floor: float) -> None:
    run = Run(drift_v, rate_hz, floor)
    run.go(400)
    assert run.go(800) / run.bound() < 1.4
    assert not run.reports[-1].lost


def test_the_expected_excess_is_what_comes() -> None:
    run = Run(drift_v=0.05)
    run.go(200)
    excess = run.go(600)
    expected = np.mean([report.expected_excess for report in run.reports[200:]])
    assert expected == pytest.approx(excess, rel=0.4)


@pytest.mark.parametrize("guess", [0.1, 10.0])
def test_a_drift_guessed_wrong_by_ten_is_learnt(guess: float) -> None:
    run = Run(guess=guess)
    run.go(500)
    assert run.drift_v / 2 < run.reports[-1].drift_v < 2 * run.drift_v


def test_no_null_is_lost_by_noise() -> None:
    run = Run(seed=1001)
    run.go(600)
    assert max(report.innovation for report in run.reports) < 0.5


def test_a_loss_on_the_way_is_not_taken_for_a_lost_null() -> None:
    run = Run(background_hz=60.0)
    run.go(200)
    floor, run.rate_hz = run.reports[-1].floor, run.rate_hz / 10
    run.go(200)
    assert run.reports[-1].innovation < 0.5
    assert run.reports[-1].floor == pytest.approx(floor, rel=0.2)


def test_light_that_the_null_cannot_explain_is_reported_as_lost() -> None:
    run = Run()
    run.go(100)
    run.null_v += 2.0
    run.go(20)
    assert run.reports[-1].lost


def test_a_lost_null_is_held_without_dither() -> None:
    run = Run()
    run.go(100)
    run.null_v += 2.0
    run.go(20)
    assert run.tracker.next_setting(run.now_s).dither_rad == (0.0,)


def test_a_null_that_leaves_the_limits_is_given_up_for_the_next_one() -> None:
    run = Run(drift_v=0.02, half_wave_sigma=0.02, start_v=7.5)
    excess = run.go(200, ramp_v_per_s=0.03)
    assert run.null_v > 8.0
    assert not run.reports[-1].lost
    assert -8.0 <= min(run.bias_v) < -1.0
    assert max(run.bias_v) <= 8.0
    assert excess < 0.003


def test_a_null_beyond_the_limits_is_lost_where_the_next_one_is_not_well_known() -> None:
    run = Run(drift_v=0.02, half_wave_sigma=0.1, start_v=7.5)
    run.go(200, ramp_v_per_s=0.03)
    assert run.reports[-1].lost
    assert 7.8 < run.bias_v[-1] <= 8.0


def test_the_dither_alternates_and_is_as_large_as_the_null_is_unknown() -> None:
    tracker = Run().tracker
    one, other = (tracker.next_setting(0.0).dither_rad[0] for _ in range(2))
    assert one == pytest.approx(-other)
    assert abs(one) == pytest.approx(0.7 * 0.05 * pi / 5.2, rel=0.01)


def test_in_the_dark_only_the_uncertainty_grows() -> None:
    run = Run()
    run.go(50)
    before = run.tracker.null()
    run.now_s += 100.0
    report = run.tracker.update(VacuumCounts(3, 0.0, 0.0, 100.0), {"bias": NULL_V}, run.now_s)
    after = run.tracker.null()
    assert report.dark
    assert after.null_v == before.null_v
    assert after.floor == before.floor
    grown = after.null_sigma_v**2 - before.null_sigma_v**2
    assert grown == pytest.approx(100 * report.drift_v**2, rel=0.5)


def test_a_null_is_not_lost_by_darkness_however_long() -> None:
    run = Run(drift_v=0.05)
    run.go(50)
    run.now_s += 1000.0
    dark = run.tracker.update(VacuumCounts(0, 0.0, 0.0, 1000.0), {"bias": NULL_V}, run.now_s)
    assert not dark.lost
    run.go(50)
    assert not run.reports[-1].lost
    assert run.reports[-1].expected_excess < 0.003


def test_a_snapshot_survives_json_and_goes_on_where_it_was() -> None:
    run = Run()
    run.go(50)
    stored = json.loads(json.dumps(run.tracker.snapshot()))
    known, run.tracker = run.tracker.null(), run.make_tracker()
    run.tracker.restore(stored)
    assert run.tracker.null().null_v == pytest.approx(known.null_v)
    assert run.tracker.null().null_sigma_v == pytest.approx(known.null_sigma_v)


@pytest.mark.parametrize(
    "spoil", [{"kind": "phase"}, {"variance": [0.0] * 9}, {"drift": [1.0]}, {"phase": None}]
)
def test_a_malformed_snapshot_is_refused(spoil: dict[str, Any]) -> None:
    tracker = Run().tracker
    with pytest.raises(ValueError, match="malformed tracker"):
        tracker.restore(tracker.snapshot() | spoil)


def window_of(counts: list[int], outside: int = 0) -> Window:
    """Make a window with so many clicks of signal, decoy and vacuum."""
    clicks = np.zeros((3, 4, 4), dtype=np.int64)
    clicks[:, 0, 0] = counts
    singles = clicks.sum(axis=(0, 1))
    singles[1] += outside
    names = ("signal", "decoy", "vacuum")
    return Window(0.0, 0.5, "pattern", "calibration", names, clicks, singles)


def test_the_light_is_told_from_the_decoys_and_the_background_from_outside_of_the_gates() -> None:
    counts = VacuumCounts.of(window_of([9000, 500, 7], 150), PATTERN, LEVELS, "vacuum", 0.4)
    assert counts.seen == 7
    assert counts.background == pytest.approx(20.0)
    assert counts.light == pytest.approx(5 * (500 - 20))
    assert counts.duration_s == 0.5


def test_signal_slots_are_not_looked_at() -> None:
    few, many = (
        VacuumCounts.of(window_of([signal, 500, 7]), PATTERN, LEVELS, "vacuum")
        for signal in (0, 9000)
    )
    assert few == many


def test_a_pattern_without_decoys_is_refused() -> None:
    pattern = Pattern("HVDA", ("signal", "vacuum", "signal"), 1e8)
    with pytest.raises(ValueError, match="sends no decoy"):
        VacuumCounts.of(window_of([1, 1, 1]), pattern, LEVELS, "vacuum")


def test_a_fitted_curve_is_what_a_tracker_begins_with() -> None:
    null = ModulatorNull.of(SineCurve(2.0, 4000.0, 1.2, 5.1, 0.03), 0.03)
    assert null == ModulatorNull(1.2, 0.03, 5.1, 0.03, 5e-4)
