from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.attenuators.ozoptics_dd100 import (
    Dd100,
    Dd100Options,
    parse_attenuation_db,
    parse_range_db,
)
from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Attenuator, Shutter

Exchange = tuple[bytes, bytes | None]

CD = (b"CD\r\n", b"CD\r\nIL:0.80\r\nMAX ATTEN:60.00\r\nDone\r\n\r\n")
UNKNOWN = (b"D\r\n", b"D\r\nDPos:0\r\nATTEN:unknown\r\nDone\r\n\r\n")
HOMES = (b"H\r\n", b"H\r\nDiff=2\r\nDone\r\n\r\n")


def reads(text: bytes) -> Exchange:
    return (b"D\r\n", b"D\r\nDPos:1234\r\nATTEN:" + text + b"\r\nDone\r\n\r\n")


def moves(text: bytes) -> Exchange:
    return (b"A" + text + b"\r\n", b"A" + text + b"\r\nPos:1234\r\nDone\r\n\r\n")


def refuses(text: bytes, error: bytes = b"Error-2") -> Exchange:
    return (b"A" + text + b"\r\n", b"A" + text + b"\r\n" + error + b"\r\n")


OPEN = [CD, reads(b"60.00")]


async def opened(wire: Any, **options: Any) -> Dd100:
    voa = Dd100("voa", "memory:wire", Dd100Options(**options), wire.connector)
    await voa.open()
    return voa


async def test_open_identifies_the_unit_and_finds_it_homed(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    voa = Dd100("voa", "memory:wire", Dd100Options(), wire.connector)
    assert (await voa.open()).model == "DD-100"
    assert isinstance(voa, Attenuator)
    assert not isinstance(voa, Shutter)
    assert not wire.channel.remaining


async def test_open_never_homes_by_itself(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    wire = scripted([CD, UNKNOWN])
    await opened(wire)
    assert not wire.channel.remaining
    assert "not homed" in caplog.text


async def test_open_homes_a_lost_unit_where_the_options_say_so_and_ends_in_safe_state(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([CD, UNKNOWN, HOMES, moves(b"60.00"), reads(b"60.00")])
    await opened(wire, home_on_open=True)
    assert not wire.channel.remaining


async def test_open_does_not_home_a_unit_that_knows_its_position(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(OPEN)
    await opened(wire, home_on_open=True)
    assert not wire.channel.remaining


async def test_homing_may_take_longer_than_any_reply(scripted: Callable[..., Any]) -> None:
    wire = scripted([CD, UNKNOWN, (b"H\r\n", None)])
    voa = await opened(wire, timeout_s=0.01, homing_timeout_s=0.05)
    with pytest.raises(TransportError, match=r"no reply within 0.05 s; state unknown"):
        await voa.home()


async def test_a_home_sensor_that_fails_is_told(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted([CD, UNKNOWN, (b"H\r\n", b"H\r\nError-5\r\n")]))
    with pytest.raises(RejectedError) as caught:
        await voa.home()
    assert caught.value.received == "Error-5"


async def test_a_unit_that_is_not_homed_is_neither_set_nor_read(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([CD, UNKNOWN, UNKNOWN, UNKNOWN])
    voa = await opened(wire)
    with pytest.raises(RejectedError, match="not homed"):
        await voa.set_attenuation(10.0)
    with pytest.raises(RejectedError, match="not homed"):
        await voa.read_attenuation()
    assert not wire.channel.remaining


async def test_making_a_lost_unit_safe_is_tried_without_homing_and_its_failure_told(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([CD, UNKNOWN, refuses(b"60.00"), refuses(b"60.00")])
    voa = await opened(wire)
    with pytest.raises(RejectedError):
        await voa.make_safe()
    assert not wire.channel.remaining


async def test_a_set_is_confirmed_by_reading_back(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, reads(b"60.00"), moves(b"12.34"), reads(b"12.34")])
    voa = await opened(wire)
    assert await voa.set_attenuation(12.3449) == 12.34
    assert not wire.channel.remaining


async def test_a_refusal_is_quoted_and_never_clamped(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, reads(b"60.00"), refuses(b"12.34", b"Error!")])
    voa = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await voa.set_attenuation(12.34)
    assert (caught.value.sent, caught.value.received) == ("A12.34", "Error!")
    assert not wire.channel.remaining


async def test_another_attenuation_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    voa = await opened(scripted([*OPEN, reads(b"60.00"), moves(b"12.34"), reads(b"0.80")]))
    with pytest.raises(ReplyError, match=r"set to 12.34 dB and reads 0.80 dB"):
        await voa.set_attenuation(12.34)


@pytest.mark.parametrize("attenuation_db", [1.999, 60.001, float("nan"), float("inf")])
async def test_an_attenuation_outside_the_range_sends_nothing(
    scripted: Callable[..., Any], attenuation_db: float
) -> None:
    voa = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 2 to 60 dB"):
        await voa.set_attenuation(attenuation_db)


async def test_limits_below_the_insertion_loss_are_refused(scripted: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match=r"min_attenuation_db 0.5 is below the 0.8 dB"):
        await opened(scripted([CD]), min_attenuation_db=0.5)


@pytest.mark.parametrize(
    "reply", [b"CD\r\nError!\r\n", b"CD\r\nDone\r\n", b"CD\r\nIL:0.80\r\nWL:1550\r\nDone\r\n"]
)
async def test_another_model_is_named_as_such(scripted: Callable[..., Any], reply: bytes) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"CD\r\n", reply)]))


async def test_a_late_reply_is_told_by_its_echo(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted([*OPEN, (b"D\r\n", b"A12.34\r\nPos:3\r\nDone\r\n")]))
    with pytest.raises(ReplyError, match="echoes another command"):
        await voa.read_attenuation()


async def test_a_unit_with_its_echo_off_is_understood(scripted: Callable[..., Any]) -> None:
    mute = [(sent, reply[len(sent) :]) for sent, reply in (CD, reads(b"60.00")) if reply]
    move = (b"A7.00\r\n", b"Pos:700\r\nDone\r\n")
    voa = await opened(scripted([*mute, mute[1], move, (b"D\r\n", b"ATTEN:7.00\r\nDone\r\n")]))
    assert await voa.set_attenuation(7.0) == 7.0


async def test_make_safe_attenuates_as_far_as_configured(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, moves(b"40.00"), reads(b"40.00")])
    voa = await opened(wire, max_attenuation_db=40.0)
    await voa.make_safe()
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    ("lines", "attenuation_db"),
    [
        (["DPos:10", "ATTEN:12.34"], 12.34),
        (["Pos: 5750 Atten: 36.50(dB)"], 36.5),
        (["Atten: unknown"], None),
    ],
)
def test_attenuations_are_found_however_they_are_printed(
    lines: list[str], attenuation_db: float | None
) -> None:
    assert parse_attenuation_db("voa", lines) == attenuation_db


def test_the_range_is_found_among_other_lines() -> None:
    lines = ["DD-100-MC V2.0", "IL: 1.35 dB", "Max Atten: 58.20 dB", "Echo on"]
    assert parse_range_db("voa", lines) == (1.35, 58.2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attenuation_db": 61}, "less than or equal to 60"),
        ({"safe_attenuation_db": 1}, "safe_attenuation_db 1 lies"),
        ({"max_attenuation_db": 20.005}, "no multiple of 0.01 dB"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(
    options: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        Dd100Options(**options)
