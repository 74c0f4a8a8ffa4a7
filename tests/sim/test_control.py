import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.bench import SimulatedBench, SimulatedInstrument
from sim.control import answer_request, ask, serve_control
from sim.instruments.epc400 import Epc400Settings
from sim.record import Limits
from sim.virtual_time import run


def make_bench() -> SimulatedBench:
    epc = SimulatedInstrument("epc", Epc400Settings(), "pty", {"voltage": Limits(-5, 5)})
    return SimulatedBench([epc], seed=1)


class Served:
    def __init__(self, bench: SimulatedBench, path: Path, serving: "asyncio.Task[None]") -> None:
        self.bench = bench
        self.path = path
        self.serving = serving

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.path, request)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Served]:
    bench = make_bench()
    path = tmp_path / "control"
    async with bench.serving(tmp_path), asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        serving = tasks.create_task(serve_control(bench, path, ready))
        await ready.wait()
        yield Served(bench, path, serving)
        serving.cancel()


async def test_the_truth_is_what_the_bench_knows(control: Served) -> None:
    truth = await control.ask({"do": "truth"})

    assert truth["qber_floor"] == control.bench.twin.qber_floor()
    assert truth["shutter_open"] is False
    assert truth["faults"] == {"epc": []}


async def test_a_cable_can_be_pulled_and_put_back(control: Served) -> None:
    link = control.path.parent / "epc"

    pulled = await control.ask({"do": "fault", "instrument": "epc", "kind": "unplug"})
    assert pulled == {"faults": {"epc": ["unplug"]}}
    assert not link.is_symlink()

    plugged = await control.ask({"do": "fault", "instrument": "epc", "kind": "plug"})
    assert plugged == {"faults": {"epc": []}}
    assert link.is_symlink()


async def test_any_fault_can_be_switched_off_again(control: Served) -> None:
    stall = {"do": "fault", "instrument": "epc", "kind": "stall"}

    assert await control.ask(stall) == {"faults": {"epc": ["stall"]}}
    assert await control.ask(stall | {"on": False}) == {"faults": {"epc": []}}


async def test_the_record_can_be_read_on_from_where_one_stopped(control: Served) -> None:
    control.bench.record.tell(1.5, "epc", "voltage", 2.5, "V", 3)

    answer = await control.ask({"do": "record"})

    entry = {
        "time_s": 1.5,
        "instrument": "epc",
        "what": "voltage",
        "value": 2.5,
        "unit": "V",
        "channel": 3,
    }
    assert answer == {"entries": [entry], "first": 0, "next": 1}
    assert await control.ask({"do": "record", "since": 1}) == {"entries": [], "first": 1, "next": 1}


async def test_the_fibre_can_be_moved(control: Served) -> None:
    before = (await control.ask({"do": "truth"}))["qber"]
    control.bench.twin.attenuator.set_shutter(True, 0.0)

    assert await control.ask({"do": "jump", "rotation_rad": [1, 0.5, 0]}) == {"done": "jump"}
    assert (await control.ask({"do": "truth"}))["qber"] != before


async def test_the_channel_can_be_cut_and_lit_from_outside(control: Served) -> None:
    assert await control.ask({"do": "bend", "loss_db": 100}) == {"done": "bend"}
    assert await control.ask({"do": "illuminate", "stray_hz": 2.5e4}) == {"done": "illuminate"}

    channel = control.bench.twin.channel
    now_s = (await control.ask({"do": "truth"}))["time_s"]
    assert (channel.loss_db(now_s), channel.stray_hz(now_s)) == (100.0, 2.5e4)


async def test_stop_ends_the_service_and_removes_the_socket(control: Served) -> None:
    assert await control.ask({"do": "stop"}) == {"done": "stop"}

    await control.serving
    assert not control.path.exists()


async def test_a_client_that_hangs_up_or_stays_silent_disturbs_nobody(control: Served) -> None:
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(control.path))
    gone = socket.socket(socket.AF_UNIX)
    gone.connect(str(control.path))
    gone.sendall(b'{"do": "tru')
    gone.close()

    assert "qber" in await control.ask({"do": "truth"})
    silent.close()


async def test_an_endless_line_is_refused(control: Served) -> None:
    def send() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(control.path))
            client.sendall(b"x" * 70_000)
            with client.makefile("rb") as lines:
                return lines.readline()

    assert b"longer than 65536 bytes" in await asyncio.to_thread(send)


async def test_a_socket_left_over_from_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        serving = tasks.create_task(serve_control(make_bench(), path, ready))
        await ready.wait()
        assert await asyncio.to_thread(ask, path, {"do": "stop"}) == {"done": "stop"}
        await serving


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")

    with pytest.raises(OSError, match="in use"):
        await serve_control(make_bench(), path)

    assert path.read_text() == "precious"


def test_asking_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "nobody", {"do": "truth"})


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7", "a request is a JSON object"),
        (b"{}", "a request is a JSON object"),
        (b'{"do": "dance"}', "cannot do 'dance'; try truth, fault"),
        (b'{"do": 7}', "cannot do 7"),
        (b'{"do": "fault"}', "'fault' needs 'instrument' and 'kind'"),
        (b'{"do": "fault", "instrument": "x", "kind": "stall"}', "no instrument 'x'"),
        (b'{"do": "fault", "instrument": "epc", "kind": "x"}', "no fault 'x'"),
        (b'{"do": "fault", "instrument": "epc", "kind": "mute", "on": 1}', "true or false"),
        (b'{"do": "record", "since": -1}', "whole number"),
        (b'{"do": "record", "since": "x"}', "whole number"),
        (b'{"do": "record", "since": true}', "whole number"),
        (b'{"do": "bend"}', "needs a number 'loss_db'"),
        (b'{"do": "bend", "loss_db": -3}', "loss of -3 dB"),
        (b'{"do": "illuminate", "stray_hz": "x"}', "needs a number 'stray_hz'"),
        (b'{"do": "jump"}', "needs 'rotation_rad'"),
        (b'{"do": "jump", "rotation_rad": ["x"]}', "holds numbers"),
        (b'{"do": "jump", "rotation_rad": [1]}', "three finite components"),
        (b'{"do": "jump", "rotation_rad": [1, 1, 1e999]}', "three finite components"),
        (b'{"do": "jump", "rotation_rad": [0, 0, 1' + b"0" * 400 + b"]}", "too large"),
    ],
)
def test_what_is_wrong_with_a_request_is_answered_in_one_line(line: bytes, error: str) -> None:
    answer = run(answer_request(make_bench(), line))

    assert list(answer) == ["error"]
    assert error in answer["error"]
    assert "\n" not in json.dumps(answer)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_REQUESTS = st.fixed_dictionaries(
    {"do": st.sampled_from(["truth", "fault", "record", "jump", "stop"])},
    optional={
        "instrument": _JSON | st.just("epc"),
        "kind": _JSON | st.just("stall"),
        "on": _JSON,
        "since": _JSON,
        "rotation_rad": _JSON,
    },
)


@given(st.binary() | st.builds(lambda r: json.dumps(r).encode(), _JSON | _REQUESTS))
def test_no_request_upsets_it(line: bytes) -> None:
    assert isinstance(run(answer_request(make_bench(), line)), dict)
