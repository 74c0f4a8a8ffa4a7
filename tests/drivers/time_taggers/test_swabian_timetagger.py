import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.registry import driver_entry
from drivers.roles import PhotonCounter, TagStreamer, TimeTagger, roles_of
from drivers.time_taggers.swabian_timetagger import SwabianTimeTagger
from drivers.time_taggers.swabian_timetagger_options import TimeTaggerOptions
from drivers.time_taggers.swabian_timetagger_tags import (
    ERROR,
    OVERFLOW_BEGIN,
    SinceStart,
    TagBatch,
)
from drivers.time_taggers.swabian_timetagger_vendor import (
    Address,
    import_vendor_library,
    parse_address,
)
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.library import MemoryLibrary
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments import (
    timetagger_device,
    timetagger_handle,
    timetagger_library,
    timetagger_measurements,
)
from sim.instruments.timetagger import SimulatedTimeTagger, TimeTaggerSettings
from sim.record import REJECTED, Record

SYNC = 8
PERIOD_PS = 200_000
# When detector n clicks after START, in every tenth period.
CLICKS_PS = {1: 0, 2: 1, 3: 123_456, 4: PERIOD_PS - 1}


class Clockwork:
    """Detectors that click like clockwork."""

    sync_period_ps = float(PERIOD_PS)

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        first, n = round(start_s * 1e12 / PERIOD_PS), round(duration_s * 1e12 / PERIOD_PS)
        periods = np.arange(-(-first // 10) * 10, first + n, 10) - first
        return {d: (periods * PERIOD_PS + after).astype(float) for d, after in CLICKS_PS.items()}


class Lab:
    """A driver and the simulated unit that its library reaches."""

    def __init__(self, clicks: Any = None, **options: Any) -> None:
        self.record = Record()
        self.unit = SimulatedTimeTagger(
            "tagger", clicks or Clockwork(), self.record, TimeTaggerSettings(sync_input=SYNC)
        )
        self.served = ServedInstrument("tagger", self.unit, Clock())
        self.connector = Connector(memory={"tagger": lambda: MemoryLibrary(self.served)})
        self.driver = SwabianTimeTagger(
            "tagger",
            "memory:tagger",
            TimeTaggerOptions.model_validate({"sync_channel": SYNC, **options}),
            self.connector,
        )

    def told(self, what: str) -> list[tuple[int, Any]]:
        _, entries = self.record.since()
        return [(each.channel, each.value) for each in entries if each.what == what]


Story = Callable[[Lab], Awaitable[None]]


def tell(story: Story, lab: Lab | None = None, *, opens: bool = True) -> Lab:
    """Tell a story about an opened driver, in virtual time."""
    lab = lab or Lab()

    async def main() -> None:
        try:
            if opens:
                await lab.driver.open()
            await story(lab)
        finally:
            await lab.driver.close()

    virtual_time.run(main())
    return lab


async def nothing(lab: Lab) -> None:
    """Only open the driver."""


# Roles, resources, options.


def test_it_counts_stamps_and_streams() -> None:
    driver = Lab().driver

    assert isinstance(driver, PhotonCounter)
    assert isinstance(driver, TimeTagger)
    assert isinstance(driver, TagStreamer)
    assert roles_of(SwabianTimeTagger) == ("PhotonCounter", "TimeTagger", "TagStreamer")
    assert driver_entry("swabian-timetagger").wires == ("timetagger",)


@pytest.mark.parametrize(
    ("resource", "address"),
    [
        ("timetagger://any", Address()),
        ("timetagger://2104000Y0K", Address(serial="2104000Y0K")),
        ("timetagger://tagger.lab:41101", Address(server="tagger.lab:41101")),
        ("memory:tagger", Address()),
    ],
)
def test_a_resource_names_a_tagger(resource: str, address: Address) -> None:
    assert parse_address("tagger", resource) == address


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "timetagger:",
        "timetagger://",
        "timetagger://:41101",
        "timetagger://host:port",
        "tcp://a:1",
        "timetagger:any",
        "timetagger://host:0",
        "timetagger://host:65536",
        "timetagger://host:-1",
    ],
)
def test_a_malformed_resource_is_told_how_to_be_written(resource: str) -> None:
    with pytest.raises(SettingError, match="timetagger://HOST:PORT"):
        parse_address("tagger", resource)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"inputs": []}, "once"),
        ({"inputs": [1, 1]}, "once"),
        ({"inputs": [0]}, "greater than or equal to 1"),
        ({"sync_channel": 1}, "one of inputs"),
        ({"sync_channel": None, "sync_divider": 2}, "needs a sync_channel"),
        ({"edges": {7: "falling"}}, "edges names inputs"),
        ({"trigger_level_v": {7: 0.1}}, "trigger_level_v names inputs"),
        ({"test_signal": [7]}, "test_signal names inputs"),
        ({"trigger_level_v": {1: float("nan")}}, "trigger_level_v"),
        ({"trigger_level_v": {1: 0.6}, "max_trigger_level_v": 0.5}, "0.6 V is outside"),
        ({"input_delay_ps": {1: 11}, "max_delay_ps": 10}, "11 ps is outside"),
        ({"min_delay_ps": 10, "max_delay_ps": 10}, "must be below"),
        ({"min_trigger_level_v": 1, "max_trigger_level_v": 1}, "must be below"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Lab(**options)


# Who it is.


def test_it_is_identified_by_model_serial_and_library() -> None:
    async def story(lab: Lab) -> None:
        identity = await lab.driver.identify()
        assert str(identity) == (
            "Swabian Instruments Time Tagger Ultra, serial 2104000Y0K, firmware library 2.22.6"
        )

    tell(story)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("serial_number", "1740000ABC", "serial number is not 1740000ABC"),
        ("model", "Time Tagger X", "this is no Time Tagger X"),
    ],
)
def test_another_unit_than_the_configured_one_is_refused(
    option: str, value: str, complaint: str
) -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ReplyError, match=f"{complaint}.*you configured"):
            await lab.driver.open()

    lab = tell(story, Lab(**{option: value}), opens=False)
    assert lab.record.total == 0


