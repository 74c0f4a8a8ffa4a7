"""The modulation stage through real drivers, in virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOUR_PHASE = EXAMPLES / "four-phase.toml"
TIME_BIN = EXAMPLES / "time-bin.toml"
POLARIZATION = EXAMPLES / "polarization-bb84.toml"
IDEAL_DEG = [0, 180, 90, 270]

Run = Callable[..., Any]

FEW_PHOTONS = {
    "figure_photons": 60_000,
    "photons_per_setting": 60_000,
    "target_deg": 8.0,
    "target_ratio_percent": 12.0,
}


def with_few_photons(document: dict[str, Any]) -> None:
    document["stages"]["modulation"] |= FEW_PHOTONS


def with_driven_polarizations(document: dict[str, Any]) -> None:
    """Put a voltage source behind each of V, D and A of the link with polarization encoding."""
    knobs = {}
    for place, (state, rest_v) in enumerate({"V": 4.0, "D": 2.0, "A": 6.0}.items()):
        name = f"drive-{state.lower()}"
        document["instruments"][name] = {
            "kind": "yokogawa-gs200",
            "resource": f"tcp://192.168.1.{60 + place}:7655",
            "min_voltage_v": 0.0,
            "max_voltage_v": 8.0,
            "rest_voltage_v": rest_v,
        }
        document["knobs"][name] = {
            "instrument": name,
            "channel": "voltage",
            "minimum": 0.0,
            "maximum": 8.0,
        }
        knobs[state] = name
    document["stages"] = {
        "polarization": document["stages"]["polarization"],
        "modulation": {"states": knobs, "half_wave_v": 4.0, **FEW_PHOTONS},
    }


def with_driven_decoy(document: dict[str, Any]) -> None:
    """Put a voltage source behind the decoy of the link with time bins."""
    document["instruments"]["drive-decoy"] = {
        "kind": "siglent-sdg",
        "resource": "tcp://192.168.1.60:5025",
        "min_voltage_v": 0.0,
        "max_voltage_v": 5.0,
        "rest_voltage_v": 1.5,
    }
    document["knobs"]["drive-decoy"] = {
        "instrument": "drive-decoy",
        "channel": "voltage",
        "minimum": 0.0,
        "maximum": 5.0,
    }
    document["stages"]["modulation"] = {
        "intensities": {"decoy": "drive-decoy"},
        "intensity_half_wave_v": 5.0,
        **FEW_PHOTONS,
    }


def state_deg(laboratory: Any) -> list[float]:
    """Return the true angles of the states, degrees."""
    angles = laboratory.bench.twin.levels.state_rad(asyncio.get_running_loop().time())
    return list(np.degrees(angles))


def decoy_ratio(laboratory: Any) -> float:
    means = laboratory.bench.twin.mean_photons(asyncio.get_running_loop().time())
    return float(means[3] / means[0])


def test_a_whole_link_with_four_phases_is_calibrated_and_then_found_good(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        seen["first"] = (await laboratory.calibrate())["results"]
        seen["angles"], seen["decoy"] = state_deg(laboratory), decoy_ratio(laboratory)
        await asyncio.sleep(2)
        seen["excess_pp"] = laboratory.bench.truth()["excess_pp"]
        seen["second"] = (await laboratory.calibrate())["results"]

    laboratory = run_laboratory(story, example=FOUR_PHASE, change=with_few_photons)

    course = ["attenuation", "bias", "attenuation", "delay", "modulation", "phase"]
    assert [each["stage"] for each in seen["first"]] == course
    assert {each["outcome"] for each in seen["first"]} == {"accepted"}
    assert [each["outcome"] for each in seen["second"][:5]] == ["skipped"] * 5
    assert seen["angles"] == pytest.approx(IDEAL_DEG, abs=4)
    assert seen["decoy"] == pytest.approx(0.2, rel=0.08)
    assert seen["excess_pp"] < 0.5
    assert laboratory.truth_at_end["violations"] == 0


def test_the_drives_survive_a_restart(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def first(laboratory: Any) -> None:
        (result,) = (await laboratory.calibrate("modulation"))["results"]
        seen["setting"] = result["setting"]

    async def second(laboratory: Any) -> None:
        truth = laboratory.bench.truth()["outputs"]
        seen["volts"] = {f"drive-{s}": truth[f"level-{s}"]["voltage"] for s in "vda"}
        seen["volts"]["drive-decoy"] = truth["level-decoy"]["voltage"]

    run_laboratory(first, example=FOUR_PHASE, change=with_few_photons)
    run_laboratory(second, example=FOUR_PHASE, change=with_few_photons)

    assert seen["volts"] == pytest.approx(seen["setting"], abs=1e-3)


def test_polarizations_are_spaced_once_they_are_aligned(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        (seen["early"],) = (await laboratory.calibrate("modulation"))["results"]
        seen["results"] = (await laboratory.calibrate("polarization", "modulation"))["results"]
        seen["angles"] = state_deg(laboratory)

    run_laboratory(story, example=POLARIZATION, change=with_driven_polarizations, seed=2)

    assert seen["early"]["outcome"] == "failed"
    assert "align" in seen["early"]["reason"]
    assert [each["outcome"] for each in seen["results"]] == ["accepted", "accepted"]
    assert seen["angles"] == pytest.approx(IDEAL_DEG, abs=4)


def test_the_decoy_of_time_bins_is_set_before_their_phase_is_known(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        (seen["result"],) = (await laboratory.calibrate("modulation"))["results"]
        seen["decoy"] = decoy_ratio(laboratory)

    run_laboratory(story, example=TIME_BIN, change=with_driven_decoy)

    assert seen["result"]["outcome"] == "accepted", seen["result"]["reason"]
    assert seen["result"]["figure"]["unit"] == "%"
    assert seen["decoy"] == pytest.approx(0.2, rel=0.06)
