import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.phase.thorlabs_mbx import Mbx
from drivers.phase.thorlabs_mbx_options import MbxOptions
from drivers.roles import Attenuator, BiasController, Shutter
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.mbx import Mbx as SimulatedMbx
from sim.instruments.mbx import MbxSettings
from sim.record import Record
from sim.voa import AttenuatorModel

Script = list[tuple[bytes, bytes | Sequence[bytes] | None]]

WHO = b"THORLABS,MBX3,M00512345,1.9.5\r"
IDN = (b"*IDN?\r", WHO)
ATTENUATES: Script = [(b"VOA:MODE?\r", b"0\r"), (b"VOA:POWER?\r", b"1\r")]
OPEN: Script = [IDN, *ATTENUATES]
HOLDS = (b"MZM:MODE?\r", b"7\r")


def told(command: bytes, answer: bytes = b"") -> Script:
    """A set, answered or not, and the identity that shows where its answer ends."""
    return [(command + b"\r", answer or None), IDN]


async def opened(wire: Any, **options: Any) -> Mbx:
    mbx = Mbx("mbx", "memory:wire", MbxOptions(**options), wire.connector)
    await mbx.open()
    return mbx


async def test_open_identifies_the_unit(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    mbx = Mbx("mbx", "memory:wire", MbxOptions(), wire.connector)
    assert str(await mbx.open()) == "THORLABS MBX3, serial M00512345, firmware 1.9.5"
    assert isinstance(mbx, Attenuator)
    assert isinstance(mbx, BiasController)
    assert not isinstance(mbx, Shutter)


@pytest.mark.parametrize("text", [b"Thorlabs MX10B\r", b"THORLABS MBX\n", b"MX35D\r\n"])
async def test_its_relatives_are_recognised_however_they_put_it(
    scripted: Callable[..., Any], text: bytes
) -> None:
    mbx = await opened(scripted([(b"*IDN?\r", text), *ATTENUATES]))
    assert mbx.name == "mbx"


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"*IDN?\r", b"THORLABS,TLX2,1,1\r")]))


async def test_open_has_the_voa_attenuate(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            IDN,
            (b"VOA:MODE?\r", b"1\r"),
            *told(b"VOA:MODE: 0", b"1\r"),
            (b"VOA:MODE?\r", b"0\r"),
            (b"VOA:POWER?\r", b"0\r"),
            *told(b"VOA:POWER: 1"),
            (b"VOA:POWER?\r", b"1\r"),
        ]
    )
    await opened(wire)
    assert not wire.channel.remaining


@pytest.mark.parametrize("answer", [b"", b"1\r", b"1\n", b"1\r\n"])
async def test_a_bias_goes_out_in_millivolts_whether_the_set_is_answered_or_not(
    scripted: Callable[..., Any], answer: bytes
) -> None:
    wire = scripted(
        [
            *OPEN,
            *told(b"MZM:HOLD:VOLTAGE: 5000", answer),
            HOLDS,
            (b"MZM:HOLD:VOLTAGE?\r", b"5000\r"),
            (b"MZM:VOLTAGE?\r", b"5.04\r"),
        ]
    )
    mbx = await opened(wire)
    assert await mbx.hold(5.0004) == 5.0
    assert not wire.channel.remaining


async def test_a_voltage_is_held_only_once_it_is_set(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            *told(b"MZM:HOLD:VOLTAGE: -1200"),
            (b"MZM:MODE?\r", b"3\r"),
            *told(b"MZM:MODE: 7"),
            HOLDS,
            (b"MZM:HOLD:VOLTAGE?\r", b"-1200\r"),
            (b"MZM:VOLTAGE?\r", b"-1.20\r"),
        ]
    )
    mbx = await opened(wire)
    assert await mbx.hold(-1.2) == -1.2
    assert not wire.channel.remaining


