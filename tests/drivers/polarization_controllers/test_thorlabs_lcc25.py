from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.polarization_controllers.thorlabs_lcc25 import Lcc25, Lcc25Options
from drivers.roles import Instrument

Script = list[tuple[bytes, bytes | Sequence[bytes] | None]]

WHO = b"THORLABS LCC25 VERSION 1.02"


def said(command: bytes, answer: bytes | None = None) -> tuple[bytes, bytes]:
    """A command, and what the unit makes of it: echo, answer, prompt."""
    return command + b"\r", command + b"\r" + (b"" if answer is None else answer + b"\r") + b"> "


IDN = said(b"*idn?", WHO)
OPEN: Script = [IDN, said(b"mode?", b"1")]
IS_ON = said(b"enable?", b"1")


async def opened(wire: Any, **options: Any) -> Lcc25:
    lcc = Lcc25("lcc", "memory:wire", Lcc25Options(**options), wire.connector)
    await lcc.open()
    return lcc


async def test_open_identifies_the_unit(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    lcc = Lcc25("lcc", "memory:wire", Lcc25Options(), wire.connector)
    assert str(await lcc.open()) == "Thorlabs LCC25, serial unknown, firmware 1.02"
    assert isinstance(lcc, Instrument)


@pytest.mark.parametrize(
    ("wanted", "number"), [("voltage 1", b"1"), ("voltage 2", b"2"), ("alternating", b"0")]
)
async def test_open_chooses_what_is_at_the_output(
    scripted: Callable[..., Any], wanted: str, number: bytes
) -> None:
    found = b"2" if number == b"0" else b"0"
    wire = scripted([IDN, said(b"mode?", found), said(b"mode=" + number), said(b"mode?", number)])
    await opened(wire, mode=wanted)
    assert not wire.channel.remaining


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([said(b"*idn?", b"THORLABS TC200 VERSION 2.0")]))


async def test_a_voltage_has_three_decimals_and_is_read_back(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, said(b"volt1=10.000"), said(b"volt1?", b"10"), IS_ON])
    assert await (await opened(wire)).set_voltage("volt1", 10.0002) == 10.0
    assert not wire.channel.remaining


async def test_the_output_is_switched_on_after_the_voltage_is_set(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            said(b"volt2=1.500"),
            said(b"volt2?", b"1.500"),
            said(b"enable?", b"0"),
            said(b"enable=1"),
            IS_ON,
        ]
    )
    await (await opened(wire)).set_voltage("volt2", 1.5)
    assert not wire.channel.remaining


async def test_a_refusal_is_told_in_the_units_words(scripted: Callable[..., Any]) -> None:
    refusal = b"volt1=25.000\rCommand error CMD_ARG_RANGE_ERR\n\r> "
    wire = scripted([*OPEN, (b"volt1=25.000\r", refusal), said(b"volt1?", b"3.000")])
    lcc = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await lcc.set_voltage("volt1", 25.0)
    assert caught.value.received == "Command error CMD_ARG_RANGE_ERR"
    assert await lcc.read_voltage("volt1") == 3.0
    assert wire.channel.opened == 1


async def test_a_reply_to_another_question_is_not_taken(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"volt1?\r", b"volt2?\r7.000\r> ")])
    lcc = await opened(wire)
    with pytest.raises(ReplyError, match="echoes another command"):
        await lcc.read_voltage("volt1")


async def test_another_voltage_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, said(b"volt1=10.000"), said(b"volt1?", b"3.000")])
    lcc = await opened(wire)
    with pytest.raises(ReplyError, match="reads 3 V"):
        await lcc.set_voltage("volt1", 10.0)


@pytest.mark.parametrize("voltage_v", [25.001, -0.001, float("nan")])
async def test_a_voltage_outside_the_limits_sends_nothing(
    scripted: Callable[..., Any], voltage_v: float
) -> None:
    lcc = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 0 to 25 V"):
        await lcc.set_voltage("volt1", voltage_v)


async def test_there_is_no_third_voltage(scripted: Callable[..., Any]) -> None:
    lcc = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="none of volt1, volt2"):
        await lcc.set_voltage("volt3", 1.0)


async def test_a_lost_reply_leaves_the_state_unknown(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"volt1=10.000\r", b"volt1=10.000\r")])
    lcc = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="volt1 may have changed"):
        await lcc.set_voltage("volt1", 10.0)


async def test_make_safe_rests_both_voltages(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            said(b"volt1=0.500"),
            said(b"volt1?", b"0.500"),
            said(b"volt2=0.500"),
            said(b"volt2?", b"0.500"),
        ]
    )
    await (await opened(wire, rest_voltage_v=0.5)).make_safe()
    assert not wire.channel.remaining


async def test_a_crystal_that_is_slow_makes_a_knob_wait(scripted: Callable[..., Any]) -> None:
    lcc = await opened(scripted(OPEN), settle_s=0.2)
    assert lcc.actuators()["volt1"].settle_s == 0.2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_voltage_v": 2.0, "max_voltage_v": 1.0}, "must be below"),
        ({"max_voltage_v": 26}, "less than or equal to 25"),
        ({"min_voltage_v": 1.0}, "rest_voltage_v 0 lies outside"),
        ({"max_voltage_v": 1.0005}, "no multiple of 0.001 V"),
        ({"mode": "both"}, "mode"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Lcc25Options(**options)
