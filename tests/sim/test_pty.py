import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import serial

from sim.endpoints.pty import PtyEndpoint
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.state_source import StateSource
from sim.record import Record


class Encoder:
    def set_state(self, state: str, now_s: float) -> None: ...


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[PtyEndpoint]:
    instrument = ServedInstrument("alice", StateSource("alice", Encoder(), Record()), Clock())
    endpoint = PtyEndpoint(instrument, tmp_path / "alice")
    await endpoint.open()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(endpoint.serve())
        yield endpoint
        serving.cancel()
    await endpoint.close()


def ask(path: Path, question: bytes) -> bytes:
    with serial.Serial(str(path), timeout=2, exclusive=True) as port:
        port.write(question)
        return bytes(port.readline())


async def test_a_serial_client_gets_an_answer(line: PtyEndpoint) -> None:
    assert line.resource == f"serial://{line.path}"
    assert await asyncio.to_thread(ask, line.path, b"STATE?\n") == b"PATTERN\n"


async def test_bytes_pass_unchanged(line: PtyEndpoint) -> None:
    question = bytes(range(256)).replace(b"\n", b"") + b"\nERR?\n"

    assert await asyncio.to_thread(ask, line.path, question) == b'-113,"Undefined header"\n'


async def test_another_client_may_follow(line: PtyEndpoint) -> None:
    for _ in range(3):
        assert await asyncio.to_thread(ask, line.path, b"STATE?\n") == b"PATTERN\n"


async def test_nothing_echoes_before_a_client_has_opened_the_line(line: PtyEndpoint) -> None:
    master = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    os.close(master)

    assert await asyncio.to_thread(ask, line.path, b"ERR?\n") == b'0,"No error"\n'


async def test_pulling_the_cable_ends_reads_and_removes_the_path(line: PtyEndpoint) -> None:
    with serial.Serial(str(line.path), timeout=5) as port:
        reading = asyncio.get_running_loop().run_in_executor(None, port.read, 1)

        await line.close()

        with pytest.raises(serial.SerialException):
            await reading
    assert not line.path.is_symlink()


async def test_after_replugging_the_same_path_works_again(line: PtyEndpoint) -> None:
    await line.close()
    with pytest.raises(serial.SerialException):
        await asyncio.to_thread(ask, line.path, b"STATE?\n")

    await line.open()

    assert await asyncio.to_thread(ask, line.path, b"STATE?\n") == b"PATTERN\n"


async def test_a_client_that_does_not_read_loses_bytes_and_blocks_nobody(line: PtyEndpoint) -> None:
    with serial.Serial(str(line.path), timeout=2) as port:
        await asyncio.to_thread(port.write, b"*IDN?\n" * 5000)
        await asyncio.sleep(0.05)
        assert port.in_waiting < 5000 * len("Example,StateSource,0001,1.0\n")
        port.reset_input_buffer()

        await asyncio.to_thread(port.write, b"STATE?\n")

        answer = b""
        while not answer.endswith(b"PATTERN\n"):
            piece = await asyncio.to_thread(port.read, max(port.in_waiting, 1))
            assert piece
            answer += piece


async def test_a_client_that_reads_late_gets_every_byte(line: PtyEndpoint) -> None:
    with serial.Serial(str(line.path), timeout=2) as port:
        await asyncio.to_thread(port.write, b"*IDN?\n" * 2000)
        await asyncio.sleep(0.05)

        answers = await asyncio.to_thread(port.read, 2000 * len("Example,StateSource,0001,1.0\n"))

        assert answers.count(b"\n") == 2000


async def test_a_link_left_over_from_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.symlink_to("/dev/pts/99999")
    endpoint = PtyEndpoint(
        ServedInstrument("alice", StateSource("alice", Encoder(), Record()), Clock()), path
    )

    await endpoint.open()

    assert path.exists()
    await endpoint.close()
    await endpoint.close()


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "alice"
    path.write_text("precious")
    endpoint = PtyEndpoint(
        ServedInstrument("alice", StateSource("alice", Encoder(), Record()), Clock()), path
    )

    with pytest.raises(FileExistsError):
        await endpoint.open()

    assert path.read_text() == "precious"
    await endpoint.close()
