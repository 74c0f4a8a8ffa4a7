"""ZeroMQ against real REP and PAIR sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import zmq
import zmq.asyncio

from drivers.errors import TransportError
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from drivers.transport.transport import Framing, Transport

MESSAGES = Framing(b"", None)


@asynccontextmanager
async def bound(kind: int, port: int = 0) -> AsyncIterator[tuple[zmq.asyncio.Socket, int]]:
    """The instrument's side: a socket of ``kind`` on ``port`` or a free one."""
    with zmq.asyncio.Context() as context, context.socket(kind) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.bind(f"tcp://127.0.0.1:{port or '*'}")
        yield sock, int(sock.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def to(port: int, timeout_s: float = 10.0) -> Transport:
    resource = f"zmq://127.0.0.1:{port}"
    return Connector().transport("id900", resource, MESSAGES, timeout_s=timeout_s)


async def echo(sock: zmq.asyncio.Socket) -> None:
    while True:
        await sock.send((await sock.recv()).removesuffix(b"?"))


async def test_a_question_is_answered() -> None:
    async with bound(zmq.REP) as (sock, port), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(echo(sock))
        transport = to(port)
        await transport.open()

        assert await transport.query("*IDN?") == "*IDN"

        await transport.close()
        serving.cancel()


async def test_callers_at_the_same_time_get_their_own_answers() -> None:
    async with bound(zmq.REP) as (sock, port), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(echo(sock))
        transport = to(port)
        await transport.open()

        answers = await asyncio.gather(*(transport.query(f"{n}?") for n in range(20)))

        await transport.close()
        serving.cancel()
    assert answers == [str(n) for n in range(20)]


async def test_a_missing_reply_is_a_lost_link_and_a_new_socket_asks_again() -> None:
    async with bound(zmq.REP) as (sock, port):
        transport = to(port, timeout_s=0.2)
        await transport.open()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(transport.query("COUNT?"))
            assert await sock.recv() == b"COUNT?"  # Never answered in time.
            await asyncio.sleep(0.25)
            await sock.send(b"late")
            assert await sock.recv() == b"COUNT?"
            await sock.send(b"5")

        assert asking.result() == "5"
        await transport.close()


async def test_opening_succeeds_though_nobody_listens_and_the_question_tells(
    free_port: int,
) -> None:
    transport = to(free_port, timeout_s=0.1)
    await transport.open()

    with pytest.raises(TransportError, match="id900: no reply within"):
        await transport.query("*IDN?")

    await transport.close()


async def test_an_instrument_that_comes_later_is_found(free_port: int) -> None:
    transport = to(free_port)
    await transport.open()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(transport.query("*IDN?"))
        await asyncio.sleep(0.05)
        async with bound(zmq.REP, free_port) as (sock, _):
            await sock.send((await sock.recv()).removesuffix(b"?"))
            await asking
    await transport.close()

    assert asking.result() == "*IDN"


async def test_a_cancelled_question_leaves_the_next_one_its_own_answer() -> None:
    async with bound(zmq.REP) as (sock, port):
        transport = to(port)
        await transport.open()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(transport.query("A?"))
            assert await sock.recv() == b"A?"
            asking.cancel()
            await asyncio.sleep(0)
            await sock.send(b"A")
            asking = tasks.create_task(transport.query("B?"))
            assert await sock.recv() == b"B?"
            await sock.send(b"B")

        assert asking.result() == "B"
        await transport.close()


async def test_a_stream_delivers_messages_whole_and_in_order() -> None:
    messages = [b"\x01" * 80_000, b"", b"\x02\x03"]
    async with bound(zmq.PAIR) as (sock, port):
        channel = Connector().channel("id900", f"zmq-pair://127.0.0.1:{port}")
        await channel.open()
        for message in messages:
            await sock.send(message)

        assert [await channel.receive() for _ in messages] == messages

        await channel.close()


async def test_a_waiting_stream_can_be_cancelled_without_losing_a_message() -> None:
    async with bound(zmq.PAIR) as (sock, port):
        channel = Connector().channel("id900", f"zmq-pair://127.0.0.1:{port}")
        await channel.open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await channel.receive()
        await sock.send(b"tags")

        assert await channel.receive() == b"tags"

        await channel.close()


async def test_a_closed_channel_says_so() -> None:
    channel = Connector().channel("id900", "zmq://127.0.0.1:5555")
    await channel.close()

    with pytest.raises(ChannelError, match="not connected"):
        await channel.receive()
