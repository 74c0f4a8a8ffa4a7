"""Blocking libraries: one thread at a time, whatever is cancelled."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from drivers.transport.channel import ChannelError
from drivers.transport.threaded import ThreadedChannel


class Port:
    """A blocking port that notices when two threads use it.

    Attributes:
        arrived: Set when there is something to read.
        may_close: ``close`` blocks until this is set.
        is_reading: Set while a read is under way.
        written: What was sent.
        opened: How often it was opened.
        overlaps: How often a second thread came in.
    """

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.may_close = threading.Event()
        self.may_close.set()
        self.is_reading = threading.Event()
        self.written: list[bytes] = []
        self.opened = 0
        self.overlaps = 0
        self.failure: Exception | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        self._enter()
        self.opened += 1
        self._leave()

    def write(self, data: bytes) -> None:
        self._enter()
        self.written.append(data)
        self._leave()

    def read(self) -> bytes:
        self._enter()
        self.is_reading.set()
        has_arrived = self.arrived.wait(0.05)
        self._leave()
        return b"reply" if has_arrived else b""

    def close(self) -> None:
        self._enter()
        self.may_close.wait(5)
        self._leave()

    def _enter(self) -> None:
        self.overlaps += not self._lock.acquire(blocking=False)
        if self.failure is not None:
            raise self.failure

    def _leave(self) -> None:
        self._lock.release()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    yield port
    port.may_close.set()
    assert port.overlaps == 0


async def cancel_when(event: threading.Event, channel: ThreadedChannel) -> None:
    """Start to receive, and give up once ``event`` is set."""
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(channel.receive())
        await asyncio.to_thread(event.wait, 5)
        receiving.cancel()


async def test_a_wait_lasts_as_many_slices_as_it_needs(port: Port) -> None:
    channel = ThreadedChannel("voa", port)
    await channel.open()
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(channel.receive())
        await asyncio.sleep(0.12)
        port.arrived.set()

    assert receiving.result() == b"reply"
    await channel.close()


async def test_a_cancelled_wait_lets_go_of_the_port(port: Port) -> None:
    channel = ThreadedChannel("voa", port)
    await channel.open()
    await cancel_when(port.is_reading, channel)

    await channel.send(b"next")
    await channel.close()

    assert port.written == [b"next"]


async def test_a_cancelled_command_that_was_still_waiting_is_never_sent(port: Port) -> None:
    channel = ThreadedChannel("voa", port)
    await channel.open()
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(channel.receive())
        await asyncio.to_thread(port.is_reading.wait, 5)
        sending = tasks.create_task(channel.send(b"ATT 3"))
        await asyncio.sleep(0)
        sending.cancel()
        receiving.cancel()
    await channel.close()

    assert port.written == []


async def test_opening_waits_for_a_library_that_is_slow_to_close(port: Port) -> None:
    channel = ThreadedChannel("voa", port)
    await channel.open()
    port.may_close.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await channel.close()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(channel.open())
        await asyncio.sleep(0.05)
        opened_meanwhile = port.opened
        port.may_close.set()

    assert (opened_meanwhile, port.opened) == (1, 2)
    await channel.close()


@pytest.mark.parametrize(
    "failure", [Exception("could not connect"), ValueError("fd"), OSError(5, "EIO")]
)
async def test_whatever_the_library_raises_is_a_channel_error(failure: Exception) -> None:
    port = Port()
    port.failure = failure
    channel = ThreadedChannel("voa", port)

    with pytest.raises(ChannelError, match=type(failure).__name__) as caught:
        await channel.open()
    await channel.close()

    assert caught.value.__cause__ is failure


async def test_a_channel_that_is_not_connected_says_so() -> None:
    channel = ThreadedChannel("voa", Port())

    with pytest.raises(ChannelError, match="not connected"):
        await channel.receive()
