import json

import numpy as np
import pytest

from benchmarks import tags
from benchmarks.run import load_task, run_bench

FIELDS = {"method", "case", "metric", "unit", "n", "median", "mean", "p90", "bound"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "TAGS", 20_000)
    monkeypatch.setattr(tags, "BLOCK_TAGS", 3000)
    monkeypatch.setattr(tags, "REPETITIONS", 1)


def test_the_task_is_on_offer() -> None:
    assert load_task("tags").VERSION == tags.VERSION


@pytest.mark.parametrize("case", tags.CASES)
@pytest.mark.parametrize("method", tags.OWN_METHODS)
def test_our_methods_come_to_the_same_counts(case: str, method: str) -> None:
    rows = tags.run(range(1, 3), [method], [case])

    assert all(set(row) == FIELDS for row in rows)
    assert [row["mean"] for row in rows if row["metric"] == "same_counts"] in ([], [1.0])


@pytest.mark.parametrize("case", tags.CASES)
def test_the_streams_are_in_order_and_of_full_length(case: str) -> None:
    stream = tags.CASES[case](3, 5000)

    assert len(stream.channel) == len(stream.time_ps) == 5000
    assert np.all(np.diff(stream.time_ps) >= 0)
    assert sum(len(block.time_ps) for block in stream.blocks()) == 5000


def test_the_streams_hold_what_is_counted() -> None:
    assert tags.fold_numpy(tags.pattern_stream(1, 20_000)).sum() > 10_000
    assert tags.coincidences_numpy(tags.pair_stream(1, 20_000)) >= 950


def test_every_case_says_how_fast_and_how_much_faster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_bench("tags", range(2), ["ours", "numpy"], as_json=True) == 0

    rows = json.loads(capsys.readouterr().out)["rows"]
    speeds = {(r["case"], r["method"]): r["median"] for r in rows if r["metric"] == "tags_per_s"}
    assert set(speeds) == {(case, m) for case in tags.CASES for m in ("ours", "numpy")}
    assert min(speeds.values()) > 0
    assert [
        r["median"] for r in rows if r["metric"] == "times_numpy" and r["method"] == "numpy"
    ] == [
        1.0,
        1.0,
    ]
