"""A vendor library in memory: its calls reach the simulated unit, with every fault of its link."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from sim.endpoints.service import ServedInstrument, UnpluggedError
from sim.library_calls import LibraryCalls


@runtime_checkable
class CalledFrontEnd(Protocol):
    """A front end that is reached through a library."""

    library: Any
    calls: LibraryCalls


class MemoryLibrary:
    """The vendor's library as its client sees it, without threads: for virtual time.

    A call that the unit does not answer does not return; a client stops waiting for it. The cable's
    loss is an error that the library raises. Objects of the library that were made before are dead
    then, and the front end sees to that.

    Args:
        instrument: The unit.

    Raises:
        TypeError: It is not reached through a library.
    """

    def __init__(self, instrument: ServedInstrument) -> None:
        if not isinstance(instrument.front_end, CalledFrontEnd):
            raise TypeError(f"{instrument.name} is not reached through a library")
        self._instrument = instrument
        self._library = instrument.front_end.library
        self._calls = instrument.front_end.calls

    async def load(self) -> Any:
        """Return the library."""
        return self._library

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the library, or one that calls it."""
        request = self._calls.request(function, args)
        self._instrument.receive(f"{request}\n".encode())
        received = b""
        while True:
            try:
                received += (await self._instrument.next_reply()).data
            except UnpluggedError:
                raise RuntimeError(f"{self._instrument.name} is not connected") from None
            *lines, received = received.split(b"\n")
            for line in lines:
                is_ours, result = self._calls.result(line.decode("ascii", "backslashreplace"))
                if is_ours:
                    return result
