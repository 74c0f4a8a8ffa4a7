import json
from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest

from benchmarks import phase_tracking
from benchmarks.phase_drift_twin import DriftingPhase, DriftOptions
from benchmarks.rivals.phase_holding import qber, sine
from benchmarks.run import load_task
from benchmarks.tasks.phase_tracking_cases import TrackingCase, bound

FOUR_PHASE, ERRORS_ONLY = "four-phase:D=0.01:R=1e5", "errors-only:D=0.01:R=1e5"
HAND_SET = {"window": 0.1, "dither": 0.5, "gain": 0.1, "reset": 0.0, "rest": 5.0}


def shortened(name: str, memory_times: float) -> TrackingCase:
    case = phase_tracking.CASES[name]
    return replace(case, duration_s=memory_times * case.memory_s, burn_in_s=0.0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {name: shortened(name, 1.0) for name in phase_tracking.CASES}
    tuned = {name: dict.fromkeys(phase_tracking.METHODS, HAND_SET) for name in cases}
    monkeypatch.setattr(phase_tracking, "CASES", cases)
    monkeypatch.setattr(phase_tracking, "TUNED", tuned)


def test_the_task_is_on_offer() -> None:
    assert load_task("phase-tracking").VERSION == phase_tracking.VERSION


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("case", [FOUR_PHASE, ERRORS_ONLY, "hysteresis-4"])
def test_every_method_runs_and_its_rows_are_json(case: str) -> None:
    rows = phase_tracking.run(range(1), list(phase_tracking.METHODS), [case])
    assert {row["method"] for row in rows} == set(phase_tracking.METHODS)
    json.dumps(rows, allow_nan=False)


@pytest.mark.usefixtures("short")
def test_the_same_seeds_give_the_same_figures() -> None:
    def figures() -> list[dict[str, object]]:
        rows = phase_tracking.run(range(2), ["ours", "spsa"], [FOUR_PHASE])
        return [row for row in rows if row["metric"] != "window_us"]

    assert figures() == figures()


@pytest.mark.parametrize("name", [FOUR_PHASE, ERRORS_ONLY])
def test_the_oracle_is_near_the_bound(name: str) -> None:
    best = phase_tracking.CASES[name].bound
    assert best is not None
    oracle, case = phase_tracking.METHODS["oracle"], shortened(name, 60)
    found = [phase_tracking.follow(oracle, {}, case, seed).mean_excess for seed in (0, 1)]
    assert np.mean(found) / best.excess == pytest.approx(1.0, abs=0.2)


def test_the_bounds_are_those_of_small_phases() -> None:
    four_phase = bound(DriftOptions("four-phase", drift=1e-2, rate_hz=1e5))
    errors_only = bound(DriftOptions("errors-only", drift=1e-4, rate_hz=1e4))
    assert four_phase.excess == pytest.approx(np.sqrt(1e-2 / 5e4) / 4, rel=0.02)
    assert errors_only.excess == pytest.approx(0.75 * (1e-8 * 0.005) ** (1 / 3), rel=0.05)


def test_the_counts_of_the_twin_tell_its_phase() -> None:
    twin = DriftingPhase(3, DriftOptions(drift=0.0, first_error_rad=0.0, half_wave_error=0.0))
    held = twin.hold(37.5 + 12 / 6, 10.0)
    wrong, total = qber(held)
    assert held.excess == pytest.approx(0.99 * (1 - np.cos(np.pi / 6)) / 2)
    assert wrong / total == pytest.approx(0.005 + held.excess, abs=0.002)
    assert sine(held) == pytest.approx(0.99 * 0.5, abs=0.01)


def test_a_slip_turns_the_bits_over_until_it_is_repaired() -> None:
    options = DriftOptions(drift=0.0, first_error_rad=0.0, half_wave_error=0.0, slips_per_s=3.0)
    twin = DriftingPhase(1, options)
    windows = iter(lambda: twin.hold(37.5, 0.001), None)
    before = list(takewhile(lambda held: held is not None and held.slipped_s is None, windows))
    assert max(held.excess for held in before if held) == pytest.approx(0.0, abs=1e-9)
    assert twin.hold(37.5, 0.001).excess == pytest.approx(0.99)
    assert twin.hold(37.5 + 12.0, 0.001).excess == pytest.approx(0.0, abs=1e-9)


def test_a_knob_that_knows_the_play_leaves_nothing_of_it() -> None:
    known = DriftOptions(
        drift=0.0, first_error_rad=0.0, half_wave_error=0.0, hysteresis_share=0.1, play_error=0.0
    )
    twin = DriftingPhase(5, known)
    excess = [twin.hold(volts, 0.001).excess for volts in (40.0, 38.0, 37.5, 39.0, 37.5)]
    assert excess[2] == pytest.approx(0.0, abs=1e-9)
    assert excess[4] == pytest.approx(0.0, abs=1e-9)
