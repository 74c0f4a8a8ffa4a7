"""The record that survives."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from qkdctl import history as history_module
from qkdctl.history import History, HistoryError


def now() -> float:
    return 1000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lab1.sqlite"


async def test_a_first_run_has_no_previous_one(path: Path) -> None:
    history = History(path, now)
    assert await history.open() is None
    await history.close()


async def test_a_run_that_was_closed_is_known_as_clean(path: Path) -> None:
    first = History(path, now)
    await first.open()
    await first.close()
    second = History(path, now)
    last = await second.open()
    await second.close()
    assert last is not None
    assert last.is_clean


async def test_a_run_that_an_error_ended_is_not_clean_and_says_what_it_was(path: Path) -> None:
    first = History(path, now)
    await first.open()
    await first.close("RuntimeError: a bug")
    second = History(path, now)
    last = await second.open()
    await second.close()
    assert last is not None
    assert (last.is_clean, last.ending) == (False, "RuntimeError: a bug")


async def test_a_run_that_was_never_closed_is_known_as_a_crash_with_its_state(path: Path) -> None:
    crashed = History(path, now)
    await crashed.open()
    await crashed.add_event(
        1001.0, "state", {"state": "tracking", "reason": "holding", "intent": "track"}
    )
    restarted = History(path, now)
    last = await restarted.open()
    await restarted.close()
    assert last is not None
    assert not last.is_clean
    assert (last.state, last.intent, last.state_since_s) == ("tracking", "track", 1001.0)


async def test_a_trial_left_running_is_failed_at_the_next_start(path: Path) -> None:
    crashed = History(path, now)
    await crashed.open()
    await crashed.begin("polarization", 0, {"squeezer-1": 1.5})
    restarted = History(path, now)
    last = await restarted.open()
    past = await restarted.past("polarization")
    await restarted.close()
    assert last is not None
    assert last.interrupted_trials == 1
    assert [(trial.number, trial.state) for trial in past] == [(0, "failed")]


async def test_a_complete_trial_comes_back_with_its_counts(path: Path) -> None:
    clicks = np.arange(16).reshape(4, 4)
    history = History(path, now)
    await history.open()
    await history.begin("polarization", 3, {"squeezer-1": 1.5})
    await history.finish("polarization", 3, "complete", 0.25, clicks)
    (trial,) = await history.past("polarization")
    await history.close()
    assert trial.params == {"squeezer-1": 1.5}
    assert trial.value == 0.25
    assert trial.clicks is not None
    assert np.array_equal(trial.clicks, clicks)


async def test_the_newest_good_setting_is_the_one_to_go_back_to(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await history.add_good_setting({"squeezer-1": 1.0}, None)
    await history.add_good_setting({"squeezer-1": 2.0}, {"floor": 0.005})
    good = await history.last_good_setting()
    await history.close()
    assert good is not None
    assert good.setting == {"squeezer-1": 2.0}
    assert good.posterior == {"floor": 0.005}


async def test_a_good_setting_comes_back_with_the_bases_inverted_then(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await history.add_good_setting({"squeezer-1": 2.0}, None, ("X",))
    good = await history.last_good_setting()
    await history.close()
    assert good is not None
    assert (good.setting, good.inverted) == ({"squeezer-1": 2.0}, ("X",))


async def test_what_calibrations_learnt_is_kept_by_stage_oldest_first(path: Path) -> None:
    history = History(path, now)
    await history.open()
    for number in range(3):
        await history.add_learnt("polarization", {"number": number})
    await history.add_learnt("phase", {"number": 3})

    newest = await history.learnt("polarization", 2)

    await history.close()
    assert newest == [{"number": 1}, {"number": 2}]


async def test_a_trial_comes_back_with_the_time_of_its_end(path: Path) -> None:
    time_s = 1000.0
    history = History(path, lambda: time_s)
    await history.open()
    await history.begin("polarization", 0, {"squeezer-1": 1.5})
    time_s = 1002.5
    await history.finish("polarization", 0, "complete", 0.25, None)
    time_s = 2000.0

    (trial,) = await history.past("polarization")

    await history.close()
    assert trial.time_s == 1002.5


async def test_of_each_stage_the_latest_result_is_kept(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await history.keep_calibrated("delay", {"receiver.delays_ps.H": 1200.0}, 7.0)
    await history.keep_calibrated("bias", {"modulator-bias": 1.4}, 33.0)
    await history.keep_calibrated("delay", {"receiver.delays_ps.H": 1210.0}, None)
    await history.close()
    again = History(path, now)
    await again.open()

    found = await again.calibrated()

    await again.close()
    assert set(found) == {"delay", "bias"}
    assert found["delay"].setting == {"receiver.delays_ps.H": 1210.0}
    assert found["delay"].figure is None
    assert (found["bias"].setting, found["bias"].figure) == ({"modulator-bias": 1.4}, 33.0)


async def test_rows_are_the_newest_ones_oldest_first(path: Path) -> None:
    history = History(path, now)
    await history.open()
    for number in range(5):
        await history.add_window(float(number), {"number": number})
    rows = await history.rows("windows", limit=2, since_s=0.0)
    await history.close()
    assert rows == [{"time_s": 3.0, "number": 3}, {"time_s": 4.0, "number": 4}]


async def test_old_rows_are_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "KEEP_WINDOWS", 5)
    monkeypatch.setattr(history_module, "PRUNE_EVERY", 10)
    history = History(path, now)
    await history.open()
    for number in range(20):
        await history.add_window(float(number), {})
    rows = await history.rows("windows", limit=100, since_s=0.0)
    await history.close()
    assert [row["time_s"] for row in rows] == [15.0, 16.0, 17.0, 18.0, 19.0]


async def test_what_was_written_is_there_for_another_reader_at_once(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await history.add_event(1.0, "alarm", {"name": "instrument"})
    with sqlite3.connect(path) as reader:
        ((data,),) = reader.execute("SELECT data FROM events").fetchall()
    reader.close()
    await history.close()
    assert json.loads(data) == {"name": "instrument"}


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lab1.sqlite"
    path.write_text("not a database " * 100)
    with pytest.raises(HistoryError, match=r"lab1\.sqlite"):
        await History(path, now).open()


async def add_study(history: History, study: str, outcome: str | None, *, trials: int = 1) -> None:
    await history.begin_study(study, study.partition("@")[0])
    for number in range(trials):
        await history.begin(study, number, {"epc-1": 0.5})
        await history.finish(study, number, "complete", 0.1, None)
    if outcome is not None:
        await history.end_study(study, outcome)


@pytest.mark.parametrize("outcome", ["cancelled", "failed", None])
async def test_the_newest_study_that_did_not_come_to_its_end_can_be_continued(
    path: Path, outcome: str | None
) -> None:
    history = History(path, now)
    await history.open()
    await add_study(history, "polarization@1", "accepted")
    await add_study(history, "polarization@2", outcome)
    await add_study(history, "polarization@3", outcome)
    await add_study(history, "polarization@4", "rolled-back")
    await add_study(history, "polarization@5", "cancelled", trials=0)
    await add_study(history, "phase@6", "cancelled")
    assert await history.unfinished_study("polarization") == "polarization@3"
    await history.close()


async def test_a_study_older_than_one_that_ended_well_is_not_continued(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await add_study(history, "polarization@1", "cancelled")
    await add_study(history, "polarization@2", "accepted")
    assert await history.unfinished_study("polarization") is None
    await history.close()


async def test_a_study_that_is_continued_is_unfinished_until_it_ends_again(path: Path) -> None:
    history = History(path, now)
    await history.open()
    await add_study(history, "polarization@1", "cancelled")
    await history.begin_study("polarization@1", "polarization")
    assert await history.unfinished_study("polarization") == "polarization@1"
    await history.end_study("polarization@1", "accepted")
    assert await history.unfinished_study("polarization") is None
    await history.close()


async def test_a_calibration_that_a_crash_found_paused_is_known_as_cut_short(path: Path) -> None:
    crashed = History(path, now)
    await crashed.open()
    await add_study(crashed, "polarization@1", None)
    await crashed.add_event(1001.0, "state", {"state": "paused", "reason": "", "intent": "rest"})
    restarted = History(path, now)
    last = await restarted.open()
    await restarted.close()
    assert last is not None
    assert last.interrupted_study == ("polarization@1", 1000.0)
