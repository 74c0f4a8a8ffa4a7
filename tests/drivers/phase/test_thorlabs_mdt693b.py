from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.phase.thorlabs_mdt693b import Mdt693b, Mdt693bOptions
from drivers.roles import Instrument

Script = list[tuple[bytes, bytes | Sequence[bytes] | None]]

MODEL = b"\r\rModel MDT693B Piezo Control Module\rFirmware Version: 1.09\rVoltage Range: 75V\r>"
ID = (b"id?\r", MODEL)
SERIAL = (b"serial?\r", b"140421-07\r>")
NO_SCAN = (b"msenable?\r", b"0\r>")
SWITCH_75 = (b"vlimit?\r", b"0\r>")
SWITCH_100 = (b"vlimit?\r", b"1\r>")
OPEN: Script = [ID, SERIAL, NO_SCAN, SWITCH_75]
REOPEN: Script = [ID, SERIAL, NO_SCAN, SWITCH_75]


def at(axis: bytes, reading: bytes) -> tuple[bytes, bytes]:
    return axis + b"voltage?\r", reading


def unit(wire: Any, **options: Any) -> Mdt693b:
    options = {"settle_s": 0.0, "settle_timeout_s": 0.02, **options}
    return Mdt693b("piezo", "memory:wire", Mdt693bOptions(**options), wire.connector)


async def opened(wire: Any, **options: Any) -> Mdt693b:
    piezo = unit(wire, **options)
    await piezo.open()
    return piezo


async def test_open_identifies_the_unit(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    piezo = unit(wire)
    assert str(await piezo.open()) == "Thorlabs MDT693B, serial 140421-07, firmware 1.09"
    assert isinstance(piezo, Instrument)
    assert not wire.channel.remaining


async def test_open_switches_an_echo_off(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            (b"id?\r", b"id?\r" + MODEL),
            (b"serial?\r", b"serial?\r140421-07\r>"),
            (b"echo=0\r", b"echo=0\r>"),
            NO_SCAN,
            SWITCH_75,
        ]
    )
    await opened(wire)
    assert not wire.channel.remaining


async def test_open_ends_a_master_scan(scripted: Callable[..., Any]) -> None:
    scans = (b"msenable?\r", b"[ 1]\r>")
    wire = scripted([ID, SERIAL, scans, (b"msenable=0\r", b">"), NO_SCAN, SWITCH_75])
    await opened(wire)
    assert not wire.channel.remaining


async def test_a_unit_whose_prompt_is_a_star_is_understood(scripted: Callable[..., Any]) -> None:
    """As firmware 1.05 was recorded: a star between echo and answer, the switch in volts."""
    wire = scripted(
        [
            (b"id?\r", b"id?\r*\r\r\rModel MDT693B Piezo Control Module\r\r*"),
            (b"serial?\r", b"serial?\r140421-07\r*"),
            (b"echo=0\r", b"echo=0\r*"),
            (b"msenable?\r", b"*0\r*"),
            (b"vlimit?\r", b"*[ 100]\r*"),
            (b"vlimit?\r", b"*[ 100]\r*"),
            (b"xvoltage=24.680\r", b"*"),
            at(b"x", b"*[  24.8]\r*"),
        ]
    )
    piezo = await opened(wire, max_voltage_v=100)
    assert await piezo.set_voltage("x", 24.68) == 24.8


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"id?\r", b"MDT693A V2.1\r>")]))


async def test_a_unit_with_one_axis_is_opened_as_such(scripted: Callable[..., Any]) -> None:
    one = (b"id?\r", MODEL.replace(b"MDT693B", b"MDT694B"))
    wire = scripted([one, SERIAL, SWITCH_75])
    assert set((await opened(wire, axes=("x",))).actuators()) == {"x"}
    with pytest.raises(SettingError, match='set axes = \\["x"\\]'):
        await opened(scripted([one, SERIAL]))


async def test_a_switch_that_stands_too_low_is_told_at_once(scripted: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match="stands at 75 V, below the 100 V"):
        await opened(scripted(OPEN), max_voltage_v=100)


async def test_a_setting_is_the_sheets_bytes_and_returns_what_is_measured(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, SWITCH_75, (b"xvoltage=25.000\r", b">"), at(b"x", b"[ 25.01]\r>")])
    piezo = await opened(wire)
    assert await piezo.set_voltage("x", 25.0) == 25.01
    assert not wire.channel.remaining


