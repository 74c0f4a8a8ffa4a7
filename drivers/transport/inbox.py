"""What has arrived on a wire, whether or not anybody waits for it."""

import asyncio
from collections import deque
from typing import Protocol, runtime_checkable

from drivers.transport.channel import Channel, ChannelError

# A sender that is not listened to is held up beyond this, where the wire can hold it up.
FULL_BYTES = 1 << 20


@runtime_checkable
class NoticesArrivals(Protocol):
    """A channel that receives all the time, and so can tell what it has before anyone asks."""

    def take_arrived(self) -> bytes:
        """Take the bytes that have arrived, perhaps none.

        Raises:
            ChannelError: Nothing is left and the link is known to be lost.
        """
        ...


def take_arrived(channel: Channel) -> bytes:
    """Take what has arrived on ``channel``; nothing where the channel cannot tell."""
    return channel.take_arrived() if isinstance(channel, NoticesArrivals) else b""


class Inbox:
    """Chunks in the order of arrival, and the reason why no more will come."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._n_bytes = 0
        self._end: str | None = None
        self._changed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the sender should be held up."""
        return self._n_bytes >= FULL_BYTES

    @property
    def has_ended(self) -> bool:
        """Whether the link is lost; what came before can still be taken."""
        return self._end is not None

    def put(self, chunk: bytes) -> None:
        """Add what has just arrived."""
        self._chunks.append(chunk)
        self._n_bytes += len(chunk)
        self._changed.set()

    def end(self, reason: str) -> None:
        """Note that the link is lost; the first reason stays."""
        self._end = self._end or reason
        self._changed.set()

    async def get(self) -> bytes:
        """Wait for the next chunk; cancellation loses none.

        Raises:
            ChannelError: All chunks are taken and the link is lost.
        """
        while not self._chunks:
            self._raise_at_end()
            self._changed.clear()
            await self._changed.wait()
        chunk = self._chunks.popleft()
        self._n_bytes -= len(chunk)
        return chunk

    def take(self) -> bytes:
        """Take all chunks as one.

        Raises:
            ChannelError: There is none and the link is lost.
        """
        if not self._chunks:
            self._raise_at_end()
        taken = b"".join(self._chunks)
        self._chunks.clear()
        self._n_bytes = 0
        return taken

    def _raise_at_end(self) -> None:
        if self._end is not None:
            raise ChannelError(self._end)
