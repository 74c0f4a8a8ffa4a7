"""A serial port against a pseudo-terminal, whose far end is the test."""

import asyncio
import os
import pty
import tty
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from drivers.errors import TransportError
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from drivers.transport.serial import SerialChannel
from drivers.transport.transport import Framing, Transport

CRLF = Framing(b"\r\n", b"\r\n")


class Pty:
    """An adapter that can be unplugged: the path is a link, as udev makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plug_in()

    def plug_in(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path.symlink_to(os.ttyname(slave))
        os.close(slave)

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._master)

    def send(self, data: bytes) -> None:
        assert os.write(self._master, data) == len(data)

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        is_readable = asyncio.Event()
        loop.add_reader(self._master, is_readable.set)
        await is_readable.wait()
        loop.remove_reader(self._master)
        return os.read(self._master, 1 << 16)


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Pty]:
    adapter = Pty(tmp_path / "ttyEPC")
    yield adapter
    if adapter.path.is_symlink():
        adapter.unplug()


@pytest.fixture
async def transport(adapter: Pty) -> AsyncIterator[Transport]:
    transport = Connector().transport("epc", f"serial://{adapter.path}", CRLF, timeout_s=5.0)
    await transport.open()
    yield transport
    await transport.close()


async def test_a_question_is_answered(adapter: Pty, transport: Transport) -> None:
    async with transport.exclusive() as link:
        await link.write("V?")
        assert await adapter.receive() == b"V?\r\n"
        adapter.send(b"CH1 +0")
        adapter.send(b"000\r\nDone\r\n")

        assert [await link.read(), await link.read()] == ["CH1 +0000", "Done"]


async def test_bytes_pass_unchanged_both_ways(adapter: Pty, transport: Transport) -> None:
    every_byte = bytes(range(256))
    async with transport.exclusive() as link:
        await link.write_bytes(every_byte)
        adapter.send(every_byte)

        assert await adapter.receive() == every_byte
        assert await link.read_exactly(256) == every_byte


async def test_unplugging_is_heard_at_once(adapter: Pty, transport: Transport) -> None:
    async with transport.exclusive() as link:
        await link.write("V?")
        adapter.unplug()
        with pytest.raises(TransportError, match="epc: "):
            await link.read(timeout_s=60)


async def test_an_unplugged_port_is_told_so_before_anything_is_sent(
    adapter: Pty, transport: Transport
) -> None:
    adapter.unplug()
    await asyncio.sleep(0.05)  # Nothing tells when the hang-up has crossed.

    with pytest.raises(TransportError, match=r"cannot open .*ttyEPC.*No such file"):
        await transport.query("V?")


async def test_a_port_that_comes_back_is_found_again(adapter: Pty, transport: Transport) -> None:
    adapter.unplug()
    adapter.plug_in()
    await asyncio.sleep(0.05)

    async with transport.exclusive() as link:
        await link.write("V?")
        assert await adapter.receive() == b"V?\r\n"


async def test_a_port_is_not_shared(adapter: Pty, transport: Transport) -> None:
    second = Connector().transport("epc-2", f"serial://{adapter.path}")

    with pytest.raises(TransportError, match=r"epc-2: cannot open .*lock"):
        await second.open()


async def test_bytes_from_before_the_opening_are_dropped(adapter: Pty) -> None:
    adapter.send(b"boot message\r\n")
    transport = Connector().transport("epc", f"serial://{adapter.path}", CRLF)
    await transport.open()
    async with transport.exclusive() as link:
        adapter.send(b"Done\r\n")

        assert await link.read() == "Done"
    await transport.close()


async def test_a_line_that_nobody_asked_for_is_dropped(adapter: Pty, transport: Transport) -> None:
    adapter.send(b"late\r\n")
    await asyncio.sleep(0.05)
    async with transport.exclusive() as link:
        adapter.send(b"Done\r\n")

        assert await link.read() == "Done"


async def test_a_full_port_takes_the_rest_later(adapter: Pty) -> None:
    much = bytes(100_000)
    channel = SerialChannel(str(adapter.path), 9600)
    await channel.open()
    received = b""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(channel.send(much))
        while len(received) < len(much):
            received += await adapter.receive()
    await channel.close()

    assert received == much


async def test_closing_does_not_wait_for_bytes_that_nobody_takes(adapter: Pty) -> None:
    channel = SerialChannel(str(adapter.path), 9600)
    await channel.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await channel.send(bytes(100_000))

    async with asyncio.timeout(1):
        await channel.close()


async def test_a_path_that_is_no_serial_port_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    channel = SerialChannel(str(path), 9600)

    with pytest.raises(ChannelError, match="cannot open"):
        await channel.open()


async def test_a_cancelled_opening_leaves_the_port_free(adapter: Pty) -> None:
    channel = SerialChannel(str(adapter.path), 9600)
    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(channel.open())
        await asyncio.sleep(0)
        opening.cancel()
    await channel.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)

    second = SerialChannel(str(adapter.path), 9600)
    opened = second._open_port()
    opened.close()
