"""A bench of other instruments in virtual time: fibre paddles, beam block, counter, nanowires."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

PADDLES = Path(__file__).parents[2] / "examples" / "bench-paddles.toml"

Run = Callable[..., Any]


def true_excess_pp(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["excess_pp"])


def test_paddles_are_aligned_and_held_by_scans_of_the_states(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
        seen["aligned_pp"] = true_excess_pp(laboratory)
        await asyncio.sleep(15)
        seen["held_pp"] = true_excess_pp(laboratory)
        seen["state"] = await laboratory.state()

    laboratory = run_laboratory(story, seed=7, example=PADDLES)

    result = seen["result"]
    assert (result["outcome"], result["sampler"]) == ("accepted", "model"), result["reason"]
    assert result["settings"] <= 12
    assert result["photons"] < 60_000
    assert seen["aligned_pp"] < 1
    assert seen["held_pp"] < 0.3
    assert seen["state"] == "tracking"
    assert laboratory.truth_at_end["violations"] == 0
    assert not laboratory.truth_at_end["shutter_open"]


def test_homed_wave_plates_on_the_same_motors_are_aligned_too(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        document["stages"]["polarization"]["actuator"] = "wave-plates"

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("polarization"))["results"]
        seen["aligned_pp"] = true_excess_pp(laboratory)

    run_laboratory(story, seed=7, example=PADDLES, change=change)

    result = seen["result"]
    assert (result["outcome"], result["sampler"]) == ("accepted", "model"), result["reason"]
    assert result["settings"] <= 12
    assert seen["aligned_pp"] < 0.5


def test_without_the_paddles_the_light_is_shut_until_they_are_back(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate()
        await laboratory.bench.fault("paddles", "unplug")
        await laboratory.wait_for(lambda: not laboratory.bench.truth()["shutter_open"], 30)
        await laboratory.bench.fault("paddles", "unplug", is_on=False)
        await laboratory.wait_for(lambda: laboratory.bench.truth()["shutter_open"], 60)
        await asyncio.sleep(10)
        seen["state"], seen["held_pp"] = await laboratory.state(), true_excess_pp(laboratory)

    laboratory = run_laboratory(story, seed=6, example=PADDLES)

    assert seen["state"] == "tracking"
    assert seen["held_pp"] < 0.3
    assert laboratory.truth_at_end["violations"] == 0
