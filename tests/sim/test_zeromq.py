import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import zmq
import zmq.asyncio

from sim.endpoints.service import Clock, ServedInstrument
from sim.endpoints.zeromq import RequestEndpoint, StreamEndpoint
from sim.wire import MAIN, Reply


class Echo:
    """Answers each message with itself; ``more n`` sends n messages down the stream too."""

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        count = int(data[5:]) if data.startswith(b"more ") else 0
        streamed = [Reply(b"%d" % n, port="stream") for n in range(count)]
        return [*streamed, Reply(data)]

    def reset_line(self, now_s: float) -> None: ...

    def power_cycle(self, now_s: float) -> None: ...


class Served:
    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.instrument = ServedInstrument("echo", Echo(), Clock(), message_ports=[MAIN, "stream"])
        self.main = RequestEndpoint(self.instrument, context)
        self.stream = StreamEndpoint(self.instrument, context, "stream")


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context[zmq.Socket[bytes]]()
    yield context
    context.term()


@pytest.fixture
async def served(context: zmq.Context[zmq.Socket[bytes]]) -> AsyncIterator[Served]:
    served = Served(context)
    await served.main.open()
    await served.stream.open()
    async with asyncio.TaskGroup() as tasks:
        serving = [tasks.create_task(each.serve()) for each in (served.main, served.stream)]
        yield served
        for each in serving:
            each.cancel()
    await served.main.close()
    await served.stream.close()


class Clients:
    """Sockets that are closed when the test ends."""

    def __init__(self) -> None:
        self.context = zmq.asyncio.Context()
        self._sockets: list[zmq.asyncio.Socket] = []

    def connect(self, kind: int, endpoint: RequestEndpoint | StreamEndpoint) -> zmq.asyncio.Socket:
        socket = self.context.socket(kind)
        socket.connect(f"tcp://127.0.0.1:{endpoint.number}")
        self._sockets.append(socket)
        return socket

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(linger=0)
        self.context.term()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


async def ask(socket: zmq.asyncio.Socket, question: bytes) -> bytes:
    async with asyncio.timeout(5):
        await socket.send(question)
        return bytes(await socket.recv())


async def test_a_client_gets_an_answer(served: Served, clients: Clients) -> None:
    client = clients.connect(zmq.REQ, served.main)

    assert await ask(client, b"*IDN?") == b"*IDN?"
    assert await ask(client, b"") == b""


async def test_resources_name_the_socket(served: Served) -> None:
    assert served.main.resource == f"zmq://127.0.0.1:{served.main.number}"
    assert served.stream.resource == f"zmq-pair://127.0.0.1:{served.stream.number}"


async def test_many_quick_exchanges_lose_nothing(served: Served, clients: Clients) -> None:
    sockets = [clients.connect(zmq.REQ, served.main) for _ in range(3)]
    for n in range(200):
        questions = [b"%d %d" % (n, i) for i in range(3)]
        answers = await asyncio.gather(*map(ask, sockets, questions))
        assert answers == questions


async def test_a_reply_held_back_from_one_client_does_not_hold_up_another(
    served: Served, clients: Clients
) -> None:
    dead, alive = (clients.connect(zmq.REQ, served.main) for _ in range(2))
    served.instrument.set_fault("mute")
    await dead.send(b"unanswered")
    await asyncio.sleep(0.05)
    served.instrument.set_fault("mute", is_on=False)

    assert await ask(alive, b"hello") == b"hello"


async def test_what_is_no_request_is_ignored(served: Served, clients: Clients) -> None:
    odd = clients.connect(zmq.DEALER, served.main)
    await odd.send_multipart([b"no", b"envelope", b"here"])
    await odd.send(b"alone")

    assert await ask(clients.connect(zmq.REQ, served.main), b"hello") == b"hello"


async def listen(stream: zmq.asyncio.Socket, client: zmq.asyncio.Socket) -> None:
    """Ask for messages one at a time until one arrives: by then the stream is connected."""
    async with asyncio.timeout(5):
        while not await stream.poll(10):
            await ask(client, b"more 1")


async def receive_until(stream: zmq.asyncio.Socket, last: bytes) -> list[bytes]:
    messages = [b""]
    async with asyncio.timeout(5):
        while messages[-1] != last:
            messages.append(await stream.recv())
    return messages[1:]


async def test_a_stream_carries_messages_in_order(served: Served, clients: Clients) -> None:
    stream = clients.connect(zmq.PAIR, served.stream)
    client = clients.connect(zmq.REQ, served.main)
    await listen(stream, client)

    await ask(client, b"more 100")

    messages = await receive_until(stream, b"99")
    assert messages[-100:] == [b"%d" % n for n in range(100)]


async def test_without_a_listener_a_stream_is_lost(served: Served, clients: Clients) -> None:
    client = clients.connect(zmq.REQ, served.main)
    await ask(client, b"more 100")
    stream = clients.connect(zmq.PAIR, served.stream)
    await listen(stream, client)

    await ask(client, b"more 2")

    assert set(await receive_until(stream, b"1")) == {b"0", b"1"}


async def test_after_replugging_the_number_is_the_same(served: Served, clients: Clients) -> None:
    number = served.main.number
    client = clients.connect(zmq.REQ, served.main)
    assert await ask(client, b"before") == b"before"

    await served.main.close()
    await served.main.open()

    assert served.main.number == number
    assert await ask(client, b"after") == b"after"  # ZeroMQ connects again by itself


async def test_a_number_that_stays_taken_is_an_error(
    served: Served, context: zmq.Context[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.endpoints.zeromq._REBIND_S", 0.05)
    rival = RequestEndpoint(served.instrument, context)
    rival.number = served.main.number

    with pytest.raises(zmq.ZMQError, match="in use"):
        await rival.open()
