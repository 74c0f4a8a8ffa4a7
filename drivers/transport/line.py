"""One wire with framing: every wait bounded, every failure told apart and counted."""

import asyncio
from collections.abc import Awaitable, Callable

from drivers.errors import ReplyError, TransportError
from drivers.roles import Health
from drivers.transport.channel import Channel, ChannelError
from drivers.transport.framing import MAX_REPLY_BYTES, Framing, ReceiveBuffer
from drivers.transport.inbox import take_arrived
from drivers.transport.trace import Trace, TracedChannel

OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0
# A line is in step again once nothing has come for this long: VISA's own clear waits as long.
QUIET_S = 0.1
DRAIN_TIMEOUT_S = 1.0
# What an error text quotes of a reply.
SHOWN_BYTES = 200


class Line:
    """The wire to one instrument.

    Attributes:
        is_wanted: Somebody opened it and has not closed it since.
        is_dirty: Not connected, or a reply may be under way that nobody waits for any more.
    """

    def __init__(
        self,
        instrument: str,
        channel: Channel,
        framing: Framing,
        timeout_s: float,
        trace: Trace | None,
    ) -> None:
        self.instrument = instrument
        self.framing = framing
        self.timeout_s = timeout_s
        self.is_wanted = False
        self.is_dirty = True
        self._trace = trace
        self._channel = TracedChannel(channel, trace, instrument) if trace else channel
        self._buffer = ReceiveBuffer()
        self._is_connected = False
        self._opened = 0
        self._exchanges = 0
        self._errors = 0
        self._sent_at_s = 0.0
        self._round_trip_s: float | None = None
        self._last_error: str | None = None

    def health(self) -> Health:
        """Tell how the line has fared."""
        return Health(
            exchanges=self._exchanges,
            errors=self._errors,
            reconnects=max(0, self._opened - 1),
            last_round_trip_s=self._round_trip_s,
            last_error=self._last_error,
        )

    async def reopen(self) -> None:
        """Connect, or cut the connection and connect again; leaves the line marked dirty."""
        self.is_dirty = True
        await self.close()
        self._is_connected = (
            True  # Perhaps only half, but from here on there is something to close.
        )
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._channel.open()
        except TimeoutError as exc:
            raise self.lost(f"not connected within {OPEN_TIMEOUT_S:g} s") from exc
        except ChannelError as exc:
            raise self.lost(str(exc)) from exc
        self._opened += 1
        if self.framing.is_stream and self._opened > 1:
            await self.drain()

    async def close(self) -> None:
        """Disconnect; forget what had arrived."""
        self.is_dirty = True
        self._buffer.take_all()
        if not self._is_connected:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._channel.close()
        except TimeoutError:
            self._remark("did not close in time")
        self._is_connected = False

    def drop_stale(self) -> None:
        """Drop what arrived unasked; notice a lost link before anything is sent on it."""
        if self.is_dirty or not self.framing.is_stream:
            return
        try:
            self._buffer.feed(take_arrived(self._channel))
        except ChannelError as exc:
            self.is_dirty = True
            self._remark(str(exc))
        if (stale := self._buffer.take_all()).strip():  # blanks may trail any reply
            self._remark(f"dropped {stale!r}, which nobody asked for")

    async def send(self, data: bytes, sent: str) -> None:
        """Hand ``data`` to the wire; ``sent`` is how errors quote it."""
        self._exchanges += 1
        self._sent_at_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._channel.send(data)
        except TimeoutError as exc:
            raise self.lost(f"command not taken within {self.timeout_s:g} s", sent=sent) from exc
        except ChannelError as exc:
            raise self.lost(str(exc), sent=sent) from exc

    async def receive_reply(self, timeout_s: float, sent: str | None) -> bytes:
        """Wait for one reply: up to its terminator, or one message."""
        terminator = self.framing.read_terminator
        if terminator is None:
            return await self._receive(self._channel.receive, timeout_s, sent)

        async def receive_line() -> bytes:
            others = self.framing.other_ends
            while (reply := self._buffer.take_reply(terminator, others)) is None:
                if len(self._buffer) > MAX_REPLY_BYTES:
                    raise self.garbled("reply without end", sent, self._buffer.take_all())
                await self._fill()
            return reply

        return await self._receive(receive_line, timeout_s, sent)

    async def receive_exactly(self, n_bytes: int, timeout_s: float, sent: str | None) -> bytes:
        """Wait for ``n_bytes``, whatever they are."""

        async def receive_block() -> bytes:
            while (block := self._buffer.take_exactly(n_bytes)) is None:
                await self._fill()
            return block

        return await self._receive(receive_block, timeout_s, sent)

    async def receive_some(self, within_s: float, sent: str | None) -> bytes:
        """Wait for the next bytes; return what has arrived, or nothing if it stays silent."""
        try:
            async with asyncio.timeout(within_s):
                if not len(self._buffer):
                    await self._fill()
        except TimeoutError:
            return b""
        except ChannelError as exc:
            raise self.lost(str(exc), sent=sent) from exc
        return self._buffer.take_all()

    async def drain(self) -> None:
        """Read until nothing has come for a while: a late reply must not answer a new question."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + DRAIN_TIMEOUT_S
        try:
            while loop.time() < deadline_s:
                async with asyncio.timeout(QUIET_S):
                    await self._fill()
        except TimeoutError:
            pass
        except ChannelError as exc:
            raise self.lost(str(exc)) from exc
        if stale := self._buffer.take_all():
            self._remark(f"drained {len(stale)} bytes")

    def lost(
        self, problem: str, *, sent: str | None = None, received: str | None = None
    ) -> TransportError:
        """Mark the line dirty and make the error that says why."""
        self._note_failure(problem)
        return TransportError(self.instrument, problem, sent=sent, received=received)

    def garbled(self, problem: str, sent: str | None, received: bytes) -> ReplyError:
        """Mark the line dirty, since nobody knows where the next reply starts."""
        self._note_failure(problem)
        return ReplyError(self.instrument, problem, sent=sent, received=_shown(received))

    async def _receive(
        self, receive: Callable[[], Awaitable[bytes]], timeout_s: float, sent: str | None
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout_s):
                reply = await receive()
        except TimeoutError as exc:
            so_far = _shown(self._buffer.take_all())
            raise self.lost(f"no reply within {timeout_s:g} s", sent=sent, received=so_far) from exc
        except ChannelError as exc:
            so_far = _shown(self._buffer.take_all())
            raise self.lost(str(exc), sent=sent, received=so_far) from exc
        self._round_trip_s = asyncio.get_running_loop().time() - self._sent_at_s
        return reply

    async def _fill(self) -> None:
        data = await self._channel.receive()
        if not data:
            raise ChannelError("the other side closed the link")
        self._buffer.feed(data)

    def _note_failure(self, problem: str) -> None:
        self.is_dirty = True
        self._errors += 1
        self._last_error = problem
        self._remark(problem)

    def _remark(self, text: str) -> None:
        if self._trace:
            self._trace.remark(self.instrument, text)


def _shown(data: bytes) -> str:
    """The start of ``data`` for an error text."""
    return data[:SHOWN_BYTES].decode("ascii", "backslashreplace")
