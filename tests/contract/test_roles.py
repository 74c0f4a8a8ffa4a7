"""What the roles promise beyond what every instrument does."""

import asyncio
import math
from contextlib import aclosing, suppress
from typing import Any

import numpy as np
import pytest

from drivers.errors import InstrumentError, RejectedError, SettingError
from timetags.block import TagBlock

SIGMAS = 6
# A measurement that got no answer is given up, its tags waited for in vain, within this time.
BOUND_S = 15.0


def within_statistics(n: int, expected: float) -> bool:
    """Whether a count is within six standard deviations, afterpulses (a few per cent) included."""
    return abs(n - expected) < SIGMAS * math.sqrt(1.1 * expected) + 1


async def light_unevenly(live: Any) -> None:
    """Send one state for good: each detector then clicks at a rate of its own."""
    live.sim.twin.source.set_state("H", live.sim.truth()["time_s"])
    await live.light(is_on=True)
    rates_hz = np.sort(live.expected_hz().sum(axis=0))
    assert np.diff(rates_hz).min() > 0.2 * rates_hz.max() / len(rates_hz)


def counted_hz(live: Any) -> float:
    """Clicks per second to expect on the inputs that are in use: not every unit has all four."""
    detectors = [number - 1 for number in live.inputs]
    return float(live.expected_hz().sum(axis=0)[detectors].sum())


def test_the_shutter_opens_and_shuts(shutter: Any) -> None:
    async def story(live: Any) -> None:
        await live.driver.make_safe()
        for is_open in (True, True, False, False):
            assert await live.driver.set_shutter(is_open=is_open) is is_open
            assert await live.driver.read_shutter() is is_open

    shutter.run(story)


@pytest.mark.simulated_only
def test_the_shutter_moves_where_the_light_is(shutter: Any) -> None:
    async def story(live: Any) -> None:
        for is_open in (True, False):
            await live.driver.set_shutter(is_open=is_open)
            assert live.truth()["shutter"] is is_open

    shutter.run(story)


@pytest.mark.simulated_only
def test_the_filter_stands_when_the_attenuation_is_confirmed(attenuator: Any) -> None:
    async def story(live: Any) -> None:
        limits = live.driver.actuators()["attenuation"]
        span_db = limits.maximum - limits.minimum
        for share in (0.1, 0.9, 0.11):
            read_db = await live.driver.set_attenuation(limits.minimum + share * span_db)
            assert live.truth()["attenuation"] == pytest.approx(read_db, abs=0.01)

    attenuator.run(story)


@pytest.mark.simulated_only
def test_the_shutter_stays_shut_while_the_filter_would_let_too_much_light_through(
    shutter: Any,
) -> None:
    async def story(live: Any) -> None:
        await live.driver.make_safe()
        live.at_the_front_panel(shutter.manners.too_bright)
        await asyncio.sleep(1)
        with pytest.raises(RejectedError, match="attenuation"):
            await live.driver.set_shutter(is_open=True)
        assert not live.truth()["shutter"]

    shutter.run(story)


@pytest.mark.simulated_only
def test_the_shutter_opens_on_an_attenuation_that_means_what_it_says(shutter: Any) -> None:
    async def story(live: Any) -> None:
        limits = live.driver.actuators()["attenuation"]
        for shift in shutter.manners.shifts:
            await live.driver.make_safe()
            await live.driver.set_attenuation(limits.minimum)
            live.at_the_front_panel([shift])
            assert await live.driver.set_shutter(is_open=True)
            assert await live.driver.read_attenuation() == limits.minimum
            assert live.truth()["attenuation"] == pytest.approx(limits.minimum, abs=0.01)

    shutter.run(story)


