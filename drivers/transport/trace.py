"""The traffic log: every byte with its time, direction and instrument."""

import asyncio
import logging
from typing import TextIO

from drivers.transport.channel import Channel
from drivers.transport.inbox import take_arrived

log = logging.getLogger(__name__)


class Trace:
    r"""Writes one line per chunk to a text stream, such as ``  12.345678 epc > b'V?\r\n'``.

    Times are the event loop's, s; ``>`` is sent, ``<`` received, ``-`` a remark on the line. The
    log grows with the traffic, so it belongs to a session of fault-finding, not to operation. A
    stream that takes no more, such as a full disk, ends the log and nothing else.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def sent(self, instrument: str, data: bytes) -> None:
        """Record bytes on their way to the instrument."""
        self._write(instrument, ">", repr(data))

    def received(self, instrument: str, data: bytes) -> None:
        """Record bytes as they came from the instrument."""
        self._write(instrument, "<", repr(data))

    def remark(self, instrument: str, text: str) -> None:
        """Record what happened to the line itself."""
        self._write(instrument, "-", text)

    def _write(self, instrument: str, mark: str, text: str) -> None:
        if self._stream is None:
            return
        now_s = asyncio.get_running_loop().time()
        try:
            self._stream.write(f"{now_s:11.6f} {instrument} {mark} {text}\n")
            self._stream.flush()
        except (OSError, ValueError) as exc:  # ValueError: the stream was closed.
            self._stream = None
            log.warning("the traffic log ends at %.6f s: %s", now_s, exc)


class TracedChannel:
    """A channel that tells a trace what passes.

    Args:
        channel: The wire.
        trace: Where to write.
        instrument: Name to write.
        shows_content: False writes sizes only, for detection times: they are bulky, and those of
            key frames must not be stored.
    """

    def __init__(
        self, channel: Channel, trace: Trace, instrument: str, *, shows_content: bool = True
    ) -> None:
        self._channel = channel
        self._trace = trace
        self._instrument = instrument
        self._shows_content = shows_content

    async def open(self) -> None:
        """Connect."""
        await self._channel.open()
        self._trace.remark(self._instrument, "opened")

    async def send(self, data: bytes) -> None:
        """Record and send."""
        self._trace.sent(self._instrument, data)
        await self._channel.send(data)

    async def receive(self) -> bytes:
        """Receive and record."""
        data = await self._channel.receive()
        self._record(data)
        return data

    def take_arrived(self) -> bytes:
        """Take what arrived unasked, where the channel can tell."""
        data = take_arrived(self._channel)
        if data:
            self._record(data)
        return data

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()
        self._trace.remark(self._instrument, "closed")

    def _record(self, data: bytes) -> None:
        if self._shows_content:
            self._trace.received(self._instrument, data)
        else:
            self._trace.remark(self._instrument, f"received {len(data)} bytes")
