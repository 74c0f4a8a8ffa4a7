"""What drivers that count or stamp share: inputs in use, and a measurement that can be ended."""

import asyncio
from collections.abc import Sequence

from drivers.errors import SettingError, TransportError


def checked_inputs(
    instrument: str, inputs: Sequence[int], in_use: Sequence[int], what: str = "inputs"
) -> tuple[int, ...]:
    """Return the inputs that are asked for.

    Raises:
        SettingError: None, one twice, or one that is not in use; nothing was sent.
    """
    numbers = tuple(inputs)
    if not numbers or len(set(numbers)) < len(numbers) or set(numbers) - set(in_use):
        known = ", ".join(map(str, in_use))
        raise SettingError(instrument, f"{what} {numbers} are not some of {known}, each once")
    return numbers


class Interruption:
    """Lets ``make_safe`` and a lost link end the measurement that is under way.

    Args:
        instrument: Name, for errors.
    """

    def __init__(self, instrument: str) -> None:
        self._instrument = instrument
        self._event = asyncio.Event()

    def arm(self) -> None:
        """Begin a measurement: only what happens from now on cuts it short."""
        self._event = asyncio.Event()

    def cut_short(self) -> None:
        """End the measurement under way."""
        self._event.set()

    def check(self) -> None:
        """Raise if the measurement was cut short.

        Raises:
            TransportError: It was.
        """
        if self._event.is_set():
            raise TransportError(
                self._instrument, "the measurement was cut short by make_safe or a lost link"
            )

    async def wait(self, duration_s: float) -> None:
        """Wait, unless the measurement is cut short; raises as ``check`` does."""
        try:
            async with asyncio.timeout(duration_s):
                await self._event.wait()
        except TimeoutError:
            pass
        self.check()
