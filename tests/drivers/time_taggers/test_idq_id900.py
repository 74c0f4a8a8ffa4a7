import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.errors import InstrumentError, RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Counts, PhotonCounter, TimeTagger
from drivers.time_taggers import idq_data_link, idq_id900
from drivers.time_taggers.idq_data_link import decode_stamps, parse_answer
from drivers.time_taggers.idq_id900 import Id900
from drivers.time_taggers.idq_id900_dialogue import (
    check_accepted,
    parse_count,
    parse_identity,
    parse_voltage,
)
from drivers.time_taggers.idq_id900_options import Id900Options
from drivers.transport.connect import Connector
from drivers.transport.memory import MemoryChannel

MEMORY: dict[str, Any] = {
    "data_link": "memory:datalink",
    "stream_resources": {1: "memory:stream-1", 2: "memory:stream-2"},
    "inputs": (1, 2),
    "controller_address": "10.98.99.7",
}


class MessagePort:
    """A message channel that answers each request through a function."""

    def __init__(self, answer: Callable[[str], str | None]) -> None:
        self._answer = answer
        self._arrived = asyncio.Queue[bytes]()

    async def open(self) -> None:
        self._arrived = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        reply = self._answer(data.decode())
        if reply is not None:
            self._arrived.put_nowait(reply.encode())

    async def receive(self) -> bytes:
        return await self._arrived.get()

    async def close(self) -> None:
        pass


