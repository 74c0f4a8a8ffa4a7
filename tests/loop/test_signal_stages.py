"""The stages before the alignment through the real drivers, in virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qkdctl.verbs import VERBS, OperationError

FULL = Path(__file__).parents[2] / "examples" / "full-bench.toml"

Run = Callable[..., Any]


async def watch_emission(laboratory: Any, seen: dict[str, float]) -> None:
    """Note the brightest pulses that leave Alice."""
    twin, loop = laboratory.bench.twin, asyncio.get_running_loop()
    while True:
        seen["brightest"] = max(seen.get("brightest", 0.0), twin.leaving_alice(loop.time()))
        await asyncio.sleep(0.02)


async def watched(laboratory: Any, work: Any, seen: dict[str, Any]) -> Any:
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(watch_emission(laboratory, seen))
        result = await work
        watch.cancel()
    return result


def test_a_fresh_bench_is_calibrated_whole_and_then_found_good(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        seen["first"] = await watched(laboratory, laboratory.calibrate(), seen)
        now_s, twin = asyncio.get_running_loop().time(), laboratory.bench.twin
        seen["signal"] = twin.leaving_alice(now_s)
        seen["empty"] = twin.mean_photons(now_s)[4] / twin.mean_photons(now_s)[0]
        await asyncio.sleep(10)
        seen["excess_pp"] = laboratory.bench.truth()["excess_pp"]
        seen["second"] = await laboratory.calibrate()
        await asyncio.sleep(5)
        seen["state"] = await laboratory.state()
        seen["rows"] = (await laboratory.daemon.history("calibrations", 100, 0.0))["rows"]

    laboratory = run_laboratory(story, example=FULL)

    course = ["attenuation", "bias", "attenuation", "delay", "detector", "polarization"]
    for report in (seen["first"], seen["second"]):
        VERBS["calibrate"].result.validate_python(report)
        assert [result["stage"] for result in report["results"]] == course
    outcomes = [
        [result["outcome"] for result in seen[run]["results"]] for run in ("first", "second")
    ]
    assert outcomes == [["accepted"] * 6, ["skipped"] * 6]
    assert seen["signal"] == pytest.approx(0.5, rel=0.02)
    assert seen["brightest"] <= 0.6
    assert seen["empty"] < 1e-3
    assert seen["excess_pp"] < 0.3
    assert seen["state"] == "tracking"
    assert [row["stage"] for row in seen["rows"]] == course * 2
    assert laboratory.truth_at_end["violations"] == 0
    delays = seen["first"]["results"][3]["setting"]
    truth = {"H": 21_200, "V": 11_350, "D": -9100, "A": 21_100}
    assert delays == {
        f"receiver.delays_ps.{d}": pytest.approx(ps, abs=20) for d, ps in truth.items()
    }


def without(*stages: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for stage in stages:
            del document["stages"][stage]

    return change


def test_what_stages_left_in_force_survives_a_restart(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def first(laboratory: Any) -> None:
        await laboratory.calibrate("attenuation", "bias", "attenuation", "delay")

    async def second(laboratory: Any) -> None:
        seen["bias_v"] = laboratory.bench.truth()["outputs"]["bias-source"]["voltage"]
        seen["results"] = (await laboratory.calibrate())["results"][:4]

    change = without("detector")
    run_laboratory(first, example=FULL, change=change)
    run_laboratory(second, example=FULL, change=change)

    assert seen["bias_v"] == pytest.approx(1.32, abs=0.1)
    assert [result["outcome"] for result in seen["results"]] == ["skipped"] * 4


def test_after_safe_the_bias_is_put_back_before_the_next_stage(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate("bias")
        await laboratory.daemon.safe()
        seen["rest_v"] = laboratory.bench.truth()["outputs"]["bias-source"]["voltage"]
        (seen["result"],) = (await laboratory.calibrate("delay"))["results"]
        seen["bias_v"] = laboratory.bench.truth()["outputs"]["bias-source"]["voltage"]

    run_laboratory(story, example=FULL)

    assert seen["rest_v"] == 0
    assert seen["bias_v"] == pytest.approx(1.32, abs=0.1)
    assert seen["result"]["outcome"] == "accepted"


def test_a_laser_that_is_too_weak_stops_the_calibration_at_once(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        document["simulation"]["laser_offset_db"] = -12.0

    async def story(laboratory: Any) -> None:
        seen["results"] = (await laboratory.calibrate())["results"]
        await asyncio.sleep(1)
        seen["state"] = await laboratory.state()

    laboratory = run_laboratory(story, example=FULL, change=change)

    (result,) = seen["results"]
    assert (result["stage"], result["outcome"]) == ("attenuation", "failed")
    assert "see to the laser's power" in result["reason"]
    assert seen["state"] == "idle"
    assert not laboratory.truth_at_end["shutter_open"]


def test_delays_that_cannot_be_told_stop_the_calibration_with_the_reason(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        document["simulation"]["modulator_null_v"] = 5.3

    async def story(laboratory: Any) -> None:
        seen["results"] = (await laboratory.calibrate("delay", "polarization"))["results"]

    run_laboratory(story, example=FULL, change=change)

    (result,) = seen["results"]
    assert (result["stage"], result["outcome"]) == ("delay", "failed")
    assert "intensity modulator" in result["reason"]


def test_a_tagger_that_is_lost_during_the_bias_stage_puts_the_bias_back(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.daemon.knob_set("modulator-bias", 0.5)
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate("bias"))
            await laboratory.wait_for(lambda: bias_v(laboratory) != 0.5, 30)
            await laboratory.bench.fault("tagger", "unplug")
            (seen["result"],) = (await calibration)["results"]
        seen["bias_v"] = bias_v(laboratory)
        await laboratory.bench.fault("tagger", "unplug", is_on=False)

    run_laboratory(story, example=FULL)

    assert seen["result"]["outcome"] == "failed"
    assert "tagger" in seen["result"]["reason"]
    assert seen["bias_v"] == 0.5


def bias_v(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["outputs"]["bias-source"]["voltage"])


def test_a_bias_controller_locks_the_modulator_and_again_after_safe(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        document["instruments"]["bias-source"] = {
            "kind": "thorlabs-mbx",
            "resource": "serial:///dev/serial/by-id/usb-Thorlabs_MBX3",
            "waits_for_set_point": False,
        }
        del document["knobs"]["modulator-bias"]
        del document["stages"]["key-rate"]
        del document["tracking"]["bias"]
        document["stages"]["bias"] = {"controller": "bias-source"}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("bias"))["results"]
        await laboratory.daemon.safe()
        seen["rest"] = mode(laboratory)
        await laboratory.calibrate("delay")
        seen["again"] = mode(laboratory)

    run_laboratory(story, example=FULL, change=change)

    assert seen["result"]["outcome"] == "accepted", seen["result"]["reason"]
    assert seen["result"]["figure"]["after"]["value"] > 25
    assert (seen["rest"], seen["again"]) == ("7", "2")


def mode(laboratory: Any) -> str:
    return str(laboratory.bench.truth()["outputs"]["bias-source"]["mode"])


def test_a_cancelled_detector_stage_puts_every_bias_back(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate("bias", "delay")
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate("detector")))
            await laboratory.wait_for(lambda: currents(laboratory) == {7.6}, 60)
            await laboratory.daemon.safe()
            seen["outcome"] = await calibration
        seen["currents"] = currents(laboratory)
        seen["shutter_open"] = laboratory.bench.truth()["shutter_open"]

    run_laboratory(story, example=FULL)

    assert "cancelled" in seen["outcome"]
    assert seen["currents"] == {9.0}
    assert not seen["shutter_open"]


def currents(laboratory: Any) -> set[float]:
    outputs = laboratory.bench.truth()["outputs"]["detectors"]
    return {round(outputs[f"bias-{number}"], 1) for number in (1, 2, 3, 4)}


async def outcome_of(calibration: Any) -> str:
    try:
        return str(await calibration)
    except OperationError as exc:
        return str(exc)


def test_one_stage_alone_leaves_an_idle_bench_idle(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("attenuation"))["results"]
        await asyncio.sleep(1)
        seen["state"] = await laboratory.state()

    run_laboratory(story, example=FULL)

    assert seen["result"]["outcome"] == "accepted"
    assert seen["state"] == "idle"
