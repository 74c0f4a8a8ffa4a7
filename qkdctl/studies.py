"""Which study an aligning stage goes on with: a new one, one cut short, or an unfinished one."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.inversion import Inverted
from qkdctl.history import History

RESUME_WITHIN_S = 600.0
"""A calibration that a crash cut short is continued with its counts if no older than this."""


def study_kind(stage: str, inverted: Inverted) -> str:
    """Name the studies of a stage while certain bases are inverted.

    Their counts are told so, and no other study may go on with them.
    """
    return f"{stage} ({' and '.join(inverted)} inverted)" if inverted else stage


@dataclass(frozen=True)
class Study:
    """What one run of a stage is recorded as.

    Attributes:
        name: In the record.
        is_resumed: Whether its past trials are fed to the search.
    """

    name: str
    is_resumed: bool


class Studies:
    """Names the studies of one link.

    Args:
        history: The record.
        now: Tells seconds since the epoch.

    Attributes:
        interrupted: Study that a crash cut short and the time of its last trial, or None.
    """

    def __init__(self, history: History, now: Callable[[], float]) -> None:
        self._history = history
        self._now = now
        self.interrupted: tuple[str, float] | None = None

    async def begin(self, kind: str, continued: str | None) -> Study:
        """Begin a study of a stage, or go on with one.

        Args:
            kind: The stage, and what is inverted, as :func:`study_kind` has it.
            continued: Study that the operator wants continued, or None.
        """
        study = Study(f"{kind}@{self._now():.3f}", is_resumed=False)
        interrupted, self.interrupted = self.interrupted, None
        if continued is not None:
            study = Study(continued, is_resumed=True)
        elif interrupted is not None and self._is_recent(kind, *interrupted):
            study = Study(interrupted[0], is_resumed=True)
        await self._history.begin_study(study.name, kind)
        return study

    def _is_recent(self, kind: str, study: str, latest_s: float) -> bool:
        """Whether a study that was cut short is of this kind, and recent."""
        return study.startswith(f"{kind}@") and self._now() - latest_s < RESUME_WITHIN_S
