"""The outer loop for the key rate through the real drivers, in virtual time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FULL = Path(__file__).parents[2] / "examples" / "full-bench.toml"


def test_the_outer_loop_finds_more_key_within_its_region(
    run_laboratory: Callable[..., Any],
) -> None:
    seen: dict[str, Any] = {}

    def change(document: dict[str, Any]) -> None:
        document["stages"]["key-rate"] |= {"trials": 12, "figure_photons": 40_000}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate("bias", "delay", "polarization")
        (seen["result"],) = (await laboratory.calibrate("key-rate"))["results"]

    laboratory = run_laboratory(story, example=FULL, change=change)

    result = seen["result"]
    assert result["outcome"] == "accepted", result["reason"]
    assert result["figure"]["after"]["low"] > result["figure"]["before"]["high"]
    for detector in "hvda":
        assert result["setting"][f"bias-{detector}"] == pytest.approx(9, abs=0.15 * 18 + 1e-6)
    assert laboratory.truth_at_end["violations"] == 0
