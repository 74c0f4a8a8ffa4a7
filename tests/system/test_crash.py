"""What a kill in the middle of a calibration leaves, and what the next start makes of it."""

import sqlite3
import time
from contextlib import closing
from typing import Any


def calibrate(laboratory: Any) -> None:
    with laboratory.client() as client:
        for _ in client.stream("calibrate", stages=["polarization"]):
            pass


def trials(laboratory: Any) -> list[tuple[str, str]]:
    """Return study and state of every trial on record."""
    with closing(sqlite3.connect(laboratory.directory / "lab1.sqlite")) as record:
        return record.execute("SELECT study, state FROM trials ORDER BY id").fetchall()


def kill_in_the_middle_of_a_trial(laboratory: Any, process: Any) -> None:
    """Kill the daemon while a trial of the search is under way."""
    with laboratory.client() as client:
        searched = 0
        for message in client.stream("calibrate", stages=["polarization"]):
            searched += message["params"]["phase"] == "search"
            if searched == 2:
                break
        deadline_s = time.monotonic() + 10
        while trials(laboratory)[-1][1] != "running" and time.monotonic() < deadline_s:
            pass
        process.kill()
        process.wait()
    assert trials(laboratory)[-1][1] == "running"


def test_after_a_kill_the_light_is_shut_first_and_the_good_setting_comes_back(
    laboratory: Any,
) -> None:
    laboratory.serve()
    process = laboratory.start_daemon()
    calibrate(laboratory)
    good = laboratory.wait_for_state("tracking")["last_calibration"]["setting"]
    kill_in_the_middle_of_a_trial(laboratory, process)
    assert laboratory.truth()["shutter_open"], "a killed daemon cannot have shut the light"
    before = len(laboratory.told())

    laboratory.start_daemon()
    status = laboratory.wait_for_state("tracking")

    told = laboratory.told(before)
    acts = [entry for entry in told if entry["what"] in {"shutter", "attenuation", "voltage"}]
    assert (acts[0]["what"], acts[0]["value"]) == ("shutter", 0)
    restored = [entry["value"] for entry in acts if entry["what"] == "voltage" and entry["value"]]
    assert [round(value, 3) for value in restored[:4]] == [
        round(good[f"squeezer-{n}"], 3) for n in (1, 2, 3, 4)
    ]
    assert "was killed while calibrating" in status["last_run"]
    assert "the light was shut first" in status["last_run"]
    assert "good setting" in status["last_run"]
    assert laboratory.truth()["violations"] == 0


def test_after_a_kill_no_trial_stays_running(laboratory: Any) -> None:
    laboratory.serve()
    process = laboratory.start_daemon()
    kill_in_the_middle_of_a_trial(laboratory, process)

    laboratory.start_daemon()

    states = [state for _, state in trials(laboratory)]
    assert states[-1] == "failed"
    assert "running" not in states


def test_a_first_calibration_that_was_killed_is_explained_and_not_repeated(
    laboratory: Any,
) -> None:
    laboratory.serve()
    process = laboratory.start_daemon()
    kill_in_the_middle_of_a_trial(laboratory, process)

    laboratory.start_daemon()
    status = laboratory.status()

    assert status["state"] == "idle"
    assert not laboratory.truth()["shutter_open"]
    assert "no good setting was on record" in status["last_run"]


def test_a_calibration_that_was_killed_goes_on_with_its_counts(laboratory: Any) -> None:
    laboratory.serve()
    process = laboratory.start_daemon()
    kill_in_the_middle_of_a_trial(laboratory, process)

    laboratory.start_daemon()
    calibrate(laboratory)

    assert len({study for study, _ in trials(laboratory)}) == 1