async def test_a_bias_that_is_not_there_is_an_error(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            *told(b"MZM:HOLD:VOLTAGE: 5000"),
            HOLDS,
            (b"MZM:HOLD:VOLTAGE?\r", b"5000\r"),
            (b"MZM:VOLTAGE?\r", b"0.005\r"),
            (b"MZM:VOLTAGE?\r", b"0.005\r"),
        ]
    )
    mbx = await opened(wire, settle_timeout_s=0.01)
    with pytest.raises(ReplyError, match="set to 5000 mV and measures"):
        await mbx.hold(5.0)


@pytest.mark.parametrize(
    ("mode", "question", "answer", "bias_v"),
    [(b"7", b"MZM:HOLD:VOLTAGE?", b"-1250", -1.25), (b"3", b"MZM:VOLTAGE?", b"3.31", 3.31)],
)
async def test_the_bias_read_is_the_one_in_force(
    scripted: Callable[..., Any], mode: bytes, question: bytes, answer: bytes, bias_v: float
) -> None:
    wire = scripted([*OPEN, (b"MZM:MODE?\r", mode + b"\r"), (question + b"\r", answer + b"\r")])
    assert await (await opened(wire)).read_bias() == bias_v


@pytest.mark.parametrize("bias_v", [10.001, -10.001, float("nan")])
async def test_a_bias_outside_the_limits_sends_nothing(
    scripted: Callable[..., Any], bias_v: float
) -> None:
    mbx = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="outside -10 to 10 V"):
        await mbx.hold(bias_v)


async def test_an_attenuation_is_awaited_and_read_back(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            *told(b"VOA:ATTEN: 5.00"),
            *ATTENUATES,
            (b"VOA:SETPOINT?\r", b"0\r"),
            (b"VOA:SETPOINT?\r", b"1\r"),
            (b"VOA:ATTEN?\r", b"5\r"),
        ]
    )
    mbx = await opened(wire)
    assert await mbx.set_attenuation(5.0) == 5.0
    assert not wire.channel.remaining


async def test_a_voa_that_is_switched_off_is_read_by_what_it_measures(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"VOA:POWER?\r", b"0\r"), (b"VOA:MEASURED?\r", b"0.71\r")])
    assert await (await opened(wire)).read_attenuation() == 0.71


async def test_without_light_the_set_point_is_not_waited_for_if_so_wanted(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, *told(b"VOA:ATTEN: 5.00"), *ATTENUATES, (b"VOA:ATTEN?\r", b"5\r")])
    mbx = await opened(wire, waits_for_set_point=False)
    assert await mbx.set_attenuation(5.0) == 5.0


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
async def test_an_error_is_a_refusal_and_leaves_the_line_in_step(
    scripted: Callable[..., Any], end: bytes
) -> None:
    error = b"Err: Parameter error" + end
    wire = scripted([*OPEN, *told(b"VOA:ATTEN: 0.50", error), (b"VOA:POWER?\r", b"1" + end)])
    mbx = await opened(wire, min_attenuation_db=0.5)
    with pytest.raises(RejectedError) as caught:
        await mbx.set_attenuation(0.5)
    assert caught.value.received == "Err: Parameter error"
    assert wire.channel.opened == 1


async def test_a_set_that_answers_something_else_is_an_error(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, *told(b"VOA:ATTEN: 5.00", b"0.3\r")])
    mbx = await opened(wire)
    with pytest.raises(ReplyError, match="not an answer"):
        await mbx.set_attenuation(5.0)


async def test_a_set_without_identity_after_it_leaves_the_state_unknown(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"VOA:ATTEN: 5.00\r", b"1\r"), (b"*IDN?\r", None)])
    mbx = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="the attenuation may have changed"):
        await mbx.set_attenuation(5.0)


async def test_an_unknown_lock_point_sends_nothing(scripted: Callable[..., Any]) -> None:
    mbx = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="no lock point: peak, null"):
        await mbx.lock("quad")


