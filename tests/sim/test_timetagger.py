"""The simulated Time Tagger: what its library does, and what befalls the calls on their way."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sim import virtual_time
from sim.bench import SimulatedBench, SimulatedInstrument
from sim.endpoints.library import MemoryLibrary
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments import timetagger_device
from sim.instruments.pm100d import Pm100dSettings
from sim.instruments.timetagger import SimulatedTimeTagger, TimeTaggerSettings
from sim.instruments.timetagger_device import MISSED_EVENTS, OVERFLOW_BEGIN, OVERFLOW_END, TIME_TAG
from sim.record import Record

PERIOD_PS = 200_000


class EveryPeriod:
    """Detector 1 clicks in the middle of every period, the others never."""

    sync_period_ps = float(PERIOD_PS)

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        n = round(duration_s * 1e12 / PERIOD_PS)
        nothing = np.empty(0)
        clicks = ((np.arange(n) + 0.5) * PERIOD_PS).astype(np.float64)
        return {1: clicks, 2: nothing, 3: nothing, 4: nothing}


def make_unit(**settings: Any) -> SimulatedTimeTagger:
    return SimulatedTimeTagger("tagger", EveryPeriod(), Record(), TimeTaggerSettings(**settings))


@pytest.fixture
def unit() -> SimulatedTimeTagger:
    return make_unit()


def records(data: Any) -> list[tuple[int, int, int, int]]:
    """Type, channel, time and missed events of every record."""
    columns = data.getEventTypes(), data.getChannels(), data.getTimestamps(), data.getMissedEvents()
    return [tuple(int(each) for each in record) for record in zip(*columns, strict=True)]  # type: ignore[misc]


def test_a_stream_holds_what_came_in_its_time(unit: SimulatedTimeTagger) -> None:
    unit.now_s = 1.0
    library = unit.library
    stream = library.TimeTagStream(library.createTimeTagger(), 1000, [1, 8])
    stream.startFor(2 * PERIOD_PS)
    unit.now_s = 2.0

    assert not stream.isRunning()
    assert stream.getCaptureDuration() == 2 * PERIOD_PS
    begin_ps = 10**12
    assert records(stream.getData()) == [
        (TIME_TAG, 8, begin_ps, 0),
        (TIME_TAG, 1, begin_ps + 100_000, 0),
        (TIME_TAG, 8, begin_ps + 200_000, 0),
        (TIME_TAG, 1, begin_ps + 300_000, 0),
    ]


def test_what_was_fetched_is_not_fetched_again(unit: SimulatedTimeTagger) -> None:
    library = unit.library
    stream = library.TimeTagStream(library.createTimeTagger(), 1000, [1])
    unit.now_s = 3e-6
    assert stream.getData().size == 15

    assert stream.getData().size == 0


def test_what_finds_the_buffer_full_is_lost(unit: SimulatedTimeTagger) -> None:
    library = unit.library
    stream = library.TimeTagStream(library.createTimeTagger(), 1000, [1])
    unit.now_s = 1.0

    assert stream.getData().size == 1000


def test_an_overflow_tells_when_and_how_much_was_lost(
    unit: SimulatedTimeTagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = unit.library
    stream = library.TimeTagStream(library.createTimeTagger(), 1000, [1, 8])
    monkeypatch.setattr(timetagger_device, "OVERFLOW_HZ", 1e6)
    unit.now_s = 0.02

    found = records(stream.getData())
    assert [(kind, channel, at_ps) for kind, channel, at_ps, _ in (found[0], found[-1])] == [
        (OVERFLOW_BEGIN, 0, 0),
        (OVERFLOW_END, 0, 20_000_000_000),
    ]
    assert {kind for kind, *_ in found[1:-1]} == {MISSED_EVENTS}
    for number in (1, 8):
        assert sum(missed for _, channel, _, missed in found if channel == number) == 100_000


def test_counts_include_what_an_overflow_lost(
    unit: SimulatedTimeTagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = unit.library
    count = library.Countrate(library.createTimeTagger(), [8, 1, 2])
    monkeypatch.setattr(timetagger_device, "OVERFLOW_HZ", 1e6)
    unit.now_s = 0.02

    assert count.getCountsTotal().tolist() == [100_000, 100_000, 0]


@pytest.mark.parametrize("delay_ps", [-1_500_000, 1_500_000])
def test_a_delayed_input_stays_in_order_with_the_others(
    unit: SimulatedTimeTagger, delay_ps: int
) -> None:
    library = unit.library
    tagger = library.createTimeTagger()
    tagger.setInputDelay(1, delay_ps)
    stream = library.TimeTagStream(tagger, 100_000, [1, 8])
    times = []
    for unit.now_s in (1e-3, 1.0001e-3, 2e-3):
        times.append(stream.getData().getTimestamps())

    time_ps = np.concatenate(times)
    assert (np.diff(time_ps) >= 0).all()
    assert 19_980 <= time_ps.size <= 20_000


@pytest.mark.parametrize("lose", ["reset_line", "power_cycle"])
def test_what_was_taken_up_before_the_link_was_lost_is_dead(
    unit: SimulatedTimeTagger, lose: str
) -> None:
    library = unit.library
    tagger = library.createTimeTagger()
    count = library.Countrate(tagger, [1])
    unit.reset_line(1.0)
    if lose == "power_cycle":
        unit.power_cycle(1.0)

    for call in (tagger.getSerial, count.isRunning, count.stop, tagger.sync):
        with pytest.raises(RuntimeError, match="not connected"):
            call()
    assert library.createTimeTagger().getSerial() == "2104000Y0K"


def test_one_client_can_hold_a_unit_on_usb(unit: SimulatedTimeTagger) -> None:
    first = unit.library.createTimeTagger("2104000Y0K")
    with pytest.raises(RuntimeError, match="already in use"):
        unit.library.createTimeTagger()
    unit.library.freeTimeTagger(first)

    assert unit.library.createTimeTagger()


def test_taking_a_unit_up_on_usb_resets_it_and_through_a_server_does_not(
    unit: SimulatedTimeTagger,
) -> None:
    tagger = unit.library.createTimeTagger()
    tagger.setTriggerLevel(1, 0.1)
    assert unit.library.createTimeTaggerNetwork("lab:41101").getTriggerLevel(1) == 0.1
    unit.library.freeTimeTagger(tagger)

    assert unit.library.createTimeTagger().getTriggerLevel(1) == 0.5


def test_time_begins_anew_with_a_power_cycle(unit: SimulatedTimeTagger) -> None:
    unit.reset_line(5.0)
    unit.power_cycle(5.0)
    stream = unit.library.TimeTagStream(unit.library.createTimeTagger(), 10, [8])
    unit.now_s = 5.000001

    assert stream.getData().getTimestamps().tolist() == [0, 200_000, 400_000, 600_000, 800_000]


# The way of a call.


async def settle(
    unit: SimulatedTimeTagger, story: Callable[[MemoryLibrary, ServedInstrument], Any]
) -> None:
    served = ServedInstrument("tagger", unit, Clock())
    await story(MemoryLibrary(served), served)


def passing(unit: SimulatedTimeTagger, story: Any) -> None:
    virtual_time.run(settle(unit, story))


def test_a_call_through_memory_returns_the_very_result(unit: SimulatedTimeTagger) -> None:
    async def story(library: MemoryLibrary, served: ServedInstrument) -> None:
        module = await library.load()
        tagger = await library.call(module.createTimeTagger)
        assert await library.call(tagger.getModel) == "Time Tagger Ultra"
        assert (await library.call(tagger.getChannelList))[-1] == -18

    passing(unit, story)


def test_what_a_call_raises_is_raised(unit: SimulatedTimeTagger) -> None:
    async def story(library: MemoryLibrary, served: ServedInstrument) -> None:
        with pytest.raises(RuntimeError, match="'1' is not valid"):
            await library.call(unit.library.createTimeTagger, "1")

    passing(unit, story)


def test_a_call_on_a_unit_without_cable_fails(unit: SimulatedTimeTagger) -> None:
    async def story(library: MemoryLibrary, served: ServedInstrument) -> None:
        served.set_fault("unplug")
        with pytest.raises(RuntimeError, match="tagger is not connected"):
            await library.call(unit.library.getVersion)

    passing(unit, story)


def test_a_call_under_way_fails_when_the_cable_is_pulled(unit: SimulatedTimeTagger) -> None:
    async def story(library: MemoryLibrary, served: ServedInstrument) -> None:
        served.set_fault("mute")
        calling = asyncio.get_running_loop().create_task(library.call(unit.library.getVersion))
        await asyncio.sleep(0.1)
        served.set_fault("unplug")
        with pytest.raises(RuntimeError, match="not connected"):
            await calling

    passing(unit, story)


def test_a_late_result_is_not_that_of_the_next_call(unit: SimulatedTimeTagger) -> None:
    async def story(library: MemoryLibrary, served: ServedInstrument) -> None:
        tagger = await library.call(unit.library.createTimeTagger)
        served.set_fault("late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await library.call(tagger.getModel)
        served.set_fault("late", is_on=False)
        assert await library.call(tagger.getSerial) == "2104000Y0K"

    passing(unit, story)


def test_a_call_that_was_changed_on_its_way_does_what_it_then_says(
    unit: SimulatedTimeTagger,
) -> None:
    calls = unit.calls
    tagger = unit.library.createTimeTagger()
    line = calls.request(tagger.setTriggerLevel, (1, 0.25))
    reply = calls.carry_out(line.replace("0.25", "0.75"))

    assert reply is not None
    assert calls.result(reply) == (True, None)
    assert tagger.getTriggerLevel(1) == 0.75


def test_a_result_that_was_changed_on_its_way_is_what_it_then_says(
    unit: SimulatedTimeTagger,
) -> None:
    calls = unit.calls
    reply = calls.carry_out(calls.request(unit.library.getVersion, ()))

    assert reply is not None
    assert calls.result(reply.replace("2.22.6", "1.0")) == (True, "1.0")


def test_a_result_that_makes_no_sense_is_a_failure(unit: SimulatedTimeTagger) -> None:
    calls = unit.calls
    reply = calls.carry_out(calls.request(unit.library.getVersion, ()))

    assert reply is not None
    with pytest.raises(RuntimeError, match="no sense"):
        calls.result(reply.replace("'", "#"))


def test_somebody_else_may_use_the_unit(unit: SimulatedTimeTagger) -> None:
    assert unit.handle(b"setTestSignal(1, True)\n", 0.0) == []

    assert unit.outputs(0.0)["test-1"] is True


# On a bench.


def test_a_bench_in_memory_offers_a_library() -> None:
    bench = SimulatedBench([SimulatedInstrument("tagger", TimeTaggerSettings(), "library")])
    served = bench.in_memory()

    assert served.resources == {"tagger": {"main": "memory:tagger/main"}}
    assert isinstance(served.channels["tagger/main"](), MemoryLibrary)


def test_a_bench_with_a_library_cannot_be_served(tmp_path: Path) -> None:
    bench = SimulatedBench([SimulatedInstrument("tagger", TimeTaggerSettings(), "library")])

    async def serve() -> None:
        async with bench.serving(tmp_path):
            pass

    with pytest.raises(ValueError, match="tagger has no wire"):
        asyncio.run(serve())


def test_an_instrument_with_a_wire_has_no_library() -> None:
    bench = SimulatedBench([SimulatedInstrument("meter", Pm100dSettings(), "library")])

    with pytest.raises(TypeError, match="meter is not reached through a library"):
        bench.in_memory().channels["meter/main"]()
