"""A TCP socket server for instruments that speak lines."""

import asyncio
from typing import Final, Never, cast

from sim.endpoints.service import Outgoing, ServedInstrument, deliver
from sim.wire import MAIN

_UNREAD_LIMIT: Final = 1 << 20
"""Bytes that a client may leave unread before it is thrown out."""


class TcpEndpoint:
    """Serves one port of an instrument on a TCP port of the loopback interface.

    The operating system chooses the number at first; after a pulled cable it is the same again.
    Several clients may be connected; each gets the replies to its own requests, but they share
    one input buffer: half a line from one may be completed by another, until either leaves.

    Args:
        instrument: The instrument.
        port: The instrument's port.
    """

    def __init__(self, instrument: ServedInstrument, port: str = MAIN) -> None:
        self.number = 0
        self._instrument = instrument
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    @property
    def resource(self) -> str:
        """Where clients find it."""
        return f"tcp://127.0.0.1:{self.number}"

    @property
    def visa_resource(self) -> str:
        """The same as a VISA resource."""
        return f"visa://TCPIP0::127.0.0.1::{self.number}::SOCKET"

    async def open(self) -> None:
        """Listen."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", self.number)
        self.number = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and break off every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    async def serve(self) -> Never:
        """Send replies until cancelled."""
        await deliver(self._instrument, self._port, self._send)

    def _connect(self) -> "_Connection":
        return _Connection(self._instrument, self._port, self._connections)

    def _send(self, reply: Outgoing) -> None:
        for connection in list(self._connections):
            if reply.peer in (None, connection):
                connection.send(reply.data)


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(
        self, instrument: ServedInstrument, port: str, connections: "set[_Connection]"
    ) -> None:
        self._instrument = instrument
        self._port = port
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._instrument.receive(data, self._port, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        self._instrument.reset_line()

    def send(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > _UNREAD_LIMIT:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