def test_a_unit_without_the_configured_inputs_is_refused() -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(RejectedError, match=r"no channels \[19\]"):
            await lab.driver.open()

    tell(story, Lab(inputs=[1, 19]), opens=False)


def library_in(lab: Lab, resource: str) -> SwabianTimeTagger:
    """A driver with another resource that reaches the same simulated library."""

    class Elsewhere(Connector):
        def library(self, instrument: str, resource: str, *args: Any, **named: Any) -> Any:
            return super().library(instrument, "memory:tagger", *args, **named)

    connector = Elsewhere(memory={"tagger": lambda: MemoryLibrary(lab.served)})
    options = TimeTaggerOptions(sync_channel=SYNC)
    return SwabianTimeTagger("tagger", resource, options, connector)


def test_a_serial_number_that_is_not_there_is_a_lost_link_with_the_librarys_words() -> None:
    async def story(lab: Lab) -> None:
        lab.driver = library_in(lab, "timetagger://1740000ABC")
        with pytest.raises(TransportError, match="'1740000ABC' is not valid"):
            await lab.driver.open()

    tell(story, opens=False)


def test_a_tagger_behind_a_server_is_taken_up_although_somebody_holds_it() -> None:
    async def story(lab: Lab) -> None:
        holder = lab.unit.library.createTimeTagger()
        lab.driver = library_in(lab, "timetagger://tagger.lab:41101")
        assert (await lab.driver.open()).serial == "2104000Y0K"
        holder.getSerial()

    tell(story, opens=False)


def test_a_tagger_that_somebody_holds_is_a_lost_link_until_it_is_free() -> None:
    async def story(lab: Lab) -> None:
        holder = lab.unit.library.createTimeTagger()
        with pytest.raises(TransportError, match="already in use"):
            await lab.driver.open()
        lab.unit.library.freeTimeTagger(holder)
        assert await lab.driver.identify()

    tell(story, opens=False)


def test_a_closed_driver_leaves_the_tagger_to_others() -> None:
    async def story(lab: Lab) -> None:
        await lab.driver.close()
        assert lab.unit.library.createTimeTagger()

    tell(story)


async def test_a_library_that_is_not_installed_is_told_with_its_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("Swabian", "Swabian.TimeTagger", "TimeTagger"):
        monkeypatch.setitem(sys.modules, name, None)
    driver = SwabianTimeTagger("tagger", "timetagger://any", TimeTaggerOptions(), Connector())

    with pytest.raises(SettingError, match=r"qkdctl\[swabian\]"):
        await driver.open()
    await driver.close()


def test_an_older_installation_of_the_library_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    older = object()
    monkeypatch.setitem(sys.modules, "Swabian", None)
    monkeypatch.setitem(sys.modules, "Swabian.TimeTagger", None)
    monkeypatch.setitem(sys.modules, "TimeTagger", older)

    assert import_vendor_library() is older


