import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.errors import InstrumentError, RejectedError, ReplyError, SettingError, TransportError
from drivers.polarization_controllers.ozoptics_epc400 import (
    Epc400,
    Epc400Options,
    parse_is_constant,
    parse_voltages_mv,
)
from drivers.roles import PolarizationController
from drivers.transport.connect import Connector
from sim import virtual_time

ZERO = b"CH1 +0000 CH2 +0000 CH3 +0000 CH4 +0000"
SHEET = b"CH1 +0000 CH2 -1250 CH3 +0500 CH4 +5000"


def reply(command: bytes, *lines: bytes, end: bytes = b"Done") -> tuple[bytes, bytes]:
    return command + b"\r\n", b"".join(line + b"\r\n" for line in (command, *lines, end))


IDENTIFY = [reply(b"V?", ZERO), reply(b"SN?", b"12345"), reply(b"VER?", b"V2.1")]
OPEN = [*IDENTIFY, reply(b"M?", b"Mode: DC")]
BAD_LINES = ["", "CH1 +0000", "CH1 +0 CH2 +0 CH3 +0 CH4 +9999", "CH2 +0 CH1 +0 CH3 +0 CH4 +0"]


async def opened(wire: Any, **options: Any) -> Epc400:
    epc = Epc400("epc", "memory:wire", Epc400Options(**options), wire.connector)
    await epc.open()
    return epc


async def test_open_identifies_the_unit_by_its_four_voltages(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    epc = Epc400("epc", "memory:wire", Epc400Options(), wire.connector)

    identity = await epc.open()

    assert str(identity) == "OZ Optics EPC-400, serial 12345, firmware V2.1"
    assert isinstance(epc, PolarizationController)
    assert not wire.channel.remaining


async def test_open_stops_scrambling(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [*IDENTIFY, reply(b"M?", b"Mode: AC"), reply(b"MDC"), reply(b"M?", b"Mode: DC")]
    )
    await opened(wire)
    assert not wire.channel.remaining


async def test_open_reports_a_unit_that_keeps_scrambling(scripted: Callable[..., Any]) -> None:
    wire = scripted([*IDENTIFY, reply(b"M?", b"AC"), reply(b"MDC"), reply(b"M?", b"AC")])
    with pytest.raises(RejectedError, match="still scrambling"):
        await opened(wire)


async def test_a_serial_number_that_is_refused_does_not_stop_the_identification(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            reply(b"V?", ZERO),
            reply(b"SN?", end=b"Error!"),
            reply(b"VER?", b"1"),
            reply(b"M?", b"DC"),
        ]
    )
    epc = Epc400("epc", "memory:wire", Epc400Options(), wire.connector)
    assert (await epc.open()).serial == "unknown"


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    wire = scripted([reply(b"V?", b"+1.0000E+00")])
    with pytest.raises(ReplyError, match="is this the instrument you configured"):
        await opened(wire)


async def test_set_drives_sends_whole_millivolts_and_returns_what_was_read_back(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, reply(b"V2,-1250"), reply(b"V4,5000"), reply(b"V?", SHEET)])
    epc = await opened(wire)

    assert await epc.set_drives({2: -1.2502, 4: 5.0}) == {2: -1.25, 4: 5.0}
    assert not wire.channel.remaining


async def test_a_reply_in_pieces_is_put_together(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [*OPEN, (b"V?\r\n", [b"V?\r", b"\nCH1 +0000 CH2 -12", SHEET[17:] + b"\r\nDo", b"ne\r\n"])]
    )
    epc = await opened(wire)
    assert await epc.read_drives() == {1: 0.0, 2: -1.25, 3: 0.5, 4: 5.0}


async def test_a_unit_without_echo_is_understood(scripted: Callable[..., Any]) -> None:
    never_echoing = [(sent, answer.removeprefix(sent)) for sent, answer in OPEN]
    wire = scripted([*never_echoing, (b"V?\r\n", SHEET + b"\r\nDone\r\n")])
    epc = await opened(wire)
    assert (await epc.read_drives())[3] == 0.5


