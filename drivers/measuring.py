"""What drivers that count or stamp share: inputs in use, and a measurement that can be ended."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

from drivers.errors import SettingError, TransportError

CUT_SHORT = "the measurement was cut short by make_safe or a lost link"

_T = TypeVar("_T")


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
            raise TransportError(self._instrument, CUT_SHORT)

    async def wait(self, duration_s: float) -> None:
        """Wait, unless the measurement is cut short; raises as ``check`` does."""
        try:
            async with asyncio.timeout(duration_s):
                await self._event.wait()
        except TimeoutError:
            pass
        self.check()


class Recording(Generic[_T]):
    """A generator that holds a link from its first item to its last, and can be made to let go.

    Whoever takes the items may be slow, or gone: a generator that waits to be asked for the next
    one cannot notice that it was interrupted, but it can be closed.

    Args:
        instrument: Name, for errors.
        source: The generator; ``Interruption`` ends it where it waits for the instrument.
    """

    def __init__(self, instrument: str, source: AsyncGenerator[_T, None]) -> None:
        self._instrument = instrument
        self._source = source
        self._is_asked = False
        self._is_cut_short = False
        self._ending = asyncio.Lock()

    async def items(self) -> AsyncGenerator[_T, None]:
        """Pass the items on.

        Raises:
            TransportError: It was cut short; what the source raises besides.
        """
        try:
            while True:
                self._check()
                self._is_asked = True
                try:
                    item = await anext(self._source)
                except StopAsyncIteration:
                    break
                finally:
                    self._is_asked = False
                yield item
            self._check()
        finally:
            await self._close()

    async def cut_short(self) -> None:
        """End it; at once where nobody takes the next item."""
        self._is_cut_short = True
        await self._close()

    def _check(self) -> None:
        if self._is_cut_short:
            raise TransportError(self._instrument, CUT_SHORT)

    async def _close(self) -> None:
        async with self._ending:
            if not self._is_asked:
                await self._source.aclose()
