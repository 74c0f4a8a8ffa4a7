"""The cases of the phase task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.phase_twin import HALF_WAVE_V, PhaseOptions, PhaseTwin
from benchmarks.tasks.cases import Scoring
from benchmarks.tasks.link import Link, Told

FILE = Path(__file__).with_name("phase.toml")


@dataclass(frozen=True)
class PhaseCase:
    """Circumstances of a phase calibration.

    Attributes:
        twin: What the bench is like.
        told: What every method is told.
    """

    twin: PhaseOptions
    told: Told = field(default_factory=Told)

    def link(self, seed: int, *, budget_photons: int) -> Link:
        """Draw the bench of a seed and show it as methods see it."""
        twin = PhaseTwin(seed, self.twin)
        return Link(twin, HALF_WAVE_V, told=self.told, budget_photons=budget_photons)


def read(path: Path = FILE) -> tuple[int, Scoring, dict[str, PhaseCase]]:
    """Read the task: its version, its scoring and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = {name: _case(**described) for name, described in task["cases"].items()}
    return task["version"], Scoring(**task["scoring"]), cases


def _case(
    twin: Mapping[str, Any] | None = None, told: Mapping[str, Any] | None = None
) -> PhaseCase:
    return PhaseCase(PhaseOptions(**(twin or {})), Told(**(told or {})))
