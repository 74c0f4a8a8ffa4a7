import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError
from drivers.roles import TemperatureController
from drivers.temperature.meerstetter_tec import MeerstetterTec, MeerstetterTecOptions
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.meerstetter import Meerstetter, MeerstetterSettings
from sim.record import Record

Story = Callable[[MeerstetterTec, Meerstetter], Awaitable[None]]


def controlling(story: Story, settings: MeerstetterSettings | None = None, **options: Any) -> None:
    async def main() -> None:
        unit = Meerstetter("tec", Record(), settings)
        served = ServedInstrument("tec", unit, Clock())
        memory = {"tec": lambda: MemoryChannel(served, link="serial", error=ChannelError)}
        driver = MeerstetterTec(
            "tec", "memory:tec", MeerstetterTecOptions(**options), Connector(memory=memory)
        )
        await driver.open()
        await story(driver, unit)
        await driver.close()

    virtual_time.run(main())


def test_it_says_who_it_is() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        assert isinstance(driver, TemperatureController)
        assert str(await driver.identify()) == (
            "Meerstetter 1161-TEC SW G01, serial 20481, firmware 510"
        )

    controlling(story)


def test_setting_a_temperature_switches_the_output_on() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        assert await driver.set_temperature(12.3456) == 12.346
        assert unit.outputs(0.0) == {"temperature": 12.346, "enabled": True}

    controlling(story)


def test_the_temperature_is_stable_once_the_set_point_is_reached() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        assert not await driver.is_stable()
        await driver.set_temperature(15.0)
        assert not await driver.is_stable()
        await asyncio.sleep(60)
        assert await driver.is_stable()
        assert await driver.read_temperature() == pytest.approx(15.0, abs=0.05)

    controlling(story)


def test_current_voltage_and_heat_sink_are_measured() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        await driver.set_temperature(12.0)
        await asyncio.sleep(60)
        current_a, voltage_v = await driver.read_output()
        assert (current_a, voltage_v) == pytest.approx((0.5, 1.0), rel=0.01)
        assert await driver.read_sink_temperature() == 22.0

    controlling(story)


@pytest.mark.parametrize("ask", ["read_temperature", "is_stable"])
def test_the_error_state_is_told_with_the_number_of_the_error(ask: str) -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        with pytest.raises(RejectedError, match="error 21"):
            await getattr(driver, ask)()

    controlling(story, MeerstetterSettings(error=21))


def test_no_set_point_is_sent_to_a_controller_in_its_error_state() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        with pytest.raises(RejectedError, match="error 21"):
            await driver.set_temperature(15.0)
        assert unit.outputs(0.0)["temperature"] == 25.0

    controlling(story, MeerstetterSettings(error=21))


def test_the_safe_state_is_output_off() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        await driver.make_safe()
        assert unit.outputs(0.0)["enabled"] is False

    controlling(story, MeerstetterSettings(is_enabled=True))


def test_a_controller_that_must_hold_goes_on_holding_when_safe() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        await driver.make_safe()
        assert unit.outputs(0.0)["enabled"] is True

    controlling(story, MeerstetterSettings(is_enabled=True), is_off_when_safe=False)


def test_the_output_is_switched_by_hand() -> None:
    async def story(driver: MeerstetterTec, unit: Meerstetter) -> None:
        for is_on in (True, False):
            assert await driver.output_enable(is_on=is_on) is is_on
            assert unit.outputs(0.0)["enabled"] is is_on

    controlling(story)


@pytest.mark.parametrize(
    "options",
    [
        {"min_temperature_c": 30.0, "max_temperature_c": 20.0},
        {"max_temperature_c": 20.00001},
        {"channel": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MeerstetterTecOptions(**options)
