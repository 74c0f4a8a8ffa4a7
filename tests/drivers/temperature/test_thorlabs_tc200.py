from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import TemperatureController
from drivers.temperature.thorlabs_tc200 import (
    Tc200,
    Tc200Options,
    parse_status,
    parse_temperature,
)

Script = list[tuple[bytes, bytes | Sequence[bytes] | None]]


def said(command: bytes, answer: bytes | None = None) -> tuple[bytes, bytes]:
    """A command, and what the unit makes of it: echo, answer, prompt."""
    return command + b"\r", command + b"\r" + (b"" if answer is None else answer + b"\r") + b"> "


def status(digits: bytes) -> tuple[bytes, bytes]:
    """The status, whose answer has no line end."""
    return b"stat?\r", b"stat?\r" + digits + b" > "


OFF, ON, CYCLES = status(b"14"), status(b"15"), status(b"16")
IDN = said(b"*idn?", b"THORLABS TC200 VERSION 2.1")
TMAX = said(b"tmax?", b"200.0")
OPEN: Script = [IDN, OFF, TMAX]


async def opened(wire: Any, **options: Any) -> Tc200:
    tc = Tc200("oven", "memory:wire", Tc200Options(**options), wire.connector)
    await tc.open()
    return tc


async def test_open_identifies_the_unit(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    tc = Tc200("oven", "memory:wire", Tc200Options(), wire.connector)
    assert str(await tc.open()) == "Thorlabs TC200, serial unknown, firmware 2.1"
    assert isinstance(tc, TemperatureController)


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([said(b"*idn?", b"THORLABS LCC25 VERSION 1.02")]))


async def test_the_cycle_mode_is_ended_although_that_answers_an_error(
    scripted: Callable[..., Any],
) -> None:
    spurious = b"mode=normal\rCommand error CMD_ARG_RANGE_ERR\n\r> "
    wire = scripted([IDN, CYCLES, (b"mode=normal\r", spurious), OFF, TMAX])
    await opened(wire)
    assert not wire.channel.remaining


async def test_a_cycle_mode_that_does_not_end_is_told(scripted: Callable[..., Any]) -> None:
    with pytest.raises(RejectedError, match="stays in its cycle mode"):
        await opened(scripted([IDN, CYCLES, said(b"mode=normal"), CYCLES]))


async def test_another_error_of_the_mode_is_a_refusal(scripted: Callable[..., Any]) -> None:
    unknown = b"mode=normal\rCommand error CMD_NOT_DEFINED\n\r> "
    with pytest.raises(RejectedError, match="CMD_NOT_DEFINED"):
        await opened(scripted([IDN, CYCLES, (b"mode=normal\r", unknown)]))


async def test_a_lower_limit_of_the_units_own_is_told_at_once(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(SettingError, match="tmax is 50 degC, below the 60 degC"):
        await opened(scripted([IDN, OFF, said(b"tmax?", b"50.0")]))


async def test_a_set_point_is_read_back_and_then_heated(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            TMAX,
            said(b"tset=40.0"),
            said(b"tset?", b"40.0 Celsius"),
            OFF,
            said(b"ens"),
            ON,
        ]
    )
    assert await (await opened(wire)).set_temperature(40.04) == 40.0
    assert not wire.channel.remaining


async def test_an_output_that_is_on_is_not_toggled(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, TMAX, said(b"tset=40.0"), said(b"tset?", b"40.0 C"), ON])
    await (await opened(wire)).set_temperature(40.0)
    assert not wire.channel.remaining


async def test_a_toggle_that_may_have_arrived_is_not_sent_blindly_again(
    scripted: Callable[..., Any],
) -> None:
    lost_toggle = (b"ens\r", None)
    wire = scripted([*OPEN, ON, lost_toggle, IDN, OFF])
    tc = await opened(wire, timeout_s=0.02)
    await tc.make_safe()
    assert not wire.channel.remaining


async def test_a_lost_toggle_leaves_the_output_unknown(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [*OPEN, TMAX, said(b"tset=40.0"), said(b"tset?", b"40.0 C"), OFF, (b"ens\r", None)]
    )
    tc = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="the output may have changed"):
        await tc.set_temperature(40.0)


async def test_an_output_that_stays_off_is_told(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [*OPEN, TMAX, said(b"tset=40.0"), said(b"tset?", b"40.0 C"), OFF, said(b"ens"), OFF]
    )
    tc = await opened(wire)
    with pytest.raises(RejectedError, match="stays off: is the sensor connected"):
        await tc.set_temperature(40.0)


async def test_the_units_own_limit_is_heeded_when_it_was_lowered_since(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, said(b"tmax?", b"45.0")])
    tc = await opened(wire)
    with pytest.raises(SettingError, match="tmax is 45 degC"):
        await tc.set_temperature(50.0)
    assert not wire.channel.remaining


async def test_a_refused_set_point_is_told_in_the_units_words(
    scripted: Callable[..., Any],
) -> None:
    refusal = b"tset=60.0\rCommand error CMD_ARG_RANGE_ERR\n\r> "
    wire = scripted([*OPEN, TMAX, (b"tset=60.0\r", refusal)])
    tc = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await tc.set_temperature(60.0)
    assert caught.value.received == "Command error CMD_ARG_RANGE_ERR"


@pytest.mark.parametrize("temperature_degc", [60.1, 19.9, float("nan")])
async def test_a_set_point_outside_the_limits_sends_nothing(
    scripted: Callable[..., Any], temperature_degc: float
) -> None:
    tc = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 20 to 60 degC"):
        await tc.set_temperature(temperature_degc)


@pytest.mark.parametrize(
    ("state", "actual", "is_stable"),
    [(ON, b"39.9 C", True), (ON, b"39.0 C", False), (OFF, b"40.0 C", False)],
)
async def test_it_is_stable_when_it_heats_and_is_there(
    scripted: Callable[..., Any], state: tuple[bytes, bytes], actual: bytes, *, is_stable: bool
) -> None:
    wire = scripted([*OPEN, state, said(b"tset?", b"40.0 C"), said(b"tact?", actual)])
    assert await (await opened(wire)).is_stable() is is_stable


async def test_make_safe_may_leave_an_oven_as_it_is(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    await (await opened(wire, heats_when_safe=True)).make_safe()
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    ("text", "temperature_degc"),
    [
        ("30 C", 30.0),
        ("30", 30.0),
        ("30.5 Celsius", 30.5),
        ("86 F", 30.0),
        ("303.15 K", 30.0),
        ("-3.2C", -3.2),
    ],
)
def test_a_temperature_is_read_in_its_own_unit(text: str, temperature_degc: float) -> None:
    assert parse_temperature("oven", "tact?", text) == pytest.approx(temperature_degc)


@pytest.mark.parametrize("text", ["", "C", "30 R", "30 C 31 C", "nan", "3O C"])
def test_anything_else_is_no_temperature(text: str) -> None:
    with pytest.raises(ReplyError):
        parse_temperature("oven", "tact?", text)


def test_a_status_is_hexadecimal() -> None:
    assert (parse_status("oven", "54"), parse_status("oven", "0x1f")) == (0x54, 0x1F)


@pytest.mark.parametrize("text", ["", "154", "5 4", "g1", "-1"])
def test_anything_else_is_no_status(text: str) -> None:
    with pytest.raises(ReplyError):
        parse_status("oven", text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_temperature_degc": 50, "max_temperature_degc": 40}, "must be below"),
        ({"max_temperature_degc": 201}, "less than or equal to 200"),
        ({"max_temperature_degc": 50.05}, "multiple of 0.1"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Tc200Options(**options)
