"""The cases of the alignment task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.liquid_crystal_twin import LiquidCrystalOptions, LiquidCrystalTwin
from benchmarks.paddle_twin import PaddleOptions, PaddleTwin
from benchmarks.tasks.link import Actuator, Counts, Earlier, Link, Told
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
class Night:
    """What passes between an alignment that costs nothing and the one that is judged.

    Attributes:
        hours: How long it lasts.
        drift_rad: Drift of the fibre per axis in one second, rad; told to every method.
        is_replugged: Whether somebody connects another fibre to the receiver; told to none.
    """

    hours: float
    drift_rad: float
    is_replugged: bool = False


@dataclass(frozen=True)
class Case:
    """Circumstances of an alignment.

    Attributes:
        twin: What the bench is like.
        counts: What its receiver tells.
        told: What every method is told.
        night: What passes since the bench was aligned before, or None.
    """

    twin: TwinOptions
    counts: Counts = "all"
    told: Told = field(default_factory=Told)
    night: Night | None = None

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
        twin = self.build(seed)
        show = partial(
            Link,
            twin,
            HALF_TURN[self.actuator],
            counts=self.counts,
            told=replace(self.told, actuator=self.actuator),
            budget_photons=budget_photons,
        )
        earlier = None
        if self.night is not None:
            duration_s = 3600 * self.night.hours
            earlier = Earlier(
                show(),
                duration_s,
                self.night.drift_rad,
                partial(
                    twin.pass_night,
                    self.night.drift_rad,
                    duration_s,
                    is_replugged=self.night.is_replugged,
                ),
            )
        return show(most_settings=most_settings, earlier=earlier)


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
    night: Mapping[str, Any] | None = None,
) -> Case:
    options: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in (twin or {}).items()
    }
    passed = None if night is None else Night(**night)
    return Case(OPTIONS[actuator](**options), counts, Told(**(told or {})), passed)
