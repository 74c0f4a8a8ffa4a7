from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.attenuators.hp_8156a import Hp8156a, Hp8156aOptions
from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Attenuator, Shutter

Script = list[tuple[bytes, bytes | None]]

IDN = (b"*IDN?\n", b"HEWLETT-PACKARD, HP8156A, 0, 1.02\n")
NO_ERROR = (b":SYST:ERR?\n", b'+0,"No error"\n')
ATTENUATES = (b":OUTP:APM?\n", b"0\n")
NO_OFFSET = (b":INP:OFFS?\n", b"+0.0000000E+000\n")
AT_1550 = (b":INP:WAV?\n", b"+1.5500000E-006\n")
RANGE: Script = [(b":INP:ATT? MIN\n", b"+0.0E+000\n"), (b":INP:ATT? MAX\n", b"+6.0E+001\n")]
OPEN: Script = [IDN, NO_ERROR, ATTENUATES, NO_OFFSET, AT_1550, *RANGE]
MOVES = (b":STAT:OPER:COND?\n", b"+2\n")
SWEEPS = (b":STAT:OPER:COND?\n", b"+8\n")
STANDS = (b":STAT:OPER:COND?\n", b"+0\n")
SHUT: Script = [(b":OUTP:STAT 0\n", None), NO_ERROR, (b":OUTP:STAT?\n", b"0\n")]


def attenuated(text: bytes, read: bytes) -> Script:
    sent = [(b":INP:ATT " + text + b"DB\n", None), NO_ERROR]
    return [*sent, MOVES, STANDS, (b":INP:ATT?\n", read + b"\n")]


async def opened(wire: Any, **options: Any) -> Hp8156a:
    voa = Hp8156a("voa", "memory:wire", Hp8156aOptions(**options), wire.connector)
    await voa.open()
    return voa


async def test_open_identifies_the_unit_and_checks_its_range(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    voa = Hp8156a("voa", "memory:wire", Hp8156aOptions(), wire.connector)
    assert str(await voa.open()) == "HEWLETT-PACKARD HP8156A, serial 0, firmware 1.02"
    assert isinstance(voa, Attenuator)
    assert isinstance(voa, Shutter)
    assert not wire.channel.remaining


async def test_open_ends_the_power_mode_clears_the_offset_and_sets_the_wavelength(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            IDN,
            (b":SYST:ERR?\n", b'-113,"Undefined header"\n'),
            NO_ERROR,
            (b":OUTP:APM?\n", b"1\n"),
            (b":OUTP:APM 0\n", None),
            NO_ERROR,
            ATTENUATES,
            (b":INP:OFFS?\n", b"-2.0E+000\n"),
            (b":INP:OFFS 0\n", None),
            NO_ERROR,
            NO_OFFSET,
            (b":INP:WAV?\n", b"+1.31E-006\n"),
            (b":INP:WAV 1550NM\n", None),
            NO_ERROR,
            AT_1550,
            STANDS,
            *RANGE,
        ]
    )
    await opened(wire)
    assert not wire.channel.remaining


@pytest.mark.parametrize("identity", [b"HEWLETT-PACKARD, HP8168F, 0, 3.0\n", b"Acme,8156A,1,1\n"])
async def test_another_model_is_named_as_such(
    scripted: Callable[..., Any], identity: bytes
) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"*IDN?\n", identity)]))


async def test_a_range_beyond_the_units_own_is_refused(scripted: Callable[..., Any]) -> None:
    narrow = [(b":INP:ATT? MIN\n", b"0\n"), (b":INP:ATT? MAX\n", b"+5.9E+001\n")]
    with pytest.raises(SettingError, match="exceeds the 59 dB"):
        await opened(scripted([*OPEN[:-2], *narrow]))


async def test_a_set_waits_until_the_filter_stands_and_reads_back(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, NO_OFFSET, *attenuated(b"12.345", b"+1.2345E+001")])
    voa = await opened(wire)
    assert await voa.set_attenuation(12.34549) == 12.345
    assert not wire.channel.remaining


async def test_an_offset_set_at_the_front_panel_is_cleared_before_the_filter_moves(
    scripted: Callable[..., Any],
) -> None:
    cleared = [(b":INP:OFFS?\n", b"+1.0E+001\n"), (b":INP:OFFS 0\n", None), NO_ERROR, NO_OFFSET]
    wire = scripted([*OPEN, *cleared, *attenuated(b"3.000", b"+3.0")])
    voa = await opened(wire)
    assert await voa.set_attenuation(3.0) == 3.0
    assert not wire.channel.remaining