async def test_make_safe_attenuates_first_and_then_holds_the_rest_bias(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            *told(b"VOA:ATTEN: 20.00"),
            *told(b"VOA:MODE: 0", b"1\r"),
            *told(b"VOA:POWER: 1"),
            (b"VOA:ATTEN?\r", b"20\r"),
            *ATTENUATES,
            *told(b"MZM:HOLD:VOLTAGE: 0"),
            *told(b"MZM:MODE: 7"),
            HOLDS,
            (b"MZM:HOLD:VOLTAGE?\r", b"0\r"),
        ]
    )
    await (await opened(wire)).make_safe()
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_bias_v": 2, "max_bias_v": 1}, "must be below"),
        ({"max_bias_v": 11}, "less than or equal to 10"),
        ({"min_bias_v": 1}, "rest_bias_v 0 lies outside"),
        ({"max_bias_v": 1.0005}, "no multiple of 0.001 V"),
        ({"min_attenuation_db": 0.4}, "greater than or equal to 0.5"),
        ({"safe_attenuation_db": 20.5}, "safe_attenuation_db"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        MbxOptions(**options)


def simulated(settings: MbxSettings | None = None, **options: Any) -> tuple[Mbx, SimulatedMbx]:
    """A driver in front of the simulated unit, in virtual time."""
    front_end = SimulatedMbx("mbx", AttenuatorModel(), Record(), settings)
    served = ServedInstrument("mbx", front_end, Clock())
    memory = {"mbx": lambda: MemoryChannel(served, link="serial", error=ChannelError)}
    connector = Connector(memory=memory)
    return Mbx("mbx", "memory:mbx", MbxOptions(**options), connector), front_end


@pytest.mark.parametrize("answers_all", [False, True])
@pytest.mark.parametrize(
    ("point", "mode"), [("peak", "1"), ("null", "2"), ("quad+", "3"), ("quad-", "4")]
)
def test_a_lock_is_awaited_through_calibration(point: str, mode: str, *, answers_all: bool) -> None:
    mbx, unit = simulated(MbxSettings(answers_all=answers_all))

    async def story() -> None:
        await mbx.open()
        assert not await mbx.is_locked()
        await mbx.lock(point)
        now_s = asyncio.get_running_loop().time()
        assert 6.0 <= now_s <= 6.5
        assert await mbx.is_locked()
        assert unit.outputs(now_s)["mode"] == mode
        await mbx.hold(1.0)
        assert not await mbx.is_locked()

    virtual_time.run(story())


def test_a_lock_that_does_not_come_about_is_given_up() -> None:
    mbx, _ = simulated(MbxSettings(lock_s=1e6), lock_timeout_s=10)

    async def story() -> None:
        await mbx.open()
        with pytest.raises(TransportError, match="not locked to null within 10 s"):
            await mbx.lock("null")

    virtual_time.run(story())


def test_making_safe_does_not_wait_for_a_lock_and_ends_it() -> None:
    mbx, unit = simulated()

    async def story() -> None:
        await mbx.open()
        async with asyncio.TaskGroup() as tasks:
            locking = tasks.create_task(_locked_or_not(mbx))
            await asyncio.sleep(1)
            async with asyncio.timeout(0.5):
                await mbx.make_safe()
        assert "the lock was ended" in locking.result()
        assert unit.outputs(2.0)["mode"] == "7"

    virtual_time.run(story())


async def _locked_or_not(mbx: Mbx) -> str:
    try:
        await mbx.lock("null")
    except ReplyError as exc:
        return str(exc)
    return ""


def test_in_the_dark_it_opens_and_makes_safe_but_does_not_settle() -> None:
    mbx, unit = simulated(MbxSettings(has_light=False))

    async def story() -> None:
        await mbx.open()
        with pytest.raises(TransportError, match="not settled"):
            await mbx.set_attenuation(5.0)
        async with asyncio.timeout(1):
            await mbx.make_safe()
        assert unit.outputs(asyncio.get_running_loop().time() + 1)["attenuation"] == 20.0

    virtual_time.run(story())