class Unit:
    """A time controller and its data link service, as far as the driver asks.

    Attributes:
        requests: Everything asked on the main port.
        link_requests: Everything asked of the data link service.
        replies: Replies that differ from the usual, by request; None stays silent.
        successive: Replies that are given once each, by request.
        link_replies: As ``replies``, for the data link service.
        tags: Stamps of each input in one acquisition.
        ends_acquisitions: An empty message comes after each acquisition.
        leftover: What an earlier acquisition left, sent on stream 1 as soon as it is up.
        mark: Value of delay block 8, ps.
        measuring: Set when a measurement has begun.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.link_requests: list[str] = []
        self.replies: dict[str, str | None] = {}
        self.successive: dict[str, list[str]] = {}
        self.link_replies: dict[str, str] = {}
        self.tags: dict[int, bytes] = {1: stamps(5, 7), 2: b""}
        self.ends_acquisitions = True
        self.leftover = b""
        self.mark = "0"
        self.measuring = asyncio.Event()
        self.streams = {1: MemoryChannel(), 2: MemoryChannel()}

    def connector(self) -> Connector:
        return Connector(
            memory={
                "main": lambda: MessagePort(self.answer),
                "datalink": lambda: MessagePort(self.answer_link),
                "stream-1": lambda: self.streams[1],
                "stream-2": lambda: self.streams[2],
            }
        )

    def answer(self, request: str) -> str | None:
        self.requests.append(request)
        if self.successive.get(request):
            return self.successive[request].pop(0)
        if request in self.replies:
            return self.replies[request]
        if request == "REC:PLAY":
            self.play()
        if request == "RAW1:SEND ON" and self.leftover:
            self.streams[1].deliver(self.leftover)
            self.streams[1].deliver(b"")
        if request in ("REC:PLAY", "STARt:COUNter:RESEt"):
            self.measuring.set()
        if request.endswith("?"):
            return {
                "*IDN?": "ID Quantique,ID900,1907001D010,1.24.0",
                "REC:STAGe?": "IDLE",
                "DELAy8:VALUe?": f"{self.mark}TB",
            }.get(request, "0")
        if request.startswith("DELAy8:VALUe"):
            self.mark = request.split()[1]
        return "Counter value set to 0 " if request.endswith("RESEt") else "Value set to x"

    def answer_link(self, request: str) -> str:
        self.link_requests.append(request)
        if request in self.link_replies:
            return self.link_replies[request]
        match request.split():
            case ["list"]:
                return "[]"
            case ["start-stream", _, address, _, number, *_]:
                return json.dumps({"id": f"{address}:{5555 + int(number)}"})
            case ["status", *_]:
                return json.dumps({"acquisitions_count": 1, "inactivity": 0.2, "errors": []})
            case ["stop", _, stream] if not self.ends_acquisitions:
                self.streams[int(stream[-1]) - 5].deliver(b"")
        return "{}"

    def play(self) -> None:
        for number, data in self.tags.items():
            if data:
                self.streams[number].deliver(data)
            if self.ends_acquisitions:
                self.streams[number].deliver(b"")


def stamps(*picoseconds: int) -> bytes:
    return np.array(picoseconds, "<u8").tobytes()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idq_id900, "STREAM_SETTLE_S", 0.01)
    monkeypatch.setattr(idq_id900, "ZERO_GRACE_S", 0.01)
    monkeypatch.setattr(idq_data_link, "REOPEN_PAUSE_S", 0.01)


@pytest.fixture
def unit() -> Unit:
    return Unit()


async def opened(unit: Unit, **options: Any) -> Id900:
    tagger = Id900("tagger", "memory:main", Id900Options.model_validate(options), unit.connector())
    await tagger.open()
    unit.requests.clear()
    unit.link_requests.clear()
    return tagger


async def test_open_identifies_the_unit_and_sets_up_its_inputs(unit: Unit) -> None:
    unit.replies |= {"STARt:THREshold?": "0.999424V", "INPUt2:THREshold?": "499.712 mV"}
    options = Id900Options(
        inputs=(2,),
        start_threshold_v=1.0,
        start_edge="RISING",
        input_thresholds_v={2: 0.5},
        input_edges={2: "FALLING"},
        input_delays_ps={2: 1200},
    )
    tagger = Id900("tagger", "memory:main", options, unit.connector())

    identity = await tagger.open()

    assert str(identity) == "ID Quantique ID900, serial 1907001D010, firmware 1.24.0"
    assert isinstance(tagger, PhotonCounter)
    assert isinstance(tagger, TimeTagger)
    assert unit.requests == [
        "*IDN?",
        "STARt:ENABle ON",
        "STARt:EDGE RISING",
        "STARt:THREshold 1.0000V",
        "STARt:THREshold?",
        "INPUt2:ENABle ON",
        "INPUt2:EDGE FALLING",
        "INPUt2:THREshold 0.5000V",
        "INPUt2:THREshold?",
        "DELAy2:INPOrt:LINK INPU2",
        "DELAy2:VALUe 1200",
        "DELAy8:VALUe 997",
    ]


async def test_a_threshold_that_reads_otherwise_is_an_error(unit: Unit) -> None:
    unit.replies["STARt:THREshold?"] = "0.500V"
    with pytest.raises(ReplyError, match=r"STARt threshold set to 1 V reads 0\.5 V"):
        await opened(unit, start_threshold_v=1.0)


async def test_another_model_is_named_as_such(unit: Unit) -> None:
    unit.replies["*IDN?"] = "Swabian,Time Tagger Ultra,1,1"
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(unit)


@pytest.mark.parametrize(
    "reply", ["ENAB SCPI_ERR_PARAM_TYPE", "SCPI_ERR_INVALID_CMD", "No connection"]
)
async def test_a_refused_set_is_a_rejection(unit: Unit, reply: str) -> None:
    unit.replies["INPUt1:ENABle ON"] = reply
    with pytest.raises(RejectedError) as caught:
        await opened(unit)
    assert (caught.value.sent, caught.value.received) == ("INPUt1:ENABle ON", reply)


async def test_a_set_that_is_not_confirmed_is_a_reply_error(unit: Unit) -> None:
    unit.replies["INPUt1:ENABle ON"] = "hm"
    with pytest.raises(ReplyError, match="not confirmed"):
        await opened(unit)


async def test_count_resets_start_last_and_reads_once_it_has_counted(
    unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idq_id900, "ZERO_GRACE_S", 10.0)
    tagger = await opened(unit)
    unit.successive["STARt:COUNter?"] = ["0", "0", "1000"]
    unit.replies |= {"INPUt1:COUNter?": "17", "INPUt3:COUNter?": "0"}

    assert await tagger.count(0.0101, (1, 3)) == Counts(0.011, {1: 17, 3: 0})
    assert unit.requests == [
        "DELAy8:VALUe?",
        "INPUt1:COUNter:MODE CYCLE",
        "INPUt1:COUNter:INTEgrationtime 11",
        "INPUt3:COUNter:MODE CYCLE",
        "INPUt3:COUNter:INTEgrationtime 11",
        "STARt:COUNter:MODE CYCLE",
        "STARt:COUNter:INTEgrationtime 11",
        "INPUt1:COUNter:RESEt",
        "INPUt3:COUNter:RESEt",
        "STARt:COUNter:RESEt",
        "STARt:COUNter?",
        "STARt:COUNter?",
        "STARt:COUNter?",
        "INPUt1:COUNter?",
        "INPUt3:COUNter?",
        "DELAy8:VALUe?",
    ]


async def test_counts_of_a_unit_that_restarted_meanwhile_are_not_returned(unit: Unit) -> None:
    tagger = await opened(unit)
    unit.successive["DELAy8:VALUe?"] = ["997TB", "0TB"]
    with pytest.raises(TransportError, match="restarted while it counted"):
        await tagger.count(0.01, (1, 2))


async def test_zeros_are_accepted_after_two_windows_where_start_is_silent(unit: Unit) -> None:
    tagger = await opened(unit)
    before_s = asyncio.get_running_loop().time()
    assert await tagger.count(0.02, (1, 2)) == Counts(0.02, {1: 0, 2: 0})
    assert asyncio.get_running_loop().time() - before_s >= 0.04


@pytest.mark.parametrize("duration_s", [0.0, 0.0005, 66.0, float("nan"), -1.0])
async def test_a_window_that_the_counters_do_not_have_sends_nothing(
    unit: Unit, duration_s: float
) -> None:
    tagger = await opened(unit)
    with pytest.raises(SettingError, match="duration"):
        await tagger.count(duration_s, (1,))
    assert not unit.requests


@pytest.mark.parametrize("inputs", [(), (1, 1), (3,)])
async def test_an_input_that_is_not_in_use_sends_nothing(unit: Unit, inputs: Any) -> None:
    tagger = await opened(unit, **MEMORY)
    for measure in (tagger.count, tagger.acquire):
        with pytest.raises(SettingError, match="are not some of 1, 2"):
            await measure(0.01, inputs)
    assert not unit.requests


async def test_acquire_follows_the_vendors_sequence(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)

    tags = await tagger.acquire(0.01, (1, 2))

    assert tags.duration_s == 0.01
    assert tags.since_sync_ps[1].tolist() == [5, 7]
    assert tags.since_sync_ps[2].tolist() == []
    assert tags.since_sync_ps[1].dtype == tags.since_sync_ps[2].dtype == np.uint64
    assert unit.requests == [
        "DELAy8:VALUe?",
        "REC:STOP",
        "REC:TRIG:ARM:MODE MANUal",
        "REC:ENABle ON",
        "REC:NUM 1",
        "REC:DURation 10000000000",
        "RAW1:SEND OFF",
        "RAW2:SEND OFF",
        "RAW1:REF:LINK STAR",
        "RAW1:STOP:LINK INPU1",
        "RAW1:ERRORS:CLEAR",
        "RAW1:SEND ON",
        "RAW2:REF:LINK STAR",
        "RAW2:STOP:LINK INPU2",
        "RAW2:ERRORS:CLEAR",
        "RAW2:SEND ON",
        "REC:PLAY",
        "REC:STAGe?",
        "RAW1:ERRORS?",
        "RAW2:ERRORS?",
    ]
    assert unit.link_requests[:3] == [
        "list",
        "start-stream --address 10.98.99.7 --channel 1 --stream-port 4242",
        "start-stream --address 10.98.99.7 --channel 2 --stream-port 4243",
    ]


async def test_streams_stay_up_while_the_inputs_stay_the_same(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    await tagger.acquire(0.01, (1, 2))
    unit.tags[1] = stamps(9)
    second = await tagger.acquire(0.01, (2, 1))
    assert second.since_sync_ps[1].tolist() == [9]
    assert unit.streams[1].opened == 1
    assert sum(request.startswith("start-stream") for request in unit.link_requests) == 2


async def test_other_inputs_need_streams_of_their_own(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    await tagger.acquire(0.01, (1, 2))
    unit.link_replies["list"] = '["10.98.99.7:5556", "10.98.99.7:5557", "10.0.0.1:5556"]'
    unit.link_requests.clear()
    await tagger.acquire(0.01, (2,))
    assert unit.link_requests[:3] == [
        "list",
        "stop --id 10.98.99.7:5556",
        "stop --id 10.98.99.7:5557",
    ]


async def test_a_delay_is_taken_into_the_time_stamps(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY, input_delays_ps={1: 10})
    await tagger.acquire(0.01, (1,))
    assert "RAW1:STOP:LINK DELA1" in unit.requests


async def test_stamps_of_a_broken_acquisition_are_never_counted(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY, transfer_timeout_s=0.02)
    unit.ends_acquisitions = False
    with pytest.raises(TransportError, match=r"inputs \[1, 2\] were not complete"):
        await tagger.acquire(0.01, (1, 2))

    unit.ends_acquisitions = True
    unit.leftover = stamps(1, 2, 3)
    second = await tagger.acquire(0.01, (1, 2))

    assert second.since_sync_ps[1].tolist() == [5, 7]
    assert unit.streams[1].opened == 2


async def test_a_stream_that_ends_only_when_stopped_is_stopped_each_time(unit: Unit) -> None:
    unit.ends_acquisitions = False
    tagger = await opened(unit, **MEMORY, end_mark="stream")
    for _ in range(2):
        tags = await tagger.acquire(0.01, (1, 2))
        assert tags.since_sync_ps[1].tolist() == [5, 7]
    assert unit.link_requests.count("stop --id 10.98.99.7:5556") == 2
    assert unit.streams[1].opened == 1


async def test_a_message_that_is_no_whole_stamps_is_a_reply_error(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    unit.tags[2] = b"\x01\x02\x03"
    with pytest.raises(ReplyError, match="3 bytes are no whole number"):
        await tagger.acquire(0.01, (1, 2))


async def test_a_stream_that_breaks_ends_the_acquisition_at_once(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    unit.ends_acquisitions = False

    async def cut() -> None:
        await unit.measuring.wait()
        unit.streams[2].hang_up("cable pulled")

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        group.create_task(cut())
        with pytest.raises(TransportError, match="stream of input 2 broke: cable pulled"):
            await tagger.acquire(30.0, (1, 2))


async def test_lost_stamps_make_the_acquisition_fail(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    unit.replies["RAW2:ERRORS?"] = "3"
    with pytest.raises(ReplyError, match="3 errors in the time stamps of input 2"):
        await tagger.acquire(0.01, (1, 2))


async def test_stamps_lost_by_the_data_link_make_the_acquisition_fail(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    unit.link_replies["status --id 10.98.99.7:5557"] = '{"errors": [{"description": "overflow"}]}'
    with pytest.raises(ReplyError, match="overflow"):
        await tagger.acquire(0.01, (1, 2))


async def test_more_stamps_than_memory_is_for_are_refused(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY, max_tags=1)
    with pytest.raises(ReplyError, match="more than 1 time stamps on input 1"):
        await tagger.acquire(0.01, (1, 2))


async def test_a_refusal_of_the_data_link_is_told_in_its_words(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    request = "start-stream --address 10.98.99.7 --channel 1 --stream-port 4242"
    unit.link_replies[request] = '{"error": {"description": "channel already in use"}}'
    with pytest.raises(RejectedError, match="channel already in use"):
        await tagger.acquire(0.01, (1, 2))


async def test_acquire_without_a_data_link_says_what_is_missing(unit: Unit) -> None:
    tagger = await opened(unit)
    with pytest.raises(SettingError, match="need the option data_link"):
        await tagger.acquire(0.01, (1,))


@pytest.mark.parametrize("measure", ["count", "acquire"])
async def test_make_safe_breaks_off_what_is_measuring(unit: Unit, measure: str) -> None:
    tagger = await opened(unit, **MEMORY)

    async def safe_when_started() -> None:
        await unit.measuring.wait()
        await tagger.make_safe()

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        group.create_task(safe_when_started())
        with pytest.raises(TransportError, match="cut short"):
            await getattr(tagger, measure)(30.0, (1, 2))
    assert unit.requests[-3:] == ["REC:STOP", "RAW1:SEND OFF", "RAW2:SEND OFF"]


@pytest.mark.parametrize("measure", ["count", "acquire"])
async def test_make_safe_ends_what_is_just_being_started(unit: Unit, measure: str) -> None:
    tagger = await opened(unit, **MEMORY)

    async def safe_at_once() -> None:
        while not unit.requests:
            await asyncio.sleep(0)
        await tagger.make_safe()

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        group.create_task(safe_at_once())
        with pytest.raises(TransportError, match="cut short"):
            await getattr(tagger, measure)(30.0, (1, 2))


async def test_make_safe_tries_every_step_and_reports_the_first_failure(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    unit.replies["REC:STOP"] = "SCPI_ERR_INVALID_CMD"
    with pytest.raises(RejectedError):
        await tagger.make_safe()
    assert unit.requests == ["REC:STOP", "RAW1:SEND OFF", "RAW2:SEND OFF", "REC:STOP"]


async def test_a_cancelled_acquisition_leaves_nothing_open(unit: Unit) -> None:
    tagger = await opened(unit, **MEMORY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await tagger.acquire(30.0, (1, 2))
    assert (await tagger.acquire(0.01, (1, 2))).since_sync_ps[1].tolist() == [5, 7]
    assert unit.streams[1].opened == 2


async def test_a_lost_reply_leaves_the_unit_set_up_again_before_the_next_request(
    unit: Unit,
) -> None:
    tagger = await opened(unit, inputs=(1,), timeout_s=0.02)
    unit.replies["STARt:COUNter:RESEt"] = None
    with pytest.raises(TransportError, match="state unknown"):
        await tagger.count(0.01, (1,))
    unit.requests.clear()
    await tagger.identify()
    assert unit.requests == [
        "*IDN?",
        "STARt:ENABle ON",
        "INPUt1:ENABle ON",
        "DELAy8:VALUe 997",
        "*IDN?",
    ]


@pytest.mark.parametrize("measure", ["count", "acquire"])
async def test_a_unit_that_restarted_unnoticed_is_set_up_again(unit: Unit, measure: str) -> None:
    tagger = await opened(unit, **MEMORY)
    await getattr(tagger, measure)(0.01, (1, 2))
    unit.mark = "0"
    unit.requests.clear()
    await getattr(tagger, measure)(0.01, (1, 2))
    assert unit.requests[:3] == [
        "DELAy8:VALUe?",
        "STARt:ENABle ON",
        "INPUt1:ENABle ON",
    ]
    assert ("RAW1:SEND ON" in unit.requests) == (measure == "acquire")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inputs": (1, 5)}, "out of 1, 2, 3, 4"),
        ({"inputs": (1,), "input_edges": {2: "RISING"}}, "which are not in use"),
        ({"input_edges": {1: "UP"}}, "RISING"),
        ({"input_thresholds_v": {1: float("nan")}}, "input_thresholds_v"),
        ({"stream_ports": {1: 4243}}, "share one of the stream ports"),
        ({"data_link": "memory:datalink"}, "set stream_host, or stream_resources"),
        ({"max_tags": 0}, "max_tags"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Id900Options.model_validate(options)


def test_streams_are_where_the_data_link_is_unless_told_otherwise() -> None:
    options = Id900Options.model_validate(
        {
            "data_link": "zmq://lab-pc:6060",
            "stream_ports": {"2": 5000},
            "stream_resources": {"3": "zmq-pair://other:6003"},
        }
    )
    assert [options.stream_resource(number) for number in options.inputs] == [
        "zmq-pair://lab-pc:4242",
        "zmq-pair://lab-pc:5000",
        "zmq-pair://other:6003",
        "zmq-pair://lab-pc:4245",
    ]
    assert options.stream_port(3) == 6003


@pytest.mark.parametrize(
    ("reply", "serial"),
    [
        ("IDQ Time Controller ID1000 Serial: 2109001", "2109001"),
        ("Time Controller S/N 77", "77"),
        ("ID900", "unknown"),
    ],
)
def test_the_punctuation_of_the_identity_does_not_matter(reply: str, serial: str) -> None:
    assert parse_identity("tagger", reply).serial == serial


@given(st.text())
def test_any_reply_parses_or_is_an_instrument_error(reply: str) -> None:
    parsers: list[Callable[[], object]] = [
        lambda: parse_identity("tagger", reply),
        lambda: parse_count("tagger", "?", reply),
        lambda: parse_voltage("tagger", "?", reply),
        lambda: check_accepted("tagger", "?", reply),
        lambda: parse_answer("tagger", "?", reply),
    ]
    for parse in parsers:
        try:
            parse()
        except InstrumentError:
            continue


@given(st.binary())
def test_any_message_is_whole_stamps_or_an_instrument_error(message: bytes) -> None:
    try:
        decoded = decode_stamps("tagger", message)
    except InstrumentError:
        assert len(message) % 8
    else:
        assert decoded.astype("<u8").tobytes() == message


def test_deeply_nested_json_is_a_reply_error() -> None:
    with pytest.raises(ReplyError, match="no JSON"):
        parse_answer("tagger", "list", "[" * 100_000)
