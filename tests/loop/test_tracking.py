"""A link that is held while things happen to it, in virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

CUT_DB = 100.0


def faint(document: dict[str, Any]) -> None:
    """Ten times less light, so that minutes of photons are soon drawn."""
    document["simulation"]["loss_db"] = 25.0
    document["receiver"]["expected_rate_hz"] = 2e4


def excess_pp(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["excess_pp"])


def alarms(laboratory: Any) -> list[tuple[str, bool | None, str | None]]:
    """Name, whether it went up, and cause of each alarm."""
    return [
        (event["name"], event.get("is_active"), event.get("cause"))
        for event in laboratory.events
        if event["kind"] == "alarm"
    ]


def states(laboratory: Any) -> list[str]:
    return [event["state"] for event in laboratory.events if event["kind"] == "state"]


@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_two_minutes_with_a_jump_a_dark_minute_and_an_unplugged_tagger(
    run_laboratory: Run, seed: int
) -> None:
    held_pp: dict[str, float] = {}

    async def story(laboratory: Any) -> None:
        bench = laboratory.bench

        async def is_held(what: str) -> None:
            await laboratory.wait_for(lambda: laboratory.daemon.state == "tracking", within_s=30)
            await asyncio.sleep(3)
            held_pp[what] = excess_pp(laboratory)

        await laboratory.calibrate()
        await is_held("calibration")
        bench.jump([1.0, -0.7, 0.5])
        await asyncio.sleep(1)
        await is_held("jump")
        bench.bend(CUT_DB)
        await asyncio.sleep(60)
        bench.bend(0.0)
        await asyncio.sleep(1)
        await is_held("darkness")
        await bench.fault("tagger", "unplug")
        await laboratory.wait_for(lambda: laboratory.daemon.state == "degraded", within_s=30)
        await bench.fault("tagger", "unplug", is_on=False)
        await is_held("tagger")

    laboratory = run_laboratory(story, change=faint, seed=seed)
    assert max(held_pp.values()) < 0.5, held_pp
    assert alarms(laboratory) == [
        ("loss-of-lock", None, "jump"),
        ("link-dark", True, "cut"),
        ("link-dark", False, None),
        ("instrument", None, None),
    ]
    assert laboratory.truth_at_end["violations"] == 0


def test_in_the_dark_nothing_moves_and_what_moved_meanwhile_is_aligned_afterwards(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        bench = laboratory.bench
        await laboratory.calibrate()
        await asyncio.sleep(5)
        bench.bend(CUT_DB)
        await asyncio.sleep(5)
        seen["drives"] = [bench.truth()["drives"]]
        await asyncio.sleep(40)
        bench.jump([1.0, -0.7, 0.5])
        seen["drives"].append(bench.truth()["drives"])
        seen["shutter_open"] = bench.truth()["shutter_open"]
        seen["status"] = await laboratory.daemon.status()
        bench.bend(0.0)
        await asyncio.sleep(40)
        seen["after"] = await laboratory.daemon.status()
        seen["excess_pp"] = excess_pp(laboratory)

    laboratory = run_laboratory(story, change=faint)
    status = seen["status"]
    assert seen["drives"][0] == seen["drives"][1]
    assert seen["shutter_open"]
    assert status["state"] == "degraded"
    assert {each["state"] for each in status["tracking"]["trackers"].values()} == {"frozen"}
    assert "no light" in status["alarms"]["link-dark"]
    assert (seen["after"]["state"], seen["after"]["alarms"]) == ("tracking", {})
    assert seen["excess_pp"] < 0.5
    known = ["calibrating", "tracking", "degraded", "calibrating", "tracking"]
    assert states(laboratory)[-5:] == known


def test_stray_light_and_a_bend_are_sat_out_and_tracking_goes_on(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(10)
        laboratory.bench.illuminate(20_000.0)
        await asyncio.sleep(20)
        seen["stray"] = await laboratory.daemon.status()
        laboratory.bench.illuminate(0.0)
        await asyncio.sleep(5)
        seen["excess_pp"] = excess_pp(laboratory)
        laboratory.bench.bend(6.0)
        await asyncio.sleep(5)
        seen["bent"] = await laboratory.daemon.status()
        await asyncio.sleep(15)
        seen["late"] = await laboratory.daemon.status()

    laboratory = run_laboratory(story, change=faint)
    assert seen["stray"]["tracking"]["disturbance"] == "stray light"
    assert seen["stray"]["state"] == "tracking"
    assert seen["excess_pp"] < 0.3
    assert "dB" in seen["bent"]["alarms"]["weak-light"]
    assert seen["bent"]["tracking"]["trackers"]["polarization"]["state"] == "frozen"
    assert seen["late"]["tracking"]["trackers"]["polarization"]["state"] == "following"
    assert alarms(laboratory) == [
        ("stray-light", True, "stray light"),
        ("stray-light", False, None),
        ("weak-light", True, "cut"),
        ("weak-light", False, None),
    ]


def test_every_window_is_accounted_and_a_budget_leaves_time_for_key(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        faint(document)
        document["tracking"]["max_key_cost"] = 0.1

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(300)
        seen["status"] = await laboratory.daemon.status()
        seen["excess_pp"] = excess_pp(laboratory)

    laboratory = run_laboratory(story, change=change)
    tracked = [event for event in laboratory.events if event["kind"] == "tracking"]
    windows = {event["start_s"]: event for event in laboratory.events if event["kind"] == "window"}
    assert len(tracked) > 10
    for event in tracked:
        assert event["photons_not_key"] == windows[event["start_s"]]["photons"]
        assert event["limit_excess"] > 0
        assert event["looked_at_share"] <= event["key_cost"] <= 1
    assert 0.05 < seen["status"]["tracking"]["key_cost"] < 0.11
    assert seen["excess_pp"] < 0.5
    assert alarms(laboratory) == []
