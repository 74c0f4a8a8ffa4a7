import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import tracking
from benchmarks.run import load_task
from benchmarks.tasks.tracking_start import known, learned
from benchmarks.tracking_twin import TrackingOptions, TrackingTwin
from calibration.clicks import Clicks


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    scoring = replace(tracking.SCORING, windows=24, settling=6, bootstrap=20)
    monkeypatch.setattr(tracking, "SCORING", scoring)
    quick = {
        name: replace(case, hours=None if case.hours is None else 12 * case.window_s / 3600)
        for name, case in tracking.CASES.items()
        if case.twin.drift_rad > 0
    }
    monkeypatch.setattr(tracking, "CASES", quick)


def figures(method: str, case: str) -> dict[str, Any]:
    return {row["metric"]: row for row in tracking.run(range(1, 2), [method], [case])}


def test_the_task_is_on_offer() -> None:
    assert load_task("tracking").VERSION == tracking.VERSION


@pytest.mark.usefixtures("short")
def test_every_method_runs_and_its_rows_are_json() -> None:
    rows = tracking.run(range(1, 2), list(tracking.METHODS), ["q=0.1,R=1e5,known"])

    assert {row["method"] for row in rows} == set(tracking.METHODS)
    json.dumps(rows, allow_nan=False)


@pytest.mark.usefixtures("short")
def test_a_late_loop_with_play_can_be_run_and_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        tracking.CASES, "both", replace(tracking.CASES["q=0.1,R=1e6,play=4%"], latency=1)
    )

    assert figures("ours", "both")["losses_of_lock"]["mean"] == 0


@pytest.mark.usefixtures("short")
def test_a_step_is_found_and_led_back() -> None:
    found = figures("ours", "q=0.01,R=1e5,step")

    assert found["settings_to_find"]["median"] < 5
    assert found["settings_to_back"]["median"] < 10


def test_a_method_that_cannot_align_is_left_out_of_steps_with_a_reason() -> None:
    assert tracking.left_out(["none"], ["q=0.01,R=1e5,step"]) == [
        "none on q=0.01,R=1e5,step: it has no way to align anew"
    ]


@pytest.mark.usefixtures("short")
def test_the_same_seeds_give_the_same_figures() -> None:
    def excess() -> float:
        return float(figures("lock-in", "q=0.1,R=1e5,known")["mean_excess"]["median"])

    assert excess() == excess()


@pytest.mark.parametrize("begin", [known, learned])
def test_a_run_begins_aligned(begin: Any) -> None:
    twin = TrackingTwin(5)

    assert twin.excess(begin(twin, 5).drives) < 0.003


def test_a_fibre_at_rest_shows_the_rate_and_the_qber_that_it_has() -> None:
    twin = TrackingTwin(3, TrackingOptions(rate_hz=1e4))
    drives = np.array([1.0, -2.0, 0.5, 3.0])
    held = twin.hold(drives, 40.0)

    assert held.table.sum() == pytest.approx(4e5, rel=0.01)
    assert held.qber.mean() == pytest.approx(twin.qber(drives))
    assert Clicks(held.table).qber.value == pytest.approx(twin.qber(drives), abs=0.01)


def test_a_fibre_walks_as_far_in_few_long_windows_as_in_many_short_ones() -> None:
    def excess(windows: int) -> float:
        excesses = []
        for seed in range(30):
            twin = TrackingTwin(seed, TrackingOptions(drift_rad=0.1))
            start = known(twin, seed)
            twin.is_drifting = True
            for _ in range(windows):
                twin.hold(start.drives, 1.0 / windows)
            excesses.append(twin.excess(start.drives))
        return float(np.mean(excesses))

    assert excess(1) == pytest.approx(excess(3), rel=0.5)
    assert excess(1) == pytest.approx(4 * 0.1**2 / 8, rel=0.4)


def test_a_play_that_the_knobs_know_does_not_show() -> None:
    options = TrackingOptions(hysteresis_v=0.1, play_error=0.0)
    drives = [np.full(4, v) for v in (1.0, 1.05, 0.9, 1.3)]

    free, played = TrackingTwin(3), TrackingTwin(3, options)

    for setting in drives:
        assert played.hold(setting, 0.1).qber == pytest.approx(free.hold(setting, 0.1).qber)


def test_a_play_that_is_left_alone_does_show() -> None:
    free = TrackingTwin(3)
    played = TrackingTwin(3, TrackingOptions(hysteresis_v=0.1))
    drives = np.full(4, 1.0)

    assert played.hold(drives, 0.1).qber != pytest.approx(free.hold(drives, 0.1).qber)
