"""A bench whose polarization is turned by three instruments, in virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

CELLS = Path(__file__).parents[2] / "examples" / "liquid-crystals.toml"

Run = Callable[..., Any]


def true_excess_pp(laboratory: Any) -> float:
    return float(laboratory.bench.truth()["excess_pp"])


def test_cells_on_controllers_of_their_own_are_aligned_and_held(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        seen["result"] = (await laboratory.calibrate("polarization"))["results"][-1]
        seen["aligned_pp"] = true_excess_pp(laboratory)
        await asyncio.sleep(8)
        seen["held_pp"] = true_excess_pp(laboratory)
        seen["state"] = await laboratory.state()
        seen["volts"] = laboratory.bench.truth()["drives"]

    laboratory = run_laboratory(story, seed=7, example=CELLS)

    result = seen["result"]
    assert (result["outcome"], result["sampler"]) == ("accepted", "model"), result["reason"]
    assert result["settings"] <= 14
    assert seen["aligned_pp"] < 0.3
    assert seen["held_pp"] < 0.3
    assert seen["state"] == "tracking"
    assert all(0.03 <= waves <= 1.08 for waves in result["setting"].values())
    assert all(1.25 <= seen["volts"][f"lcc-{cell}.volt1"] <= 6 for cell in (1, 2, 3))
    assert laboratory.truth_at_end["violations"] == 0
    assert not laboratory.truth_at_end["shutter_open"]
    assert set(laboratory.truth_at_end["drives"].values()) == {0.0}
