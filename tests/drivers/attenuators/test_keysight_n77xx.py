import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.attenuators.keysight_n77xx import N77xx, N77xxOptions, parse_attenuator_slots
from drivers.errors import InstrumentError, RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Attenuator
from drivers.transport.connect import Connector
from sim import virtual_time

IDN = (b"*IDN?\n", b"Keysight Technologies,N7764A,MY00000001,1.20\n")
NO_ERROR = (b":SYST:ERR?\n", b'+0,"No error"\n')
OPT = (b"*OPT?\n", b"N7764A, ,N7764A, ,N7764A, ,N7764A, \n")
LOOP_OFF = (b":OUTP1:POW:CONT?\n", b"0\n")
NO_OFFSET = (b":INP1:OFFS?\n", b"+0.00000000E+000\n")
AT_1550 = (b":INP1:WAV?\n", b"+1.55000000E-006\n")
OPEN = [IDN, NO_ERROR, OPT, LOOP_OFF, NO_OFFSET, AT_1550]
MOVING = (b"*OPC?\n", b"0\n")
STANDS = (b"*OPC?\n", b"1\n")
SHUT = [(b":OUTP1:STAT 0\n", None), NO_ERROR, STANDS, (b":OUTP1:STAT?\n", b"0\n")]


def attenuate(text: bytes, read: bytes) -> list[tuple[bytes, bytes | None]]:
    return [(b":INP1:ATT " + text + b"dB\n", None), NO_ERROR, STANDS, (b":INP1:ATT?\n", read)]


async def opened(wire: Any, **options: Any) -> N77xx:
    voa = N77xx("voa", "memory:wire", N77xxOptions(**options), wire.connector)
    await voa.open()
    return voa


async def test_open_identifies_the_box_and_finds_the_attenuator(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(OPEN)
    voa = N77xx("voa", "memory:wire", N77xxOptions(), wire.connector)
    identity = await voa.open()
    assert str(identity) == "Keysight Technologies N7764A, serial MY00000001, firmware 1.20"
    assert isinstance(voa, Attenuator)
    assert not wire.channel.remaining


async def test_open_switches_power_control_and_offset_off_and_sets_the_wavelength(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            IDN,
            (b":SYST:ERR?\n", b'-113,"Undefined header"\n'),
            NO_ERROR,
            OPT,
            (b":OUTP1:POW:CONT?\n", b"1\n"),
            (b":OUTP1:POW:CONT 0\n", None),
            NO_ERROR,
            LOOP_OFF,
            (b":INP1:OFFS?\n", b"+1.5\n"),
            (b":INP1:OFFS 0\n", None),
            NO_ERROR,
            NO_OFFSET,
            (b":INP1:WAV?\n", b"+1.31E-006\n"),
            (b":INP1:WAV 1550NM\n", None),
            NO_ERROR,
            AT_1550,
            (b":INP1:ATT:SPE?\n", b"1000\n"),
            (b":INP1:ATT:SPE 20\n", None),
            NO_ERROR,
            (b":INP1:ATT:SPE?\n", b"+2.0E+001\n"),
        ]
    )
    await opened(wire, transition_speed_db_per_s=20)
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    "identity", [b"Keysight Technologies,N7745A,MY1,1.0\n", b"Acme,N7764A,1,1\n"]
)
async def test_another_model_is_named_as_such(
    scripted: Callable[..., Any], identity: bytes
) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"*IDN?\n", identity)]))


async def test_an_empty_slot_is_refused_with_the_slots_that_hold_attenuators(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(ReplyError, match=r"no attenuator in slot 2; .* slots \[1, 3, 5, 7\]"):
        await opened(scripted([IDN, NO_ERROR, OPT]), slot=2)


async def test_a_range_beyond_the_model_is_refused(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"*IDN?\n", b"Agilent Technologies,N7752A,DE1,1.1\n")])
    with pytest.raises(SettingError, match="exceeds the 40 dB of an N7752A"):
        await opened(wire)


async def test_set_attenuation_waits_until_the_filter_stands_and_reads_back(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            NO_OFFSET,
            (b":INP1:ATT 12.34dB\n", None),
            NO_ERROR,
            MOVING,
            MOVING,
            STANDS,
            (b":INP1:ATT?\n", b"+1.23400000E+001\n"),
        ]
    )
    voa = await opened(wire)
    assert await voa.set_attenuation(12.3449) == 12.34
    assert not wire.channel.remaining


