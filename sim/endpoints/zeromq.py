"""ZeroMQ: a request-reply service and one-way streams."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final, Never

import zmq

from sim.endpoints.service import Outgoing, ServedInstrument, deliver
from sim.wire import MAIN

LONGEST_REQUEST: Final = 1 << 20
STREAM_DEPTH: Final = 256
"""Messages of a stream under way to a slow client; what comes on top is lost."""

_REBIND_S: Final = 2.0
_REBIND_STEP_S: Final = 0.005


class _ZmqEndpoint(ABC):
    """A bound socket that comes back at the same number after a pulled cable."""

    def __init__(self, instrument: ServedInstrument, context: "zmq.Context[Socket]", port: str):
        self.number = 0
        self._instrument = instrument
        self._context = context
        self._port = port
        self._socket: Socket | None = None

    @property
    @abstractmethod
    def resource(self) -> str:
        """Where clients find it."""

    @abstractmethod
    def _make_socket(self) -> "Socket":
        """Make the socket, unbound."""

    @abstractmethod
    def _take(self, frames: list[bytes]) -> None:
        """Take a message."""

    @abstractmethod
    def _address(self, reply: Outgoing) -> list[bytes]:
        """Return the frames of a reply, envelope included."""

    async def open(self) -> None:
        """Bind; the number of a socket just closed may take a moment to become free.

        Raises:
            zmq.ZMQError: It stays taken.
        """
        if self._socket is not None:
            return
        socket = self._make_socket()
        socket.linger = 0
        try:
            await self._bind(socket)
        except BaseException:
            socket.close()
            raise
        self.number = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])
        self._socket = socket
        asyncio.get_running_loop().add_reader(int(socket.get(zmq.FD)), self._read)

    async def _bind(self, socket: "Socket") -> None:
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _REBIND_S
        while True:
            try:
                socket.bind(f"tcp://127.0.0.1:{self.number or '*'}")
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or loop.time() > give_up_s:
                    raise
                await asyncio.sleep(_REBIND_STEP_S)
            else:
                return

    async def close(self) -> None:
        """Close the socket; clients notice nothing but silence."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(int(self._socket.get(zmq.FD)))
        self._socket.close(linger=0)
        self._socket = None

    async def serve(self) -> Never:
        """Send replies until cancelled."""
        await deliver(self._instrument, self._port, self._send)

    def _read(self) -> None:
        """Take every message that is there: the descriptor tells of a change only once."""
        while self._socket is not None and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._take(self._socket.recv_multipart(zmq.NOBLOCK))

    def _send(self, reply: Outgoing) -> None:
        if self._socket is None:
            return
        with suppress(zmq.Again):  # nobody there, or too slow: lost
            self._socket.send_multipart(self._address(reply), zmq.NOBLOCK)
        self._read()  # sending may have used up the descriptor's notice


class RequestEndpoint(_ZmqEndpoint):
    """Answers REQ sockets.

    It speaks REP's envelope on a ROUTER socket: a REP socket would be stuck for every client
    as soon as one reply is held back.

    Args:
        instrument: The instrument.
        context: ZeroMQ context.
        port: The instrument's port.
    """

    def __init__(
        self, instrument: ServedInstrument, context: "zmq.Context[Socket]", port: str = MAIN
    ) -> None:
        super().__init__(instrument, context, port)

    @property
    def resource(self) -> str:
        """Where clients find it."""
        return f"zmq://127.0.0.1:{self.number}"

    def _make_socket(self) -> "Socket":
        socket = self._context.socket(zmq.ROUTER)
        socket.maxmsgsize = LONGEST_REQUEST
        return socket

    def _take(self, frames: list[bytes]) -> None:
        client, *rest = frames
        if len(rest) == 2 and rest[0] == b"":
            self._instrument.receive(rest[1], self._port, client)

    def _address(self, reply: Outgoing) -> list[bytes]:
        client = reply.peer if isinstance(reply.peer, bytes) else b""
        return [client, b"", reply.data]


class StreamEndpoint(_ZmqEndpoint):
    """Sends messages to one PAIR socket; without a client they are lost.

    Args:
        instrument: The instrument.
        context: ZeroMQ context.
        port: The instrument's port.
    """

    @property
    def resource(self) -> str:
        """Where clients find it."""
        return f"zmq-pair://127.0.0.1:{self.number}"

    def _make_socket(self) -> "Socket":
        socket = self._context.socket(zmq.PAIR)
        socket.sndhwm = STREAM_DEPTH
        socket.maxmsgsize = LONGEST_REQUEST
        return socket

    def _take(self, frames: list[bytes]) -> None:
        """Ignore what clients send: the stream goes one way."""

    def _address(self, reply: Outgoing) -> list[bytes]:
        return [reply.data]


Socket = zmq.Socket[bytes]