@pytest.mark.simulated_only
def test_an_open_shutter_does_not_let_the_unit_go_below_the_limits_by_itself(shutter: Any) -> None:
    async def story(live: Any) -> None:
        limits = live.driver.actuators()["attenuation"]
        await live.driver.make_safe()
        await live.driver.set_attenuation(limits.maximum)
        live.at_the_front_panel(shutter.manners.controls)
        with suppress(RejectedError):  # it may have gone there already
            await live.driver.set_shutter(is_open=True)
        await asyncio.sleep(1)
        assert not live.truth()["shutter"] or live.truth()["attenuation"] >= limits.minimum

    shutter.run(story)


@pytest.mark.simulated_only
def test_an_attenuation_is_not_read_wrong_although_somebody_set_an_offset(attenuator: Any) -> None:
    async def story(live: Any) -> None:
        for shift in attenuator.manners.shifts:
            await live.driver.set_attenuation(live.driver.actuators()["attenuation"].minimum)
            live.at_the_front_panel([shift])
            await asyncio.sleep(1)
            try:
                read_db = await live.driver.read_attenuation()
            except RejectedError:
                continue  # told, not hidden
            assert live.truth()["attenuation"] == pytest.approx(read_db, abs=0.1)

    attenuator.run(story)


@pytest.mark.simulated_only
def test_the_light_is_cut_before_the_filter_moves_to_its_safe_place(shutter: Any) -> None:
    async def story(live: Any) -> None:
        await live.leave_safe_state()
        begin = live.told()
        await live.driver.make_safe()
        _, entries = live.sim.record.since(begin)
        told = [each.what for each in entries]
        assert told.index("shutter") < told.index("attenuation")

    shutter.run(story)


@pytest.mark.simulated_only
def test_no_limit_is_overstepped_although_somebody_set_an_offset(attenuator: Any) -> None:
    async def story(live: Any) -> None:
        limits = live.driver.actuators()["attenuation"]
        for shift in attenuator.manners.shifts:
            for attenuation_db in (limits.minimum, limits.maximum):
                live.at_the_front_panel([shift])
                assert await live.driver.set_attenuation(attenuation_db) == attenuation_db
                assert live.truth()["attenuation"] == pytest.approx(attenuation_db, abs=0.01)
        assert live.sim.record.violations == []

    attenuator.run(story)


def test_all_drives_are_set_in_one_call_and_read_back(controller: Any) -> None:
    async def story(live: Any) -> None:
        drives = {int(name): each for name, each in live.driver.actuators().items()}
        wanted = {
            n: round(each.minimum + (0.4 + 0.05 * n) * (each.maximum - each.minimum), 3)
            for n, each in drives.items()
        }
        resolution = max(each.resolution for each in drives.values())
        assert await live.driver.set_drives(wanted) == pytest.approx(wanted, abs=resolution)
        read = await live.driver.read_drives()
        assert {n: read[n] for n in drives} == pytest.approx(wanted, abs=resolution)

    controller.run(story)


def test_one_impossible_drive_keeps_all_others_from_being_sent(controller: Any) -> None:
    async def story(live: Any) -> None:
        first, *_, last = (int(name) for name in live.driver.actuators())
        lowest = live.driver.actuators()[str(first)].minimum
        exchanges, told = live.driver.health().exchanges, live.told()
        with pytest.raises(SettingError):
            await live.driver.set_drives({first: lowest, last: math.nan})
        assert live.driver.health().exchanges == exchanges
        assert live.told() == told

    controller.run(story)


def test_a_channel_that_is_not_there_is_refused(controller: Any) -> None:
    async def story(live: Any) -> None:
        with pytest.raises(SettingError):
            await live.driver.set_drives({99: 0.0})

    controller.run(story)


def test_the_source_confirms_every_state(source: Any) -> None:
    async def story(live: Any) -> None:
        for state in ("H", "V", "D", "A", "PATTERN"):
            assert await live.driver.set_state(state) == state
            assert await live.driver.read_state() == state

    source.run(story)


@pytest.mark.simulated_only
def test_the_source_sends_the_state_that_it_confirms(source: Any) -> None:
    async def story(live: Any) -> None:
        for state in ("H", "V", "D", "A", "PATTERN"):
            await live.driver.set_state(state)
            assert live.sim.truth()["state"] == state

    source.run(story)


