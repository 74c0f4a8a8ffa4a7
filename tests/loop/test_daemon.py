"""Calibration, tracking, faults and safety of the whole daemon, in virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from qkdctl.verbs import VERBS, OperationError

Run = Callable[..., Any]


def true_excess_pp(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["excess_pp"])


def test_the_model_aligns_a_random_fibre(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        report = await laboratory.calibrate("polarization")
        seen["result"] = report["results"][0]
        seen["aligned_pp"] = true_excess_pp(laboratory)
        await asyncio.sleep(10)
        seen["tracked_pp"] = true_excess_pp(laboratory)

    run_laboratory(story)
    assert seen["result"]["outcome"] == "accepted"
    assert seen["aligned_pp"] < 1
    assert seen["tracked_pp"] < 0.3
    assert seen["result"]["photons"] < 40_000


@pytest.mark.parametrize("sampler", ["cma-es", "tpe"])
def test_a_stock_sampler_runs_in_the_same_daemon(run_laboratory: Run, sampler: str) -> None:
    seen = {}

    def change(document: dict[str, Any]) -> None:
        document["stages"]["polarization"] |= {
            "sampler": sampler,
            "max_settings": 120,
            "photons_per_trial": 2000,
        }

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
        seen["state"] = await laboratory.state()

    run_laboratory(story, change=change)
    result = seen["result"]
    assert result["outcome"] == "accepted"
    assert result["sampler"] == sampler
    assert result["qber_after"]["value"] < 0.5 * result["qber_before"]["value"]
    assert seen["state"] in {"calibrating", "tracking"}


def test_the_scan_source_aligns_as_well(run_laboratory: Run) -> None:
    seen = {}

    def change(document: dict[str, Any]) -> None:
        document["receiver"]["source"] = "scan"
        del document["stages"]["delay"]  # counters cannot tell when a slot begins

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
        seen["excess_pp"] = true_excess_pp(laboratory)
        await asyncio.sleep(10)
        seen["state"] = await laboratory.state()

    laboratory = run_laboratory(story, change=change)
    windows = [event for event in laboratory.events if event["kind"] == "window"]
    assert seen["result"]["outcome"] == "accepted", seen["result"]["reason"]
    assert {window["source"] for window in windows} == {"scan"}
    assert seen["excess_pp"] < 0.3
    assert seen["state"] == "tracking"


def test_one_sided_approach_removes_the_controllers_hysteresis(run_laboratory: Run) -> None:
    seen = {}

    def change(document: dict[str, Any]) -> None:
        document["simulation"]["hysteresis_v"] = 0.1
        for knob in document["knobs"].values():
            knob |= {"hysteresis": 0.1, "approach": "from-below"}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
        await asyncio.sleep(20)
        seen["excess_pp"] = true_excess_pp(laboratory)

    run_laboratory(story, change=change)
    assert seen["result"]["outcome"] == "accepted"
    assert seen["result"]["sampler"] == "model"
    assert seen["excess_pp"] < 0.3


@pytest.mark.timeout(300)
def test_an_hour_of_drift_is_held_near_the_best_reachable_qber(run_laboratory: Run) -> None:
    excess_pp: list[float] = []

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        for _ in range(120):
            await asyncio.sleep(30)
            excess_pp.append(true_excess_pp(laboratory))

    laboratory = run_laboratory(story, change=faint)
    assert max(excess_pp) < 0.5
    assert sum(excess_pp) / len(excess_pp) < 0.15
    assert laboratory.truth_at_end["violations"] == 0
    assert [event for event in laboratory.events if event["kind"] == "alarm"] == []


def test_the_same_seed_gives_the_same_record(run_laboratory: Run) -> None:
    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(60)

    first = run_laboratory(story, state="first")
    second = run_laboratory(story, state="second")
    other = run_laboratory(story, state="other", seed=6)
    assert first.events == second.events
    assert first.bench.record.since(0) == second.bench.record.since(0)
    assert first.events != other.events


def test_a_pulled_cable_shuts_the_light_and_tracking_resumes_when_it_is_back(
    run_laboratory: Run,
) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(5)
        await laboratory.bench.fault("epc", "unplug")
        await asyncio.sleep(10)
        seen["out"] = (await laboratory.state(), laboratory.bench.truth()["shutter_open"])
        status = await laboratory.daemon.status()
        seen["epc"] = status["instruments"]["epc"]["ok"]
        await laboratory.bench.fault("epc", "unplug", is_on=False)
        await asyncio.sleep(20)
        seen["in"] = (await laboratory.state(), laboratory.bench.truth()["shutter_open"])
        seen["excess_pp"] = true_excess_pp(laboratory)

    run_laboratory(story)
    assert seen["out"] == ("degraded", False)
    assert not seen["epc"]
    assert seen["in"] == ("tracking", True)
    assert seen["excess_pp"] < 0.3


def test_a_controller_that_lost_its_power_is_set_again(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(5)
        await laboratory.bench.fault("epc", "power-cycle")
        await asyncio.sleep(60)
        seen["state"] = await laboratory.state()
        seen["excess_pp"] = true_excess_pp(laboratory)

    run_laboratory(story)
    assert seen["state"] == "tracking"
    assert seen["excess_pp"] < 0.3


def test_a_fibre_that_jumps_is_noticed_and_aligned_again(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(10)
        laboratory.bench.jump([1.0, -0.7, 0.5])
        await asyncio.sleep(60)
        seen["state"] = await laboratory.state()
        seen["excess_pp"] = true_excess_pp(laboratory)

    laboratory = run_laboratory(story)
    alarms = [event["name"] for event in laboratory.events if event["kind"] == "alarm"]
    assert alarms == ["loss-of-lock"]
    assert seen["state"] == "tracking"
    assert seen["excess_pp"] < 0.3


def test_a_lost_attenuator_leads_to_safe_until_the_operator_resumes(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await laboratory.bench.fault("voa", "unplug")
        await laboratory.wait_for(lambda: laboratory.daemon.state == "safe", within_s=60)
        seen["reason"] = (await laboratory.daemon.status())["reason"]
        await laboratory.bench.fault("voa", "unplug", is_on=False)
        await laboratory.daemon.resume()
        await asyncio.sleep(10)
        seen["resumed"] = await laboratory.state()

    run_laboratory(story)
    assert "voa" in seen["reason"]
    assert "NOT SAFE" in seen["reason"]
    assert seen["resumed"] == "tracking"


def test_a_hand_at_the_shutter_is_noticed(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(1)
        laboratory.bench.twin.attenuator.set_shutter(False, asyncio.get_running_loop().time())
        await asyncio.sleep(20)
        seen["status"] = await laboratory.daemon.status()

    run_laboratory(story)
    assert seen["status"]["state"] == "safe"
    assert "nobody here moved it" in seen["status"]["reason"]


def test_too_much_light_is_shut_at_once_and_reported(run_laboratory: Run) -> None:
    seen = {}

    def change(document: dict[str, Any]) -> None:
        document["receiver"] |= {"expected_rate_hz": 1e4, "max_rate_hz": 1e5}

    async def story(laboratory: Any) -> None:
        report = await laboratory.calibrate()
        await asyncio.sleep(1)
        seen["reason"] = report["results"][-1]["reason"]
        seen["state"] = await laboratory.state()
        seen["shutter_open"] = laboratory.bench.truth()["shutter_open"]

    run_laboratory(story, change=change)
    assert "max_rate_hz" in seen["reason"]
    assert (seen["state"], seen["shutter_open"]) == ("safe", False)


def test_cancelling_a_calibration_puts_the_old_setting_back(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        await laboratory.daemon.knob_set("squeezer-2", 1.25)
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(laboratory.calibrate())
            await asyncio.sleep(3)
            seen["during"] = laboratory.bench.truth()["drives"]["2"]
            calibration.cancel()
            await asyncio.wait({calibration})
        await asyncio.sleep(1)
        seen["after"] = laboratory.bench.truth()["drives"]["2"]
        seen["state"] = await laboratory.state()
        seen["trials"] = (await laboratory.daemon.history("trials", 100, 0.0))["rows"]

    run_laboratory(story)
    assert seen["during"] != 1.25
    assert seen["after"] == 1.25
    assert seen["state"] == "idle"
    assert "running" not in {trial["state"] for trial in seen["trials"]}


def test_safe_interrupts_a_calibration_and_goes_to_rest(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            calibration = tasks.create_task(outcome_of(laboratory.calibrate()))
            await asyncio.sleep(3)
            await laboratory.daemon.safe()
            seen["outcome"] = await calibration
        seen["truth"] = laboratory.bench.truth()
        seen["state"] = await laboratory.state()

    run_laboratory(story)
    assert "cancelled" in seen["outcome"]
    assert seen["state"] == "safe"
    assert not seen["truth"]["shutter_open"]
    assert set(seen["truth"]["drives"].values()) == {0.0}


async def outcome_of(calibration: Any) -> str:
    try:
        return str(await calibration)
    except OperationError as exc:
        return str(exc)


def test_a_knob_is_refused_outside_its_limits_and_while_in_use(run_laboratory: Run) -> None:
    seen = {}

    async def story(laboratory: Any) -> None:
        seen["outside"] = await refusal(laboratory.daemon.knob_set("squeezer-1", 5.5))
        seen["nan"] = await refusal(laboratory.daemon.knob_set("squeezer-1", float("nan")))
        seen["unknown"] = await refusal(laboratory.daemon.knob_set("squeezer-9", 0.0))
        await laboratory.calibrate()
        await asyncio.sleep(1)
        seen["in use"] = await refusal(laboratory.daemon.knob_set("squeezer-1", 0.0))

    laboratory = run_laboratory(story)
    assert "squeezer-1" in seen["outside"]
    assert "squeezer-1" in seen["nan"]
    assert "squeezer-9" in seen["unknown"]
    assert "qkdctl safe" in seen["in use"]
    assert laboratory.truth_at_end["violations"] == 0


def test_after_safe_a_slew_limited_knob_starts_from_where_it_really_is(
    run_laboratory: Run,
) -> None:
    seen = {}

    def change(document: dict[str, Any]) -> None:
        document["knobs"]["squeezer-1"]["slew_per_s"] = 20.0  # steps of 1 V

    async def story(laboratory: Any) -> None:
        await laboratory.daemon.knob_set("squeezer-1", 4.0)
        await laboratory.daemon.safe()
        told = laboratory.bench.record.total
        await laboratory.daemon.knob_set("squeezer-1", 4.0)
        _, entries = laboratory.bench.record.since(told)
        seen["voltages"] = [entry.value for entry in entries if entry.what == "voltage"]

    run_laboratory(story, change=change)
    assert seen["voltages"] == [1.0, 2.0, 3.0, 4.0]


async def refusal(command: Any) -> str:
    with pytest.raises((OperationError, ValueError)) as caught:
        await command
    return str(caught.value)


def test_the_bench_is_safe_after_the_daemon_has_ended(run_laboratory: Run) -> None:
    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()

    truth = run_laboratory(story).truth_at_end
    assert not truth["shutter_open"]
    assert set(truth["drives"].values()) == {0.0}


def test_every_answer_is_what_the_control_api_promises(run_laboratory: Run) -> None:
    async def story(laboratory: Any) -> None:
        daemon = laboratory.daemon
        answers = {"calibrate": await laboratory.calibrate()}
        await asyncio.sleep(3)
        for verb in ("status", "instruments", "knobs"):
            answers[verb] = await getattr(daemon, verb)()
        answers["history"] = await daemon.history("windows", 10, 0.0)
        answers["safe"] = await daemon.safe()
        answers["resume"] = await daemon.resume()
        for verb, answer in answers.items():
            VERBS[verb].result.validate_python(answer)

    run_laboratory(story)


def faint(document: dict[str, Any]) -> None:
    """Ten times less light, so that an hour of photons is soon drawn."""
    document["simulation"]["loss_db"] = 25.0
    document["receiver"]["expected_rate_hz"] = 2e4
