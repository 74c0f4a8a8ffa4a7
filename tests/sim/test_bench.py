import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
import zmq
import zmq.asyncio

from sim.bench import SimulatedBench, SimulatedInstrument
from sim.endpoints.memory import MemoryChannel
from sim.instruments.epc400 import Epc400Settings
from sim.instruments.id900 import Id900Settings
from sim.instruments.n77xx import N77xxSettings
from sim.instruments.state_source import StateSourceSettings
from sim.record import Limits
from sim.virtual_time import run

INSTRUMENTS = (
    SimulatedInstrument("epc", Epc400Settings(), "pty", {"voltage": Limits(-5, 5)}),
    SimulatedInstrument("voa", N77xxSettings(), "visa", {"attenuation": Limits(15, 45)}),
    SimulatedInstrument("tagger", Id900Settings(), "zmq"),
    SimulatedInstrument("alice", StateSourceSettings(), "tcp"),
)


def make_bench(seed: int = 1, **options: Any) -> SimulatedBench:
    return SimulatedBench(INSTRUMENTS, seed=seed, **options)


class Client:
    """One open in-memory channel of text."""

    def __init__(self, channel: MemoryChannel, terminator: str) -> None:
        self._channel = channel
        self._terminator = terminator

    async def tell(self, text: str) -> None:
        await self._channel.send((text + self._terminator).encode())

    async def ask(self, text: str) -> str:
        await self.tell(text)
        answer = b""
        while not answer.endswith(self._terminator.encode()):
            answer += await self._channel.receive()
        return answer.decode().removesuffix(self._terminator)

    async def message(self, text: str) -> str:
        await self._channel.send(text.encode())
        return (await self._channel.receive()).decode()

    async def receive(self) -> bytes:
        return await self._channel.receive()


class Lab:
    """Clients of every instrument of an in-memory bench."""

    def __init__(self, bench: SimulatedBench) -> None:
        self._channels = bench.in_memory().channels

    async def open(self, name: str, terminator: str = "\n") -> Client:
        channel = self._channels[name]()
        await channel.open()
        return Client(channel, terminator)


TAGGER_SETUP = (
    "STAR:ENAB ON",
    "REC:TRIG:ARM:MODE MANUal",
    "REC:ENABle ON",
    "REC:STOP",
    "REC:NUM 1",
    "REC:DUR 100000000000",
    *(
        command
        for n in (1, 2, 3, 4)
        for command in (
            f"INPU{n}:ENAB ON",
            f"RAW{n}:REF:LINK STAR",
            f"RAW{n}:STOP:LINK INPU{n}",
            f"RAW{n}:SEND ON",
        )
    ),
)


async def session(bench: SimulatedBench) -> list[bytes]:
    """Open the shutter, set voltages, take time stamps; return all bytes that came back."""
    lab = Lab(bench)
    epc, voa = await lab.open("epc/main", "\r\n"), await lab.open("voa/main")
    main, link = await lab.open("tagger/main"), await lab.open("tagger/datalink")
    streams = [await lab.open(f"tagger/stream-{n}") for n in (1, 2, 3, 4)]
    await voa.tell(":INP1:ATT 20;:OUTP1:STAT 1")
    await epc.tell("V1,1000")
    seen = [await epc.receive(), await epc.receive()]
    await asyncio.sleep(0.1)  # the shutter opens slowly
    seen += [(await main.message(command)).encode() for command in TAGGER_SETUP]
    for n in (1, 2, 3, 4):
        request = f"start-stream --address a --channel {n} --stream-port {4241 + n}"
        seen += [(await link.message(request)).encode()]
    seen += [(await main.message("REC:PLAY")).encode()]
    for stream in streams:
        while data := await stream.receive():
            seen.append(data)
    return seen


def test_every_instrument_answers_in_memory() -> None:
    async def main() -> None:
        lab = Lab(make_bench())
        epc, voa = await lab.open("epc/main", "\r\n"), await lab.open("voa/main")
        tagger, alice = await lab.open("tagger/main"), await lab.open("alice/main")
        assert await epc.ask("SN?") == "SN?"
        assert (await voa.ask("*IDN?")).startswith("Keysight")
        assert (await tagger.message("*IDN?")).startswith("ID Quantique")
        assert await alice.ask("STATE?") == "PATTERN"

    run(main())


