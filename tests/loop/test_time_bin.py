"""Links with interferometers in virtual time: the phase is found, held, and found again."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

TIME_BIN = Path(__file__).parents[2] / "examples" / "time-bin.toml"

Run = Callable[..., Any]


def true_excess_pp(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["excess_pp"])


def phase_alone(document: dict[str, Any]) -> None:
    """Leave only the phase to be found."""
    document["stages"] = {"phase": document["stages"]["phase"]}
    document["light"]["attenuation_db"] = 3.0
    document["simulation"] |= {"laser_offset_db": 0.0, "modulator_null_v": 0.0}
    document["simulation"]["delays_ps"] = {"H": 1200, "D": 900, "A": 1100}


def four_phase(document: dict[str, Any]) -> None:
    phase_alone(document)
    document["link"]["encoding"] = "four-phase"
    document["receiver"]["inputs"] = {"H": 1, "V": 2, "D": 3, "A": 4}
    document["receiver"]["delays_ps"] = {"H": 1200, "V": 1000, "D": 900, "A": 1100}
    document["simulation"]["delays_ps"] = document["receiver"]["delays_ps"]
    document["simulation"]["z_share"] = 0.5


@pytest.mark.parametrize("change", [phase_alone, four_phase])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_phase_is_found_and_held(
    run_laboratory: Run, seed: int, change: Callable[[dict[str, Any]], None]
) -> None:
    excess_pp: list[float] = []
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate())["results"]
        seen["aligned_pp"] = true_excess_pp(laboratory)
        for _ in range(40):
            await asyncio.sleep(1)
            excess_pp.append(true_excess_pp(laboratory))
        seen["state"] = await laboratory.state()

    laboratory = run_laboratory(story, seed=seed, example=TIME_BIN, change=change)

    result = seen["result"]
    assert (result["stage"], result["outcome"], result["sampler"]) == ("phase", "accepted", "model")
    assert result["settings"] <= 8
    assert result["photons"] - result["photons_by_phase"]["verify"] < 4_000
    assert seen["aligned_pp"] < 0.6
    assert sum(excess_pp) / len(excess_pp) < 0.1
    assert seen["state"] == "tracking"
    assert laboratory.truth_at_end["violations"] == 0
    assert not laboratory.truth_at_end["shutter_open"]


def test_a_drift_over_many_fringes_is_followed_within_the_range(run_laboratory: Run) -> None:
    volts: list[float] = []
    excess_pp: list[float] = []

    def change(document: dict[str, Any]) -> None:
        phase_alone(document)
        document["simulation"] |= {"slow_drift_rad": 40.0, "slow_drift_period_s": 400.0}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        for _ in range(100):
            await asyncio.sleep(1)
            volts.append(float(laboratory.bench.truth()["drives"]["x"]))
            excess_pp.append(true_excess_pp(laboratory))

    laboratory = run_laboratory(story, seed=3, example=TIME_BIN, change=change)

    assert [event for event in laboratory.events if event["kind"] == "alarm"] == []
    jumps = [abs(b - a) for a, b in pairwise(volts)]
    assert max(jumps) > 15  # went back by whole periods
    assert sum(excess_pp) / len(excess_pp) < 1.0


def test_without_the_piezo_the_light_is_shut_until_it_is_back(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await laboratory.bench.fault("piezo", "unplug")
        await laboratory.wait_for(lambda: not laboratory.bench.truth()["shutter_open"], 30)
        await asyncio.sleep(5)
        await laboratory.bench.fault("piezo", "unplug", is_on=False)
        await laboratory.wait_for(lambda: laboratory.bench.truth()["shutter_open"], 60)
        await asyncio.sleep(20)
        seen["state"], seen["held_pp"] = await laboratory.state(), true_excess_pp(laboratory)

    laboratory = run_laboratory(story, seed=4, example=TIME_BIN, change=phase_alone)

    assert seen["state"] == "tracking"
    assert seen["held_pp"] < 0.3
    assert laboratory.truth_at_end["violations"] == 0


def test_a_knocked_interferometer_is_brought_back_into_phase(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await asyncio.sleep(5)
        laboratory.bench.jump([2.0, 0.0, 0.0])
        seen["knocked_pp"] = true_excess_pp(laboratory)
        await asyncio.sleep(15)
        seen["state"], seen["held_pp"] = await laboratory.state(), true_excess_pp(laboratory)

    run_laboratory(story, seed=5, example=TIME_BIN, change=phase_alone)

    assert seen["knocked_pp"] > 20
    assert seen["state"] == "tracking"
    assert seen["held_pp"] < 0.3


def test_one_sided_approach_removes_the_piezos_hysteresis(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        phase_alone(document)
        document["simulation"]["hysteresis_v"] = 0.6
        document["knobs"]["phase"] |= {"hysteresis": 0.6, "approach": "from-below"}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate())["results"]
        await asyncio.sleep(20)
        seen["excess_pp"] = true_excess_pp(laboratory)

    run_laboratory(story, seed=6, example=TIME_BIN, change=change)

    assert seen["result"]["outcome"] == "accepted"
    assert seen["result"]["sampler"] == "model"
    assert seen["excess_pp"] < 0.3


def test_a_stage_of_another_encoding_is_refused(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        with pytest.raises(Exception, match="no stage 'polarization'; stages are: phase") as caught:
            await laboratory.calibrate("polarization")
        seen["error"] = caught.value

    run_laboratory(story, seed=1, example=TIME_BIN, change=phase_alone)

    assert seen


def test_a_whole_link_with_time_bins_is_calibrated(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        seen["results"] = (await laboratory.calibrate())["results"]
        await asyncio.sleep(2)
        seen["excess_pp"] = true_excess_pp(laboratory)

    laboratory = run_laboratory(story, seed=7, example=TIME_BIN)

    course = ["attenuation", "bias", "attenuation", "delay", "modulation", "phase"]
    assert [each["stage"] for each in seen["results"]] == course
    assert {each["outcome"] for each in seen["results"]} == {"accepted"}
    delays_ps = {key[-1]: ps for key, ps in seen["results"][3]["setting"].items()}
    assert delays_ps == pytest.approx({"H": -680, "V": 1320, "D": 780, "A": 1190}, abs=15)
    assert seen["excess_pp"] < 0.5
    assert laboratory.truth_at_end["violations"] == 0