async def test_a_reply_that_echoes_another_command_is_not_taken(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"V?\r\n", b"V1,-5000\r\nDone\r\n"), *OPEN])
    epc = await opened(wire)
    with pytest.raises(ReplyError, match="echoes another command"):
        await epc.read_drives()


@pytest.mark.parametrize("voltage_v", [5.0006, -5.0006, float("nan"), float("inf")])
async def test_a_voltage_outside_the_instrument_range_sends_nothing(
    scripted: Callable[..., Any], voltage_v: float
) -> None:
    wire = scripted(OPEN)
    epc = await opened(wire)
    with pytest.raises(SettingError, match="outside -5 to 5 V"):
        await epc.set_drives({1: 0.0, 2: voltage_v})


async def test_configured_limits_hold(scripted: Callable[..., Any]) -> None:
    epc = await opened(scripted(OPEN), min_voltage_v=-1.0, max_voltage_v=1.0)
    with pytest.raises(SettingError, match="outside -1 to 1 V"):
        await epc.set_drives({1: 1.0004})


async def test_a_channel_that_is_not_in_use_is_refused(scripted: Callable[..., Any]) -> None:
    epc = await opened(scripted(OPEN), channels=(1, 2))
    with pytest.raises(SettingError, match="channel 3 is not in use"):
        await epc.set_drives({3: 0.0})


async def test_a_refused_channel_names_those_already_set(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, reply(b"V1,100"), reply(b"V2,200", end=b"Error!")])
    epc = await opened(wire)

    with pytest.raises(RejectedError, match="channels 1 are set already") as caught:
        await epc.set_drives({1: 0.1, 2: 0.2})

    assert caught.value.sent == "V2,200"
    assert caught.value.received == "Error!"


async def test_a_refusal_leaves_the_line_usable(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, reply(b"V1,100", end=b"Error!"), reply(b"V?", SHEET)])
    epc = await opened(wire)
    with pytest.raises(RejectedError):
        await epc.set_drives({1: 0.1})
    assert (await epc.read_drives())[2] == -1.25
    assert wire.channel.opened == 1


async def test_another_voltage_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, reply(b"V1,100"), reply(b"V?", ZERO)])
    epc = await opened(wire)
    with pytest.raises(ReplyError, match="channel 1 was set to 100 mV and reads 0 mV"):
        await epc.set_drives({1: 0.1})


async def test_a_lost_reply_to_a_write_leaves_the_state_unknown_and_is_not_repeated(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"V1,100\r\n", b"V1,100\r\n")])
    epc = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="state unknown"):
        await epc.set_drives({1: 0.1})
    assert not wire.channel.remaining


async def test_after_a_lost_reply_the_unit_is_identified_again_before_anything_else(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"V?\r\n", b"V?\r\nCH1 +00"), *OPEN, reply(b"V?", SHEET)])
    epc = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError):
        await epc.read_drives()

    assert (await epc.read_drives())[4] == 5.0
    assert wire.channel.opened == 2
    assert epc.health().reconnects == 1


async def test_a_power_cycle_is_reported_with_the_voltages_it_changed(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    wire = scripted(
        [
            *OPEN,
            reply(b"V1,100"),
            reply(b"V?", ZERO.replace(b"CH1 +0000", b"CH1 +0100")),
            (b"V?\r\n", None),
            *OPEN,
            reply(b"V?", ZERO),
        ]
    )
    epc = await opened(wire, timeout_s=0.02)
    await epc.set_drives({1: 0.1})
    with pytest.raises(TransportError):
        await epc.read_drives()
    await epc.read_drives()
    assert "voltages were" in caplog.text


async def test_endless_lines_end_in_an_error(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"V?\r\n", b"what?\r\n" * 40)])
    with pytest.raises(ReplyError, match="without 'Done'"):
        await opened(wire)


