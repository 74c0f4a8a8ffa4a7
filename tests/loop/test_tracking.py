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


def test_in_the_dark_the_setting_is_frozen_and_the_light_stays_on(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(5)
        laboratory.bench.bend(CUT_DB)
        await asyncio.sleep(5)
        seen["drives"] = [laboratory.bench.truth()["drives"]]
        await asyncio.sleep(55)
        seen["drives"].append(laboratory.bench.truth()["drives"])
        seen["shutter_open"] = laboratory.bench.truth()["shutter_open"]
        seen["status"] = await laboratory.daemon.status()
        laboratory.bench.bend(0.0)
        await asyncio.sleep(10)
        seen["after"] = await laboratory.daemon.status()

    laboratory = run_laboratory(story, change=faint)
    status = seen["status"]
    assert seen["drives"][0] == seen["drives"][1]
    assert seen["shutter_open"]
    assert status["state"] == "degraded"
    assert {each["state"] for each in status["tracking"]["trackers"].values()} == {"frozen"}
    assert "no light" in status["alarms"]["link-dark"]
    assert (seen["after"]["state"], seen["after"]["alarms"]) == ("tracking", {})
    assert states(laboratory)[-4:] == ["calibrating", "tracking", "degraded", "tracking"]


def test_a_burst_of_stray_light_is_sat_out(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(10)
        laboratory.bench.illuminate(20_000.0)
        await asyncio.sleep(20)
        seen["status"] = await laboratory.daemon.status()
        laboratory.bench.illuminate(0.0)
        await asyncio.sleep(5)
        seen["excess_pp"] = excess_pp(laboratory)

    laboratory = run_laboratory(story, change=faint)
    assert seen["status"]["tracking"]["disturbance"] == "stray light"
    assert seen["status"]["state"] == "tracking"
    assert alarms(laboratory) == [
        ("stray-light", True, "stray light"),
        ("stray-light", False, None),
    ]
    assert seen["excess_pp"] < 0.3


def test_a_bent_fibre_is_told_and_then_tracked_with_less_light(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(10)
        laboratory.bench.bend(6.0)
        await asyncio.sleep(5)
        seen["early"] = await laboratory.daemon.status()
        await asyncio.sleep(15)
        seen["late"] = await laboratory.daemon.status()

    laboratory = run_laboratory(story, change=faint)
    assert "dB" in seen["early"]["alarms"]["weak-light"]
    assert seen["early"]["tracking"]["trackers"]["polarization"]["state"] == "frozen"
    assert seen["late"]["alarms"] == {}
    assert seen["late"]["tracking"]["trackers"]["polarization"]["state"] == "following"
    assert [name for name, *_ in alarms(laboratory)] == ["weak-light"] * 2


def test_a_fibre_that_jumped_in_the_dark_is_aligned_when_light_is_back(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(5)
        laboratory.bench.bend(CUT_DB)
        await asyncio.sleep(10)
        laboratory.bench.jump([1.0, -0.7, 0.5])
        seen["states"] = len(states(laboratory))
        await asyncio.sleep(10)
        laboratory.bench.bend(0.0)
        await asyncio.sleep(40)
        seen["excess_pp"] = excess_pp(laboratory)

    laboratory = run_laboratory(story, change=faint)
    assert seen["excess_pp"] < 0.5
    assert states(laboratory)[seen["states"] :] == ["calibrating", "tracking"]


def test_every_window_says_what_it_cost(run_laboratory: Run) -> None:
    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(20)

    laboratory = run_laboratory(story, change=faint)
    tracked = [event for event in laboratory.events if event["kind"] == "tracking"]
    windows = {event["start_s"]: event for event in laboratory.events if event["kind"] == "window"}
    assert len(tracked) > 10
    for event in tracked:
        assert event["photons_not_key"] == windows[event["start_s"]]["photons"]
        assert event["limit_excess"] > 0
        assert event["dither_qber"] <= event["expected_excess"]
        assert event["looked_at_share"] <= event["key_cost"] <= 1


def test_a_budget_leaves_time_for_key_between_the_windows(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        faint(document)
        document["tracking"] = {"max_key_cost": 0.1, "drift_rad_per_sqrt_s": 0.003}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(300)
        seen["status"] = await laboratory.daemon.status()
        seen["excess_pp"] = excess_pp(laboratory)

    laboratory = run_laboratory(story, change=change)
    tracking = seen["status"]["tracking"]
    assert tracking["max_key_cost"] == 0.1
    assert 0.05 < tracking["key_cost"] < 0.11
    assert seen["excess_pp"] < 0.5
    assert alarms(laboratory) == []