def test_resources_name_every_port_in_memory() -> None:
    resources = make_bench().in_memory().resources

    assert resources["epc"] == {"main": "memory:epc/main"}
    assert set(resources["tagger"]) == {
        "main",
        "datalink",
        "stream-1",
        "stream-2",
        "stream-3",
        "stream-4",
    }


def test_commands_act_on_the_one_twin() -> None:
    async def main() -> None:
        bench = make_bench()
        await session(bench)
        await (await Lab(bench).open("alice/main")).tell("STATE D")

        truth = bench.truth()

        assert truth["attenuation_db"] == 20
        assert truth["shutter_open"] is True
        assert truth["drives"] == {"1": 1.0, "2": 0.0, "3": 0.0, "4": 0.0}
        assert truth["state"] == "D"
        assert truth["detection_rate_hz"] > 1e5
        assert truth["excess_pp"] == pytest.approx(100 * (truth["qber"] - truth["qber_floor"]))
        assert truth["violations"] == 0
        assert json.loads(json.dumps(truth)) == truth

    run(main())


def test_time_stamps_carry_the_photons_of_the_twin() -> None:
    bench = make_bench()
    seen = run(session(bench))

    tags = sum(len(data) // 8 for data in seen if len(data) > 1000)

    assert tags == pytest.approx(0.1 * bench.twin.detection_rate_hz(0.2), rel=0.1)


def test_the_same_seed_and_requests_give_the_same_bytes() -> None:
    first, second, other = (run(session(make_bench(seed))) for seed in (3, 3, 4))

    assert first == second
    assert first != other


def test_hours_pass_in_a_blink() -> None:
    async def main() -> None:
        bench = make_bench()
        lab = Lab(bench)
        epc, main = await lab.open("epc/main", "\r\n"), await lab.open("tagger/main")
        await main.message("STAR:ENAB ON;:INPU1:ENAB ON")
        for n in range(12):
            await asyncio.sleep(3600)
            await epc.tell(f"V1,{n}")
            assert int(await main.message("INPU1:COUN?")) > 0
        assert bench.truth()["time_s"] == 12 * 3600

    run(main())


def test_a_running_total_outlasts_an_idle_ten_minutes() -> None:
    async def main() -> None:
        main = await Lab(make_bench()).open("tagger/main")
        await main.message("INPU1:ENAB ON;COUN:MODE ACCUM;:INPU2:ENAB ON;COUN:MODE ACCUM")
        await asyncio.sleep(700)
        darks = [int(await main.message(f"INPU{n}:COUN?")) for n in (1, 2)]
        assert darks == pytest.approx([28_000, 28_000], rel=0.05)

    run(main())


@pytest.mark.parametrize(
    ("instrument", "terminator", "command"),
    [("epc", "\r\n", "V1,5001"), ("voa", "\n", ":INP1:ATT 10"), ("voa", "\n", ":INP1:ATT 46")],
)
def test_a_command_outside_its_limits_is_a_violation(
    instrument: str, terminator: str, command: str
) -> None:
    async def main() -> dict[str, Any]:
        bench = make_bench()
        await (await Lab(bench).open(f"{instrument}/main", terminator)).tell(command)
        return bench.truth()

    truth = run(main())

    assert truth["violations"] == 1
    assert truth["violation_list"][0]["instrument"] == instrument


def test_too_much_light_on_the_detectors_is_a_violation_once() -> None:
    async def main() -> dict[str, Any]:
        bench = make_bench(ceiling_hz=1e5)
        voa = await Lab(bench).open("voa/main")
        await voa.tell(":INP1:ATT 30;:OUTP1:STAT 1")
        await asyncio.sleep(1)
        assert bench.truth()["violations"] == 0
        await voa.tell(":INP1:ATT:SPE 1;:INP1:ATT 15")
        for _ in range(5):
            await asyncio.sleep(5)
            await voa.ask("*OPC?")
        return bench.truth()

    truth = run(main())

    assert truth["detection_rate_hz"] > 5e5
    assert [each["instrument"] for each in truth["violation_list"]] == ["detectors"]


def test_light_above_the_ceiling_counts_even_if_the_next_command_ends_it() -> None:
    async def main() -> dict[str, Any]:
        bench = make_bench(ceiling_hz=1e5)
        voa = await Lab(bench).open("voa/main")
        await voa.tell(":INP1:ATT 20;:OUTP1:STAT 1")
        await asyncio.sleep(1)
        await voa.tell(":OUTP1:STAT 0")
        return bench.truth()

    assert run(main())["violations"] == 1


def test_a_moved_fibre_turns_the_polarization() -> None:
    async def main() -> tuple[float, float]:
        bench = make_bench()
        await session(bench)
        before = bench.truth()["qber"]
        bench.jump([1.0, 0.5, 0.0])
        return before, bench.truth()["qber"]

    before, after = run(main())

    assert abs(after - before) > 0.01


@pytest.mark.parametrize("vector", [[], [1, 2], [0, 0, float("nan")], [0, 0, float("inf")]])
def test_a_jump_needs_three_finite_numbers(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="three finite"):
        make_bench().jump(vector)


async def test_an_unknown_fault_or_instrument_is_refused() -> None:
    bench = make_bench()

    with pytest.raises(ValueError, match="no instrument 'laser'; there are epc, voa"):
        await bench.fault("laser", "stall")
    with pytest.raises(ValueError, match="no fault 'explode'; there are unplug, stall"):
        await bench.fault("epc", "explode")


@pytest.mark.parametrize(
    ("settings", "transport"),
    [(Id900Settings(), "pty"), (Epc400Settings(), "zmq")],
)
def test_an_instrument_on_a_link_it_does_not_have_is_refused(settings: Any, transport: Any) -> None:
    with pytest.raises(ValueError, match="cannot be reached by"):
        SimulatedInstrument("odd", settings, transport)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (SimulatedInstrument("epc", N77xxSettings(), "tcp"), "share a name"),
        (
            SimulatedInstrument("epc-2", Epc400Settings(), "pty"),
            "both act on",
        ),
    ],
)
def test_two_instruments_need_names_and_parts_of_the_link_of_their_own(
    second: SimulatedInstrument, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        SimulatedBench([INSTRUMENTS[0], second])


# In real time, on pseudo-terminals and sockets


def ask_serial(path: str, question: bytes, lines: int) -> list[bytes]:
    with serial.Serial(path, timeout=2) as port:
        port.write(question)
        return [port.readline() for _ in range(lines)]


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def ask_tcp(resource: str, question: bytes) -> bytes:
    host, port = resource.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(question)
    async with asyncio.timeout(5):
        answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


class Zmq:
    """Sockets that are closed when the test ends."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._sockets: list[zmq.asyncio.Socket] = []

    def connect(self, resource: str) -> zmq.asyncio.Socket:
        scheme, address = resource.split("://")
        socket = self._context.socket(zmq.PAIR if scheme == "zmq-pair" else zmq.REQ)
        socket.connect(f"tcp://{address}")
        self._sockets.append(socket)
        return socket

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.term()


@pytest.fixture
async def sockets() -> Any:
    sockets = Zmq()
    yield sockets
    sockets.close()


async def request(socket: zmq.asyncio.Socket, text: str) -> str:
    async with asyncio.timeout(5):
        await socket.send(text.encode())
        return (await socket.recv()).decode()


async def test_every_instrument_is_served_where_the_resources_say(
    tmp_path: Path, sockets: Zmq
) -> None:
    async with make_bench().serving(tmp_path) as resources:
        assert resources["epc"] == {"main": f"serial://{tmp_path}/epc"}
        assert resources["voa"]["main"].startswith("visa://TCPIP0::127.0.0.1::")
        lines = await asyncio.to_thread(ask_serial, str(tmp_path / "epc"), b"V?\r\n", 3)
        assert lines[0::2] == [b"V?\r\n", b"Done\r\n"]
        assert (await ask_tcp(resources["voa"]["tcp"], b"*IDN?\n")).startswith(b"Keysight")
        assert await ask_tcp(resources["alice"]["main"], b"STATE?\n") == b"PATTERN\n"
        main = sockets.connect(resources["tagger"]["main"])
        assert (await request(main, "*IDN?")).startswith("ID Quantique")
    assert files_in(tmp_path) == []


async def test_time_stamps_come_over_the_sockets(tmp_path: Path, sockets: Zmq) -> None:
    bench = make_bench()
    async with bench.serving(tmp_path) as resources:
        tagger = resources["tagger"]
        main, link = sockets.connect(tagger["main"]), sockets.connect(tagger["datalink"])
        stream = sockets.connect(tagger["stream-2"])
        await ask_tcp(resources["voa"]["tcp"], b":INP1:ATT 20;:OUTP1:STAT 1;*OPC?\n")
        for command in TAGGER_SETUP:
            await request(main, command)
        port = tagger["stream-2"].rsplit(":", 1)[1]
        request_ = f"start-stream --address a --channel 2 --stream-port {port}"
        assert json.loads(await request(link, request_)) == {"id": "a:5557"}
        await request(main, "REC:PLAY")
        async with asyncio.timeout(5):
            tags = np.frombuffer(await stream.recv(), "<u8")
            end = await stream.recv()
    assert end == b""
    assert tags.size > 1000
    assert tags.max() < bench.twin.sync_period_ps


async def test_a_stream_port_that_is_not_served_is_refused(tmp_path: Path, sockets: Zmq) -> None:
    async with make_bench().serving(tmp_path) as resources:
        link = sockets.connect(resources["tagger"]["datalink"])

        answer = await request(link, "start-stream --address a --channel 2 --stream-port 1")

    assert "cannot open stream port 1" in answer


async def test_a_pulled_cable_comes_back_at_the_same_place(tmp_path: Path) -> None:
    bench, path = make_bench(), tmp_path / "epc"
    async with bench.serving(tmp_path) as resources:
        await bench.fault("epc", "unplug")
        await bench.fault("voa", "unplug")
        assert not path.is_symlink()
        with pytest.raises(ConnectionRefusedError):
            await ask_tcp(resources["voa"]["tcp"], b"*IDN?\n")
        assert bench.truth()["faults"]["epc"] == ["unplug"]

        await bench.fault("epc", "unplug", is_on=False)
        await bench.fault("voa", "unplug", is_on=False)

        lines = await asyncio.to_thread(ask_serial, str(path), b"V?\r\n", 3)
        assert lines[2] == b"Done\r\n"
        assert (await ask_tcp(resources["voa"]["tcp"], b"*IDN?\n")).startswith(b"Keysight")


async def test_a_power_cycle_ends_connections_and_restores_power_up_settings(
    tmp_path: Path,
) -> None:
    bench = make_bench()
    async with bench.serving(tmp_path) as resources:
        await ask_tcp(resources["voa"]["tcp"], b":INP1:ATT 20;:OUTP1:STAT 1;*OPC?\n")
        host, port = resources["voa"]["tcp"].removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        await bench.fault("voa", "power-cycle")

        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        assert await ask_tcp(resources["voa"]["tcp"], b":OUTP1:STAT?\n") == b"0\n"
        assert bench.truth()["faults"]["voa"] == []


async def test_what_ends_the_bench_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with make_bench().serving(tmp_path):
            raise KeyError("nothing to do with it")
    assert files_in(tmp_path) == []


async def test_cancelling_the_bench_leaves_nothing_behind(tmp_path: Path) -> None:
    served = asyncio.Event()

    async def serve() -> None:
        async with make_bench().serving(tmp_path):
            served.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(serve())
        await served.wait()
        task.cancel()

    assert task.cancelled()
    assert files_in(tmp_path) == []


def test_errors_of_in_memory_channels_are_of_the_callers_kind() -> None:
    class LinkError(Exception):
        pass

    async def main(make: Callable[[], MemoryChannel]) -> None:
        with pytest.raises(LinkError):
            await make().send(b"")

    run(main(make_bench().in_memory(LinkError).channels["epc/main"]))
