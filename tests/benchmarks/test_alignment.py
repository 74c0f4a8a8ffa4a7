import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import alignment
from benchmarks.rivals import descent, direct, model, stock
from benchmarks.run import load_task, run_bench, save_plot
from benchmarks.tasks.link import Link, follow

FIELDS = {"method", "case", "metric", "unit", "n", "median", "mean", "p90", "bound"}
INSTALLED = [name for name, method in alignment.METHODS.items() if not method.problem("matched")]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "FRESH_PROCESSES", 0)
    monkeypatch.setattr(model, "SETTINGS", 12)
    monkeypatch.setattr(model, "PHOTONS", 0)
    monkeypatch.setattr(descent, "SINUSOID_SETTINGS", 14)
    monkeypatch.setattr(descent, "GOLDEN_SETTINGS", 5)
    monkeypatch.setattr(direct, "SETTINGS", 6)
    monkeypatch.setattr(direct, "LOCAL_SETTINGS", 6)
    for name in ("SETTINGS", "RANDOM_SETTINGS"):
        monkeypatch.setattr(stock, name, 4)


def figures_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows}


def test_the_task_is_on_offer() -> None:
    assert load_task("alignment").VERSION == alignment.VERSION


def test_the_cases_of_the_comparison_are_all_there() -> None:
    assert list(alignment.CASES)[:13] == [
        *("matched", "few-settings", "zx-only", "pooled-only", "hysteresis-2", "hysteresis-10"),
        *("quadratic", "axes-10deg", "loss-20db", "drift-0.1", "efficiency", "non-orthogonal"),
        "pdl-0.5db",
    ]


@pytest.mark.parametrize("method", INSTALLED)
def test_every_method_runs_and_its_rows_have_all_fields(method: str) -> None:
    rows = alignment.run(range(1, 2), [method], ["matched"])

    assert rows
    assert all(set(row) - {"low", "high"} == FIELDS for row in rows)
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("method", [name for name in INSTALLED if name != alignment.ORACLE])
def test_no_method_looks_at_more_than_the_budget(method: str) -> None:
    link = alignment.CASES["matched"].link(3, budget_photons=3000)

    follow(alignment.METHODS[method].run, link, 3)

    assert 0 < link.photons < 3000 + 6 * math.sqrt(3000)


@pytest.mark.parametrize("method", [name for name in INSTALLED if name != alignment.ORACLE])
def test_the_same_seed_gives_the_same_run(method: str) -> None:
    runs = []
    for _ in range(2):
        link = alignment.CASES["few-settings"].link(4, budget_photons=8000)
        steps = follow(alignment.METHODS[method].run, link, 4)
        runs.append([(step.photons, step.excess) for step in steps])

    assert runs[0] == runs[1]


def test_our_method_comes_close_to_the_bound() -> None:
    figures = figures_of(alignment.run(range(1, 3), ["ours"], ["matched"]))

    photons = figures["photons_to_0.5pp"]
    assert 1 < photons["median"] / photons["bound"] < 20
    assert photons["low"] <= photons["median"] <= photons["high"]
    assert figures["failed_starts"]["n"] == 2


def test_the_oracle_needs_more_than_known_actuators_and_less_than_we_do() -> None:
    figures = figures_of(alignment.run(range(1), ["oracle"], ["matched"]))

    photons = figures["photons_to_0.2pp"]
    assert 1.5 < photons["median"] / photons["bound"] < 2.5


def test_fewer_kinds_of_counts_cost_the_oracle_photons() -> None:
    cases = ["matched", "zx-only", "pooled-only"]
    rows = alignment.run(range(1), ["oracle"], cases)

    photons = [row["median"] for row in rows if row["metric"] == "photons_to_0.2pp"]
    assert photons == sorted(photons)
    assert len(set(photons)) == 3


def test_what_never_arrives_is_infinite_and_written_null() -> None:
    figures = figures_of(alignment.run(range(1, 3), ["random"], ["matched"]))

    assert figures["photons_to_0.2pp"]["median"] is None
    assert figures["missed_0.2pp"]["median"] == 1


def test_methods_are_compared_seed_by_seed_with_the_first_one() -> None:
    rows = alignment.run(range(1, 3), ["ours", "coordinate-descent"], ["matched"])

    [ratio] = [row for row in rows if row["metric"] == "times_ours_to_0.5pp"]
    assert ratio["method"] == "coordinate-descent"
    assert ratio["median"] is None or ratio["median"] > 2


@pytest.mark.parametrize("case", alignment.CASES)
def test_every_case_can_be_run(case: str) -> None:
    assert alignment.run(range(2, 3), ["golden-section"], [case])


