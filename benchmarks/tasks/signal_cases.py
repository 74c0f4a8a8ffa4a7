"""The cases of the signal task, read from their file."""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.signal_twins import arrivals, detectors, emission, modulator
from benchmarks.tasks.cases import Scoring
from benchmarks.tasks.signal_bench import SignalBench, SignalTwin

FILE = Path(__file__).with_name("signal.toml")


@dataclass(frozen=True)
class StageKind:
    """What makes the bench of a stage.

    Attributes:
        options: Class of its options.
        twin: Draws the bench of a seed.
        bound: Returns the least median cost to a threshold; None where none is known.
    """

    options: Callable[..., Any]
    twin: Callable[[int, Any], SignalTwin[Any]]
    bound: Callable[[Any, float], float] | None = None


STAGES: Mapping[str, StageKind] = {
    "attenuation": StageKind(emission.EmissionOptions, emission.EmissionTwin),
    "bias": StageKind(modulator.ModulatorOptions, modulator.ModulatorTwin, modulator.median_bound),
    "delay": StageKind(arrivals.ArrivalOptions, arrivals.ArrivalTwin, arrivals.median_bound),
    "detector": StageKind(detectors.DetectorOptions, detectors.DetectorTwin),
}


@dataclass(frozen=True)
class SignalScoring(Scoring):
    """How runs of a stage are judged.

    Attributes:
        currency: What a look costs: photons, or readings of a meter.
        unit: Of what is judged.
    """

    currency: str = "photons"
    unit: str = "share"


@dataclass(frozen=True)
class SignalCase:
    """Circumstances of a stage.

    Attributes:
        stage: Which one.
        scoring: How it is judged.
        twin: What the bench is like, options of the stage's twin.
        told: What every method is told.
    """

    stage: str
    scoring: SignalScoring
    twin: Any
    told: Mapping[str, float] = field(default_factory=dict)

    def bench(self, seed: int, *, budget: int) -> SignalBench[Any]:
        """Draw the bench of a seed and show it as methods see it."""
        twin = STAGES[self.stage].twin(seed, self.twin)
        return SignalBench(twin, stage=self.stage, told=self.told, budget=budget)

    def bound(self, threshold: float) -> float | None:
        """Return the least median cost to a threshold, where it is known."""
        bound = STAGES[self.stage].bound
        return None if bound is None else bound(self.twin, threshold)


def read(path: Path = FILE) -> tuple[int, dict[str, SignalCase]]:
    """Read the task: its version and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    scorings = {
        name: _scoring(**task["scoring"], **described) for name, described in task["stages"].items()
    }
    cases = {name: _case(scorings, **described) for name, described in task["cases"].items()}
    return task["version"], cases


def _scoring(budget: int, **described: Any) -> SignalScoring:
    # What is claimed here are intervals of a stage's own figure, not an excess.
    return SignalScoring(budget_photons=budget, claimed=math.nan, **described)


def _case(
    scorings: Mapping[str, SignalScoring],
    stage: str,
    twin: Mapping[str, Any] | None = None,
    told: Mapping[str, float] | None = None,
) -> SignalCase:
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in (twin or {}).items()}
    return SignalCase(stage, scorings[stage], STAGES[stage].options(**options), told or {})
