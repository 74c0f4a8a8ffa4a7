"""ID Quantique's DataLinkTargetService: the way time stamps leave a time controller.

The service runs on a host near the controller, answers requests in JSON over ZeroMQ (port 6060),
and forwards the stamps of each input on a ZeroMQ PAIR socket of its own.

Sources: IDQ Time Controller series user manual and the vendor's example scripts.

Weak facts, to be checked on first contact:

- An empty message on the PAIR socket marks an end. The examples stop listening at the first one;
  whether it comes after each acquisition or only when the stream is stopped is an option.
- The keys of the status: ``errors`` (a list of objects with ``description``; missing: none),
  ``acquisitions_count`` and ``inactivity`` (s).
"""

import asyncio
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.roles import Health
from drivers.transport.channel import Channel, ChannelError
from drivers.transport.connect import Connector
from drivers.transport.transport import Framing

MESSAGES = Framing(write_terminator=b"", read_terminator=None)
STAMP = np.dtype("<u8")
END_MARK = b""
STATUS_POLL_S = 0.05
# The service counts as done with an acquisition once it has passed nothing on for this long.
QUIET_S = 0.1
STREAM_OPEN_TIMEOUT_S = 5.0
# A PAIR socket takes one peer: one that comes back before the service has noticed that it was gone
# is turned away for good, without a word (measured with libzmq on loopback).
REOPEN_PAUSE_S = 0.1


def parse_answer(instrument: str, sent: str, text: str) -> Any:
    """Read one JSON answer; an empty one is None.

    Raises:
        RejectedError: The service reports an error.
        ReplyError: Not JSON.
    """
    try:
        answer = json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as exc:
        raise ReplyError(
            instrument, "the data link answers no JSON", sent=sent, received=text[:200]
        ) from exc
    if isinstance(answer, dict) and answer.get("error"):
        error = answer["error"]
        description = error.get("description") if isinstance(error, dict) else error
        raise RejectedError(instrument, f"the data link refused: {description}", sent=sent)
    return answer


def decode_stamps(instrument: str, message: bytes) -> NDArray[np.uint64]:
    """Read time stamps from one message.

    Returns:
        Picoseconds since the latest reference event, shape ``(n_tags,)``.

    Raises:
        ReplyError: The length is no multiple of 8 bytes.
    """
    if len(message) % STAMP.itemsize:
        raise ReplyError(
            instrument, f"{len(message)} bytes are no whole number of 8-byte time stamps"
        )
    return np.frombuffer(message, dtype=STAMP).astype(np.uint64, copy=False)


