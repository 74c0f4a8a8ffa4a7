"""A calibration that somebody asked for, and what becomes of it."""

from dataclasses import dataclass, field
from typing import Any

from qkdctl.pausing import CalibrationPauses

GOOD_OUTCOMES = frozenset({"accepted", "skipped"})
"""Outcomes of a stage after which the next one may follow."""


@dataclass
class CalibrationRequest:
    """A calibration that somebody asked for.

    Attributes:
        stages: Stage names, in order.
        origin: ``operator`` or ``loss of lock``.
        pauses: What may hold its stages up.
        only_if_needed: Whether stages are skipped that a quick look shows to be still good.
        continued_study: Study of an earlier run that its only stage goes on with, or None.
        results: One entry per finished stage.
        is_done: Whether it has ended, however it did; an ``ended`` event is published then.
        was_cancelled: Whether it was cancelled.
    """

    stages: tuple[str, ...]
    origin: str
    pauses: CalibrationPauses
    only_if_needed: bool = False
    continued_study: str | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    is_done: bool = False
    was_cancelled: bool = False

    def add(self, result: dict[str, Any]) -> bool:
        """Note how a stage ended; return whether the next one may follow."""
        self.results.append(result)
        return result["outcome"] in GOOD_OUTCOMES and not self.pauses.is_finishing

    def has_good(self, stage: str) -> bool:
        """Whether a stage ended well, and none after it ended badly."""
        are_good = all(result["outcome"] in GOOD_OUTCOMES for result in self.results)
        return are_good and any(result["stage"] == stage for result in self.results)
