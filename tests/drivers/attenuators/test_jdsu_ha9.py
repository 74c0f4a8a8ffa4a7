from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.attenuators.jdsu_ha9 import Ha9, Ha9Options, parse_identity
from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Attenuator, Shutter
from drivers.transport.connect import Connector

Script = list[tuple[bytes, bytes | None]]

IDN = (b"IDN?\r", b"JDS UNIPHASE,HA9X,0,2.100\r\n")
NO_OFFSET = (b"CAL?\r", b"       0.0000\r\n")
AT_1550 = (b"WVL?\r", b"      1.5500e-06\r\n")
RANGE: Script = [(b"ATT? MIN\r", b"0.0000\r\n"), (b"ATT? MAX\r", b"100.0000\r\n")]
OPEN: Script = [IDN, NO_OFFSET, AT_1550, *RANGE]
STANDS = (b"CNB?\r", b"4\r\n")
MOVES = (b"CNB?\r", b"0\r\n")


def told(command: bytes, status: bytes = b"000") -> Script:
    return [(b"CLR\r", None), (command + b"\r", None), (b"STB?\r", status + b"\r\n")]


def attenuated(text: bytes, read: bytes) -> Script:
    return [*told(b"ATT " + text), STANDS, (b"ATT?\r", read + b"\r\n")]


BLOCKED: Script = [*told(b"D 1"), STANDS, (b"D?\r", b"1\r\n")]


async def opened(wire: Any, **options: Any) -> Ha9:
    voa = Ha9("voa", "memory:wire", Ha9Options(**options), wire.connector)
    await voa.open()
    return voa


async def test_open_identifies_the_unit_and_checks_its_range(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    voa = Ha9("voa", "memory:wire", Ha9Options(), wire.connector)
    assert str(await voa.open()) == "JDS UNIPHASE HA9X, serial 0, firmware 2.100"
    assert isinstance(voa, Attenuator)
    assert isinstance(voa, Shutter)
    assert not wire.channel.remaining


async def test_open_clears_the_offset_and_sets_the_wavelength(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            IDN,
            (b"CAL?\r", b"      10.0000\r\n"),
            *told(b"CAL 0"),
            NO_OFFSET,
            (b"WVL?\r", b"      1.3100e-06\r\n"),
            *told(b"WVL 1550NM"),
            AT_1550,
            MOVES,
            STANDS,
            *RANGE,
        ]
    )
    await opened(wire)
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    "identity",
    [b"JDS Uniphase, SB Switch, 2.00", b"HEWLETT-PACKARD,HP8157A,0,1.0", b"22.0000", b""],
)
async def test_another_model_is_named_as_such(
    scripted: Callable[..., Any], identity: bytes
) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"IDN?\r", identity + b"\r\n")]))


async def test_a_range_beyond_the_units_own_is_refused(scripted: Callable[..., Any]) -> None:
    wide = [(b"ATT? MIN\r", b"0.0000\r\n"), (b"ATT? MAX\r", b"60.0000\r\n")]
    with pytest.raises(SettingError, match="max_attenuation_db 80 exceeds the 60 dB"):
        await opened(scripted([IDN, NO_OFFSET, AT_1550, *wide]), max_attenuation_db=80)


async def test_a_set_waits_until_the_filter_stands_and_reads_back(
    scripted: Callable[..., Any],
) -> None:
    sent = told(b"ATT 12.34")
    wire = scripted([*OPEN, NO_OFFSET, *sent, MOVES, STANDS, (b"ATT?\r", b"      12.3400\r\n")])
    voa = await opened(wire)
    assert await voa.set_attenuation(12.3449) == 12.34
    assert not wire.channel.remaining


async def test_an_offset_set_at_the_front_panel_is_cleared_before_the_filter_moves(
    scripted: Callable[..., Any],
) -> None:
    cleared = [(b"CAL?\r", b"-5.0000\r\n"), *told(b"CAL 0"), NO_OFFSET]
    wire = scripted([*OPEN, *cleared, *attenuated(b"3.00", b"3.0000")])
    voa = await opened(wire)
    assert await voa.set_attenuation(3.0) == 3.0
    assert not wire.channel.remaining


@pytest.mark.parametrize("attenuation_db", [-0.001, 60.001, float("nan"), float("inf")])
async def test_an_attenuation_outside_the_range_sends_nothing(
    scripted: Callable[..., Any], attenuation_db: float
) -> None:
    voa = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 0 to 60 dB"):
        await voa.set_attenuation(attenuation_db)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(b"001", "impossible parameter"), (b"032", "syntax error"), (b"037", "parameter, syntax")],
)
async def test_a_refusal_tells_the_status_and_leaves_the_line_usable(
    scripted: Callable[..., Any], status: bytes, meaning: str
) -> None:
    sent = told(b"ATT 3.00", status)
    wire = scripted([*OPEN, NO_OFFSET, *sent, STANDS, NO_OFFSET, (b"ATT?\r", b"9.0000\r\n")])
    voa = await opened(wire)
    with pytest.raises(RejectedError, match=meaning) as caught:
        await voa.set_attenuation(3.0)
    assert caught.value.sent == "ATT 3.00"
    assert await voa.read_attenuation() == 9.0
    assert wire.channel.opened == 1


