"""Delays held under drift, by arrivals of clicks drawn one by one or by their moments."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.clicks import STATES, Window
from calibration.tracking.delay import ArrivalMoments, DelayReport, DelayTracker

START_PS = np.array([21_200.0, 11_350.0, -9100.0, 21_100.0])
GATE_SHARE, GATE_PS = 0.4, 4000.0
WINDOW_S = 0.2


@dataclass
class Run:
    """A tracker on four detectors whose delays walk at random.

    Attributes:
        drift_ps: Per root of a second.
        rate_hz: Clicks of light per detector.
        jitter_ps: Their scatter.
        even_share: Clicks that come evenly, over those of light.
    """

    drift_ps: float = 0.5
    rate_hz: float = 5e4
    jitter_ps: float = 100.0
    even_share: float = 0.0
    seed: int = 1000
    guess: float = 1.0
    dead_band_ps: float = 0.0
    now_s: float = 0.0
    lost_gates: tuple[int, ...] = ()
    reports: list[DelayReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tracker = self.make_tracker()
        self.true_ps = START_PS + 20.0 * self.rng.normal(size=4)
        self.delay_ps = START_PS

    def make_tracker(self) -> DelayTracker:
        return DelayTracker(
            dict(zip(STATES, START_PS, strict=True)),
            gate_share=GATE_SHARE,
            now_s=self.now_s,
            drift_ps=self.guess * self.drift_ps,
            dead_band_ps=self.dead_band_ps,
        )

    def go(self, windows: int) -> float:
        """Track; return the mean square distance of the light from the gates, ps^2."""
        squares = []
        for _ in range(windows):
            setting = self.tracker.next_setting(self.now_s).setting
            self.delay_ps = np.array([setting[detector] for detector in STATES])
            step = self.drift_ps * np.sqrt(WINDOW_S) * self.rng.normal(size=4)
            off = self.true_ps + step / 2 - self.delay_ps
            self.true_ps = self.true_ps + step
            self.now_s += WINDOW_S
            self.reports.append(self.tracker.update(self.moments(off), setting, self.now_s))
            squares.append(np.mean(off**2))
        return float(np.mean(squares))

    def moments(self, off_ps: np.ndarray[Any, Any]) -> ArrivalMoments:
        light = self.rng.poisson(self.rate_hz * WINDOW_S, size=4)
        light[list(self.lost_gates)] = 0
        mean_even = self.even_share * self.rate_hz * WINDOW_S
        even = self.rng.poisson(mean_even * GATE_SHARE, size=4)
        outside = self.rng.poisson(mean_even * (1 - GATE_SHARE), size=4)
        outside[list(self.lost_gates)] += self.rng.poisson(self.rate_hz * WINDOW_S)
        gated, wide = np.maximum(light + even, 1), GATE_PS / np.sqrt(12)
        variance = (light * self.jitter_ps**2 + even * wide**2) / gated
        noise = np.sqrt(variance / gated) * self.rng.normal(size=4)
        mean = light / gated * off_ps + noise
        return ArrivalMoments(mean, np.sqrt(variance), light + even, outside, WINDOW_S)

    def bound(self) -> float:
        """Return the root of the steady Riccati equation, ps^2."""
        even_in_gate = self.even_share * GATE_SHARE
        wide = GATE_PS / np.sqrt(12)
        per_click = self.jitter_ps**2 + even_in_gate * wide**2  # variance, times clicks of light
        return float(self.drift_ps * np.sqrt(per_click / self.rate_hz))


@pytest.mark.parametrize(
    ("drift_ps", "rate_hz", "even_share"), [(0.5, 5e4, 0.0), (1.0, 5e3, 0.0), (0.5, 5e4, 0.05)]
)
def test_the_error_is_near_the_riccati_bound(
    drift_ps: float, rate_hz: float, even_share: float
) -> None:
    run = Run(drift_ps, rate_hz, even_share=even_share)
    run.go(300)
    assert run.go(1000) / run.bound() < 1.3
    assert not run.reports[-1].lost


def test_the_expected_error_is_what_comes() -> None:
    run = Run()
    run.go(200)
    square = run.go(500)
    expected = np.mean([report.error_ps**2 for report in run.reports[200:]])
    assert expected == pytest.approx(square, rel=0.4)  # that of the worst of four


@pytest.mark.parametrize("guess", [0.1, 10.0])
def test_a_drift_guessed_wrong_by_ten_is_learnt(guess: float) -> None:
    run = Run(guess=guess)
    run.go(500)
    assert run.drift_ps / 2 < run.reports[-1].drift_ps < 2 * run.drift_ps


def test_clicks_that_come_evenly_do_not_pull_a_gate_to_its_centre() -> None:
    run = Run(drift_ps=0.01, even_share=1.0, guess=100.0)
    run.true_ps = START_PS + 300.0
    run.go(20)
    assert run.delay_ps == pytest.approx(run.true_ps, abs=30)


def test_within_the_dead_band_a_gate_is_left_where_it_is() -> None:
    run = Run(drift_ps=0.01, dead_band_ps=5.0)
    run.true_ps = START_PS + np.array([2.0, -2.0, 0.0, 50.0])
    run.go(20)
    assert run.delay_ps[:3] == pytest.approx(START_PS[:3], abs=0)
    assert run.delay_ps[3] == pytest.approx(START_PS[3] + 50, abs=5)


def test_a_jump_within_the_gate_is_followed_at_once_and_not_taken_for_drift() -> None:
    run = Run()
    run.go(300)
    run.true_ps = run.true_ps + np.array([0.0, 800.0, 0.0, 0.0])
    run.go(2)
    assert run.delay_ps == pytest.approx(run.true_ps, abs=10)
    assert run.reports[-1].drift_ps < 1.0


def test_light_that_has_left_one_gate_is_reported_as_lost() -> None:
    run = Run(even_share=0.01)
    run.go(50)
    run.lost_gates = (2,)
    run.go(5)
    assert run.reports[-1].lost


def test_light_that_has_left_all_gates_is_not_taken_for_darkness() -> None:
    run = Run(even_share=0.01)
    run.go(50)
    run.lost_gates = (0, 1, 2, 3)
    run.go(5)
    assert run.reports[-1].lost


def test_stray_light_is_not_taken_for_light_that_has_left_its_gate() -> None:
    run = Run(even_share=0.01)
    run.go(50)
    run.even_share = 1.0
    run.go(10)
    assert run.reports[-1].innovation == 0


def test_in_the_dark_the_gates_stay_and_nothing_is_lost() -> None:
    run = Run(even_share=0.01)
    run.go(50)
    before, run.rate_hz = run.delay_ps, 0.0
    run.go(50)
    assert run.reports[-1].dark
    assert not run.reports[-1].lost
    assert run.reports[-1].error_ps > run.reports[49].error_ps
    assert run.delay_ps == pytest.approx(before, abs=1)


def test_a_snapshot_survives_json_and_goes_on_where_it_was() -> None:
    run = Run()
    run.go(50)
    stored = json.loads(json.dumps(run.tracker.snapshot()))
    known, run.tracker = run.tracker.arrivals(), run.make_tracker()
    run.tracker.restore(stored)
    assert run.tracker.arrivals() == known


@pytest.mark.parametrize(
    "spoil", [{"kind": "bias"}, {"variance_ps2": [[0.0] * 4] * 9}, {"centre_ps": [1.0]}]
)
def test_a_malformed_snapshot_is_refused(spoil: dict[str, Any]) -> None:
    tracker = Run().tracker
    with pytest.raises(ValueError, match="malformed tracker"):
        tracker.restore(tracker.snapshot() | spoil)


def test_the_moments_of_a_window_are_those_within_the_gates() -> None:
    clicks = np.zeros((1, 4, 4), dtype=np.int64)
    clicks[0, :, 1] = 5
    window = Window(
        *(0.0, 0.5, "pattern", "calibration", ("signal",)),
        clicks=clicks,
        singles=np.array([3, 24, 0, 0]),
        timing_mean_ps=np.array([np.nan, 7.0, np.nan, np.nan]),
        timing_std_ps=np.array([np.nan, 90.0, np.nan, np.nan]),
    )
    moments = ArrivalMoments.of(window)
    assert moments.gated.tolist() == [0, 20, 0, 0]
    assert moments.outside.tolist() == [3, 4, 0, 0]
    assert moments.mean_ps[1] == 7.0