def test_a_count_lasts_at_least_as_long_as_asked(counter: Any) -> None:
    async def story(live: Any) -> None:
        counts = await live.driver.count(0.0503, live.inputs)
        assert 0.0503 <= counts.duration_s < 0.06
        assert set(counts.by_input) == set(live.inputs)

    counter.run(story)


@pytest.mark.simulated_only
def test_counts_agree_with_the_light(counter: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        rate_hz = counted_hz(live)
        counts = await live.driver.count(0.2, live.inputs)
        n = sum(counts.by_input.values())
        assert within_statistics(n, rate_hz * counts.duration_s)

    counter.run(story)


@pytest.mark.simulated_only
def test_each_input_counts_its_own_detector(counter: Any) -> None:
    async def story(live: Any) -> None:
        await light_unevenly(live)
        counts = await live.driver.count(0.2, live.inputs)
        expected_hz = live.expected_hz().sum(axis=0)
        for number in live.inputs:
            expected = expected_hz[number - 1] * counts.duration_s
            assert within_statistics(counts.by_input[number], expected)

    counter.run(story)


@pytest.mark.simulated_only
def test_counts_at_the_same_time_are_those_of_their_own_windows(counter: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        rate_hz = counted_hz(live)
        durations_s = (0.03, 0.1, 0.05)
        async with asyncio.TaskGroup() as tasks:
            counting = [tasks.create_task(live.driver.count(d, live.inputs)) for d in durations_s]
        for task, duration_s in zip(counting, durations_s, strict=True):
            n = sum(task.result().by_input.values())
            assert within_statistics(n, rate_hz * duration_s)

    counter.run(story)


@pytest.mark.simulated_only
def test_a_count_begins_after_it_was_asked_for(counter: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        await live.driver.count(0.1, live.inputs)
        await live.light(is_on=False)
        rate_hz = counted_hz(live)
        counts = await live.driver.count(0.1, live.inputs)
        assert within_statistics(sum(counts.by_input.values()), rate_hz * counts.duration_s)

    counter.run(story)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_a_count_of_impossible_length_is_refused(counter: Any, duration_s: float) -> None:
    async def story(live: Any) -> None:
        exchanges = live.driver.health().exchanges
        with pytest.raises(SettingError):
            await live.driver.count(duration_s, live.inputs)
        assert live.driver.health().exchanges == exchanges

    counter.run(story)


@pytest.mark.parametrize("inputs", [(), (1, 1), (99,)])
def test_inputs_that_are_not_there_are_refused(counter: Any, inputs: tuple[int, ...]) -> None:
    async def story(live: Any) -> None:
        exchanges = live.driver.health().exchanges
        with pytest.raises(SettingError):
            await live.driver.count(0.01, inputs)
        assert live.driver.health().exchanges == exchanges

    counter.run(story)


def test_two_counts_at_the_same_time_each_get_their_own_window(counter: Any) -> None:
    async def story(live: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(live.driver.count(0.03, live.inputs[:1]))
            second = tasks.create_task(live.driver.count(0.05, live.inputs))
        assert (first.result().duration_s, set(first.result().by_input)) == (
            0.03,
            set(live.inputs[:1]),
        )
        assert (second.result().duration_s, set(second.result().by_input)) == (
            0.05,
            set(live.inputs),
        )

    counter.run(story)


@pytest.mark.simulated_only
def test_it_counts_again_after_a_power_cycle(counter: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        await live.fault("power-cycle")
        await live.works_within(5)
        rate_hz = counted_hz(live)
        counts = await live.driver.count(0.1, live.inputs)
        n = sum(counts.by_input.values())
        assert within_statistics(n, rate_hz * counts.duration_s)

    counter.run(story)


def test_an_acquisition_lasts_exactly_as_long_as_asked(tagger: Any) -> None:
    async def story(live: Any) -> None:
        tags = await live.driver.acquire(0.0123, live.inputs)
        assert tags.duration_s == 0.0123
        assert set(tags.since_sync_ps) == set(live.inputs)

    tagger.run(story)


@pytest.mark.simulated_only
def test_tags_agree_with_the_light(tagger: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        rate_hz = live.sim.truth()["detection_rate_hz"]
        tags = await live.driver.acquire(0.2, live.inputs)
        n = sum(each.size for each in tags.since_sync_ps.values())
        assert within_statistics(n, rate_hz * tags.duration_s)

    tagger.run(story)


@pytest.mark.simulated_only
def test_each_input_stamps_its_own_detector(tagger: Any) -> None:
    async def story(live: Any) -> None:
        await light_unevenly(live)
        tags = await live.driver.acquire(0.2, live.inputs)
        for number, expected_hz in zip(live.inputs, live.expected_hz().sum(axis=0), strict=True):
            assert within_statistics(tags.since_sync_ps[number].size, expected_hz * tags.duration_s)

    tagger.run(story)


@pytest.mark.simulated_only
def test_tags_fold_to_the_light_of_each_slot(tagger: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        twin, expected_hz = live.sim.twin, live.expected_hz()
        tags = await live.driver.acquire(0.2, live.inputs)
        for number, delay_ps in zip(live.inputs, twin.receiver.settings.delay_ps, strict=True):
            since_slot_ps = (tags.since_sync_ps[number] - delay_ps) % twin.sync_period_ps
            slots = (since_slot_ps // twin.source.slot_ps).astype(int)
            folded = np.bincount(slots, minlength=twin.source.period_slots)
            for n, hz in zip(folded, expected_hz[:, number - 1], strict=True):
                assert within_statistics(n, hz * tags.duration_s)

    tagger.run(story)


@pytest.mark.simulated_only
def test_tags_that_the_unit_lost_are_not_kept_quiet(
    tagger_in_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        monkeypatch.setattr(tagger_in_memory.manners.overflow_hz, 100.0)
        with pytest.raises(InstrumentError, match="lost"):
            await live.driver.acquire(0.1, live.inputs)

    tagger_in_memory.run(story)


@pytest.mark.simulated_only
@pytest.mark.parametrize("measure", ["count", "acquire"])
def test_making_safe_ends_a_measurement_at_once(tagger_in_memory: Any, measure: str) -> None:
    async def story(live: Any) -> None:
        loop = asyncio.get_running_loop()
        measuring = loop.create_task(getattr(live.driver, measure)(10.0, live.inputs))
        await asyncio.sleep(1)
        await live.driver.make_safe()
        async with asyncio.timeout(0.5):
            with pytest.raises(InstrumentError, match="make_safe"):
                await measuring

    tagger_in_memory.run(story)


async def measured(live: Any, measure: str, duration_s: float) -> int:
    """Count or acquire; return the number of clicks."""
    if measure == "count":
        return sum((await live.driver.count(duration_s, live.inputs)).by_input.values())
    tags = await live.driver.acquire(duration_s, live.inputs)
    return sum(each.size for each in tags.since_sync_ps.values())


@pytest.mark.simulated_only
@pytest.mark.parametrize("duration_s", [0.3, 1.0])
@pytest.mark.parametrize("fault", ["power-cycle", "mute", "stall", "unplug", "garbage"])
@pytest.mark.parametrize("measure", ["count", "acquire"])
def test_a_measurement_that_a_fault_hits_is_reported_and_the_next_is_whole(
    tagger_in_memory: Any, measure: str, fault: str, duration_s: float
) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        rate_hz = live.sim.truth()["detection_rate_hz"]
        loop = asyncio.get_running_loop()
        measuring = loop.create_task(measured(live, measure, duration_s))
        await asyncio.sleep(live.unit.manners.set_up_s + duration_s / 2)
        await live.fault(fault)
        async with asyncio.timeout(duration_s + BOUND_S):
            with pytest.raises(InstrumentError):
                await measuring
        if fault != "power-cycle":
            await live.fault(fault, is_on=False)
        n = await measured(live, measure, duration_s)
        assert within_statistics(n, rate_hz * duration_s)

    tagger_in_memory.run(story)


@pytest.mark.simulated_only
def test_every_tag_lies_within_one_period_of_the_sync(tagger: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        tags = await live.driver.acquire(0.05, live.inputs)
        latest_ps = max(int(each.max()) for each in tags.since_sync_ps.values())
        assert latest_ps < live.sim.twin.sync_period_ps

    tagger.run(story)


@pytest.mark.simulated_only
@pytest.mark.parametrize("after_s", [0.05, 0.3, 0.45])
def test_no_tag_of_a_cancelled_acquisition_is_in_a_later_one(tagger: Any, after_s: float) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        task = asyncio.get_running_loop().create_task(live.driver.acquire(0.2, live.inputs))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.wait([task])
        await live.light(is_on=False)
        rate_hz = live.sim.truth()["detection_rate_hz"]
        tags = await live.driver.acquire(0.1, live.inputs)
        n = sum(each.size for each in tags.since_sync_ps.values())
        assert within_statistics(n, rate_hz * tags.duration_s)

    tagger.run(story)


async def streamed(live: Any, duration_s: float) -> TagBlock:
    """Stream for a while and put the blocks together."""
    async with aclosing(live.driver.stream(duration_s, live.inputs)) as blocks:
        parts = [block async for block in blocks]
    return TagBlock(
        np.concatenate([part.channel for part in parts]),
        np.concatenate([part.time_ps for part in parts]),
    )


@pytest.mark.simulated_only
def test_streamed_tags_agree_with_the_light_on_each_input(streamer: Any) -> None:
    async def story(live: Any) -> None:
        await light_unevenly(live)
        tags = await streamed(live, 0.3)
        for number, expected_hz in zip(live.inputs, live.expected_hz().sum(axis=0), strict=True):
            assert within_statistics(int((tags.channel == number).sum()), 0.3 * expected_hz)

    streamer.run(story)


@pytest.mark.simulated_only
def test_streamed_tags_come_in_order_of_time_and_within_it(streamer: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        tags = await streamed(live, 0.3)
        assert (np.diff(tags.time_ps) >= 0).all()
        assert int(tags.time_ps[-1]) - int(tags.time_ps[0]) <= 0.3e12
        assert set(np.unique(tags.channel)) <= set(live.inputs)

    streamer.run(story)


@pytest.mark.simulated_only
def test_a_stream_that_was_left_early_does_not_disturb_the_next(streamer: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        rate_hz = counted_hz(live)
        async with aclosing(live.driver.stream(5.0, live.inputs)) as blocks:
            await anext(blocks)
        assert await live.driver.identify() == live.identity
        tags = await streamed(live, 0.2)
        assert within_statistics(tags.time_ps.size, 0.2 * rate_hz)

    streamer.run(story)


@pytest.mark.simulated_only
def test_making_safe_does_not_wait_for_whoever_takes_a_stream(streamer: Any) -> None:
    async def story(live: Any) -> None:
        await live.light(is_on=True)
        async with aclosing(live.driver.stream(60.0, live.inputs)) as blocks:
            await anext(blocks)
            async with asyncio.timeout(BOUND_S):
                await live.driver.make_safe()
            assert live.is_safe()
            with pytest.raises(InstrumentError):
                async for _ in blocks:
                    pass

    streamer.run(story)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan])
def test_a_stream_of_impossible_length_is_refused(streamer: Any, duration_s: float) -> None:
    async def story(live: Any) -> None:
        exchanges = live.driver.health().exchanges
        with pytest.raises(SettingError):
            await streamed(live, duration_s)
        assert live.driver.health().exchanges == exchanges

    streamer.run(story)
