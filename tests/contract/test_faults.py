"""What every driver promises when the link or the unit misbehaves."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from drivers.errors import InstrumentError, ReplyError, TransportError
from drivers.roles import PhotonCounter
from sim.wire import Reply

# Time for a whole dialogue that gets no answer, the second try and reopening included.
MUTE_BOUND_S = 8.0
# Time for a unit to restart and for every late answer to have come.
RETURN_S = 8.0

pytestmark = pytest.mark.simulated_only


async def answers_nothing(live: Any) -> TransportError:
    """Ask and return the error; fail if that takes too long."""
    async with asyncio.timeout(MUTE_BOUND_S):
        with pytest.raises(TransportError) as caught:
            await live.driver.identify()
    return caught.value


def test_a_mute_unit_is_given_up_in_bounded_time(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("mute")
        error = await answers_nothing(live)
        assert error.instrument == unit.name

    unit.run(story)


@pytest.mark.parametrize("fault", ["mute", "stall"])
def test_a_line_that_must_be_recovered_first_is_given_up_in_bounded_time(
    unit_in_memory: Any, fault: str
) -> None:
    async def story(live: Any) -> None:
        await live.fault(fault)
        await answers_nothing(live)
        await answers_nothing(live)

    unit_in_memory.run(story)


def test_a_write_without_answer_leaves_the_state_unknown(setter_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        for output in live.outputs():
            live.mute_when_told()
            with pytest.raises(TransportError, match="state unknown"):
                await output.set(output.values[0])
            await live.fault("mute", is_on=False)
            assert output.agrees(await output.read(), output.values[0])

    setter_in_memory.run(story)


def test_a_write_without_answer_is_not_repeated(setter_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        for output in live.outputs():
            live.mute_when_told()
            told = live.told()
            with pytest.raises(TransportError):
                await output.set(output.values[0])
            await live.fault("mute", is_on=False)
            await live.driver.identify()
            assert live.told() == told + 1

    setter_in_memory.run(story)


def test_it_works_again_when_a_mute_unit_speaks(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("mute")
        await answers_nothing(live)
        await live.fault("mute", is_on=False)
        await live.exchange()

    unit.run(story)


def test_an_exchange_cancelled_in_mid_dialogue_does_not_disturb_the_next(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("stall")
        exchanges = live.driver.health().exchanges
        task = asyncio.get_running_loop().create_task(live.exchange())
        while live.driver.health().exchanges == exchanges:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await live.fault("stall", is_on=False)  # what was asked is answered now
        await live.exchange()

    unit.run(story)


def test_a_late_reply_does_not_answer_the_next_question(unit: Any) -> None:
    async def story(live: Any) -> None:
        loop = asyncio.get_running_loop()
        await live.fault("late")
        with pytest.raises(TransportError):
            await live.exchange()
        await live.fault("late", is_on=False)
        # A right value or an error will do, until the late replies must have come: on a serial
        # line they reach whoever has the port open, and are then noticed for not fitting.
        until_s = loop.time() + live.late_s + 0.2
        while loop.time() < until_s:
            try:
                await live.exchange()
            except InstrumentError:
                continue
            await asyncio.sleep(0.02)
        await live.exchange()

    unit.run(story)


def test_garbage_is_an_instrument_error(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("garbage")
        with pytest.raises(InstrumentError) as caught:
            await live.exchange()
        assert caught.value.instrument == unit.name

    unit.run(story)


def test_the_first_exchange_after_garbage_works(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("garbage")
        with pytest.raises(InstrumentError):
            await live.exchange()
        await live.fault("garbage", is_on=False)
        await live.exchange()

    unit.run(story)


def test_replies_in_pieces_are_read_whole(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("split")
        await live.exchange()
        assert live.driver.health().errors == 0

    unit.run(story)


def test_half_a_reply_is_a_lost_exchange_and_does_not_begin_the_next(setter_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        end = live.disturb(say=lambda reply: reply[: len(reply) // 2])
        with pytest.raises(TransportError) as caught:
            await live.exchange()
        assert caught.value.instrument == setter_in_memory.name
        end()
        await live.exchange()

    setter_in_memory.run(story)


def test_what_nobody_asked_for_is_no_answer(setter_that_listens: Any) -> None:
    async def story(live: Any) -> None:
        live.sim._served[setter_that_listens.name]._post([Reply(b"17\r\n")], None, None)
        await asyncio.sleep(0.05)
        await live.exchange()

    setter_that_listens.run(story)


def test_what_open_set_up_is_set_up_again_after_a_power_cycle(unit_in_memory: Any) -> None:
    manners = unit_in_memory.manners

    async def story(live: Any) -> None:
        live.at_the_front_panel(manners.preset)
        await live.fault("power-cycle")
        await asyncio.sleep(1)  # it boots
        begin = live.told()
        live.identity = await live.driver.open()
        set_up = live.set_up(begin)
        assert bool(set_up) == manners.is_set_up

        await live.fault("power-cycle")
        begin = live.told()
        await live.works_within(RETURN_S)
        if isinstance(live.driver, PhotonCounter):
            await live.driver.count(0.02, live.inputs)
        assert set_up <= live.set_up(begin)

    unit_in_memory.with_options(**manners.options).run(story, opens=False)


def test_a_lost_link_names_the_instrument(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        error = await answers_nothing(live)
        assert error.instrument == unit.name
        assert unit.name in str(error)

    unit.run(story)


def test_it_works_again_when_the_link_returns(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        await answers_nothing(live)
        await live.fault("unplug", is_on=False)
        await live.works_within(RETURN_S)

    unit.run(story)


def test_it_works_again_when_nobody_asked_while_the_link_was_lost(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        await live.fault("unplug", is_on=False)
        await live.works_within(RETURN_S)

    unit.run(story)


def test_another_model_plugged_in_instead_is_sent_no_setting(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        await answers_nothing(live)
        live.answer_as_another_model()
        await live.fault("unplug", is_on=False)
        told = live.told()
        with pytest.raises(ReplyError, match="you configured"):
            await live.exchange()
        assert live.told() == told

    unit_in_memory.run(story)


def test_it_works_again_after_a_power_cycle(unit: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("power-cycle")
        await live.works_within(RETURN_S)

    unit.run(story)


def test_after_a_power_cycle_it_reads_what_the_unit_does_now(setter: Any) -> None:
    async def story(live: Any) -> None:
        await live.leave_safe_state()
        await live.fault("power-cycle")
        read, truth = await live.read_within(RETURN_S), live.truth()
        for output in live.outputs():
            assert output.agrees(read[output.name], truth[output.name]), output.name

    setter.run(story)


def test_health_counts_errors_and_keeps_the_last(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("mute")
        await answers_nothing(live)
        health = live.driver.health()
        assert health.errors >= 1
        assert "no reply" in health.last_error

    unit_in_memory.run(story)


def test_health_counts_reconnects(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        await answers_nothing(live)
        await live.fault("unplug", is_on=False)
        await live.works_within(RETURN_S)
        assert live.driver.health().reconnects >= 1

    unit_in_memory.run(story)


async def suffer(live: Any, fault: str) -> None:
    """Have a fault hit an exchange, then take it away."""
    await live.leave_safe_state()
    await live.fault(fault)
    with suppress(InstrumentError):
        await live.exchange()
    if fault != "power-cycle":
        await live.fault(fault, is_on=False)


@pytest.mark.parametrize("fault", ["mute", "stall", "late", "garbage", "split"])
def test_making_safe_after_a_fault_leaves_the_unit_safe(unit_in_memory: Any, fault: str) -> None:
    async def story(live: Any) -> None:
        await suffer(live, fault)
        await live.driver.make_safe()
        assert await live.is_safe_soon()

    unit_in_memory.run(story)


def test_making_safe_survives_a_unit_that_is_mute_at_first(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await live.leave_safe_state()
        await live.fault("mute")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(live.driver.make_safe())
            await asyncio.sleep(0.1)
            await live.fault("mute", is_on=False)
        assert await live.is_safe_soon()

    unit_in_memory.run(story)


@pytest.mark.parametrize("fault", ["unplug", "power-cycle"])
def test_making_safe_after_the_link_was_lost_leaves_the_unit_safe(unit: Any, fault: str) -> None:
    async def story(live: Any) -> None:
        await suffer(live, fault)
        await live.safe_within(RETURN_S)
        assert await live.is_safe_soon()

    unit.run(story)


def test_making_safe_needs_no_more_than_the_right_unit(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        async with live.hearing() as opening:
            await live.driver.open()
        async with live.hearing() as identifying:
            await live.driver.identify()
        await live.leave_safe_state()
        async with live.hearing() as making_safe:
            await live.driver.make_safe()
        await live.leave_safe_state()
        await live.fault("unplug")
        await answers_nothing(live)
        await live.fault("unplug", is_on=False)

        known = identifying.all | making_safe.all
        live.hear_only(known)  # deaf to all that sets it up
        await live.driver.make_safe()
        assert await live.is_safe_soon()
        if opening.answered - known:
            for needs_set_up in (live.driver.identify, live.driver.open):
                with pytest.raises(InstrumentError):
                    await needs_set_up()

    unit_in_memory.run(story)


def test_making_safe_sends_another_model_nothing(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await live.fault("unplug")
        await answers_nothing(live)
        live.answer_as_another_model()
        await live.fault("unplug", is_on=False)
        told = live.told()
        with pytest.raises(ReplyError, match="you configured"):
            await live.driver.make_safe()
        assert live.told() == told

    unit_in_memory.run(story)


def test_making_safe_undoes_what_somebody_did_at_the_front_panel(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        live.at_the_front_panel(unit_in_memory.manners.meddling)
        await asyncio.sleep(0.2)
        assert not live.is_safe()
        await live.driver.make_safe()
        assert await live.is_safe_soon()

    unit_in_memory.run(story)
