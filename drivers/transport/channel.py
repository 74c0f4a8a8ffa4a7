"""The lowest seam: something that moves bytes and knows nothing of their meaning."""

from typing import Protocol


class ChannelError(Exception):
    """A channel failed; the text is what the transport tells its caller."""


class Channel(Protocol):
    """A wire. A stream channel delivers bytes as they come, a message channel whole messages.

    Every failure is a ChannelError. Each method may be cancelled; after that the channel is only
    good for ``close`` and ``open``, except that ``receive`` may be called again.
    """

    async def open(self) -> None:
        """Connect; a channel may be opened again after ``close``."""
        ...

    async def send(self, data: bytes) -> None:
        """Hand all of ``data`` to the wire."""
        ...

    async def receive(self) -> bytes:
        """Wait for the next bytes (at least one), or for one message (which may be empty)."""
        ...

    async def close(self) -> None:
        """Disconnect; never raises, safe to repeat."""
        ...
