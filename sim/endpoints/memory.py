"""No sockets at all: channels that hand bytes straight to an instrument, for virtual time."""

from collections.abc import Callable
from typing import Literal

from sim.endpoints.service import ServedInstrument, UnpluggedError
from sim.wire import MAIN

Link = Literal["serial", "socket", "messages"]
"""The link that a channel stands for.

On a ``serial`` line a late reply reaches whoever has the port open by then; on a ``socket`` it is
lost with the connection it was for. Both tell their client when the link is gone. With
``messages``, as with ZeroMQ, a client meets nothing but silence, and is connected again by itself.
"""


class MemoryChannel:
    """A client's end of one port, as the client's own layers expect it.

    Nothing runs beside the client: whoever waits in ``receive`` moves the instrument on. One
    client at a time has the port open.

    Args:
        instrument: The instrument.
        port: The instrument's port.
        link: What it stands for.
        error: Makes the exception that a failure raises.
    """

    def __init__(
        self,
        instrument: ServedInstrument,
        port: str = MAIN,
        *,
        link: Link = "socket",
        error: Callable[[str], Exception] = ConnectionError,
    ) -> None:
        self._instrument = instrument
        self._port = port
        self._link = link
        self._error = error
        self._links: int | None = None  # what the instrument counted when this was opened
        self._peer: object | None = None

    async def open(self) -> None:
        """Connect; replies that came while nobody was connected are gone."""
        if self._notices_loss and not self._instrument.is_plugged:
            raise self._error(f"{self._instrument.name}: nothing is connected")
        self._instrument.discard_arrived(self._port)
        self._links = self._instrument.links
        self._peer = None if self._link == "serial" else object()

    async def send(self, data: bytes) -> None:
        """Hand bytes, or one message, to the instrument."""
        self._check()
        self._instrument.receive(data, self._port, self._peer)

    async def receive(self) -> bytes:
        """Wait for the next bytes, or for the next message."""
        while True:
            self._check()
            try:
                reply = await self._instrument.next_reply(self._port)
            except UnpluggedError:
                self._check()
                await self._instrument.plugged()
            else:
                if reply.peer in (None, self._peer):
                    return reply.data

    async def close(self) -> None:
        """Disconnect."""
        if self._links is not None:
            self._links = None
            self._instrument.reset_line()

    @property
    def _notices_loss(self) -> bool:
        return self._link != "messages"

    def _check(self) -> None:
        if self._links is None:
            raise self._error(f"{self._instrument.name}: the channel is not open")
        is_lost = not self._instrument.is_plugged or self._links != self._instrument.links
        if self._notices_loss and is_lost:
            raise self._error(f"{self._instrument.name}: the link is lost")
