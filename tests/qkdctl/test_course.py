"""Which stages a whole calibration runs, and in which order."""

import tomllib
from pathlib import Path
from typing import Any

from qkdctl.config import parse_testbed
from qkdctl.stages import whole_course

EXAMPLES = Path(__file__).parents[2] / "examples"


def course_of(example: str, **stages: Any) -> tuple[str, ...]:
    document = tomllib.loads((EXAMPLES / example).read_text())
    document["stages"] |= stages
    return whole_course(parse_testbed(document, example))


def test_the_attenuation_is_looked_at_again_after_the_bias() -> None:
    course = ("attenuation", "bias", "attenuation", "delay", "detector", "polarization")

    assert course_of("full-bench.toml") == course


def test_phases_of_states_are_spaced_before_their_common_phase_is_found() -> None:
    assert course_of("four-phase.toml")[-2:] == ("modulation", "phase")


def test_polarization_is_aligned_before_its_states_are_spaced_and_once_more_after() -> None:
    drives = {"states": {"V": "modulator-bias"}, "half_wave_v": 4.0}

    course = course_of("full-bench.toml", modulation=drives)

    assert course[-3:] == ("polarization", "modulation", "polarization")