async def test_an_offset_set_at_the_front_panel_is_cleared_before_the_filter_moves(
    scripted: Callable[..., Any],
) -> None:
    cleared = [(b":INP1:OFFS?\n", b"+1.0E+001\n"), (b":INP1:OFFS 0\n", None), NO_ERROR, NO_OFFSET]
    wire = scripted([*OPEN, *cleared, *attenuate(b"3.00", b"+3.0\n")])
    voa = await opened(wire)
    assert await voa.set_attenuation(3.0) == 3.0
    assert not wire.channel.remaining


@pytest.mark.parametrize("attenuation_db", [-0.001, 45.001, float("nan"), float("inf")])
async def test_an_attenuation_outside_the_range_sends_nothing(
    scripted: Callable[..., Any], attenuation_db: float
) -> None:
    voa = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside 0 to 45 dB"):
        await voa.set_attenuation(attenuation_db)


async def test_a_refusal_quotes_the_error_queue_and_leaves_the_line_usable(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            NO_OFFSET,
            (b":INP1:ATT 3.00dB\n", None),
            (b":SYST:ERR?\n", b'-221,"Settings conflict"\n'),
            NO_ERROR,
            NO_OFFSET,
            (b":INP1:ATT?\n", b"+9.0\n"),
        ]
    )
    voa = await opened(wire)
    with pytest.raises(RejectedError) as caught:
        await voa.set_attenuation(3.0)
    assert (caught.value.sent, caught.value.received) == (
        ":INP1:ATT 3.00dB",
        '-221,"Settings conflict"',
    )
    assert await voa.read_attenuation() == 9.0
    assert wire.channel.opened == 1


async def test_another_attenuation_read_back_than_set_is_an_error(
    scripted: Callable[..., Any],
) -> None:
    voa = await opened(scripted([*OPEN, NO_OFFSET, *attenuate(b"3.00", b"+9.0\n")]))
    with pytest.raises(ReplyError, match=r"set to 3.00 dB and reads 9.00 dB"):
        await voa.set_attenuation(3.0)


async def test_a_filter_that_never_settles_leaves_the_attenuation_unknown(
    scripted: Callable[..., Any],
) -> None:
    sent = [NO_OFFSET, (b":INP1:ATT 3.00dB\n", None), NO_ERROR]
    wire = scripted([*OPEN, *sent, *[MOVING] * 100])
    voa = await opened(wire, settle_timeout_s=0.03)
    with pytest.raises(TransportError, match=r"not settled within 0.03 s; state unknown"):
        await voa.set_attenuation(3.0)


async def test_a_lost_reply_to_a_write_leaves_the_state_unknown_and_is_not_repeated(
    scripted: Callable[..., Any],
) -> None:
    half = (b":SYST:ERR?\n", b'+0,"No er')
    wire = scripted([*OPEN, NO_OFFSET, (b":INP1:ATT 3.00dB\n", None), half])
    voa = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="state unknown: the attenuation may have changed"):
        await voa.set_attenuation(3.0)
    assert not wire.channel.remaining


async def test_after_a_lost_reply_the_box_is_identified_and_checked_again(
    scripted: Callable[..., Any],
) -> None:
    asks = (b":INP1:ATT?\n", None)
    wire = scripted([*OPEN, NO_OFFSET, asks, *OPEN, NO_OFFSET, (asks[0], b"+45\n")])
    voa = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError):
        await voa.read_attenuation()
    assert await voa.read_attenuation() == 45.0
    assert voa.health().reconnects == 1


async def test_garbage_instead_of_a_number_is_a_reply_error(scripted: Callable[..., Any]) -> None:
    voa = await opened(scripted([*OPEN, NO_OFFSET, (b":INP1:ATT?\n", b"\xff\x00\n")]))
    with pytest.raises(ReplyError):
        await voa.read_attenuation()


async def test_the_shutter_opens_and_is_read_back(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            LOOP_OFF,
            NO_OFFSET,
            STANDS,
            NO_OFFSET,
            (b":INP1:ATT?\n", b"+9.0\n"),
            (b":OUTP1:STAT 1\n", None),
            NO_ERROR,
            MOVING,
            STANDS,
            (b":OUTP1:STAT?\n", b"+1\n"),
            (b":OUTP1:STAT?\n", b"1\n"),
        ]
    )
    voa = await opened(wire)
    assert await voa.set_shutter(is_open=True) is True
    assert await voa.read_shutter() is True


async def test_a_shutter_that_stays_open_is_an_error(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, *SHUT[:3], (b":OUTP1:STAT?\n", b"1\n")])
    voa = await opened(wire)
    with pytest.raises(ReplyError, match="did not move"):
        await voa.set_shutter(is_open=False)


