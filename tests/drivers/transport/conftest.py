"""A real TCP instrument for the channels to talk to, and virtual time where nothing is real."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from drivers.transport.inbox import FULL_BYTES
from sim.virtual_time import VirtualTimeLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Run the tests of a module that says ``IN_VIRTUAL_TIME`` on a clock that jumps."""
    assert isinstance(item, pytest.Function)
    if getattr(item.module, "IN_VIRTUAL_TIME", False):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


class TcpInstrument:
    """An instrument on a port of this machine, which misbehaves in the ways it is asked for.

    Attributes:
        port: Where it listens.
        told: Commands it got, without terminators.
        much_bytes: Length of its longest reply.
    """

    def __init__(self) -> None:
        self.port = 0
        self.told: list[str] = []
        self.much_bytes = 4 * FULL_BYTES
        self._connections: list[asyncio.Transport] = []

    async def power_on(self) -> None:
        loop = asyncio.get_running_loop()

        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def power_off(self) -> None:
        self._server.close()
        self.drop_link()

    def drop_link(self) -> None:
        for connection in self._connections:
            connection.abort()

    def send(self, data: bytes) -> None:
        self._connections[-1].write(data)

    def connected(self, connection: asyncio.Transport) -> None:
        self._connections.append(connection)

    def handle(self, command: str) -> None:
        self.told.append(command)
        loop, connection = asyncio.get_running_loop(), self._connections[-1]
        match command:
            case "CLOSE?":
                connection.close()
            case "RESET?":
                sock = connection.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.abort()
            case "HALF?":
                self.send(b"ha")
                loop.call_later(0.01, connection.write, b"lf\n")
            case "ENDLESS?":
                self.send(b"no end")
            case "LATE?":
                loop.call_later(0.2, connection.write, b"LATE\n")
            case "MUCH?":
                self.send(bytes(self.much_bytes) + b"end\n")
            case "LATIN?":
                self.send(b"12 \xb5W\n")
            case "DEAF":
                connection.pause_reading()
            case _ if command.endswith("?"):
                self.send(command[:-1].encode() + b"\r\n")


class _Connection(asyncio.Protocol):
    def __init__(self, instrument: TcpInstrument) -> None:
        self._instrument = instrument
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._instrument.connected(transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._instrument.handle(line.decode())


@pytest.fixture
async def instrument() -> AsyncIterator[TcpInstrument]:
    """A powered instrument on a free port."""
    instrument = TcpInstrument()
    await instrument.power_on()
    yield instrument
    instrument.power_off()
    await asyncio.sleep(0.01)  # Connections that were aborted close in the loop's next turns.


@pytest.fixture
def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
