"""What may hold a stage up between two windows: a pause, missing light, the wish to be done."""

import asyncio
from typing import Protocol

from calibration.bench import LightLostError
from calibration.clicks import Window


class Pauses(Protocol):
    """Holds a stage up between two windows, or has its search end with the best point known."""

    @property
    def paused_s(self) -> float:
        """How long stages have been held up so far, s; a pause that lasts is counted."""
        ...

    @property
    def is_finishing(self) -> bool:
        """Whether searches shall end as if their budget were spent."""
        ...

    async def before_window(self) -> None:
        """Return once the next window may be measured, with the setting in force as before.

        Raises:
            InstrumentError: What a pause had changed could not be put back; it may be tried again.
        """
        ...

    def heed(self, window: Window) -> None:
        """Take note of a window.

        Raises:
            LightLostError: Its rate is outside of a band that is watched.
        """
        ...

    async def until_light(self, error: LightLostError) -> None:
        """Return once there is light again.

        Args:
            error: What was missed.

        Raises:
            LightLostError: Nobody waits for it, or it did not come back in time.
            InstrumentError: The light could not be shut for the time of waiting.
        """
        ...


class NoPauses:
    """A stage that nobody holds up."""

    paused_s = 0.0
    is_finishing = False

    async def before_window(self) -> None:
        """Return at once."""

    def heed(self, window: Window) -> None:
        """Find nothing wrong."""

    async def until_light(self, error: LightLostError) -> None:
        """Raise what was missed."""
        raise error


class Stopwatch:
    """Tells the time that a stage takes; stands still during pauses.

    Args:
        pauses: What holds the stage up.
    """

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._began_s = self._running_s()

    @property
    def elapsed_s(self) -> float:
        """Time since the start, s."""
        return self._running_s() - self._began_s

    def _running_s(self) -> float:
        return asyncio.get_running_loop().time() - self._pauses.paused_s
