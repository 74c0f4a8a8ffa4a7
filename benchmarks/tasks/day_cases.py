"""The cases of the day task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.day_twin import DayOptions, DayTwin
from benchmarks.tasks.tracking_cases import TrackingCase

FILE = Path(__file__).with_name("day.toml")


@dataclass(frozen=True)
class DayScoring:
    """How a day is run and judged.

    Attributes:
        hours: How long it is.
        correction: Leak of error correction over the least possible one.
        dark: Share of the ordinary rate of detections below which a window counts as dark.
        wrong: True excess below which an alarm is wrong, if the fibre was not just disturbed.
        quiet_s: Time since it was knocked or dark after which it is not, s.
        target_excess: Excess at which an alignment ends, with a probability of 90 %.
        most_settings: Exposures at which it ends in any case.
        suggestion_s: Computing before each of them, s.
        watched: QBER at which methods that know no alarm are aligned anew.
        watched_sifted: Sifted counts that show it.
        bootstrap: Resamplings behind an interval.
        confidence: Of an interval, two-sided.
    """

    hours: float
    correction: float
    dark: float
    wrong: float
    quiet_s: float
    target_excess: float
    most_settings: int
    suggestion_s: float
    watched: float
    watched_sifted: int
    bootstrap: int
    confidence: float


@dataclass(frozen=True)
class DayCase(TrackingCase):
    """A day: ``twin`` is the bench and its weather."""

    twin: DayOptions
    loop_s: tuple[float, float] = (1.0, 30.0)

    def build(self, seed: int) -> DayTwin:
        """Draw the bench and the weather of a seed."""
        return DayTwin(seed, self.twin)


def read(path: Path = FILE) -> tuple[int, DayScoring, dict[str, DayCase]]:
    """Read the task: its version, its scoring and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = {name: _case(**described) for name, described in task["cases"].items()}
    return task["version"], DayScoring(**task["scoring"]), cases


def _case(twin: Mapping[str, Any]) -> DayCase:
    return DayCase(DayOptions(**twin))
