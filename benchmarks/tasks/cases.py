"""The cases of the alignment task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.liquid_crystal_twin import LiquidCrystalOptions, LiquidCrystalTwin
from benchmarks.paddle_twin import PaddleOptions, PaddleTwin
from benchmarks.tasks.link import Actuator, Counts, Link, Told
from benchmarks.twin import HALF_WAVE_V, Twin, TwinOptions
from benchmarks.wave_plate_twin import WavePlateOptions, WavePlateTwin

FILE = Path(__file__).with_name("alignment.toml")

HALF_TURN: Mapping[Actuator, float] = {
    "squeezers": HALF_WAVE_V,
    "retarders": 0.5,
    "paddles": 90.0,
    "wave-plates": 90.0,
}
"""Change of a drive, V, waves or degrees, that turns a retarder or its axis by pi on the sphere."""

OPTIONS: Mapping[Actuator, type[TwinOptions]] = {
    "squeezers": TwinOptions,
    "retarders": LiquidCrystalOptions,
    "paddles": PaddleOptions,
    "wave-plates": WavePlateOptions,
}


@dataclass(frozen=True)
class Case:
    """Circumstances of an alignment.

    Attributes:
        twin: What the bench is like.
        counts: What its receiver tells.
        told: What every method is told.
    """

    twin: TwinOptions
    counts: Counts = "all"
    told: Told = field(default_factory=Told)

    @property
    def actuator(self) -> Actuator:
        """What the drives drive."""
        return next(name for name, kind in OPTIONS.items() if type(self.twin) is kind)

    def build(self, seed: int) -> Twin:
        """Draw the bench of a seed."""
        match self.twin:
            case LiquidCrystalOptions():
                return LiquidCrystalTwin(seed, self.twin)
            case WavePlateOptions():
                return WavePlateTwin(seed, self.twin)
            case PaddleOptions():
                return PaddleTwin(seed, self.twin)
            case _:
                return Twin(seed, self.twin)

    def link(self, seed: int, *, budget_photons: int, most_settings: int | None = None) -> Link:
        """Draw the bench of a seed and show it as methods see it."""
        return Link(
            self.build(seed),
            HALF_TURN[self.actuator],
            counts=self.counts,
            told=replace(self.told, actuator=self.actuator),
            budget_photons=budget_photons,
            most_settings=most_settings,
        )


@dataclass(frozen=True)
class Scoring:
    """How runs are judged.

    Attributes:
        thresholds: Excess QBER to reach, by name.
        claimed: Excess that a claim speaks of.
        failed: Excess at the end of a run above which it has failed.
        budget_photons: Detections that a run may look at.
        bootstrap: Resamplings behind an interval.
        confidence: Of an interval, two-sided.
    """

    thresholds: Mapping[str, float]
    claimed: float
    failed: float
    budget_photons: int
    bootstrap: int
    confidence: float


def read(path: Path = FILE) -> tuple[int, Scoring, dict[str, Case]]:
    """Read the task: its version, its scoring and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = {name: _case(**described) for name, described in task["cases"].items()}
    return task["version"], Scoring(**task["scoring"]), cases


def _case(
    actuator: Actuator = "squeezers",
    counts: Counts = "all",
    twin: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Case:
    options: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in (twin or {}).items()
    }
    return Case(OPTIONS[actuator](**options), counts, Told(**(told or {})))
