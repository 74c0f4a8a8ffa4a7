"""The modulation stage through real drivers, in virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOUR_PHASE = Path(__file__).parents[2] / "examples" / "four-phase.toml"

Run = Callable[..., Any]


def test_a_fresh(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        seen["first"] = await laboratory.calibrate()
        await asyncio.sleep(5)
        seen["truth"] = laboratory.bench.truth()
        now = asyncio.get_running_loop().time()
        seen["rad"] = laboratory.bench.twin.levels.state_rad(now)
        seen["mean"] = laboratory.bench.twin.mean_photons(now)
        seen["second"] = await laboratory.calibrate()

    import time

    import numpy as np

    t = time.time()
    laboratory = run_laboratory(story, example=FOUR_PHASE)
    print(time.time() - t)
    for r in seen["first"]["results"] + seen["second"]["results"]:
        print(
            r["stage"],
            r["outcome"],
            r["reason"],
            r["photons"],
            r["duration_s"],
            r.get("figure"),
            r["setting"],
        )
    print(
        seen["truth"]["excess_pp"],
        np.degrees(seen["rad"]),
        seen["mean"][3] / seen["mean"][0],
        laboratory.truth_at_end["violations"],
        laboratory.bench.twin.levels.half_wave_v,
    )
    assert 0