def test_what_is_left_out_is_said_in_one_line() -> None:
    assert alignment.left_out(["oracle", "random"], ["matched", "drift-0.1", "paddles"]) == [
        f"oracle on drift-0.1, paddles: {alignment.OUTSIDE['paddles']}"
    ]
    assert alignment.run(range(1), ["oracle"], ["paddles"]) == []


def test_a_method_that_needs_what_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    method = alignment.Method(stock.random, needs="no_such_module")
    monkeypatch.setitem(alignment.METHODS, "foreign", method)

    assert alignment.left_out(["foreign"], ["matched"]) == [
        "foreign on matched: no_such_module is not installed"
    ]


def test_a_method_from_outside_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lazy(link: Link, seed: int) -> None:
        link.recommend(link.middle)

    monkeypatch.setitem(alignment.METHODS, "lazy", alignment.Method(lazy))

    figures = figures_of(alignment.run(range(3), ["lazy"], ["matched"]))

    assert figures["missed_0.5pp"]["median"] == 1
    assert figures["failed_starts"]["n"] == 3


def test_nothing_is_claimed_before_the_first_settings_are_measured() -> None:
    link = alignment.CASES["matched"].link(1, budget_photons=10_000)

    steps = follow(model.sampler_alone, link, 1)

    assert [np.isfinite(step.excess_q90) for step in steps][:4] == [False, False, True, True]


def test_ours_reads_a_pooled_qber(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "SETTINGS", 4)
    monkeypatch.setattr(model, "POOLED_PHOTONS", 0)
    link = alignment.CASES["pooled-only"].link(1, budget_photons=10_000)

    steps = follow(model.sampler_alone, link, 1)

    assert [step.settings for step in steps] == [1, 2, 3, 4]
    assert np.isfinite(steps[-1].excess_q90)


def test_the_stage_recommends_once_and_pays_for_its_verification() -> None:
    link = alignment.CASES["matched"].link(1, budget_photons=100_000)

    [step] = follow(model.whole_stage, link, 1)

    assert step.photons > 10_000
    assert max(step.excess, step.excess_q90) < 0.002


def test_first_suggestions_are_timed_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "FRESH_PROCESSES", 1)

    figures = figures_of(alignment.run(range(1), ["spsa"], ["matched"]))

    assert 0 < figures["first_suggestion_ms"]["median"] < 1000


def test_a_run_in_a_process_of_its_own_ends_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    together = alignment.run(range(1), ["oracle"], ["matched"])
    apart = alignment.Method(alignment.METHODS["oracle"].run, is_apart=True)
    monkeypatch.setitem(alignment.METHODS, "oracle", apart)

    assert alignment.run(range(1), ["oracle"], ["matched"]) == together


def test_jobs_change_no_figure() -> None:
    def reached(jobs: int) -> list[float]:
        rows = alignment.run(range(2), ["oracle"], ["matched"], jobs=jobs, budget_photons=1000)
        return [row["median"] for row in rows]

    assert reached(1) == reached(2)


def reported(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run ours on two seeds and read the rows of the JSON, without what depends on the machine."""
    assert run_bench("alignment", range(2), ["ours"], ["matched"], as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return [row for row in rows if row["metric"] != "suggestion_ms"]


def test_the_same_seeds_give_the_same_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "SETTINGS", 6)

    assert reported(capsys) == reported(capsys)


def test_the_table_names_every_figure_of_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["random", "oracle"]
    assert run_bench("alignment", range(2), methods, ["efficiency"], budget_photons=9000) == 0

    title, _, header, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("alignment, version ")
    assert header.split()[-1] == "INTERVAL"
    assert rows[-1].startswith("left out: oracle on efficiency: ")
    assert [row.split()[2] for row in rows[:-1]] == [
        *(f"{what}_0.5pp" for what in ("photons_to", "settings_to", "seconds_to", "missed")),
        *(f"{what}_0.2pp" for what in ("photons_to", "settings_to", "seconds_to", "missed")),
        *("failed_starts", "final_excess", "suggestion_ms"),
    ]


def test_an_option_that_a_task_does_not_have_is_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_bench("tags", range(1), budget_photons=1) == 2
    assert "there is no option 'budget_photons'" in capsys.readouterr().err


def test_the_picture_shows_three_of_the_figures(tmp_path: Path) -> None:
    rows = alignment.run(range(2), ["oracle", "random"], ["matched"])
    shown = [row for row in rows if row["metric"] in alignment.PLOTTED]

    save_plot({"task": "alignment", "rows": rows}, tmp_path / "all.png")
    save_plot({"task": "alignment", "rows": shown}, tmp_path / "three.png")

    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "three.png").read_bytes()
