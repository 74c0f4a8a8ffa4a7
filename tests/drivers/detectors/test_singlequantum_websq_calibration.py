"""The automatic bias calibration against the simulated unit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.detectors.singlequantum_websq import WebSq
from drivers.detectors.singlequantum_websq_options import WebSqOptions
from drivers.errors import RejectedError, SettingError, TransportError
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.websq import WebSq as SimulatedWebSq
from sim.instruments.websq import WebSqSettings
from sim.record import Record


class Detectors:
    def set_bias(self, detector: int, current_ua: float, now_s: float) -> None:
        pass

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        return np.zeros(4, dtype=np.int64)


def calibrating(
    story: Callable[[WebSq, SimulatedWebSq], Awaitable[None]],
    *,
    found_ua: float = 16.0,
    calibration_s: float = 3.0,
    **options: Any,
) -> None:
    async def main() -> None:
        detectors = Detectors()
        settings = WebSqSettings(found_ua=found_ua, calibration_s=calibration_s)
        unit = SimulatedWebSq("snspd", detectors, detectors, Record(), settings)
        served = ServedInstrument("snspd", unit, Clock())
        memory = {"main": lambda: MemoryChannel(served, error=ChannelError)}
        driver = WebSq("snspd", "memory:main", WebSqOptions(**options), Connector(memory=memory))
        await driver.open()
        await story(driver, unit)
        await driver.close()

    virtual_time.run(main())


def test_it_returns_the_currents_that_the_unit_found() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        assert await driver.calibrate_bias(100) == {1: 16.0, 2: 16.0, 3: 16.0, 4: 16.0}
        assert unit.outputs(0.0)["enabled"]

    calibrating(story)


def test_currents_outside_the_limits_are_not_left_in_force() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        with pytest.raises(RejectedError, match="16 uA was found for detector 1"):
            await driver.calibrate_bias(100)
        assert unit.outputs(0.0)["bias-1"] == 15.0

    calibrating(story, max_bias_ua=15.5)


def test_a_unit_that_never_ends_is_given_up() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        with pytest.raises(TransportError, match="not calibrated within 20 s"):
            await driver.calibrate_bias(100)

    calibrating(story, calibration_s=1e6, calibration_timeout_s=20)


def test_making_safe_ends_it_with_the_bias_off() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cut_short(driver))
            await asyncio.sleep(1)
            await driver.make_safe()
        assert not unit.outputs(0.0)["enabled"]

    async def cut_short(driver: WebSq) -> None:
        with pytest.raises(TransportError, match="make_safe"):
            await driver.calibrate_bias(100)

    calibrating(story)


def test_what_is_made_safe_before_its_turn_comes_is_not_switched_on_again() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(driver.make_safe())
            tasks.create_task(cut_short(driver))
            tasks.create_task(driver.make_safe())
        assert not unit.outputs(0.0)["enabled"]

    async def cut_short(driver: WebSq) -> None:
        with pytest.raises(TransportError, match="make_safe"):
            await driver.calibrate_bias(100)

    calibrating(story)


def test_making_safe_while_it_is_being_started_ends_it() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(cut_short(driver))
            await asyncio.sleep(0.03)  # its first dialogue holds the link
            await driver.make_safe()
        assert not unit.outputs(0.0)["enabled"]

    async def cut_short(driver: WebSq) -> None:
        with pytest.raises(TransportError, match="make_safe"):
            await driver.calibrate_bias(100)

    calibrating(story)


def test_an_impossible_number_of_dark_counts_is_refused() -> None:
    async def story(driver: WebSq, unit: SimulatedWebSq) -> None:
        with pytest.raises(SettingError):
            await driver.calibrate_bias(float("nan"))

    calibrating(story)
