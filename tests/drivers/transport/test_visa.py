"""VISA through pyvisa-py in its own thread, against a real server in this one."""

import asyncio
import gc
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
import time
import tty
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from drivers.errors import ReplyError, TransportError
from drivers.transport.connect import Connector
from drivers.transport.transport import Transport

LONG_S = 30.0


def socket_resource(port: int) -> str:
    return f"visa://TCPIP0::127.0.0.1::{port}::SOCKET"


def visa_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("TCPIP")]


@pytest.fixture
async def transport(instrument: Any) -> AsyncIterator[Transport]:
    transport = Connector().transport("voa", socket_resource(instrument.port), timeout_s=LONG_S)
    await transport.open()
    yield transport
    threads = visa_threads()
    await transport.close()
    for thread in threads:
        thread.join(1)
        assert not thread.is_alive()


async def test_a_question_is_answered(transport: Transport) -> None:
    assert await transport.query("ATT?") == "ATT"


async def test_a_reply_in_two_packets_is_one_reply(transport: Transport) -> None:
    assert await transport.query("HALF?") == "half"


async def test_callers_at_the_same_time_get_their_own_answers(transport: Transport) -> None:
    answers = await asyncio.gather(*(transport.query(f"{n}?") for n in range(20)))

    assert answers == [str(n) for n in range(20)]


async def test_only_one_thread_serves_an_instrument(transport: Transport) -> None:
    await asyncio.gather(*(transport.query(f"{n}?") for n in range(5)))

    assert len(visa_threads()) == 1


async def test_a_long_reply_arrives_whole(instrument: Any, transport: Transport) -> None:
    async with transport.exclusive() as link:
        await link.write("MUCH?")

        assert await link.read_exactly(instrument.much_bytes) == bytes(instrument.much_bytes)
        assert await link.read() == "end"


@pytest.mark.parametrize("question", ["CLOSE?", "RESET?"])
async def test_a_peer_that_closes_is_heard_at_once(transport: Transport, question: str) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError):
            await link.query(question)


async def test_waiting_for_a_reply_costs_no_processor_time(transport: Transport) -> None:
    async with transport.exclusive() as link:
        before_s = time.process_time()
        with pytest.raises(TransportError):
            await link.query("ENDLESS?", timeout_s=0.5)

    assert time.process_time() - before_s < 0.25


async def test_half_a_reply_is_quoted_when_the_rest_is_missing(transport: Transport) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError) as caught:
            await link.query("ENDLESS?", timeout_s=0.3)

    assert caught.value.received == "no end"


async def test_a_reply_slower_than_one_slice_is_not_lost(transport: Transport) -> None:
    assert await transport.query("LATE?") == "LATE"


async def test_a_late_reply_answers_nobody(transport: Transport) -> None:
    async with transport.exclusive() as link:
        with pytest.raises(TransportError):
            await link.query("LATE?", timeout_s=0.1)

    assert [await transport.query(f"{n}?") for n in range(3)] == ["0", "1", "2"]


async def test_a_reply_that_is_not_ascii_is_told_so(transport: Transport) -> None:
    with pytest.raises(ReplyError, match="not ASCII"):
        await transport.query("LATIN?")