# Settings.


def test_what_the_file_says_is_set_and_nothing_else() -> None:
    lab = tell(
        nothing,
        Lab(
            edges={2: "falling"},
            trigger_level_v={1: 0.2},
            input_delay_ps={2: -700},
            dead_time_ps={3: 50_000},
            sync_divider=5,
            test_signal=[4],
        ),
    )

    _, entries = lab.record.since()
    assert [(each.what, each.channel, each.value) for each in entries] == [
        ("trigger level", 1, 0.2),
        ("delay", 2, -700),
        ("dead time", 3, 50_000),
        ("divider", SYNC, 5),
        ("test signal", 4, "on"),
    ]


def test_the_delay_of_an_input_is_that_of_the_edge_in_use() -> None:
    async def story(lab: Lab) -> None:
        assert await lab.driver.set_delay(2, -700.4) == -700
        assert lab.unit.delays_ps == {-2: -700}

    tell(story, Lab(edges={2: "falling"}))


def test_a_dead_time_that_the_unit_makes_much_longer_is_reported() -> None:
    async def story(lab: Lab) -> None:
        lab.unit.dead_time_bounds_ps = (50_000, 100_000)
        with pytest.raises(ReplyError, match="dead time of input 1 was set to 1 ps"):
            await lab.driver.open()

    tell(story, Lab(dead_time_ps={1: 1}), opens=False)


def test_a_refused_level_tells_what_the_library_said() -> None:
    async def story(lab: Lab) -> None:
        lab.unit.level_bounds_v = (-0.1, 0.1)
        with pytest.raises(RejectedError, match="out of range") as caught:
            await lab.driver.set_trigger_level(1, 0.25)
        assert caught.value.sent == "setTriggerLevel(1, 0.25)"
        assert await lab.driver.read_trigger_level(1) == 0.5

    lab = tell(story)
    assert len(lab.told(REJECTED)) == 1


def test_making_safe_ends_test_signals_and_leaves_levels() -> None:
    async def story(lab: Lab) -> None:
        await lab.driver.set_trigger_level(1, 0.25)
        await lab.driver.make_safe()
        assert not lab.unit.tested
        assert await lab.driver.read_trigger_level(1) == pytest.approx(0.25, abs=0.002)

    tell(story, Lab(test_signal=[1, 2]))


def test_a_setting_survives_a_call_that_got_no_answer() -> None:
    async def story(lab: Lab) -> None:
        await lab.driver.set_trigger_level(1, 0.25)
        lab.served.set_fault("mute")
        with pytest.raises(TransportError, match="no reply"):
            await lab.driver.identify()
        lab.served.set_fault("mute", is_on=False)
        assert await lab.driver.read_trigger_level(1) == pytest.approx(0.25, abs=0.002)
        assert lab.driver.health().reconnects == 0

    tell(story)


# Counting.


def test_each_input_counts_its_own_clicks() -> None:
    async def story(lab: Lab) -> None:
        counts = await lab.driver.count(0.01, [3, 1])
        assert (counts.duration_s, dict(counts.by_input)) == (0.01, {3: 5000, 1: 5000})

    tell(story)


