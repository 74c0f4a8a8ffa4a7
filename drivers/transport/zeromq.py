"""Instruments that speak ZeroMQ: request and reply, or a stream of messages."""

import zmq
import zmq.asyncio

from drivers.transport.channel import ChannelError

# No instrument sends more in one message; a larger one ends the connection instead of the daemon.
MAX_MESSAGE_BYTES = 1 << 26


class ZeroMqChannel:
    """A REQ or PAIR socket that connects.

    Connecting succeeds though nobody listens, so only a missing reply tells that the instrument is
    off. A REQ socket that missed a reply is of no more use: closing and opening makes a new one.

    Args:
        host: Host name or address.
        port: TCP port.
        is_request: REQ (one reply per request) instead of PAIR.
    """

    def __init__(self, host: str, port: int, *, is_request: bool) -> None:
        self._endpoint = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        self._kind = zmq.REQ if is_request else zmq.PAIR
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None

    async def open(self) -> None:
        """Make a socket and start connecting."""
        self._context = zmq.asyncio.Context()
        try:
            self._socket = self._context.socket(self._kind)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.IPV6, 1)
            self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            self._socket.connect(self._endpoint)
        except zmq.ZMQError as exc:
            await self.close()
            raise ChannelError(f"cannot connect to {self._endpoint}: {exc}") from exc

    async def send(self, data: bytes) -> None:
        """Send one message."""
        try:
            await self._connected().send(data)
        except zmq.ZMQError as exc:
            raise ChannelError(f"{self._endpoint}: {exc}") from exc

    async def receive(self) -> bytes:
        """Wait for one message; parts of a multi-part message are joined."""
        try:
            return b"".join(await self._connected().recv_multipart())
        except zmq.ZMQError as exc:
            raise ChannelError(f"{self._endpoint}: {exc}") from exc

    async def close(self) -> None:
        """Close without waiting for messages that nobody takes."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
        if self._context is not None:
            self._context.term()
            self._context = None

    def _connected(self) -> zmq.asyncio.Socket:
        if self._socket is None:
            raise ChannelError(f"{self._endpoint} is not connected")
        return self._socket
