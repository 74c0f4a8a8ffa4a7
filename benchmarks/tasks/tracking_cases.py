"""The cases of the tracking task, read from its file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.tracking_twin import TrackingOptions, TrackingTwin
from calibration.tracking.bounds import TrackingBound, polarization_bound

FILE = Path(__file__).with_name("tracking.toml")


@dataclass(frozen=True)
class TrackingScoring:
    """How runs are judged.

    Attributes:
        windows: Length of a run, in windows of the length that the bound advises.
        settling: Windows of that length, at the beginning, that are not judged.
        lost: Excess of a window above which the lock is lost in truth.
        patience: Windows for which that may go unnoticed.
        back: Excess below which a link is aligned again after a step.
        bootstrap: Resamplings behind an interval.
        confidence: Of an interval, two-sided.
    """

    windows: int
    settling: int
    lost: float
    patience: int
    back: float
    bootstrap: int
    confidence: float


@dataclass(frozen=True)
class TrackingCase:
    """Circumstances under which a link is held.

    Attributes:
        twin: What the bench is like.
        latency: Windows that pass before the counts of one are there.
        start: What the alignment before has left: ``learned`` by the sampler, or gains of the
            controller ``known`` to 5 %.
        loop_s: Shortest and longest window, s.
        hours: Length of the run; None where the drift says it.
        is_stepped: Whether the fibre is replaced by any other at the end, and aligned again.
    """

    twin: TrackingOptions
    latency: int = 0
    start: Literal["learned", "known"] = "learned"
    loop_s: tuple[float, float] = (0.001, 60.0)
    hours: float | None = None
    is_stepped: bool = False

    def build(self, seed: int) -> TrackingTwin:
        """Draw the bench of a seed."""
        return TrackingTwin(seed, self.twin)

    @property
    def bound(self) -> TrackingBound:
        """What no tracker undercuts, of a loop of any speed."""
        return polarization_bound(
            self.twin.drift_rad, self.twin.rate_hz, floor=self.twin.intrinsic_qber
        )

    @property
    def window_s(self) -> float:
        """Length of a window that the bound advises, within what the loop can do, s."""
        shortest_s, longest_s = self.loop_s
        advised_s = self.bound.window_s(self.twin.drift_rad)
        return min(max(advised_s, shortest_s), longest_s)

    def duration_s(self, scoring: TrackingScoring) -> float:
        """Length of a run, s."""
        return scoring.windows * self.window_s if self.hours is None else 3600 * self.hours

    def settling_s(self, scoring: TrackingScoring) -> float:
        """Length of its beginning that is not judged, s."""
        return self.duration_s(scoring) * scoring.settling / scoring.windows


def read(path: Path = FILE) -> tuple[int, TrackingScoring, dict[str, TrackingCase]]:
    """Read the task: its version, its scoring and its cases."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    cases = {name: _case(**described) for name, described in task["cases"].items()}
    return task["version"], TrackingScoring(**task["scoring"]), cases


def _case(twin: Mapping[str, Any], loop_s: list[float] | None = None, **rest: Any) -> TrackingCase:
    if loop_s is not None:
        rest["loop_s"] = tuple(loop_s)
    return TrackingCase(TrackingOptions(**twin), **rest)