def test_a_count_takes_its_time_and_hardly_more() -> None:
    async def story(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await lab.driver.count(2.5, [1])
        assert 2.5 <= loop.time() - begun_s < 2.55

    tell(story)


def test_a_count_is_never_shorter_than_asked() -> None:
    async def story(lab: Lab) -> None:
        for duration_s in (1 / 3, 2 / 3, 0.1 + 0.2):
            assert (await lab.driver.count(duration_s, [1])).duration_s >= duration_s

    tell(story)


def test_measurements_at_the_same_time_do_not_wait_for_each_other() -> None:
    async def story(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            count = tasks.create_task(lab.driver.count(1.0, [1]))
            tags = tasks.create_task(lab.driver.acquire(0.5, [1, 2]))
        assert loop.time() - begun_s < 1.1
        assert count.result().by_input == {1: 500_000}
        assert tags.result().since_sync_ps[2].size == 250_000

    tell(story)


def test_a_measurement_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        monkeypatch.setattr(timetagger_measurements.Countrate, "isRunning", lambda self: True)
        async with asyncio.timeout(3):
            with pytest.raises(TransportError, match="not ended"):
                await lab.driver.count(0.1, [1])

    tell(story)


def test_a_count_that_ended_early_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        monkeypatch.setattr(timetagger_measurements.Countrate, "isRunning", lambda self: False)
        with pytest.raises(TransportError, match="instead of"):
            await lab.driver.count(2.0, [1])

    tell(story)


# Times since START.


def test_times_since_start_are_exact_at_both_ends_of_the_period() -> None:
    async def story(lab: Lab) -> None:
        tags = await lab.driver.acquire(0.02, [1, 2, 3, 4])
        for number, since_ps in tags.since_sync_ps.items():
            assert since_ps.dtype == np.uint64
            assert set(since_ps.tolist()) == {CLICKS_PS[number]}
            assert since_ps.size == 10_000

    tell(story)


def test_times_are_exact_after_the_unit_has_run_for_months() -> None:
    async def story(lab: Lab) -> None:
        await asyncio.sleep(100 * 86_400)
        tags = await lab.driver.acquire(0.001, [3])
        assert set(tags.since_sync_ps[3].tolist()) == {CLICKS_PS[3]}

    tell(story)


def test_a_delay_shifts_the_times_of_its_input() -> None:
    async def story(lab: Lab) -> None:
        await lab.driver.set_delay(3, -3456)
        tags = await lab.driver.acquire(0.01, [1, 3])
        assert set(tags.since_sync_ps[3].tolist()) == {CLICKS_PS[3] - 3456}

    tell(story)


def test_a_falling_edge_comes_later_than_the_rising_one() -> None:
    async def story(lab: Lab) -> None:
        tags = await lab.driver.acquire(0.01, [3])
        assert set(tags.since_sync_ps[3].tolist()) == {CLICKS_PS[3] + timetagger_device.PULSE_PS}

    tell(story, Lab(edges={3: "falling"}))


def test_with_a_divided_start_times_go_on_over_several_periods() -> None:
    async def story(lab: Lab) -> None:
        tags = await lab.driver.acquire(0.01, [3])
        seen_ps = set(tags.since_sync_ps[3].tolist())
        assert {each % PERIOD_PS for each in seen_ps} == {CLICKS_PS[3]}
        assert max(seen_ps) >= 2 * PERIOD_PS

    tell(story, Lab(sync_divider=4))


def test_without_a_start_channel_there_are_no_times_since_start() -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(SettingError, match="sync_channel"):
            await lab.driver.acquire(0.01, [1])

    tell(story, Lab(sync_channel=None))


def test_a_start_that_does_not_come_is_reported() -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ReplyError, match="no START came on input 7"):
            await lab.driver.acquire(0.01, [1])

    tell(story, Lab(sync_channel=7))


def test_more_detections_than_accepted_end_the_acquisition() -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ReplyError, match="max_tags"):
            await lab.driver.acquire(1.0, [1])

    tell(story, Lab(max_tags=100))


def test_an_overflow_is_reported_with_what_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        monkeypatch.setattr(timetagger_device, "OVERFLOW_HZ", 1e6)
        with pytest.raises(ReplyError, match=r"lost in an overflow .* [1-9]\d+ of them"):
            await lab.driver.acquire(0.1, [1])

    tell(story)


def test_a_full_buffer_is_reported() -> None:
    async def story(lab: Lab) -> None:
        with pytest.raises(ReplyError, match="buffer of 10000 tags was full"):
            await lab.driver.acquire(0.1, [1])

    tell(story, Lab(buffer_tags=10_000))


def test_after_lost_tags_the_next_acquisition_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        with monkeypatch.context() as overloaded:
            overloaded.setattr(timetagger_device, "OVERFLOW_HZ", 1e6)
            with pytest.raises(ReplyError):
                await lab.driver.acquire(0.1, [1])
        assert (await lab.driver.acquire(0.1, [1])).since_sync_ps[1].size == 50_000

    tell(story)


# Streams.


async def gather(lab: Lab, duration_s: float, inputs: list[int]) -> dict[int, NDArray[np.int64]]:
    async with aclosing(lab.driver.stream(duration_s, inputs)) as blocks:
        found = [block async for block in blocks]
    channel = np.concatenate([block.channel for block in found])
    time_ps = np.concatenate([block.time_ps for block in found])
    assert (np.diff(time_ps) >= 0).all()
    return {number: time_ps[channel == number] for number in inputs}