async def test_the_bit_that_tells_of_a_finished_move_is_no_refusal(
    scripted: Callable[..., Any],
) -> None:
    sent = [*told(b"ATT 3.00", b"004"), STANDS, (b"ATT?\r", b"3.0000\r\n")]
    voa = await opened(scripted([*OPEN, NO_OFFSET, *sent]))
    assert await voa.set_attenuation(3.0) == 3.0


async def test_another_attenuation_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    voa = await opened(scripted([*OPEN, NO_OFFSET, *attenuated(b"3.00", b"9.0000")]))
    with pytest.raises(ReplyError, match=r"set to 3.00 dB and reads 9.00 dB"):
        await voa.set_attenuation(3.0)


async def test_a_filter_that_never_settles_leaves_the_attenuation_unknown(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, NO_OFFSET, *told(b"ATT 3.00"), *[MOVES] * 10])
    voa = await opened(wire, settle_timeout_s=0.15)
    with pytest.raises(TransportError, match=r"not settled within 0.15 s; state unknown"):
        await voa.set_attenuation(3.0)


async def test_a_reading_waits_until_the_filter_stands(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, MOVES, STANDS, NO_OFFSET, (b"ATT?\r", b"7.0000\r\n")])
    voa = await opened(wire)
    assert await voa.read_attenuation() == 7.0


async def test_the_shutter_is_the_beam_block_out_of_the_beam(scripted: Callable[..., Any]) -> None:
    out = (b"D?\r", b"0\r\n")
    clears = [NO_OFFSET, STANDS, STANDS, NO_OFFSET, (b"ATT?\r", b"7.0000\r\n")]
    wire = scripted([*OPEN, *clears, *told(b"D 0"), MOVES, STANDS, out, out])
    voa = await opened(wire)
    assert await voa.set_shutter(is_open=True) is True
    assert await voa.read_shutter() is True


async def test_a_block_that_stays_out_is_an_error(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted([*OPEN, *told(b"D 1"), STANDS, (b"D?\r", b"0\r\n")]))
    with pytest.raises(ReplyError, match="did not move"):
        await voa.set_shutter(is_open=False)


async def test_make_safe_blocks_first_and_then_attenuates(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, *BLOCKED, NO_OFFSET, *attenuated(b"60.00", b"60.0000")])
    voa = await opened(wire)
    await voa.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_sends_every_command_although_replies_are_lost(
    scripted: Callable[..., Any],
) -> None:
    silent = [b"CLR\r", b"D 1\r", b"STB?\r", b"CAL?\r", b"CLR\r", b"ATT 60.00\r", b"STB?\r"]
    again = [IDN, *BLOCKED, NO_OFFSET, *attenuated(b"60.00", b"60.0000")]
    wire = scripted([*OPEN, *[(command, None) for command in silent], *again])
    voa = await opened(wire, timeout_s=0.02)
    await voa.make_safe()
    assert not wire.channel.remaining


async def test_answers_that_come_after_the_line_was_opened_again_are_passed_over(
    scripted: Callable[..., Any],
) -> None:
    late = (b"IDN?\r", b"004\r\n      12.3400\r\n" + (IDN[1] or b""))
    lost: Script = [(b"CNB?\r", None)]
    wire = scripted([*OPEN, *lost, late, *OPEN[1:], STANDS, NO_OFFSET, (b"ATT?\r", b"5.0000\r\n")])
    voa = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError):
        await voa.read_attenuation()
    assert await voa.read_attenuation() == 5.0


@pytest.mark.parametrize(
    ("resource", "options", "end"),
    [
        ("serial:///dev/ttyUSB0", {}, b"\r"),
        ("tcp://192.0.2.1:4001", {}, b"\r"),
        ("visa://GPIB0::5::INSTR", {}, b"\r\n"),
        ("visa://ASRL1::INSTR", {}, b"\r"),
        ("tcp://192.0.2.1:4001", {"write_terminator": "lf"}, b"\n"),
    ],
)
def test_commands_end_as_the_interface_wants_it(
    resource: str, options: Mapping[str, Any], end: bytes
) -> None:
    assert Ha9Options(**options).framing(resource).write_terminator == end
    Ha9("voa", resource, Ha9Options(**options), Connector())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attenuation_db": 101}, "less than or equal to 100"),
        ({"min_attenuation_db": 30, "max_attenuation_db": 20}, "must be below"),
        ({"safe_attenuation_db": 80}, "safe_attenuation_db 80 lies"),
        ({"max_attenuation_db": 20.005}, "no multiple of 0.01 dB"),
        ({"wavelength_nm": 1100}, "wavelength_nm"),
        ({"write_terminator": "\r"}, "write_terminator"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(
    options: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        Ha9Options(**options)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("JDS UNIPHASE,HA9X,0,2.100", "JDS UNIPHASE HA9X, serial 0, firmware 2.100"),
        ("JDS Uniphase, HA9 Attenuator, 2.00", "HA9 Attenuator, serial unknown, firmware 2.00"),
        ("JDS FITEL,HA9", "JDS FITEL HA9, serial unknown, firmware unknown"),
    ],
)
def test_identities_of_several_firmwares_are_understood(reply: str, shown: str) -> None:
    assert shown in str(parse_identity(reply))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_no_text_upsets_the_reading_of_an_identity(reply: str) -> None:
    identity = parse_identity(reply)
    assert identity is None or "HA9" in identity.model
