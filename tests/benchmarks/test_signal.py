"""The task of the signal stages: its methods, its cases, and the twins that judge them."""

import json
from typing import Any

import numpy as np
import pytest

from benchmarks import signal
from benchmarks.rivals import signal_habits, signal_searches, signal_stages
from benchmarks.run import load_task
from benchmarks.signal_twins import arrivals, detectors, emission, modulator
from benchmarks.tasks.signal_bench import SignalBench, follow

MAIN = ("attenuation", "bias", "delay", "detector")

FROZEN = {
    "attenuation": (1, 1.041509006430997),
    "bias": (3169, 47800.0),
    "delay": (3995, 0.8222778473091364),
    "detector": (3973, -1.3508431717368733e-05),
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_searches, "SETTINGS", 6)
    monkeypatch.setattr(signal_searches, "SCAN_POINTS", 5)
    monkeypatch.setattr(signal_searches, "COARSE", 3)
    monkeypatch.setattr(signal_searches, "NARROWINGS", 2)
    monkeypatch.setattr(signal_habits, "LOCK_STEPS", 3)
    monkeypatch.setattr(signal_habits, "ARRIVAL_LOOKS", 3)
    monkeypatch.setattr(signal_stages, "FIT_LOOKS", 5)


def test_the_task_is_on_offer() -> None:
    assert load_task("signal").VERSION == signal.VERSION


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("case", MAIN)
def test_every_method_of_a_stage_runs_and_its_rows_are_json(case: str) -> None:
    rows = signal.run(range(1, 2), list(signal.METHODS), [case])

    expected = {name for name, method in signal.METHODS.items() if case in method.stages}
    assert {row["method"] for row in rows} == expected
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("case", [each for each in signal.CASES if not each.endswith("r-dead")])
def test_ours_arrives_in_every_case(case: str) -> None:
    rows = signal.run(range(1), ["ours"], [case])

    figures = {row["metric"]: row for row in rows}
    assert figures["failed_starts"]["mean"] == 0
    assert figures["stopped"]["mean"] == 0


def test_a_dead_detector_is_said_rather_than_worked_around() -> None:
    rows = signal.run(range(1), ["ours-stage"], ["detector-dead"])

    assert next(row for row in rows if row["metric"] == "stopped")["mean"] == 1


def test_methods_for_some_stages_only_are_left_out_and_said_so() -> None:
    assert signal.run(range(1), ["lock-in"], ["delay"]) == []
    assert signal.left_out(["ours", "lock-in"], ["delay", "bias"]) == [
        "lock-in on delay: it is for bias only"
    ]


def test_a_meters_readings_are_the_currency_of_the_attenuation() -> None:
    rows = signal.run(range(1), ["one-step"], ["attenuation"])

    reached = next(row for row in rows if row["metric"] == "readings_to_3%")
    assert reached["unit"] == "readings"
    assert reached["median"] == 8  # four in the dark, four at the start


def test_the_same_seeds_give_the_same_figures() -> None:
    def figures() -> list[dict[str, Any]]:
        rows = signal.run(range(1), ["ours-stage"], ["bias", "delay"])
        return [row for row in rows if row["metric"] != "suggestion_ms"]

    assert figures() == figures()


def test_an_outsiders_method_is_a_function_of_a_bench_and_a_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def guess(bench: SignalBench[Any], seed: int) -> None:
        rng = np.random.default_rng(seed)
        least = np.inf
        while bench.left > 0:
            setting = rng.uniform(*bench.limits)
            reading = bench.look(setting, 4000)
            if reading.cost < least:
                least = reading.cost
                bench.recommend(setting)

    monkeypatch.setattr(signal, "METHODS", {"guess": signal.Method(guess)})

    rows = signal.run(range(1), ["guess"], ["bias"], budget_photons=50_000)

    assert {row["method"] for row in rows} == {"guess"}


def test_no_more_is_looked_at_than_the_budget_allows() -> None:
    bench = signal.CASES["bias"].bench(3, budget=10_000)

    follow(signal_searches.scan, bench, 3)

    assert 10_000 <= bench.spent < 13_000


@pytest.mark.parametrize("case", MAIN)
def test_the_counts_of_a_case_are_those_that_it_was_frozen_with(case: str) -> None:
    bench = signal.CASES[case].bench(7, budget=100_000)

    reading = bench.look(bench.start, 4000)

    assert (reading.paid, reading.cost) == pytest.approx(FROZEN[case], rel=1e-9)


def test_the_twins_extinction_is_best_at_its_null() -> None:
    twin = modulator.ModulatorTwin(2)
    volts = np.linspace(-10, 10, 1001)

    excess = [twin.excess(np.array([volt])) for volt in volts]

    best_v = volts[int(np.argmin(excess))]
    away_v = (best_v - twin.null_v) / (2 * twin.half_wave_v)
    assert away_v == pytest.approx(round(away_v), abs=2e-3)
    assert min(excess) < 1e-5


def test_the_bound_of_a_normal_arrival_is_that_of_its_mean() -> None:
    quiet = arrivals.ArrivalOptions(jitter_ps=100.0, dark_share=1e-9)

    bound = arrivals.median_bound(quiet, 10.0)

    # Worst of four normal errors: median 1.409 standard deviations, 100 ps / sqrt(N / 4) each.
    assert bound == pytest.approx(4 * (1.409 * 100 / 10) ** 2, rel=0.01)


def test_the_bound_of_the_bias_falls_as_the_threshold_rises() -> None:
    options = modulator.ModulatorOptions()

    assert modulator.median_bound(options, 0.001) == pytest.approx(
        10 * modulator.median_bound(options, 0.01)
    )


def test_a_gate_at_the_twins_own_delay_loses_nothing() -> None:
    twin = arrivals.ArrivalTwin(5, arrivals.ArrivalOptions(tail_ps=150.0))
    stamps = twin.look(np.zeros(4), 100_000).stamps
    grid = np.arange(-1000.0, 1000.0, 20.0)

    best = [grid[np.argmax([_inside(stamps[k], at) for at in grid])] for k in range(1, 5)]

    assert twin.excess(np.array(best)) < 40
    assert twin.remarks(np.array(best))["counts_lost"] < 5e-3


def _inside(stamps: np.ndarray, delay_ps: float) -> float:
    offset = (stamps.astype(float) - delay_ps) % arrivals.SLOT_PS - arrivals.SLOT_PS / 2
    return float((np.abs(offset) < arrivals.GATE_PS / 2).mean())


def test_no_common_bias_makes_more_key_than_the_twins_best() -> None:
    twin = detectors.DetectorTwin(4)

    losses = [twin.excess(np.full(4, bias)) for bias in np.linspace(4, 22, 91)]

    assert 0 <= min(losses) < 0.1


def test_a_latched_wire_stays_dark_until_it_is_taken_down() -> None:
    twin = detectors.DetectorTwin(4, detectors.DetectorOptions(latching_ua=16.0))

    counts = [int(twin.look(np.full(4, bias), 4000).counted.lit[2]) for bias in (17, 12, 4.2, 12)]

    assert counts[0] == counts[1] == 0 < counts[3]


def test_the_twin_of_the_tap_remembers_the_brightest_level() -> None:
    twin = emission.EmissionTwin(1)
    twin.look(twin.limits[0], 1)

    assert twin.remarks(twin.start)["exceeded_safe"] == 1
