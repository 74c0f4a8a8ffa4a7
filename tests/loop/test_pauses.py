"""Calibrations that are paused, resumed, finished and continued, on the whole daemon."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qkdctl.verbs import VERBS, OperationError

FULL = Path(__file__).parents[2] / "examples" / "full-bench.toml"

Run = Callable[..., Any]


def slow(document: dict[str, Any]) -> None:
    """A search that goes on for long: a target that no budget shows."""
    document["stages"]["polarization"] |= {"target_excess": 3e-4, "max_photons": 30_000}
    document["pausing"] = {"look_every_s": 5.0, "light_wait_s": 60.0}


def brisk(document: dict[str, Any]) -> None:
    """A search that computes little and goes through its trials."""
    slow(document)
    document["stages"]["polarization"] |= {
        "sampler": "tpe",
        "max_settings": 25,
        "photons_per_trial": 300,
        "target_excess": 0.02,
    }


def shut_by_hand(laboratory: Any, *, is_open: bool) -> None:
    now_s = asyncio.get_running_loop().time()
    laboratory.bench.twin.attenuator.set_shutter(is_open, now_s)


async def complete_trials(laboratory: Any) -> list[dict[str, Any]]:
    rows = (await laboratory.daemon.history("trials", 10_000, 0.0))["rows"]
    return [row for row in rows if row["state"] == "complete"]


async def searching(laboratory: Any, least: int = 4) -> None:
    """Wait until a search has some trials."""
    async with asyncio.timeout(60):
        while len(await complete_trials(laboratory)) < least:
            await asyncio.sleep(0.05)


async def outcome_of(calibration: Any) -> str:
    try:
        return str(await calibration)
    except OperationError as exc:
        return str(exc)


def test_a_paused_calibration_is_dark_and_goes_on_with_the_same_study(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("polarization"))
            await searching(laboratory)
            seen["paused"] = await laboratory.daemon.pause()
            seen["status"] = await laboratory.daemon.status()
            seen["before"] = (laboratory.bench.truth(), await complete_trials(laboratory))
            await asyncio.sleep(2000)
            seen["after"] = (laboratory.bench.truth(), await complete_trials(laboratory))
            seen["resumed"] = await laboratory.daemon.resume()
            (seen["result"],) = (await calibration)["results"]
        seen["studies"] = {row["study"] for row in await complete_trials(laboratory)}

    laboratory = run_laboratory(story, change=brisk)
    (before, trials_before), (after, trials_after) = seen["before"], seen["after"]
    assert seen["paused"] == {"state": "paused", "reason": "operator"}
    assert seen["status"]["state"] == "paused"
    assert not seen["status"]["light_on"]
    assert not before["shutter_open"]
    assert (before["drives"], trials_before) == (after["drives"], trials_after)
    assert seen["resumed"]["state"] == "calibrating"
    assert len(seen["studies"]) == 1
    assert seen["result"]["outcome"] == "accepted"
    assert seen["result"]["duration_s"] < 1000
    VERBS["pause"].result.validate_python(seen["paused"])
    notes = [event["note"] for event in laboratory.events if event["kind"] == "progress"]
    assert {"paused: operator", "going on"} <= set(notes)


def test_the_light_stays_on_in_a_pause_only_if_that_is_asked_for(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate("polarization")))
            await searching(laboratory)
            await laboratory.daemon.pause(keeps_light=True)
            await asyncio.sleep(10)
            seen["open"] = laboratory.bench.truth()["shutter_open"]
            calibration.cancel()

    run_laboratory(story, change=brisk)
    assert seen["open"]


def test_a_finished_search_keeps_its_best_point_once_it_is_verified(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("polarization"))
            await searching(laboratory, least=6)
            await laboratory.daemon.pause()
            await laboratory.daemon.finish()
            (seen["result"],) = (await calibration)["results"]
        seen["excess_pp"] = laboratory.bench.truth()["excess_pp"]
        await asyncio.sleep(1)
        seen["state"] = await laboratory.state()

    run_laboratory(story, change=slow)
    assert seen["result"]["outcome"] == "accepted"
    assert "the search was told to end" in seen["result"]["reason"]
    assert seen["result"]["photons_by_phase"]["verify"] > 0
    assert seen["excess_pp"] < 5
    assert seen["state"] == "tracking"


@pytest.mark.parametrize(("verb", "state"), [("cancel", "idle"), ("safe", "safe")])
def test_a_paused_calibration_can_be_ended(run_laboratory: Run, verb: str, state: str) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.daemon.knob_set("squeezer-2", 1.25)
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate("polarization")))
            await searching(laboratory)
            await laboratory.daemon.pause()
            if verb == "safe":
                await laboratory.daemon.safe()
            else:
                calibration.cancel()
            await asyncio.wait({calibration})
        await asyncio.sleep(1)
        seen["truth"], seen["state"] = laboratory.bench.truth(), await laboratory.state()

    run_laboratory(story, change=brisk)
    assert seen["state"] == state
    assert not seen["truth"]["shutter_open"]
    assert seen["truth"]["drives"]["2"] == (0.0 if verb == "safe" else 1.25)


def test_a_shutter_shut_by_hand_pauses_until_a_hand_opens_it(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("polarization"))
            await searching(laboratory)
            shut_by_hand(laboratory, is_open=False)
            await laboratory.wait_for(lambda: laboratory.daemon.state == "paused", within_s=20)
            seen["status"] = await laboratory.daemon.status()
            await asyncio.sleep(30)
            seen["open"] = laboratory.bench.truth()["shutter_open"]
            shut_by_hand(laboratory, is_open=True)
            (seen["result"],) = (await calibration)["results"]

    run_laboratory(story, change=brisk)
    assert "no light" in seen["status"]["reason"]
    assert not seen["open"]
    assert seen["result"]["outcome"] == "accepted"
    assert seen["result"]["duration_s"] < 30


def test_light_that_stays_away_fails_the_stage_and_the_start_is_put_back(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.daemon.knob_set("squeezer-2", 1.25)
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("polarization"))
            await searching(laboratory)
            shut_by_hand(laboratory, is_open=False)
            (seen["result"],) = (await calibration)["results"]
        await asyncio.sleep(1)
        seen["truth"], seen["state"] = laboratory.bench.truth(), await laboratory.state()

    run_laboratory(story, change=brisk)
    assert seen["result"]["outcome"] == "failed"
    assert "waited 60 s for it (pausing.light_wait_s)" in seen["result"]["reason"]
    assert seen["truth"]["drives"]["2"] == 1.25
    assert (seen["state"], seen["truth"]["shutter_open"]) == ("idle", False)


def test_a_cancelled_calibration_is_continued_the_next_day_with_its_counts(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        daemon = laboratory.daemon
        seen["none"] = await outcome_of(
            anext(daemon.calibrate(["polarization"], is_continued=True))
        )
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("polarization"))
            await searching(laboratory, least=8)
            calibration.cancel()
            await asyncio.wait({calibration})
        first = await complete_trials(laboratory)
        await daemon.safe()
        await asyncio.sleep(86_400)
        told = [m async for m in daemon.calibrate(["polarization"], is_continued=True)]
        seen["result"] = told[-1]["results"][0]
        seen["study"] = {row["study"] for row in first}
        seen["studies"] = {row["study"] for row in await complete_trials(laboratory)}
        seen["excess"] = next(m["expected_excess"] for m in told if m["phase"] == "search")
        seen["again"] = await outcome_of(
            anext(daemon.calibrate(["polarization"], is_continued=True))
        )

    def still(document: dict[str, Any]) -> None:
        slow(document)
        document["simulation"] |= {"drift_rad_per_sqrt_s": 0.0, "slow_drift_rad": 0.0}
        document["tracking"]["drift_rad_per_sqrt_s"] = 1e-6  # else old counts tell of no fibre

    run_laboratory(story, change=still)
    assert "no unfinished polarization is on record" in seen["none"]
    assert seen["study"] == seen["studies"]
    assert seen["result"]["outcome"] == "accepted"
    assert seen["excess"] < 0.02
    assert "no unfinished polarization is on record" in seen["again"]


def test_what_is_not_paused_is_not_resumed_and_pausing_needs_a_calibration(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        daemon = laboratory.daemon
        seen["pause"] = await outcome_of(daemon.pause())
        seen["finish"] = await outcome_of(daemon.finish())
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate("polarization")))
            await searching(laboratory)
            seen["resume"] = await outcome_of(daemon.resume())
            await daemon.pause()
            seen["knob"] = await outcome_of(daemon.knob_set("squeezer-1", 0.0))
            calibration.cancel()

    run_laboratory(story, change=brisk)
    assert seen["pause"] == seen["finish"] == "no calibration is running"
    assert "nothing to resume: the daemon is calibrating" in seen["resume"]
    assert "the knobs are in use (paused)" in seen["knob"]


def test_a_temperature_out_of_its_band_holds_a_calibration_up_before_its_first_window(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        brisk(document)
        document["instruments"]["tc"] = {
            "kind": "thorlabs-tc200",
            "resource": "serial:///dev/tc200",
            "max_temperature_degc": 60.0,
        }
        document["watch"] = {
            "laser": {"quantity": "temperature", "instrument": "tc", "minimum": 40.0}
        }

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate("polarization")))
            await asyncio.sleep(1000)
            seen["status"] = await laboratory.daemon.status()
            seen["trials"] = await complete_trials(laboratory)
            calibration.cancel()

    run_laboratory(story, change=change)
    assert seen["status"]["state"] == "paused"
    assert seen["status"]["reason"].startswith("laser (tc): temperature 2")
    assert seen["status"]["reason"].endswith("degC is below 40 degC")
    assert not seen["status"]["light_on"]
    assert seen["trials"] == []


def test_stages_before_the_alignment_bear_pauses_at_any_moment(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {"brightest": 0.0, "dark": []}

    async def disturb(laboratory: Any) -> None:
        while True:
            await asyncio.sleep(1.7)
            if (await laboratory.daemon.pause())["state"] != "paused":
                continue
            await asyncio.sleep(20)
            seen["dark"].append(not laboratory.bench.truth()["shutter_open"])
            await laboratory.daemon.resume()

    async def watch_emission(laboratory: Any) -> None:
        while True:
            now_s = asyncio.get_running_loop().time()
            seen["brightest"] = max(seen["brightest"], laboratory.bench.twin.leaving_alice(now_s))
            await asyncio.sleep(0.05)

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(disturb(laboratory))]
            others.append(tasks.create_task(watch_emission(laboratory)))
            seen["report"] = await laboratory.calibrate("attenuation", "bias", "delay")
            for other in others:
                other.cancel()

    laboratory = run_laboratory(story, example=FULL)
    results = seen["report"]["results"]
    assert [result["outcome"] for result in results] == ["accepted"] * 3, results
    assert seen["dark"]
    assert all(seen["dark"])
    assert seen["brightest"] <= 0.6
    assert laboratory.truth_at_end["violations"] == 0