def test_a_stream_hands_over_absolute_times_in_order() -> None:
    async def story(lab: Lab) -> None:
        await asyncio.sleep(3)
        tags = await gather(lab, 0.3, [3, 1])
        assert tags[3].size == tags[1].size == 150_000
        assert tags[1][0] >= 3e12
        assert set((tags[3] % (10 * PERIOD_PS)).tolist()) == {CLICKS_PS[3]}

    tell(story)


def test_a_stream_needs_no_start_channel() -> None:
    async def story(lab: Lab) -> None:
        assert (await gather(lab, 0.1, [2]))[2].size == 50_000

    tell(story, Lab(sync_channel=None))


def test_a_stream_names_inputs_whatever_their_edge() -> None:
    async def story(lab: Lab) -> None:
        assert (await gather(lab, 0.1, [2]))[2].size == 50_000

    tell(story, Lab(edges={2: "falling"}))


def test_an_overflow_ends_a_stream_after_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: Lab) -> None:
        async with aclosing(lab.driver.stream(1.0, [1])) as blocks:
            assert len((await anext(blocks)).channel) == 25_000
            monkeypatch.setattr(timetagger_device, "OVERFLOW_HZ", 1.0)
            with pytest.raises(ReplyError, match="lost"):
                await anext(blocks)

    tell(story)


def test_memory_does_not_grow_with_a_stream() -> None:
    async def story(lab: Lab) -> None:
        async with aclosing(lab.driver.stream(5.0, [1])) as blocks:
            largest = max([len(block.channel) async for block in blocks])
        assert largest < 30_000

    tell(story)


def test_a_stream_that_is_left_early_ends_before_the_next_measurement() -> None:
    async def story(lab: Lab) -> None:
        async with aclosing(lab.driver.stream(100.0, [1])) as blocks:
            await anext(blocks)
        await lab.driver.count(0.1, [1])
        assert not lab.unit.listeners

    tell(story)


def test_a_stream_that_is_made_safe_is_cut_short() -> None:
    async def story(lab: Lab) -> None:
        async with aclosing(lab.driver.stream(100.0, [1])) as blocks:
            await anext(blocks)
            await lab.driver.make_safe()
            assert not lab.unit.listeners
            with pytest.raises(TransportError, match="make_safe"):
                await anext(blocks)

    tell(story)


# Lost links.


