"""The cases of the alignment task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.paddle_twin import PaddleOptions, PaddleTwin
from benchmarks.tasks.link import Counts, Link, Told
from benchmarks.twin import HALF_WAVE_V, Twin, TwinOptions

FILE = Path(__file__).with_name("alignment.toml")

HALF_TURN_DEG = 90.0
"""Angle of a paddle that turns its axis by pi on the Stokes sphere."""


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
    def actuator(self) -> Literal["squeezers", "paddles"]:
        """What the drives drive."""
        return "paddles" if isinstance(self.twin, PaddleOptions) else "squeezers"

    def build(self, seed: int) -> Twin:
        """Draw the bench of a seed."""
        options = self.twin
        return (
            PaddleTwin(seed, options) if isinstance(options, PaddleOptions) else Twin(seed, options)
        )

    def link(self, seed: int, *, budget_photons: int, most_settings: int | None = None) -> Link:
        """Draw the bench of a seed and show it as methods see it."""
        return Link(
            self.build(seed),
            HALF_TURN_DEG if self.actuator == "paddles" else HALF_WAVE_V,
            counts=self.counts,
            told=self.told,
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
    actuator: Literal["squeezers", "paddles"] = "squeezers",
    counts: Counts = "all",
    twin: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> Case:
    options: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in (twin or {}).items()
    }
    kind: type[TwinOptions] = PaddleOptions if actuator == "paddles" else TwinOptions
    return Case(kind(**options), counts, Told(**(told or {})))
