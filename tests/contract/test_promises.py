"""What every driver promises on a link that works."""

import asyncio
from typing import Any

import pytest

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Instrument


def needs_refusals(unit: Any) -> None:
    """Skip a test where the unit takes whatever it is told."""
    if not unit.manners.refused:
        pytest.skip("this unit has no way to refuse")


def test_it_says_who_it_is(unit: Any) -> None:
    async def story(live: Any) -> None:
        assert isinstance(live.driver, Instrument)
        assert live.identity.model
        assert await live.driver.identify() == live.identity

    unit.run(story)


@pytest.mark.simulated_only
def test_another_model_is_refused_when_it_is_opened(unit: Any) -> None:
    async def story(live: Any) -> None:
        live.answer_as_another_model()
        with pytest.raises(ReplyError, match="you configured") as caught:
            await live.driver.open()
        assert caught.value.instrument == unit.name

    unit.run(story, opens=False)


@pytest.mark.simulated_only
def test_another_model_in_its_place_is_noticed_when_asked(unit: Any) -> None:
    async def story(live: Any) -> None:
        live.answer_as_another_model()
        with pytest.raises(ReplyError, match="you configured"):
            await live.driver.identify()

    unit.run(story)


def test_every_value_that_is_set_is_confirmed_and_reads_back(setter: Any) -> None:
    async def story(live: Any) -> None:
        for output in live.outputs():
            for value in output.values:
                assert output.agrees(await output.set(value), value), output.name
                assert output.agrees(await output.read(), value), output.name

    setter.run(story)


def test_an_impossible_value_is_refused_before_anything_is_sent(setter: Any) -> None:
    async def story(live: Any) -> None:
        exchanges, told = live.driver.health().exchanges, live.told()
        for output in live.outputs():
            for value in output.impossible:
                with pytest.raises(SettingError) as caught:
                    await output.set(value)
                assert caught.value.instrument == setter.name
        assert live.driver.health().exchanges == exchanges
        assert live.told() == told

    setter.run(story)


@pytest.mark.simulated_only
def test_no_limit_is_overstepped_on_the_way(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        for output in live.outputs():
            for value in output.values:
                await output.set(value)
        await live.driver.make_safe()
        assert live.sim.record.violations == []

    unit_in_memory.run(story)


@pytest.mark.simulated_only
def test_what_is_confirmed_is_what_the_unit_holds_and_not_what_was_asked(
    setter_in_memory: Any,
) -> None:
    async def story(live: Any) -> None:
        for output in live.outputs():
            if output.between is not None:
                confirmed = await output.set(output.between)
                assert confirmed != output.between
                assert confirmed == await output.read()

    setter_in_memory.run(story)


@pytest.mark.simulated_only
def test_a_setting_that_the_unit_did_not_take_is_not_confirmed(setter_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        live.set_instead(setter_in_memory.manners.other)
        for output in live.outputs():
            with pytest.raises(ReplyError) as caught:
                await output.set(output.values[0])
            assert caught.value.instrument == setter_in_memory.name

    setter_in_memory.run(story)


@pytest.mark.simulated_only
def test_a_refused_setting_is_reported_with_what_the_unit_said(setter_in_memory: Any) -> None:
    needs_refusals(setter_in_memory)

    async def story(live: Any) -> None:
        live.set_instead(setter_in_memory.manners.refused)
        for output in live.outputs():
            with pytest.raises(RejectedError) as caught:
                await output.set(output.values[0])
            assert caught.value.instrument == setter_in_memory.name
            assert caught.value.received

    setter_in_memory.run(story)


@pytest.mark.simulated_only
def test_a_refusal_changes_nothing_and_leaves_the_line_in_step(setter_in_memory: Any) -> None:
    needs_refusals(setter_in_memory)

    async def story(live: Any) -> None:
        before = [await output.set(output.values[1]) for output in live.outputs()]
        live.set_instead(setter_in_memory.manners.refused)
        for output in live.outputs():
            with pytest.raises(RejectedError):
                await output.set(output.values[0])
        assert [await output.read() for output in live.outputs()] == before
        assert live.driver.health().reconnects == 0

    setter_in_memory.run(story)


def test_callers_at_the_same_time_each_get_their_own_value(setter: Any) -> None:
    async def story(live: Any) -> None:
        async def call(output: Any, value: Any) -> None:
            assert output.agrees(await output.set(value), value), output.name

        async def ask() -> None:
            assert await live.driver.identify() == live.identity

        async with asyncio.TaskGroup() as tasks:
            for output in live.outputs()[:2]:
                for value in output.values:
                    tasks.create_task(call(output, value))
                    tasks.create_task(ask())

    setter.run(story)


def test_a_cancelled_exchange_does_not_disturb_the_next(unit: Any) -> None:
    async def story(live: Any) -> None:
        for turns in (0, 2, 5):
            task = asyncio.get_running_loop().create_task(live.exchange())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])  # where nothing takes time it may be done already
            await live.exchange()

    unit.run(story)


def test_it_can_be_closed_and_opened_again(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.driver.close()
        assert await live.driver.open() == live.identity
        await live.exchange()

    unit.run(story)


def test_it_can_be_closed_twice_or_without_ever_being_opened(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.driver.close()
        await live.driver.close()

    unit.run(story, opens=False)


def test_a_closed_driver_says_that_its_link_is_not_open(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.driver.close()
        with pytest.raises(TransportError, match="not open"):
            await live.driver.identify()

    unit.run(story)


def test_making_safe_is_possible_at_any_time(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.driver.make_safe()
        await live.driver.make_safe()
        await live.exchange()

    unit.run(story)


@pytest.mark.simulated_only
def test_making_safe_leaves_the_unit_safe(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.leave_safe_state()
        await live.driver.make_safe()
        assert await live.is_safe_soon()

    unit.run(story)


def test_health_counts_exchanges(unit: Any) -> None:
    async def story(live: Any) -> None:
        before = live.driver.health()
        await live.driver.identify()
        after = live.driver.health()
        assert after.exchanges > before.exchanges
        assert after.last_round_trip_s is not None
        assert (after.errors, after.reconnects) == (before.errors, before.reconnects)

    unit.run(story)