def test_taking_the_unit_up_anew_cuts_other_measurements_short() -> None:
    async def story(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        counting = loop.create_task(lab.driver.count(100.0, [1]))
        await asyncio.sleep(0.2)
        lab.served.set_fault("power-cycle")
        with pytest.raises(TransportError):
            await lab.driver.identify()
        await lab.driver.identify()
        with pytest.raises(TransportError, match="taken up anew"):
            await counting
        assert lab.driver.health().reconnects == 1

    tell(story)


def test_a_call_that_got_no_answer_does_not_cut_other_measurements_short() -> None:
    async def story(lab: Lab) -> None:
        loop = asyncio.get_running_loop()
        counting = loop.create_task(lab.driver.count(5.0, [1]))
        await asyncio.sleep(0.2)
        asking = loop.create_task(lab.driver.identify())
        lab.served.set_fault("stall")
        await asyncio.sleep(0.1)
        asking.cancel()
        lab.served.set_fault("stall", is_on=False)
        assert (await counting).by_input == {1: 2_500_000}

    tell(story)


def test_a_test_signal_counts_without_light() -> None:
    async def story(lab: Lab) -> None:
        expected = 1e12 / timetagger_device.TEST_PERIOD_PS
        assert (await lab.driver.count(1.0, [1])).by_input[1] == pytest.approx(expected, abs=1)

    tell(story, Lab(test_signal=[1]))


# Tags by themselves.


def batch(tags: list[tuple[int, int]], kind: int = 0, *, is_full: bool = False) -> TagBatch:
    channel, time_ps = np.array(tags, dtype=np.int64).reshape(-1, 2).T
    return TagBatch(
        is_running=True,
        channel=channel.astype(np.int32),
        time_ps=time_ps,
        event_type=np.full(len(tags), kind, np.uint8),
        missed=np.zeros(len(tags), np.uint16),
        is_full=is_full,
    )


def test_a_start_of_the_batch_before_still_counts() -> None:
    since = SinceStart("tagger", SYNC, {1: 1})
    since.add(batch([(SYNC, 100), (1, 130)]))
    since.add(batch([(1, 140), (SYNC, 200), (1, 200), (1, 207)]))

    assert since.since_start_ps()[1].tolist() == [30, 40, 0, 7]


def test_detections_before_the_first_start_are_left_out() -> None:
    since = SinceStart("tagger", SYNC, {1: 1})
    since.add(batch([(1, 90), (SYNC, 100), (1, 130)]))

    assert since.since_start_ps()[1].tolist() == [30]


def test_times_beyond_what_a_float_holds_are_exact() -> None:
    start_ps = (1 << 62) + 1
    since = SinceStart("tagger", SYNC, {1: 1})
    since.add(batch([(SYNC, start_ps), (1, start_ps + 3)]))

    assert since.since_start_ps()[1].tolist() == [3]


@pytest.mark.parametrize("second", [[(1, 99)], [(1, -(1 << 63))]])
def test_a_clock_that_jumps_back_is_refused(second: list[tuple[int, int]]) -> None:
    since = SinceStart("tagger", SYNC, {1: 1})
    since.add(batch([(SYNC, 100)]))

    with pytest.raises(ReplyError, match="not in order"):
        since.add(batch(second))


def test_an_empty_acquisition_has_an_empty_array_for_each_input() -> None:
    since = SinceStart("tagger", SYNC, {-1: 1, 2: 2})
    since.add(batch([]))

    assert {number: each.size for number, each in since.since_start_ps().items()} == {1: 0, 2: 0}


def test_records_are_intact_up_to_the_first_that_is_no_detection() -> None:
    whole = batch([(1, 1), (1, 2), (0, 3), (1, 4)])
    whole.event_type[2] = OVERFLOW_BEGIN

    assert whole.n_intact == 2
    assert batch([(1, 1)]).n_intact == 1


def test_a_disturbed_clock_is_refused() -> None:
    with pytest.raises(ReplyError, match="clock was disturbed"):
        batch([(0, 5)], kind=ERROR).check("tagger")


# The vendor's package, where it is installed.

OURS = {
    "": timetagger_library.TimeTaggerLibrary,
    "TimeTagger": timetagger_handle.TimeTagger,
    "TimeTaggerNetwork": timetagger_handle.TimeTagger,
    "Countrate": timetagger_measurements.Countrate,
    "TimeTagStream": timetagger_measurements.TimeTagStream,
    "TimeTagStreamBuffer": timetagger_measurements.TimeTagStreamBuffer,
}
# What the simulated unit needs of its own objects, and no driver may touch.
INNER = {"unit", "let_go", "hear", "is_listening"}


@pytest.fixture
def vendor() -> Any:
    pytest.importorskip("Swabian.TimeTagger", reason="the vendor's package is not installed")
    return import_vendor_library()


@pytest.mark.parametrize("name", OURS)
def test_the_vendors_library_has_every_call_of_ours(vendor: Any, name: str) -> None:
    ours, theirs = OURS[name], getattr(vendor, name) if name else vendor
    for call in (each for each in dir(ours) if each[0] != "_" and each not in INNER):
        assert hasattr(theirs, call), call
        if not inspect.isfunction(getattr(ours, call)):
            continue
        taken = inspect.signature(getattr(theirs, call)).parameters.values()
        if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in taken):
            continue  # overloaded: only the library itself knows
        needed = list(inspect.signature(getattr(ours, call)).parameters)
        known = [each.name for each in taken]
        first = 0 if name else 1  # a function of the module has no self
        assert known[: len(needed) - first] == needed[first:], call


@pytest.mark.parametrize("name", ["Countrate", "TimeTagStream"])
def test_the_vendors_measurements_are_made_as_ours(vendor: Any, name: str) -> None:
    ours, theirs = (inspect.signature(each) for each in (OURS[name], getattr(vendor, name)))
    assert list(theirs.parameters)[: len(ours.parameters)] == list(ours.parameters)


def test_the_vendors_records_have_our_types(vendor: Any) -> None:
    for name, ours in {
        "TimeTag": timetagger_device.TIME_TAG,
        "Error": timetagger_device.ERROR,
        "OverflowBegin": timetagger_device.OVERFLOW_BEGIN,
        "OverflowEnd": timetagger_device.OVERFLOW_END,
        "MissedEvents": timetagger_device.MISSED_EVENTS,
    }.items():
        assert int(getattr(vendor.TagType, name)) == ours


def test_the_vendors_library_reports_a_missing_tagger_as_ours(vendor: Any) -> None:
    if vendor.scanTimeTagger():
        pytest.skip("there is a tagger")
    with pytest.raises(RuntimeError):
        vendor.createTimeTagger("")
