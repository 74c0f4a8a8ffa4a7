import json

import numpy as np
import pytest

from benchmarks import phase
from benchmarks.phase_twin import PhaseOptions, PhaseTwin
from benchmarks.rivals import phase_model, stock
from benchmarks.run import load_task
from calibration.clicks import Clicks


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_model, "SETTINGS", 7)
    monkeypatch.setattr(stock, "SETTINGS", 6)
    monkeypatch.setattr(stock, "RANDOM_SETTINGS", 6)


def test_the_task_is_on_offer() -> None:
    assert load_task("phase").VERSION == phase.VERSION


@pytest.mark.usefixtures("short")
def test_every_method_runs_and_its_rows_are_json() -> None:
    rows = phase.run(range(1, 2), list(phase.METHODS), ["time-bin"], budget_photons=60_000)
    assert {row["method"] for row in rows} == set(phase.METHODS)
    json.dumps(rows, allow_nan=False)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("case", phase.CASES)
def test_every_case_can_be_run_and_ours_arrives(case: str) -> None:
    rows = phase.run(range(3), ["ours"], [case])
    figures = {row["metric"]: row for row in rows}
    assert figures["failed_starts"]["median"] == 0


@pytest.mark.usefixtures("short")
def test_our_method_comes_close_to_the_bound() -> None:
    rows = phase.run(range(12), ["ours"], ["time-bin"])
    photons = next(row for row in rows if row["metric"] == "photons_to_0.2pp")
    assert photons["median"] / photons["bound"] < 5


@pytest.mark.usefixtures("short")
def test_the_same_seeds_give_the_same_figures() -> None:
    def figures() -> list[dict[str, object]]:
        rows = phase.run(range(2), ["ours"], ["four-phase"])
        return [row for row in rows if row["metric"] != "suggestion_ms"]

    assert figures() == figures()


@pytest.mark.parametrize(("encoding", "share"), [("time-bin", 0.5), ("four-phase", 1.0)])
def test_the_twins_excess_is_that_of_its_phase(encoding: str, share: float) -> None:
    twin = PhaseTwin(3, PhaseOptions(encoding=encoding, scale_range=0.0))  # type: ignore[arg-type]  # one of two
    volts = np.linspace(0, 75, 601)
    excess = [twin.excess_over_best(np.array([volt])) for volt in volts]
    best = volts[int(np.argmin(excess))]
    assert min(excess) == pytest.approx(0.0, abs=1e-3)
    away = twin.excess_over_best(np.array([best + 6.0]))
    assert away == pytest.approx(share * 0.99 / 2, abs=0.03)


@pytest.mark.parametrize("encoding", ["time-bin", "four-phase"])
def test_the_twins_counts_are_those_of_its_qber(encoding: str) -> None:
    twin = PhaseTwin(4, PhaseOptions(encoding=encoding))  # type: ignore[arg-type]  # one of two
    drives = np.array([20.0])
    clicks = Clicks(twin.measure(drives, 400_000))
    assert clicks.photons == pytest.approx(400_000, rel=0.01)
    assert clicks.qber.value == pytest.approx(twin.qber(drives), abs=0.01)