async def test_make_safe_shuts_first_and_then_attenuates(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, *SHUT, LOOP_OFF, NO_OFFSET, *attenuate(b"45.00", b"+4.5E+001\n")])
    voa = await opened(wire)
    await voa.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_attenuates_although_the_shutter_refuses(
    scripted: Callable[..., Any],
) -> None:
    refusal = [(b":OUTP1:STAT 0\n", None), (b":SYST:ERR?\n", b'-240,"Hardware"\n'), NO_ERROR]
    attenuated = [LOOP_OFF, NO_OFFSET, *attenuate(b"30.00", b"+3.0E+001\n")]
    wire = scripted([*OPEN, *refusal, *attenuated, *refusal])
    voa = await opened(wire, safe_attenuation_db=30)
    with pytest.raises(RejectedError, match="Hardware"):
        await voa.make_safe()
    assert not wire.channel.remaining


async def test_make_safe_sends_every_command_although_replies_are_lost(
    scripted: Callable[..., Any],
) -> None:
    silent = [b":OUTP1:STAT 0\n", b":SYST:ERR?\n", b":OUTP1:POW:CONT?\n"]
    silent += [b":INP1:OFFS?\n", b":INP1:ATT 45.00dB\n", b":SYST:ERR?\n"]
    wire = scripted(
        [
            *OPEN,
            *[(command, None) for command in silent],
            IDN,
            *SHUT,
            LOOP_OFF,
            NO_OFFSET,
            *attenuate(b"45.00", b"+4.5E+001\n"),
        ]
    )
    voa = await opened(wire, timeout_s=0.02)
    await voa.make_safe()
    assert not wire.channel.remaining


async def test_the_actuator_is_the_attenuation(scripted: Callable[..., Any]) -> None:
    sets, reads = attenuate(b"3.00", b"+3.0\n"), (b":INP1:ATT?\n", b"+3.0\n")
    wire = scripted([*OPEN, NO_OFFSET, *sets, NO_OFFSET, reads])
    actuator = (await opened(wire, max_attenuation_db=30)).actuators()["attenuation"]
    assert (actuator.unit, actuator.minimum, actuator.maximum) == ("dB", 0.0, 30.0)
    assert await actuator.write(3.0) == await actuator.read() == 3.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_attenuation_db": 30, "max_attenuation_db": 20}, "must be below"),
        ({"max_attenuation_db": 50}, "less than or equal to 45"),
        ({"max_attenuation_db": 40, "safe_attenuation_db": 45}, "safe_attenuation_db 45 lies"),
        ({"max_attenuation_db": 20.005}, "no multiple of 0.01 dB"),
        ({"transition_speed_db_per_s": 1}, "raise settle_timeout_s 10 above"),
        ({"wavelength_nm": float("nan")}, "wavelength_nm"),
        ({"slot": 0}, "slot"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        N77xxOptions(**options)


@pytest.mark.parametrize(
    ("model", "reply", "slots"),
    [
        (
            "N7752A",
            "N7752A-002,  ,N7752A-002,  ,N7752A-001,N7752A-001,  ,  ",
            [1, 3],
        ),
        ("N7761A", "N7761A-021,  ", [1]),
        ("N7761A", "", []),
    ],
)
def test_the_slot_map_comes_from_the_options(model: str, reply: str, slots: list[int]) -> None:
    assert parse_attenuator_slots(model, reply) == slots


class AnyReplies:
    """A box that answers every question with the next of some texts."""

    def __init__(self, replies: Sequence[bytes]) -> None:
        self._replies = list(replies)
        self._arrived = asyncio.Queue[bytes]()

    async def open(self) -> None:
        self._arrived = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        if b"?" in data:
            self._arrived.put_nowait((self._replies.pop(0) if self._replies else b"") + b"\n")

    async def receive(self) -> bytes:
        return await self._arrived.get()

    async def close(self) -> None:
        pass


PLAUSIBLE = st.sampled_from([exchange[1] or b"" for exchange in (*OPEN, STANDS)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=20), PLAUSIBLE), max_size=12))
def test_any_replies_lead_to_an_instrument_error_or_none(replies: list[bytes]) -> None:
    async def run() -> None:
        channel = AnyReplies([reply.rstrip(b"\n") for reply in replies])
        connector = Connector(memory={"wire": lambda: channel})
        options = N77xxOptions()
        voa = N77xx("voa", "memory:wire", options, connector)
        for action in (voa.open, voa.read_attenuation, voa.read_shutter):
            try:
                await action()
            except InstrumentError:
                continue

    virtual_time.run(run())