async def test_a_setting_waits_until_the_stack_is_charged(scripted: Callable[..., Any]) -> None:
    readings = [at(b"y", b"[ 12.00]\r>"), at(b"y", b"[ 59.97]\r>")]
    wire = scripted([*OPEN, SWITCH_75, (b"yvoltage=60.000\r", b">"), *readings])
    piezo = await opened(wire, settle_timeout_s=10)
    assert await piezo.set_voltage("y", 60.0) == 59.97


async def test_a_voltage_that_is_never_reached_is_an_error(scripted: Callable[..., Any]) -> None:
    readings = [at(b"x", b"[ 31.00]\r>")]
    wire = scripted([*OPEN, SWITCH_75, (b"xvoltage=25.000\r", b">"), *readings])
    piezo = await opened(wire, settle_s=0.03)
    with pytest.raises(ReplyError, match="reads 31 V"):
        await piezo.set_voltage("x", 25.0)


async def test_a_switch_moved_by_hand_forbids_what_it_no_longer_allows(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([ID, SERIAL, NO_SCAN, SWITCH_100, SWITCH_75])
    piezo = await opened(wire, max_voltage_v=100)
    with pytest.raises(SettingError, match="stands at 75 V, below the 80 V"):
        await piezo.set_voltage("x", 80.0)
    assert not wire.channel.remaining


@pytest.mark.parametrize("voltage_v", [75.001, -0.001, float("nan"), float("inf")])
async def test_a_voltage_outside_the_limits_sends_nothing(
    scripted: Callable[..., Any], voltage_v: float
) -> None:
    piezo = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 0 to 75 V"):
        await piezo.set_voltage("x", voltage_v)


async def test_an_axis_that_is_not_in_use_is_refused(scripted: Callable[..., Any]) -> None:
    piezo = await opened(scripted(OPEN), axes=("x", "y"))
    with pytest.raises(SettingError, match="axis z is not in use"):
        await piezo.set_voltage("z", 1.0)


@pytest.mark.parametrize("refusal", [b"!", b"!\r>", b"CMD_ARG_RANGE_ERR>"])
async def test_a_refusal_leaves_the_line_in_step(
    scripted: Callable[..., Any], refusal: bytes
) -> None:
    wire = scripted([*OPEN, SWITCH_75, (b"xvoltage=70.000\r", refusal), at(b"x", b"[  3.00]\r>")])
    piezo = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await piezo.set_voltage("x", 70.0)
    assert caught.value.sent == "xvoltage=70.000"
    assert await piezo.read_voltage("x") == 3.0
    assert wire.channel.opened == 1


async def test_a_lost_reply_leaves_the_state_unknown_and_is_not_repeated(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, SWITCH_75, (b"xvoltage=25.000\r", None)])
    piezo = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="axis x may have changed"):
        await piezo.set_voltage("x", 25.0)
    assert not wire.channel.remaining


async def test_a_lost_line_is_taken_up_again_although_the_switch_was_moved(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    wire = scripted(
        [ID, SERIAL, NO_SCAN, SWITCH_100, at(b"x", b""), *REOPEN, at(b"x", b"[  0.00]\r>")]
    )
    piezo = await opened(wire, max_voltage_v=100, timeout_s=0.02)
    with pytest.raises(TransportError):
        await piezo.read_voltage("x")
    assert await piezo.read_voltage("x") == 0.0
    assert "now stands at 75 V" in caplog.text


async def test_make_safe_ends_the_scan_and_rests_every_axis(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            (b"msenable=0\r", b">"),
            NO_SCAN,
            (b"xvoltage=5.000\r", b">"),
            at(b"x", b"[  5.00]\r>"),
            (b"zvoltage=5.000\r", b">"),
            at(b"z", b"[  5.00]\r>"),
        ]
    )
    piezo = await opened(wire, axes=("x", "z"), rest_voltage_v=5)
    await piezo.make_safe()
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_voltage_v": 20, "max_voltage_v": 10}, "must be below"),
        ({"max_voltage_v": 151}, "less than or equal to 150"),
        ({"min_voltage_v": 1}, "rest_voltage_v 0 lies outside"),
        ({"max_voltage_v": 1.0005}, "no multiple of 0.001 V"),
        ({"axes": ("x", "x")}, "once"),
        ({"axes": ()}, "once"),
        ({"axes": ("w",)}, "axes"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Mdt693bOptions(**options)