async def test_a_cancelled_wait_ends_at_once_and_frees_the_thread(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(transport.query("ENDLESS?"))
        await asyncio.sleep(0.05)
        waiting.cancel()

    assert await transport.query("ATT?", timeout_s=5) == "ATT"
    assert len(visa_threads()) == 1


async def test_the_end_of_the_program_does_not_wait_for_a_reply(instrument: Any) -> None:
    program = f"""
import asyncio
from drivers.transport.connect import Connector

async def main():
    transport = Connector().transport("voa", "{socket_resource(instrument.port)}", timeout_s=60)
    await transport.open()
    async with transport.exclusive() as link:
        await link.write("ENDLESS?")
        print("waiting", flush=True)
        await link.read()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"

    process.send_signal(signal.SIGINT)

    async with asyncio.timeout(10):
        assert await process.wait() != 0


async def test_a_dropped_link_costs_no_command(instrument: Any, transport: Transport) -> None:
    instrument.drop_link()
    await asyncio.sleep(0.05)  # Nothing tells when the end of the link has crossed.
    async with transport.exclusive() as link:
        with pytest.raises(TransportError, match="closed the connection"):
            await link.write("ATT 3")

    assert instrument.told == []
    assert await transport.query("ATT?") == "ATT"


async def test_an_instrument_is_found_again_after_a_power_cut(
    instrument: Any, transport: Transport
) -> None:
    instrument.power_off()
    await asyncio.sleep(0.05)
    with pytest.raises(TransportError, match="cannot connect"):
        await transport.query("ATT?")

    await instrument.power_on()

    assert await transport.query("ATT?") == "ATT"


async def test_a_port_where_nobody_listens_is_told_so_at_the_opening(free_port: int) -> None:
    transport = Connector().transport("voa", socket_resource(free_port))

    with pytest.raises(TransportError, match=r"voa: cannot connect to .*refused"):
        await transport.open()
    await transport.close()


async def test_a_host_that_does_not_exist_is_told_so() -> None:
    transport = Connector().transport("voa", "visa://TCPIP0::voa.invalid::5025::SOCKET")

    with pytest.raises(TransportError, match=r"voa: .*could not connect"):
        await transport.open()
    await transport.close()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # pyvisa-py forgets to close the socket that did not connect.


@pytest.mark.parametrize("name", ["GPIB99::7::INSTR", "NONSENSE::1::INSTR"])
async def test_whatever_the_library_raises_names_the_instrument(name: str) -> None:
    transport = Connector().transport("voa", f"visa://{name}")

    with pytest.raises(TransportError, match="voa: "):
        await transport.open()
    await transport.close()


class HislipInstrument:
    """An instrument with message-based VISA: HiSLIP (IVI-6.1), as far as a client needs it.

    Attributes:
        connections: Both of a client's connections, and whoever came later.
        clears: Device clears so far.
    """

    def __init__(self) -> None:
        self.connections: list[asyncio.Transport] = []
        self.clears = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yield the resource string."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _HislipConnection(self), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        yield f"visa://TCPIP0::127.0.0.1::hislip0,{port}::INSTR"
        server.close()
        self.drop_link()
        await asyncio.sleep(0.01)

    def drop_link(self) -> None:
        for connection in self.connections:
            connection.abort()


class _HislipConnection(asyncio.Protocol):
    HEADER = struct.Struct("!2sBBIQ")

    def __init__(self, instrument: HislipInstrument) -> None:
        self._instrument = instrument
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._instrument.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= self.HEADER.size:
            _, kind, _, parameter, n_bytes = self.HEADER.unpack_from(self._rest)
            if len(self._rest) < (end := self.HEADER.size + n_bytes):
                return
            payload, self._rest = self._rest[self.HEADER.size : end], self._rest[end:]
            self._handle(kind, parameter, payload)

    def _handle(self, kind: int, parameter: int, payload: bytes) -> None:
        match kind:
            case 0:  # Initialize: version 1.0, session 1
                self._answer(1, 0x0100_0001)
            case 17:  # AsyncInitialize
                self._answer(18, 0)
            case 15:  # AsyncMaxMsgSize
                self._answer(16, 0, payload)
            case 19:  # AsyncDeviceClear
                self._answer(23, 0)
            case 8:  # DeviceClearComplete
                self._instrument.clears += 1
                self._answer(9, 0)
            case 7 if payload.endswith(b"?\n"):  # DataEnd
                self._answer(7, parameter, payload[:-2] + b"\nsecond line\n")

    def _answer(self, kind: int, parameter: int, payload: bytes = b"") -> None:
        self._transport.write(self.HEADER.pack(b"HS", kind, 0, parameter, len(payload)) + payload)


async def test_a_message_is_cut_into_lines_and_its_rest_is_dropped() -> None:
    async with HislipInstrument().serve() as resource:
        transport = Connector().transport("voa", resource)
        await transport.open()
        async with transport.exclusive() as link:
            assert await link.query("A?") == "A"
            assert await link.read() == "second line"

        assert [await transport.query("B?"), await transport.query("C?")] == ["B", "C"]

        await transport.close()


async def test_a_message_based_instrument_is_cleared_when_opened() -> None:
    instrument = HislipInstrument()
    async with instrument.serve() as resource:
        transport = Connector().transport("voa", resource)
        await transport.open()
        await transport.close()

    assert instrument.clears == 1


async def test_a_message_based_instrument_that_vanishes_is_found_again() -> None:
    instrument = HislipInstrument()
    async with instrument.serve() as resource:
        transport = Connector().transport("voa", resource)
        await transport.open()
        instrument.drop_link()

        assert await transport.query("A?") == "A"

        await transport.close()


async def test_a_serial_port_can_be_reached_through_visa() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    transport = Connector().transport("epc", f"visa://ASRL{os.ttyname(slave)}::INSTR")
    await transport.open()
    async with transport.exclusive() as link:
        await link.write("V?")
        assert os.read(master, 100) == b"V?\n"
        os.write(master, b"CH1 +0000\r\nDone\r\n")

        assert [await link.read(), await link.read()] == ["CH1 +0000", "Done"]
    await transport.close()
    os.close(slave)
    os.close(master)
