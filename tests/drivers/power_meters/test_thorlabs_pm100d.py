import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, RejectedError, ReplyError, TransportError
from drivers.power_meters.thorlabs_pm100d import (
    Pm100d,
    Pm100dOptions,
    parse_power_w,
    parse_sensor,
)
from drivers.roles import PowerMeter
from drivers.transport.connect import Connector
from drivers.transport.memory import MemoryChannel
from sim import virtual_time
from sim.instruments.pm100d import Pm100d as SimulatedPm100d
from sim.record import Record

Script = list[tuple[bytes, bytes | None]]

IDN = (b"*IDN?\n", b"Thorlabs,PM100D,P0012345,2.6.0\n")
NO_ERROR = (b"SYST:ERR?\n", b'+0,"No error"\n')
SENSOR = (b"SYST:SENS:IDN?\n", b'"S154C","13020611","28-Feb-2025",1,2,289\n')
NOT_ZEROING = (b"SENS:CORR:COLL:ZERO:STAT?\n", b"0\n")
IN_WATTS = (b"SENS:POW:UNIT?\n", b"W\n")
AT_1550 = (b"SENS:CORR:WAV?\n", b"1.55000000E+03\n")
NO_LOSS = (b"SENS:CORR:LOSS?\n", b"0.00000000E+00\n")
MEANING = [IN_WATTS, AT_1550, NO_LOSS]
AVERAGED = (b"SENS:AVER:COUN?\n", b"100\n")
AUTO = (b"SENS:POW:RANG:AUTO?\n", b"1\n")
OPEN = [IDN, NO_ERROR, SENSOR, *MEANING, AVERAGED, AUTO]


async def opened(wire: Any, **options: Any) -> Pm100d:
    meter = Pm100d("monitor", "memory:wire", Pm100dOptions(**options), wire.connector)
    await meter.open()
    return meter


async def test_open_identifies_meter_and_sensor(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    meter = await opened(wire)
    assert isinstance(meter, PowerMeter)
    assert not wire.channel.remaining


async def test_open_sets_watts_wavelength_averaging_and_range(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            IDN,
            (b"SYST:ERR?\n", b'-113,"Undefined header"\n'),
            NO_ERROR,
            SENSOR,
            (b"SENS:POW:UNIT?\n", b"DBM\n"),
            (b"SENS:POW:UNIT W\n", None),
            NO_ERROR,
            IN_WATTS,
            (b"SENS:CORR:WAV?\n", b"8.0E+02\n"),
            (b"SENS:CORR:WAV 1310\n", None),
            NO_ERROR,
            (b"SENS:CORR:WAV?\n", b"1.31E+03\n"),
            NO_LOSS,
            (b"SENS:AVER:COUN?\n", b"1\n"),
            (b"SENS:AVER:COUN 10\n", None),
            NO_ERROR,
            (b"SENS:AVER:COUN?\n", b"10\n"),
            (b"SENS:POW:RANG:AUTO?\n", b"0\n"),
            (b"SENS:POW:RANG:AUTO 1\n", None),
            NO_ERROR,
            AUTO,
        ]
    )
    await opened(wire, wavelength_nm=1310, averages=10)
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    "identity", [b"Thorlabs,LDC500,1,1\n", b"Newport,PM100D,1,1\n", b"Thorlabs,MPC320,1,1\n"]
)
async def test_another_model_is_named_as_such(
    scripted: Callable[..., Any], identity: bytes
) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        await opened(scripted([(b"*IDN?\n", identity)]))


async def test_an_energy_sensor_is_refused_in_clear_words(scripted: Callable[..., Any]) -> None:
    energy = (b"SYST:SENS:IDN?\n", b"ES111C,090901,01-JAN-2024,3,1,34\n")
    with pytest.raises(ReplyError, match="an energy sensor is plugged in: connect a power sensor"):
        await opened(scripted([IDN, NO_ERROR, energy]))


async def test_a_wavelength_that_the_sensor_does_not_take_is_refused(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            IDN,
            NO_ERROR,
            SENSOR,
            IN_WATTS,
            AT_1550,
            (b"SENS:CORR:WAV 2000\n", None),
            (b"SYST:ERR?\n", b'-222,"Data out of range"\n'),
            NO_ERROR,
        ]
    )
    with pytest.raises(RejectedError, match="Data out of range"):
        await opened(wire, wavelength_nm=2000)


async def test_a_reading_is_in_watts_although_somebody_chose_another_unit(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            SENSOR,
            NOT_ZEROING,
            (b"SENS:POW:UNIT?\n", b"DBM\n"),
            (b"SENS:POW:UNIT W\n", None),
            NO_ERROR,
            *MEANING,
            (b"MEAS:POW?\n", b"1.25000000E-06\n"),
        ]
    )
    assert await (await opened(wire)).read_power() == 1.25e-6


async def test_a_fixed_range_is_set_before_each_reading(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN[:-1],
            SENSOR,
            NOT_ZEROING,
            *MEANING,
            (b"SENS:POW:RANG 1e-05\n", None),
            NO_ERROR,
            (b"MEAS:POW?\n", b"1.0E-06\n"),
        ]
    )
    assert await (await opened(wire, range_w=1e-5)).read_power() == 1e-6


async def test_no_power_is_read_while_the_meter_takes_its_zero(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, SENSOR, (NOT_ZEROING[0], b"1\n")])
    meter = await opened(wire)
    with pytest.raises(RejectedError, match="zero"):
        await meter.read_power()
    assert not wire.channel.remaining


