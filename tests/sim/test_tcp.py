import asyncio
from collections.abc import AsyncIterator

import pytest

from sim.endpoints.service import Clock, ServedInstrument
from sim.endpoints.tcp import TcpEndpoint
from sim.instruments.state_source import StateSource
from sim.record import Record


class Encoder:
    def set_state(self, state: str, now_s: float) -> None: ...


@pytest.fixture
def instrument() -> ServedInstrument:
    return ServedInstrument("alice", StateSource("alice", Encoder(), Record()), Clock())


@pytest.fixture
async def endpoint(instrument: ServedInstrument) -> AsyncIterator[TcpEndpoint]:
    endpoint = TcpEndpoint(instrument)
    await endpoint.open()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(endpoint.serve())
        yield endpoint
        serving.cancel()
    await endpoint.close()


async def ask(endpoint: TcpEndpoint, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.number)
    writer.write(question)
    async with asyncio.timeout(5):
        answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_client_gets_an_answer(endpoint: TcpEndpoint) -> None:
    assert await ask(endpoint, b"*IDN?\n") == b"Example,StateSource,0001,1.0\n"


async def test_it_is_found_by_socket_and_by_visa_resource(endpoint: TcpEndpoint) -> None:
    assert endpoint.number > 0
    assert endpoint.resource == f"tcp://127.0.0.1:{endpoint.number}"
    assert endpoint.visa_resource == f"visa://TCPIP0::127.0.0.1::{endpoint.number}::SOCKET"


async def test_each_client_gets_its_own_answers(endpoint: TcpEndpoint) -> None:
    first_reader, first = await asyncio.open_connection("127.0.0.1", endpoint.number)
    second_reader, second = await asyncio.open_connection("127.0.0.1", endpoint.number)
    async with asyncio.timeout(5):
        for _ in range(20):
            first.write(b"STATE?\n")
            second.write(b"*IDN?\n")
            assert await first_reader.readline() == b"PATTERN\n"
            assert await second_reader.readline() == b"Example,StateSource,0001,1.0\n"
    for writer in (first, second):
        writer.close()
        await writer.wait_closed()


async def test_half_a_line_is_forgotten_with_its_client(endpoint: TcpEndpoint) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.number)
    writer.write(b"half a li")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()

    assert await ask(endpoint, b"STATE?\n") == b"PATTERN\n"


async def test_pulling_the_cable_ends_connections_and_refuses_new_ones(
    endpoint: TcpEndpoint,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.number)
    writer.write(b"STATE?\n")
    await reader.readline()

    await endpoint.close()

    async with asyncio.timeout(5):
        assert await reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", endpoint.number)
    writer.close()


async def test_after_replugging_the_number_is_the_same(endpoint: TcpEndpoint) -> None:
    number = endpoint.number
    assert await ask(endpoint, b"STATE?\n") == b"PATTERN\n"
    await endpoint.close()

    await endpoint.open()

    assert endpoint.number == number
    assert await ask(endpoint, b"STATE?\n") == b"PATTERN\n"


async def test_a_client_that_never_reads_is_thrown_out(
    endpoint: TcpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.endpoints.tcp._UNREAD_LIMIT", 1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.number)
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a stuck client would

    async def ask_and_ask() -> None:
        while True:
            writer.write(b"*IDN?\n" * 10_000)
            await writer.drain()
            await asyncio.sleep(0)

    async with asyncio.timeout(20):
        with pytest.raises(ConnectionError):
            await ask_and_ask()
    writer.close()

    assert await ask(endpoint, b"STATE?\n") == b"PATTERN\n"


async def test_split_replies_arrive_whole_in_the_end(
    endpoint: TcpEndpoint, instrument: ServedInstrument
) -> None:
    instrument.set_fault("split")

    assert await ask(endpoint, b"*IDN?\n") == b"Example,StateSource,0001,1.0\n"
