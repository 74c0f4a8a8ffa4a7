"""Which search takes over from the model, by what the knobs drive and how far they go."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from calibration.clicks import Window
from calibration.polarization import PolarizationSettings, PolarizationStage
from calibration.trials import MemoryTrialLog
from sim.virtual_time import run

KNOBS = ("a", "b", "c")


class DefiantBench:
    """Counts that follow the setting as no rotation does."""

    def __init__(self, low: float, high: float) -> None:
        self._limits = low, high
        self._setting: Mapping[str, float] = {}

    def limits(self, name: str) -> tuple[float, float]:
        return self._limits

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        self._setting = dict(setting)
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        jumpy = np.sin(1e3 * sum(self._setting.values()))
        rng = np.random.default_rng(int(1e6 * (jumpy + 1)))
        table = rng.poisson(5000 * rng.random((4, 4)))
        return Window(
            start_s=0.0,
            duration_s=1.0,
            source="pattern",
            disclosure="calibration",
            intensities=("signal",),
            clicks=table[np.newaxis],
            singles=table.sum(axis=0),
        )


@pytest.mark.parametrize(
    ("settings", "limits", "rescuer"),
    [
        ({"actuator": "retarders", "azimuth_deg": (0, 90, 0)}, (0.05, 1.1), "coordinate-descent"),
        ({"actuator": "retarders", "azimuth_deg": (0, 90, 0)}, (0.05, 0.6), "cma-es"),
    ],
    ids=["a whole wave", "half a wave"],
)
def test_the_descent_takes_over_only_where_a_period_of_a_sinusoid_is_in_range(
    settings: dict[str, Any], limits: tuple[float, float], rescuer: str
) -> None:
    stage = PolarizationStage(PolarizationSettings(knobs=KNOBS, max_settings=12, **settings))
    log, middle = MemoryTrialLog(), dict.fromkeys(KNOBS, sum(limits) / 2)

    async def searches() -> set[str]:
        await stage.run(DefiantBench(*limits), log, lambda _: None, middle)
        return {
            name
            for name in ("coordinate-descent", "cma-es")
            if await log.past(f"polarization.{name}")
        }

    assert run(searches()) == {rescuer}
