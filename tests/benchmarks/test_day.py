import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import day
from benchmarks.day_twin import DayOptions, DayTwin
from benchmarks.rivals.tracking_watched import Watched
from benchmarks.run import load_task
from benchmarks.tasks.day_cases import DayCase
from benchmarks.tasks.day_run import Day, secret_share
from benchmarks.tasks.tracking_loop import Move
from benchmarks.tasks.tracking_start import known

ALIGNED = np.diag([98, 98, 98, 98]) + 1
SPOILT = np.full((4, 4), 25)


def test_the_task_is_on_offer() -> None:
    assert load_task("day").VERSION == day.VERSION


def test_every_method_runs_and_its_rows_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day, "SCORING", replace(day.SCORING, hours=0.002, bootstrap=20))
    monkeypatch.setitem(day.CASES, "quick", replace(day.CASES["aerial,R=1e5"], start="known"))

    rows = day.run(range(1, 2), list(day.METHODS), ["quick"])

    assert {row["method"] for row in rows} == set(day.METHODS)
    assert all(0.9 < row["median"] <= 1 for row in rows if row["metric"] == "key_share_of_oracle")
    json.dumps(rows, allow_nan=False)


def test_a_cut_fibre_is_waited_for_and_aligned_anew() -> None:
    weather = DayOptions(rate_hz=1e5, drift_rad=1e-3, day_s=10.0, cuts=1, cut_s=10.0)
    whole = Day(
        day.METHODS["ours"],
        DayCase(weather, start="known"),
        replace(day.SCORING, hours=30 / 3600),
        seed=2,
    )

    tally = whole.run()

    assert whole.twin.lit_s == pytest.approx(whole.twin.elapsed_s - 10.0, abs=0.01)
    assert (tally.realignments, tally.wrong_alarms) == (1, 0)
    assert whole.uptime > 0.9
    assert whole.share_of_oracle > 0.9


def test_a_cut_link_shows_dark_counts_alone() -> None:
    options = DayOptions(rate_hz=1e6, day_s=1e-6, cuts=1, cut_s=1.0)
    twin = DayTwin(3, options)
    twin.is_drifting = True

    dark = twin.hold(np.zeros(4), 0.9).table.sum()
    twin.hold(np.zeros(4), 0.1)
    light = twin.hold(np.zeros(4), 0.1).table.sum()

    assert dark == pytest.approx(0.9 * 4e-6 * twin.options.clock_hz, rel=0.3)
    assert light == pytest.approx(1e5, rel=0.05)


def test_what_was_cut_is_another_fibre_afterwards() -> None:
    twin = DayTwin(3, DayOptions(day_s=1.0, cuts=1, cut_s=1.0))
    start = known(twin, 3)
    twin.is_drifting = True

    twin.hold(start.drives, 2.0)

    assert twin.excess(start.drives) > 0.05


def test_a_knock_turns_the_fibre_once() -> None:
    twin = DayTwin(3, DayOptions(day_s=1.0, knocks=1, knock_rad=0.2))
    start = known(twin, 3)
    before, twin.is_drifting = twin.excess(start.drives), True

    twin.hold(start.drives, 1.0)
    knocked = twin.excess(start.drives)
    twin.hold(start.drives, 5.0)

    assert knocked > before + 1e-4
    assert twin.excess(start.drives) == pytest.approx(knocked)


def test_warmth_turns_the_fibre_by_noon_and_back_by_night() -> None:
    twin = DayTwin(3, DayOptions(day_s=10.0, warmth_rad=1.0))
    start = known(twin, 3)
    before, twin.is_drifting = twin.excess(start.drives), True

    twin.hold(start.drives, 5.0)
    noon = twin.excess(start.drives)
    twin.hold(start.drives, 5.0)

    assert noon > before + 1e-3
    assert twin.excess(start.drives) == pytest.approx(before)


def test_wind_makes_the_drift_of_one_minute_differ_from_that_of_another() -> None:
    def spread(gusts: float) -> float:
        twin = DayTwin(3, DayOptions(drift_rad=0.01, gusts=gusts, gust_s=60.0))
        twin.is_drifting = True
        walked = []
        for _ in range(40):
            before = twin.truth.fibre
            twin.wait(60.0)
            walked.append(np.arccos((np.trace(twin.truth.fibre @ before.T) - 1) / 2))
        return float(np.std(np.log(walked)))

    assert spread(1.5) > 1.5 * spread(0.0)


def test_key_ends_at_eleven_percent_of_errors() -> None:
    assert secret_share(np.zeros(2), 1.16) == 1
    assert secret_share(np.full(2, 0.109), 1.0) > 0
    assert secret_share(np.full(2, 0.111), 1.0) == 0


class Still:
    def next_move(self, now_s: float) -> Move:
        return Move(np.zeros(4), 1.0)

    def learn(self, table: object, drives: object, now_s: float, *, is_dark: bool = False) -> bool:
        return False


def test_a_watched_method_is_lost_when_its_qber_is_high_and_not_when_it_is_dark() -> None:
    watched = Watched(Still(), 0.03, 100)
    drives = np.zeros(4)

    assert not watched.learn(ALIGNED, drives, 1.0)
    assert not watched.learn(SPOILT, drives, 2.0, is_dark=True)
    assert watched.learn(SPOILT, drives, 3.0)
