"""An instrument in the same process: no sockets, no threads, so that time may be virtual."""

import asyncio

from drivers.transport.channel import ChannelError
from drivers.transport.inbox import Inbox


class MemoryChannel:
    """A wire whose far end is whoever holds this object.

    Attributes:
        received: What the near end sent, chunk by chunk.
        opened: How often the near end has connected.
        refuses: Why connecting fails, or None; set by the far end.
    """

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.opened = 0
        self.refuses: str | None = None
        self._inbox: Inbox | None = None

    async def open(self) -> None:
        """Connect; nothing that was on its way before arrives any more."""
        if self.refuses is not None:
            raise ChannelError(self.refuses)
        self._inbox = Inbox()
        self.opened += 1

    async def send(self, data: bytes) -> None:
        """Hand ``data`` to the far end."""
        self._connected()
        self.received.put_nowait(data)

    async def receive(self) -> bytes:
        """Wait for the next chunk from the far end."""
        return await self._connected().get()

    def take_arrived(self) -> bytes:
        """Take what arrived unasked."""
        return self._connected().take()

    async def close(self) -> None:
        """Disconnect."""
        self._inbox = None

    def deliver(self, data: bytes) -> None:
        """Far end: send one chunk; it is lost if the near end is not connected."""
        if self._inbox is not None:
            self._inbox.put(data)

    def hang_up(self, reason: str = "the other side closed the link") -> None:
        """Far end: cut the link."""
        if self._inbox is not None:
            self._inbox.end(reason)

    def _connected(self) -> Inbox:
        if self._inbox is None:
            raise ChannelError("not connected")
        return self._inbox
