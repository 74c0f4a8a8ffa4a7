import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sim.endpoints.memory import Link, MemoryChannel
from sim.endpoints.service import LATE_S, Clock, ServedInstrument
from sim.instruments.state_source import StateSource
from sim.record import Record
from sim.virtual_time import run


class LinkError(Exception):
    """What the client's layers understand."""


class Encoder:
    def set_state(self, state: str, now_s: float) -> None: ...


class Bench:
    def __init__(self, link: Link = "socket") -> None:
        self.instrument = ServedInstrument(
            "alice", StateSource("alice", Encoder(), Record()), Clock()
        )
        self.link = link

    def channel(self) -> MemoryChannel:
        return MemoryChannel(self.instrument, link=self.link, error=LinkError)


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        run(test())

    wrapped.__name__ = test.__name__
    return wrapped


@in_virtual_time
async def test_a_request_gets_its_reply() -> None:
    channel = Bench().channel()
    await channel.open()

    await channel.send(b"STATE?\n")

    assert await channel.receive() == b"PATTERN\n"
    await channel.close()


@in_virtual_time
async def test_a_closed_channel_is_an_error_of_the_clients_kind() -> None:
    channel = Bench().channel()

    with pytest.raises(LinkError, match="alice: the channel is not open"):
        await channel.send(b"STATE?\n")
    with pytest.raises(LinkError, match="not open"):
        await channel.receive()
    await channel.close()


@in_virtual_time
async def test_without_a_clients_kind_errors_are_connection_errors() -> None:
    with pytest.raises(ConnectionError):
        await MemoryChannel(Bench().instrument).send(b"STATE?\n")


@pytest.mark.parametrize("link", ["serial", "socket"])
def test_a_lost_link_is_noticed_while_waiting_and_lasts_until_reopened(link: Link) -> None:
    async def test() -> None:
        bench = Bench(link)
        channel = bench.channel()
        await channel.open()

        async def wait() -> None:
            with pytest.raises(LinkError, match="lost"):
                await channel.receive()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            await asyncio.sleep(1)
            bench.instrument.set_fault("unplug")
        with pytest.raises(LinkError, match="nothing is connected"):
            await channel.open()
        bench.instrument.set_fault("unplug", is_on=False)
        with pytest.raises(LinkError, match="lost"):
            await channel.send(b"STATE?\n")

        await channel.close()
        await channel.open()
        await channel.send(b"STATE?\n")
        assert await channel.receive() == b"PATTERN\n"

    run(test())


@in_virtual_time
async def test_with_messages_a_lost_link_is_silence_and_comes_back_by_itself() -> None:
    bench = Bench("messages")
    channel = bench.channel()
    bench.instrument.set_fault("unplug")
    await channel.open()
    await channel.send(b"STATE?\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await channel.receive()

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(channel.receive())
        await asyncio.sleep(1)
        bench.instrument.set_fault("unplug", is_on=False)
        await channel.send(b"*IDN?\n")

    assert waiting.result() == b"Example,StateSource,0001,1.0\n"


@in_virtual_time
async def test_a_late_reply_on_a_serial_line_reaches_whoever_opens_it_next() -> None:
    bench = Bench("serial")
    channel = bench.channel()
    await channel.open()
    bench.instrument.set_fault("late")
    await channel.send(b"STATE?\n")
    await channel.close()
    await asyncio.sleep(LATE_S / 2)

    await channel.open()

    assert await channel.receive() == b"PATTERN\n"


@in_virtual_time
async def test_a_reply_that_came_while_nobody_had_the_line_open_is_gone() -> None:
    bench = Bench("serial")
    channel = bench.channel()
    await channel.open()
    await channel.send(b"STATE?\n")
    await channel.close()

    await channel.open()
    await channel.send(b"*IDN?\n")

    assert await channel.receive() == b"Example,StateSource,0001,1.0\n"


@in_virtual_time
async def test_a_late_reply_on_a_socket_is_lost_with_its_connection() -> None:
    bench = Bench("socket")
    channel = bench.channel()
    await channel.open()
    bench.instrument.set_fault("late")
    await channel.send(b"STATE?\n")
    await channel.close()
    await asyncio.sleep(LATE_S / 2)

    await channel.open()
    await channel.send(b"*IDN?\n")

    assert await channel.receive() == b"Example,StateSource,0001,1.0\n"


@in_virtual_time
async def test_a_cancelled_wait_loses_no_reply() -> None:
    bench = Bench()
    channel = bench.channel()
    await channel.open()
    bench.instrument.set_fault("late")
    await channel.send(b"STATE?\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(LATE_S / 2):
            await channel.receive()

    assert await channel.receive() == b"PATTERN\n"