class TagStream:
    """The stamps of one input, as messages.

    Args:
        instrument: Name in errors.
        number: Input, from 1.
        channel: The PAIR socket.
    """

    def __init__(self, instrument: str, number: int, channel: Channel) -> None:
        self._instrument = instrument
        self._number = number
        self._channel = channel
        self._is_open = False
        self._may_open_s = 0.0

    async def open(self) -> None:
        """Connect; nothing happens on a stream that is open.

        Raises:
            TransportError: Not connected in time, or not at all.
        """
        if self._is_open:
            return
        self._is_open = True
        await asyncio.sleep(self._may_open_s - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(STREAM_OPEN_TIMEOUT_S):
                await self._channel.open()
        except (TimeoutError, ChannelError) as exc:
            raise TransportError(
                self._instrument, f"no stream of input {self._number}: {exc or 'no connection'}"
            ) from exc

    async def close(self) -> None:
        """Disconnect, also after an ``open`` that failed; what had arrived is lost."""
        if not self._is_open:
            return
        self._is_open = False
        self._may_open_s = asyncio.get_running_loop().time() + REOPEN_PAUSE_S
        await self._channel.close()

    async def collect(self, recording: asyncio.Event, max_tags: int) -> NDArray[np.uint64]:
        """Read one acquisition up to its end mark.

        Messages that come before ``recording`` is set belong to an earlier acquisition, which was
        broken off: they are dropped.

        Args:
            recording: Set when this acquisition starts.
            max_tags: More than these are refused, so that memory stays bounded.

        Returns:
            Picoseconds since the latest START, shape ``(n_tags,)``.

        Raises:
            ReplyError: A message that is not whole stamps, or too many of them.
            TransportError: The stream broke.
        """
        parts: list[NDArray[np.uint64]] = []
        n_tags = 0
        while True:
            message = await self._receive()
            if not recording.is_set():
                continue
            if message == END_MARK:
                return np.concatenate(parts) if parts else np.empty(0, np.uint64)
            parts.append(decode_stamps(self._instrument, message))
            n_tags += len(parts[-1])
            if n_tags > max_tags:
                raise ReplyError(
                    self._instrument,
                    f"more than {max_tags} time stamps on input {self._number}: attenuate, shorten "
                    "the acquisition, or raise max_tags",
                )

    async def _receive(self) -> bytes:
        try:
            return await self._channel.receive()
        except ChannelError as exc:
            raise TransportError(
                self._instrument, f"the stream of input {self._number} broke: {exc}"
            ) from exc


class DataLink:
    """The service's requests.

    Args:
        instrument: Name in errors and in the trace.
        resource: Where the service listens.
        connector: Makes the link.
        timeout_s: Longest wait for an answer, s.
    """

    def __init__(
        self, instrument: str, resource: str, connector: Connector, timeout_s: float
    ) -> None:
        self._instrument = instrument
        self._transport = connector.transport(instrument, resource, MESSAGES, timeout_s=timeout_s)

    async def open(self) -> None:
        """Connect and see that the service answers; raises what ``active`` raises."""
        await self._transport.open()
        await self.active()

    async def close(self) -> None:
        """Disconnect; streams that were started go on."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link to the service has fared."""
        return self._transport.health()

    async def start_stream(self, address: str, number: int, port: int) -> str:
        """Have the stamps of one input forwarded.

        Args:
            address: Host of the time controller, as the service reaches it.
            number: Input, from 1.
            port: Where the service offers its PAIR socket.

        Returns:
            The stream's id.

        Raises:
            RejectedError: Refused, for example because that input is streamed already.
            ReplyError: No id in the answer.
            TransportError: Link lost; the stream may have been started.
        """
        request = f"start-stream --address {address} --channel {number} --stream-port {port}"
        answer = await self._request(request)
        stream = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(stream, str) or not stream:
            raise ReplyError(
                self._instrument, "no stream id", sent=request, received=repr(answer)[:200]
            )
        return stream

    async def stop(self, stream: str) -> None:
        """Stop a stream; raises as ``start_stream`` does."""
        await self._request(f"stop --id {stream}")

    async def active(self) -> list[str]:
        """Ids of the streams that are running, of whatever time controller.

        Raises:
            ReplyError: The answer is no list.
            TransportError: Link lost.
        """
        answer = await self._ask("list")
        if not isinstance(answer, list | None):
            raise ReplyError(self._instrument, "no list", sent="list", received=repr(answer)[:200])
        return [stream for stream in answer or () if isinstance(stream, str)]

    async def check(self, stream: str) -> None:
        """See that the service lost nothing of a stream.

        Raises:
            ReplyError: It lost time stamps, and says why.
            TransportError: Link lost.
        """
        status = await self._status(stream)
        errors = status.get("errors") or []
        if errors:
            raise ReplyError(self._instrument, f"the data link lost time stamps: {errors!r:.200}")

    async def wait_for_acquisition(self, stream: str) -> None:
        """Wait until an acquisition has ended and all of it was passed on; the caller bounds it."""
        while True:
            status = await self._status(stream)
            inactivity_s = status.get("inactivity")
            is_quiet = isinstance(inactivity_s, int | float) and inactivity_s >= QUIET_S
            if status.get("acquisitions_count") and is_quiet:
                return
            await asyncio.sleep(STATUS_POLL_S)

    async def _status(self, stream: str) -> dict[str, Any]:
        request = f"status --id {stream}"
        answer = await self._ask(request)
        if not isinstance(answer, dict):
            raise ReplyError(
                self._instrument, "no status", sent=request, received=repr(answer)[:200]
            )
        return answer

    async def _ask(self, question: str) -> Any:
        return parse_answer(self._instrument, question, await self._transport.query(question))

    async def _request(self, request: str) -> Any:
        async with self._transport.exclusive() as link:
            return parse_answer(self._instrument, request, await link.query(request))
