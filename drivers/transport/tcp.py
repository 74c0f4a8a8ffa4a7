"""Instruments with a TCP socket."""

import asyncio
import socket
from typing import cast

from drivers.transport.channel import ChannelError
from drivers.transport.inbox import Inbox

# A peer that lost power says no goodbye: it is probed after this silence, and given up 30 s later.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3

PEER_CLOSED = "the other side closed the connection"


class TcpChannel:
    """A TCP connection that notices at once when the other side closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._connection: _Connection | None = None

    async def open(self) -> None:
        """Connect."""
        loop = asyncio.get_running_loop()
        try:
            _, self._connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as exc:
            raise ChannelError(f"cannot connect to {self._host}:{self._port}: {exc}") from exc

    async def send(self, data: bytes) -> None:
        """Write all of ``data``, waiting while the other side does not take it."""
        await self._connected().send(data)

    async def receive(self) -> bytes:
        """Wait for the next bytes."""
        connection = self._connected()
        data = await connection.inbox.get()
        connection.resume()
        return data

    def take_arrived(self) -> bytes:
        """Take what arrived unasked."""
        connection = self._connected()
        data = connection.inbox.take()
        connection.resume()
        return data

    async def close(self) -> None:
        """Cut the connection; what was not sent yet is dropped."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.abort()

    def _connected(self) -> "_Connection":
        if self._connection is None:
            raise ChannelError(f"not connected to {self._host}:{self._port}")
        return self._connection


class _Connection(asyncio.Protocol):
    """One TCP connection, from connect to loss."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self._is_writable = asyncio.Event()
        self._is_over = asyncio.Event()
        self._is_paused = False
        self._lost: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_writable.set()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)

    def data_received(self, data: bytes) -> None:
        self.inbox.put(data)
        if self.inbox.is_full and not self._is_paused:
            self._transport.pause_reading()
            self._is_paused = True

    def eof_received(self) -> bool:
        self.inbox.end(PEER_CLOSED)
        return False  # An instrument that sends no more does not listen either.

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = f"connection lost: {exc}" if exc else PEER_CLOSED
        self.inbox.end(self._lost)
        self._is_writable.set()
        self._is_over.set()

    def pause_writing(self) -> None:
        self._is_writable.clear()

    def resume_writing(self) -> None:
        self._is_writable.set()

    async def send(self, data: bytes) -> None:
        self._transport.write(data)
        await self._is_writable.wait()
        if self._lost is not None:
            raise ChannelError(self._lost)

    def resume(self) -> None:
        if self._is_paused and not self.inbox.is_full:
            self._is_paused = False
            self._transport.resume_reading()

    async def abort(self) -> None:
        self._transport.abort()
        await self._is_over.wait()
