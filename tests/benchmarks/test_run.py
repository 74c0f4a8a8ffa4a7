import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import run
from benchmarks.run import TASKS, figures_text, load_task, measure, run_bench, save_plot


def figure(method: str, case: str, **changes: Any) -> dict[str, Any]:
    return {
        "method": method,
        "case": case,
        "metric": "photons_to_0.2pp",
        "unit": "photons",
        "n": 3,
        "median": 2500.0,
        "mean": 2600.0,
        "p90": None,
        "bound": 1250.0,
    } | changes


def measure_nothing(seeds: range, methods: list[str], cases: list[str]) -> list[dict[str, Any]]:
    return [figure(method, case, n=len(seeds)) for method in methods for case in cases]


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        VERSION=4, METHODS=("ours", "tpe"), CASES=("matched",), run=measure_nothing
    )
    monkeypatch.setitem(sys.modules, "benchmarks.invented", module)  # type: ignore[arg-type]
    monkeypatch.setattr(run, "TASKS", {"invented": "benchmarks.invented"})


@pytest.fixture
def report() -> dict[str, Any]:
    return measure("invented", range(3, 6), None, None)


def test_the_report_says_what_was_run_and_on_what(report: dict[str, Any]) -> None:
    rows = report.pop("rows")

    assert report.pop("commit")
    assert report.pop("cores") >= 1
    assert report == {"task": "invented", "version": 4, "seeds": [3, 6]}
    assert [(row["method"], row["n"]) for row in rows] == [("ours", 3), ("tpe", 3)]


def test_names_with_commas_may_be_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("q=1", "q=1,R=1e5", "q=1,R=1e5,late")
    monkeypatch.setattr(load_task("invented"), "CASES", names)

    listed = ["q=1", "R=1e5", "q=1", "R=1e5", "late", "q=1"]

    report = measure("invented", range(1), ["ours"], listed)

    assert [row["case"] for row in report["rows"]] == ["q=1,R=1e5", "q=1,R=1e5,late", "q=1"]


def test_the_table_shows_the_distance_to_the_bound(report: dict[str, Any]) -> None:
    title, _, header, first, _ = figures_text(report).splitlines()

    assert title.startswith("invented, version 4, seeds 3 to 5, ")
    assert header.split()[-2:] == ["BOUND", "RATIO"]
    assert first.split() == [
        *("ours", "matched", "photons_to_0.2pp", "photons", "3"),
        *("2500", "2600", "inf", "1250", "2.00"),
    ]


@pytest.mark.parametrize(("changes"), [{"bound": None}, {"median": None}])
def test_without_a_bound_or_a_median_there_is_no_ratio(
    report: dict[str, Any], changes: dict[str, None]
) -> None:
    report["rows"] = [figure("ours", "matched", **changes)]

    assert figures_text(report).splitlines()[-1].split()[-1] == "-"


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench("invented", range(2), ["ours"], as_json=True) == 0

    assert len(json.loads(capsys.readouterr().out)["rows"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing", range(1)), "there is no task 'nothing'; tasks are: invented"),
        (("invented", range(1), ["magic"]), "there is no method 'magic'; methods are: ours, tpe"),
        (("invented", range(1), None, ["x"]), "there is no case 'x'; cases are: matched"),
    ],
)
def test_what_is_not_on_offer_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], words: str
) -> None:
    assert run_bench(*arguments) == 2
    assert capsys.readouterr().err == f"error: {words}\n"


def test_the_figures_are_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    report["rows"] += [
        figure("tpe", "matched", median=1e6, p90=2e6),
        figure("tpe", "matched", metric="failed_starts", unit="share", bound=None),
    ]

    save_plot(report, tmp_path / "figures.png")

    assert (tmp_path / "figures.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["no/folder/a.png", "a.strange"])
def test_a_picture_that_cannot_be_saved_is_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    assert run_bench("invented", range(1), plot=tmp_path / name) == 1
    assert name in capsys.readouterr().err


def test_outside_of_a_checkout_no_commit_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "__file__", str(tmp_path / "benchmarks" / "run.py"))

    assert measure("invented", range(1), None, None)["commit"] is None


@pytest.mark.parametrize("name", TASKS)
def test_every_task_on_offer_says_what_it_compares(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(run, "TASKS", TASKS)

    found = load_task(name)

    assert found.VERSION >= 1
    assert found.METHODS
    assert found.CASES
