"""The Unix socket on which the QKD stack posts: JSON lines in, one answer per line out."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from qkdctl.control import describe_peer
from qkdctl.control_socket import ControlSocket, accept_clients
from qkdctl.feed import MAX_LINE, FeedError
from qkdctl.feed_inbox import FeedInbox
from qkdctl.jsonrpc import LineTooLongError, read_line

log = logging.getLogger(__name__)

MAX_CLIENTS = 16

BURST_S = 1.0
"""A client may post as many lines at once as it may in this time."""

MAX_UNREAD = 1 << 16
"""Bytes of answers that a client may leave unread; further ones are lost, and counted."""

FLUSH_S = 1.0
"""How long a client may take to read its last answers."""


class RateLimit:
    """A token bucket: whoever is faster is made to wait.

    Args:
        rate_hz: Lines per second in the long run.
        now: Tells seconds of any clock that does not jump.
    """

    def __init__(self, rate_hz: float, now: Callable[[], float]) -> None:
        self._rate_hz = rate_hz
        self._now = now
        self._tokens = self._most = max(rate_hz * BURST_S, 1.0)
        self._filled_s = now()

    async def wait(self) -> None:
        """Wait until another line may be taken, and take it."""
        now_s = self._now()
        self._tokens += (now_s - self._filled_s) * self._rate_hz
        self._tokens, self._filled_s = min(self._tokens, self._most) - 1, now_s
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate_hz)


class FeedServer:
    """Lets local clients post windows. Nothing that a client sends, or does not read, ends it.

    Args:
        path: Where the socket shall be.
        inbox: Takes the lines.
    """

    def __init__(self, path: Path, inbox: FeedInbox) -> None:
        self._path = path
        self._inbox = inbox
        self._clients = 0

    async def serve(self) -> NoReturn:
        """Make the socket, and answer clients until cancelled.

        Raises:
            ControlSocketError: The socket cannot be made.
        """
        feed = ControlSocket(self._path, name="feed socket", chosen_by="feed.socket")
        try:
            async with asyncio.TaskGroup() as tasks:
                await accept_clients(
                    feed.listener, self._serve_client, tasks, name="feed client", limit=MAX_LINE
                )
        finally:
            feed.close()
        raise RuntimeError("the feed ended although it serves until cancelled")

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = FeedClient(self._inbox, reader, writer)
        self._clients += 1
        try:
            if self._clients > MAX_CLIENTS:
                text = f"{MAX_CLIENTS} clients are connected, which is the limit; close one of them"
                client.answer({"ok": False, "sequence": None, "reason": "busy", "error": text})
            else:
                log.info("feed: posted by %s", describe_peer(writer))
                await client.serve()
        finally:
            self._clients -= 1
            await client.hang_up()


class FeedClient:
    """One client that posts.

    Args:
        inbox: Takes its lines.
        reader: From the client.
        writer: To the client.
    """

    def __init__(
        self, inbox: FeedInbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._inbox = inbox
        self._reader = reader
        self._writer = writer
        self._unread = 0
        self._rate = RateLimit(inbox.config.max_rate_hz, asyncio.get_running_loop().time)

    async def serve(self) -> None:
        """Take lines until the client goes away."""
        with suppress(OSError):
            while True:
                await self._rate.wait()
                try:
                    line = await read_line(self._reader)
                except LineTooLongError:
                    text = f"a line may have {MAX_LINE} bytes, this one has more"
                    self.answer(self._inbox.refuse(FeedError("too-long", text)))
                    continue
                if line is None:
                    return
                if line.strip():
                    self.answer(self._inbox.post(line))

    def answer(self, answer: dict[str, Any]) -> None:
        """Send an answer, unless the client leaves too many unread; a loss is told with the next.

        The loop is never held up: what is not read stays in a bounded buffer.
        """
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_UNREAD:
            self._unread += 1
            return
        if self._unread:
            answer, self._unread = answer | {"answers_lost": self._unread}, 0
        self._writer.write(json.dumps(answer).encode("ascii") + b"\n")

    async def hang_up(self) -> None:
        """Close, once the last answers are read or FLUSH_S has passed."""
        with suppress(OSError):  # a timeout is one, too
            async with asyncio.timeout(FLUSH_S):
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()