async def test_over_range_is_refused_and_leaves_the_line_in_step(
    scripted: Callable[..., Any],
) -> None:
    reading = [SENSOR, NOT_ZEROING, *MEANING]
    wire = scripted(
        [
            *OPEN,
            *reading,
            (b"MEAS:POW?\n", b"9.90000000E+37\n"),
            *reading,
            (b"MEAS:POW?\n", b"2.0E-06\n"),
        ]
    )
    meter = await opened(wire)
    with pytest.raises(RejectedError, match="over-range"):
        await meter.read_power()
    assert await meter.read_power() == 2e-6
    assert meter.health().reconnects == 0


@pytest.mark.parametrize("reply", ["9.9E37", "-9.9E37", "1e12", "inf"])
def test_numbers_that_are_no_power_are_over_range(reply: str) -> None:
    with pytest.raises(RejectedError, match="over-range"):
        parse_power_w("a", "MEAS:POW?", reply)


@pytest.mark.parametrize("reply", ["nan", "", "1 W", "9.9E37 W"])
def test_what_is_no_number_is_no_reading(reply: str) -> None:
    with pytest.raises(ReplyError):
        parse_power_w("a", "MEAS:POW?", reply)


@given(st.floats(max_value=1e11, min_value=-1e11))
def test_a_power_is_read_as_it_is_written(power_w: float) -> None:
    read_w = parse_power_w("a", "MEAS:POW?", f"{power_w:.8E}")
    assert math.isclose(read_w, power_w, rel_tol=1e-8)


@pytest.mark.parametrize(
    "reply",
    [
        "S154C,13020611,28-Feb-2025,1,2,289",
        '"S154C", "13020611", "28-Feb-2025", 1, 2, 289',
        '"S154C","13020611","calibrated, 28-Feb-2025",1,2,289',
    ],
)
def test_a_sensor_is_read_with_and_without_quotes(reply: str) -> None:
    sensor = parse_sensor("a", reply)
    assert (sensor.name, sensor.serial, sensor.flags) == ("S154C", "13020611", 289)


@pytest.mark.parametrize("reply", ["", "a,b", "a,b,c,1,2,x", '"no sensor","","",0,0,0'])
def test_a_missing_sensor_is_told(reply: str) -> None:
    with pytest.raises(ReplyError, match="sensor"):
        parse_sensor("a", reply)


# Against the simulated meter.


class Light:
    def __init__(self) -> None:
        self.power_w = 1e-6

    def monitor_power_w(self, now_s: float) -> float:
        return self.power_w


class Meter:
    """A simulated meter at the other end of a memory channel."""

    def __init__(self) -> None:
        self.light, self.channel = Light(), MemoryChannel()
        self.unit = SimulatedPm100d("monitor", self.light, Record())

    def driver(self, **options: Any) -> Pm100d:
        connector = Connector(memory={"m": lambda: self.channel})
        return Pm100d("monitor", "memory:m", Pm100dOptions(**options), connector)

    async def serve(self) -> None:
        while True:
            data = await self.channel.received.get()
            for reply in self.unit.handle(data, asyncio.get_running_loop().time()):
                await asyncio.sleep(reply.after_s)
                self.channel.deliver(reply.data)


def metering(meter: Meter, story: Callable[[Pm100d], Any], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(meter.serve())
            driver = meter.driver(**options)
            await driver.open()
            await story(driver)
            await driver.close()
            serving.cancel()

    virtual_time.run(main())


def test_a_meter_that_closed_an_idle_connection_is_asked_on_a_new_one() -> None:
    meter = Meter()

    async def story(driver: Pm100d) -> None:
        await asyncio.sleep(120)
        meter.channel.hang_up()
        assert await driver.read_power() == pytest.approx(1e-6, rel=0.01)
        assert driver.health().reconnects == 1

    metering(meter, story)


def test_a_reading_with_much_averaging_is_waited_for() -> None:
    async def story(driver: Pm100d) -> None:
        assert await driver.read_power() == pytest.approx(1e-6, rel=1e-3)
        assert asyncio.get_running_loop().time() > 5.9

    metering(Meter(), story, averages=20_000)


def test_zeroing_takes_off_what_the_sensor_shows_in_the_dark() -> None:
    meter = Meter()
    meter.light.power_w = 0.0

    async def story(driver: Pm100d) -> None:
        assert await driver.read_power() > 50e-12
        await driver.zero()
        assert abs(await driver.read_power()) < 20e-12

    metering(meter, story)


def test_a_zeroing_without_end_is_given_up() -> None:
    meter = Meter()

    async def story(driver: Pm100d) -> None:
        with pytest.raises(TransportError, match="not zeroed within 1 s"):
            await driver.zero()

    metering(meter, story, zero_timeout_s=1.0)


def test_making_safe_breaks_a_zeroing_off() -> None:
    meter = Meter()

    async def story(driver: Pm100d) -> None:
        async with asyncio.TaskGroup() as tasks:
            zeroing = tasks.create_task(failing(driver))
            await asyncio.sleep(0.5)
            await driver.make_safe()
        assert "make_safe" in zeroing.result()

    async def failing(driver: Pm100d) -> str:
        with pytest.raises(InstrumentError) as caught:
            await driver.zero()
        return str(caught.value)

    metering(meter, story)
