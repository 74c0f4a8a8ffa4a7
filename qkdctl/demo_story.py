"""What the demo saw, for its report and its picture."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Story:
    """What the demo saw.

    Attributes:
        seed: Seed of the simulated bench.
        stage: The stage that aligns the link.
        controller: Name of the instrument that it drives: polarization controller or phase shifter.
        channels: Its channels that are driven.
        drive: What drives it, with the unit, for the picture.
        began_s: Monotonic time of the start.
        samples: Truth of the bench over time, each with ``elapsed_s``.
        progress: Progress of the calibration, each with ``elapsed_s``.
        windows: Status of the daemon while it held, each with ``elapsed_s``.
        marks: Named moments, s since the start.
        result: That stage's result.
    """

    seed: int
    stage: str
    controller: str
    channels: tuple[str, ...]
    drive: str
    began_s: float = field(default_factory=time.monotonic)
    samples: list[dict[str, Any]] = field(default_factory=list)
    progress: list[dict[str, Any]] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    def elapsed_s(self) -> float:
        """Return the time since the start, s."""
        return time.monotonic() - self.began_s

    def mark(self, name: str) -> None:
        """Remember this moment."""
        self.marks[name] = self.elapsed_s()