async def test_a_sweep_started_at_the_front_panel_keeps_it_from_settling(
    scripted: Callable[..., Any],
) -> None:
    sent = [(b":INP:ATT 3.000DB\n", None), NO_ERROR]
    voa = await opened(scripted([*OPEN, NO_OFFSET, *sent, *[SWEEPS] * 10]), settle_timeout_s=0.1)
    with pytest.raises(TransportError, match=r"not settled within 0.1 s; state unknown"):
        await voa.set_attenuation(3.0)


@pytest.mark.parametrize("attenuation_db", [-0.001, 60.001, float("nan"), float("inf")])
async def test_an_attenuation_outside_the_range_sends_nothing(
    scripted: Callable[..., Any], attenuation_db: float
) -> None:
    voa = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 0 to 60 dB"):
        await voa.set_attenuation(attenuation_db)


async def test_a_refusal_quotes_the_error_queue_and_leaves_the_line_usable(
    scripted: Callable[..., Any],
) -> None:
    refused = [
        (b":INP:ATT 3.000DB\n", None),
        (b":SYST:ERR?\n", b'-222,"Data out of range"\n'),
        NO_ERROR,
    ]
    wire = scripted([*OPEN, NO_OFFSET, *refused, NO_OFFSET, (b":INP:ATT?\n", b"+9.0\n")])
    voa = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await voa.set_attenuation(3.0)
    assert caught.value.received == '-222,"Data out of range"'
    assert await voa.read_attenuation() == 9.0
    assert wire.channel.opened == 1


async def test_another_attenuation_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    voa = await opened(scripted([*OPEN, NO_OFFSET, *attenuated(b"3.000", b"+9.0")]))
    with pytest.raises(ReplyError, match=r"set to 3.00 dB and reads 9.00 dB"):
        await voa.set_attenuation(3.0)


async def test_the_shutter_opens_and_is_read_back(scripted: Callable[..., Any]) -> None:
    is_open = (b":OUTP:STAT?\n", b"1\n")
    attenuation = [NO_OFFSET, (b":INP:ATT?\n", b"+9.0\n")]
    clears = [ATTENUATES, NO_OFFSET, STANDS, *attenuation]
    opens = [(b":OUTP:STAT 1\n", None), NO_ERROR, is_open]
    voa = await opened(scripted([*OPEN, *clears, *opens, is_open]))
    assert await voa.set_shutter(is_open=True) is True
    assert await voa.read_shutter() is True


async def test_a_shutter_that_stays_open_is_an_error(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted([*OPEN, *SHUT[:2], (b":OUTP:STAT?\n", b"1\n")]))
    with pytest.raises(ReplyError, match="did not move"):
        await voa.set_shutter(is_open=False)


async def test_make_safe_shuts_first_and_then_attenuates(scripted: Callable[..., Any]) -> None:
    safe = [*SHUT, ATTENUATES, NO_OFFSET, *attenuated(b"60.000", b"+6.0E+001")]
    wire = scripted([*OPEN, *safe])
    voa = await opened(wire)
    await voa.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_attenuates_although_the_shutter_refuses(
    scripted: Callable[..., Any],
) -> None:
    refusal = [(b":OUTP:STAT 0\n", None), (b":SYST:ERR?\n", b'-240,"Hardware"\n'), NO_ERROR]
    attenuates = [ATTENUATES, NO_OFFSET, *attenuated(b"30.000", b"+3.0E+001")]
    wire = scripted([*OPEN, *refusal, *attenuates, *refusal])
    voa = await opened(wire, safe_attenuation_db=30)
    with pytest.raises(RejectedError, match="Hardware"):
        await voa.make_safe()
    assert not wire.channel.remaining


async def test_a_knob_waits_on_after_the_filter_stands(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted(OPEN))
    assert voa.actuators()["attenuation"].settle_s == 1.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attenuation_db": 61}, "less than or equal to 60"),
        ({"max_attenuation_db": 20.0005}, "no multiple of 0.001 dB"),
        ({"wavelength_nm": 1100}, "wavelength_nm"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(
    options: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        Hp8156aOptions(**options)
