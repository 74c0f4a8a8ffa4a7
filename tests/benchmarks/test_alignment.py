import json
from typing import Any

import numpy as np
import pytest

from benchmarks import alignment
from benchmarks.run import load_task, run_bench
from benchmarks.twin import Twin
from calibration.sampler import FIRST_SETTINGS

FIELDS = {"method", "case", "metric", "unit", "n", "median", "mean", "p90", "bound"}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "OUR_SETTINGS", 12)
    monkeypatch.setattr(alignment, "DESCENT_SETTINGS", 14)
    monkeypatch.setattr(alignment, "BLACK_BOX_SETTINGS", 5)


def test_the_task_is_on_offer() -> None:
    assert load_task("alignment").VERSION == alignment.VERSION


@pytest.mark.usefixtures("short")
def test_every_method_runs_and_its_rows_have_all_fields() -> None:
    rows = alignment.run(range(1, 2), list(alignment.METHODS), ["matched"])

    assert {row["method"] for row in rows} == set(alignment.METHODS)
    assert all(set(row) == FIELDS for row in rows)
    json.dumps(rows, allow_nan=False)


@pytest.mark.usefixtures("short")
def test_our_method_comes_close_to_the_bound() -> None:
    rows = alignment.run(range(1, 3), ["ours"], ["matched"])

    figures = {row["metric"]: row for row in rows}
    photons = figures["photons_to_0.5pp"]
    assert 1 < photons["median"] / photons["bound"] < 20
    assert figures["failed_starts"]["n"] == 2


@pytest.mark.usefixtures("short")
def test_what_never_arrives_is_infinite_and_written_null() -> None:
    rows = alignment.run(range(1, 3), ["random"], ["matched"])

    figures = {row["metric"]: row for row in rows}
    assert figures["photons_to_0.2pp"]["median"] is None
    assert figures["failed_starts"]["median"] == 1


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("case", alignment.CASES)
def test_every_case_can_be_run(case: str) -> None:
    assert alignment.run(range(2, 3), ["coordinate-descent"], [case])


@pytest.mark.usefixtures("short")
def test_nothing_is_claimed_before_the_first_settings_are_measured() -> None:
    steps = list(alignment.ours(Twin(1), 1))

    claimed = [np.isfinite(step.excess_q90) for step in steps]
    assert claimed == [False] * (FIRST_SETTINGS - 1) + [True] * (12 - FIRST_SETTINGS + 1)


def reported(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run ours on two seeds and read the rows of the JSON, without what depends on the machine."""
    assert run_bench("alignment", range(2), ["ours"], ["matched"], as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return [row for row in rows if row["metric"] != "suggestion_ms"]


@pytest.mark.usefixtures("short")
def test_the_same_seeds_give_the_same_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "OUR_SETTINGS", 6)

    assert reported(capsys) == reported(capsys)


@pytest.mark.usefixtures("short")
def test_the_table_names_every_figure_of_every_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "OUR_SETTINGS", 4)

    assert run_bench("alignment", range(2), ["ours"], ["matched"]) == 0

    title, _, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("alignment, version ")
    assert [row.split()[2] for row in rows] == [
        *("photons_to_0.5pp", "settings_to_0.5pp"),
        *("photons_to_0.2pp", "settings_to_0.2pp"),
        *("failed_starts", "suggestion_ms"),
    ]