async def test_make_safe_takes_every_channel_to_rest_and_checks(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            reply(b"M?", b"DC"),
            reply(b"V1,250"),
            reply(b"V3,250"),
            reply(b"V?", b"CH1 +0250 CH2 +4000 CH3 +0250 CH4 +0000"),
        ]
    )
    epc = await opened(wire, channels=(1, 3), rest_voltage_v=0.25)
    await epc.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_goes_on_after_a_refused_channel_and_reports_it_at_the_end(
    scripted: Callable[..., Any],
) -> None:
    refused = reply(b"V1,0", end=b"Error!")
    wire = scripted(
        [*OPEN, reply(b"M?", b"DC"), refused, reply(b"V2,0"), reply(b"V?", ZERO), refused]
    )
    epc = await opened(wire, channels=(1, 2))
    with pytest.raises(RejectedError):
        await epc.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_sends_every_command_although_replies_are_lost(
    scripted: Callable[..., Any],
) -> None:
    round_one = [(command + b"\r\n", None) for command in (b"M?", b"V1,0", b"V2,0", b"V?")]
    round_two = [reply(b"M?", b"DC"), reply(b"V1,0"), reply(b"V2,0"), reply(b"V?", ZERO)]
    wire = scripted([*OPEN, *round_one, *IDENTIFY, *round_two])
    epc = await opened(wire, channels=(1, 2), timeout_s=0.02)
    await epc.make_safe()
    assert not wire.channel.remaining


async def test_an_actuator_writes_and_reads_its_own_channel(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, reply(b"V2,-1250"), reply(b"V?", SHEET), reply(b"V?", SHEET)])
    actuator = (await opened(wire)).actuators()["2"]
    assert (actuator.unit, actuator.minimum, actuator.maximum) == ("V", -5.0, 5.0)
    assert await actuator.write(-1.25) == -1.25
    assert await actuator.read() == -1.25


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_voltage_v": 2.0, "max_voltage_v": 1.0}, "must be below"),
        ({"max_voltage_v": 6.0}, "less than or equal to 5"),
        ({"min_voltage_v": 1.0}, "rest_voltage_v 0 lies outside"),
        ({"max_voltage_v": 1.0005}, "no multiple of 0.001 V"),
        ({"max_voltage_v": float("nan")}, "max_voltage_v"),
        ({"channels": (1, 1)}, "once"),
        ({"channels": (5,)}, "out of 1, 2, 3, 4"),
        ({"voltage": 1}, "Extra inputs"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Epc400Options(**options)


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_voltage_line_that_is_not_whole_is_refused(line: str) -> None:
    with pytest.raises(ReplyError):
        parse_voltages_mv("epc", [line])


def test_spacing_in_the_voltage_line_does_not_matter() -> None:
    line = "CH1+0001CH2 -2 CH3   3 CH 4  -0004"
    assert parse_voltages_mv("epc", [line]) == {1: 1, 2: -2, 3: 3, 4: -4}


@given(st.lists(st.text()))
def test_any_text_is_voltages_or_an_instrument_error(lines: list[str]) -> None:
    for parse in (parse_voltages_mv, parse_is_constant):
        try:
            parse("epc", lines)
        except InstrumentError:
            continue


class AnyReplies:
    """A unit that answers every command with the next of some bytes, or not at all."""

    def __init__(self, replies: list[bytes]) -> None:
        self._replies = replies
        self._arrived = asyncio.Queue[bytes]()

    async def open(self) -> None:
        self._arrived = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        if self._replies and (answer := self._replies.pop(0)):
            self._arrived.put_nowait(answer)

    async def receive(self) -> bytes:
        return await self._arrived.get()

    async def close(self) -> None:
        pass


PLAUSIBLE = st.sampled_from([answer for _, answer in OPEN] + [b"Done\r\n", b"Error!\r\n"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), PLAUSIBLE), max_size=12))
def test_any_replies_lead_to_an_instrument_error_or_none(replies: list[bytes]) -> None:
    async def run() -> None:
        channel = AnyReplies(replies)
        connector = Connector(memory={"wire": lambda: channel})
        epc = Epc400("epc", "memory:wire", Epc400Options(), connector)
        for action in (epc.open, epc.read_drives, epc.make_safe):
            try:
                await action()
            except InstrumentError:
                continue

    virtual_time.run(run())
