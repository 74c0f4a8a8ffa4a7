import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import PhotonCounter, TagStreamer, TimeTagger
from drivers.time_taggers.sfifteen_tdc1 import Tdc1, parse_integration_ms
from drivers.time_taggers.sfifteen_tdc1_options import Tdc1Options
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.tdc1 import Tdc1 as SimulatedTdc1
from sim.instruments.tdc1 import Tdc1Settings
from sim.record import Record
from timetags.block import TagBlock

IDENTITY = b"S-Fifteen Instruments USB Counter TDC1-0019\r\n"
OPEN = [(b"abort\r\n", None), (b"*IDN?\r\n", IDENTITY), (b"mode?\r\n", b"0\r\n")]


async def opened(wire: Any, **options: Any) -> Tdc1:
    tdc = Tdc1("tdc", "memory:wire", Tdc1Options(**options), wire.connector)
    await tdc.open()
    return tdc


# The exact bytes.


async def test_open_ends_what_is_under_way_and_identifies_the_unit(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(OPEN)
    tdc = Tdc1("tdc", "memory:wire", Tdc1Options(), wire.connector)

    identity = await tdc.open()

    assert (identity.model, identity.serial) == ("TDC1", "0019")
    assert not wire.channel.remaining


async def test_open_drops_the_tags_of_a_stream_that_nobody_reads(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(b"abort\r\n", [b"\x82\x3e\x00\x00", b"\x90\r\n\xff"]), *OPEN[1:]])
    await opened(wire)


async def test_open_goes_back_to_counting_and_drops_what_that_prints(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN[:2],
            (b"mode?\r\n", b"3\r\n"),
            (b"singles\r\n", b"singles mode\r\n"),
            (b"mode?\r\n", b"0\r\n"),
        ]
    )
    await opened(wire)
    assert not wire.channel.remaining


async def test_a_unit_that_does_not_go_back_to_counting_is_reported(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [*OPEN[:2], (b"mode?\r\n", b"3\r\n"), (b"singles\r\n", None), (b"mode?\r\n", b"3\r\n")]
    )
    with pytest.raises(RejectedError, match="singles"):
        await opened(wire)


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    wire = scripted([OPEN[0], (b"*IDN?\r\n", b"Optical power meter OPM-3\r\n")])
    with pytest.raises(ReplyError, match="you configured"):
        await opened(wire)


async def test_open_chooses_clock_and_threshold(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            (b"REFCLK 1\r\n", None),
            (b"REFCLK?\r\n", b"1\r\n"),
            (b"ECLOCK?\r\n", b"1\r\n"),
            (b"NEG -0.60\r\n", None),
            (b"level?\r\n", b"-0.602 V\r\n"),
        ]
    )
    await opened(wire, reference_clock="external", threshold_v=-0.6)
    assert not wire.channel.remaining


async def test_a_missing_external_clock_is_reported(scripted: Callable[..., Any]) -> None:
    wire = scripted(
        [
            *OPEN,
            (b"REFCLK 1\r\n", None),
            (b"REFCLK?\r\n", b"1\r\n"),
            (b"ECLOCK?\r\n", b"0\r\n"),
        ]
    )
    with pytest.raises(RejectedError, match="no external clock"):
        await opened(wire, reference_clock="external")


@pytest.mark.parametrize(
    ("threshold_v", "command", "level", "read_v"),
    [
        (-0.404, b"NEG -0.40\r\n", b"-0.40 V\r\n", -0.4),
        (1.25, b"POS 1.25\r\n", b"1250 mV\r\n", 1.25),
        (-0.001, b"POS 0.00\r\n", b"0\r\n", 0.0),
    ],
)
async def test_a_threshold_carries_its_sign_and_is_read_back(
    scripted: Callable[..., Any], threshold_v: float, command: bytes, level: bytes, read_v: float
) -> None:
    tdc = await opened(scripted([*OPEN, (command, None), (b"level?\r\n", level)]))
    assert await tdc.set_threshold(threshold_v) == pytest.approx(read_v)


async def test_counts_come_from_one_window_of_whole_milliseconds(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [
            *OPEN,
            (b"mode?\r\n", b"0\r\n"),
            (b"time 3\r\n", None),
            (b"time?\r\n", b"3\r\n"),
            (b"counts?\r\n", b"12 0 345 6789\r\n"),
        ]
    )
    counts = await (await opened(wire)).count(0.0021, (4, 1))
    assert counts.duration_s == 0.003
    assert counts.by_input == {4: 6789, 1: 12}


@pytest.mark.parametrize("reply", [b"1 2 3\r\n", b"1 2 3 4 5 6 7 8\r\n", b"17\r\n", b"1 2 x 4\r\n"])
async def test_what_is_no_four_counts_is_refused(
    scripted: Callable[..., Any], reply: bytes
) -> None:
    script = [(b"mode?\r\n", b"0\r\n"), (b"time 1\r\n", None), (b"time?\r\n", b"1\r\n")]
    tdc = await opened(scripted([*OPEN, *script, (b"counts?\r\n", reply)]))
    with pytest.raises(ReplyError, match="counts"):
        await tdc.count(0.001, (1,))


async def test_an_integration_time_that_was_not_taken_is_no_window(
    scripted: Callable[..., Any],
) -> None:
    script = [(b"mode?\r\n", b"0\r\n"), (b"time 50\r\n", None), (b"time?\r\n", b"1000\r\n")]
    tdc = await opened(scripted([*OPEN, *script]))
    with pytest.raises(ReplyError, match="1000 ms"):
        await tdc.count(0.05, (1,))


@pytest.mark.parametrize(
    ("signed", "time_ms"), [(1, 1), (32767, 32767), (-32768, 32768), (-1, 65535)]
)
def test_an_integration_time_is_a_signed_number_of_16_bits(signed: int, time_ms: int) -> None:
    assert parse_integration_ms(signed) == time_ms


async def test_the_worked_word_of_a_stream_is_input_2_after_1000_ns(
    scripted: Callable[..., Any],
) -> None:
    start = b"INPKT;time 0;timestamp;counts?\r\n"
    half = [(0x80000010).to_bytes(4, "little"), (0x00000010).to_bytes(4, "little")]
    tags = bytes.fromhex("82 3E 00 00") + b"".join(half * 8)
    wire = scripted(
        [
            *OPEN,
            (b"mode?\r\n", b"0\r\n"),
            (start, [tags[:3], tags[3:]]),
            (b"abort\r\n", b"\x01\x00\x00\x00"),
            (b"status?\r\n", b"0000 \r\n"),
            (b"mode?\r\n", b"0\r\n"),
        ]
    )
    tdc = await opened(wire)
    blocks = [block async for block in tdc.stream(0.5, (1, 2))]
    assert [(b.channel.tolist(), b.time_ps.tolist()) for b in blocks] == [([2], [1_000_000])]
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": ()},
        {"inputs": (1, 1)},
        {"inputs": (5,)},
        {"threshold_v": 3.4},
        {"threshold_v": 0.005},
        {"min_threshold_v": 1.0, "max_threshold_v": 0.5},
        {"threshold_v": -1.0, "min_threshold_v": -0.5},
        {"reference_clock": "gps"},
        {"longest_window_s": 70.0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tdc1Options(**options)


# The behaviour, against the simulated unit, in virtual time.


@dataclass
class Clicks:
    """Detectors that click regularly, each at a rate of its own."""

    rates_hz: tuple[float, ...] = (1000.0, 2000.0, 3000.0, 4000.0)
    windows: list[tuple[float, float]] = field(default_factory=list)

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        self.windows.append((start_s, duration_s))
        return np.rint(np.array(self.rates_hz) * duration_s).astype(np.int64)

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        """Clicks at whole multiples of the period, since the bench started."""
        return {
            n: (np.arange(np.ceil(start_s * hz), (start_s + duration_s) * hz) / hz - start_s) * 1e12
            for n, hz in enumerate(self.rates_hz, start=1)
        }


@dataclass
class Bench:
    clicks: Clicks
    unit: SimulatedTdc1
    served: ServedInstrument
    tdc: Tdc1


def run(
    story: Callable[[Bench], Awaitable[None]],
    *,
    clicks: Clicks | None = None,
    settings: Tdc1Settings | None = None,
    **options: Any,
) -> None:
    """Tell a story about an opened driver with a simulated unit at the other end."""

    async def main() -> None:
        detectors = clicks or Clicks()
        unit = SimulatedTdc1("tdc", detectors, Record(), settings)
        served = ServedInstrument("tdc", unit, Clock())
        channel = MemoryChannel(served, link="serial", error=ChannelError)
        connector = Connector(memory={"tdc": lambda: channel})
        tdc = Tdc1("tdc", "memory:tdc", Tdc1Options(**options), connector)
        await tdc.open()
        await story(Bench(detectors, unit, served, tdc))
        await tdc.close()

    virtual_time.run(main())


async def collected(tdc: Tdc1, duration_s: float, inputs: tuple[int, ...]) -> TagBlock:
    blocks = [block async for block in tdc.stream(duration_s, inputs)]
    return TagBlock(
        np.concatenate([block.channel for block in blocks]),
        np.concatenate([block.time_ps for block in blocks]),
    )


def test_it_counts_and_streams_but_has_no_start_input() -> None:
    async def story(bench: Bench) -> None:
        assert isinstance(bench.tdc, PhotonCounter)
        assert isinstance(bench.tdc, TagStreamer)
        assert not isinstance(bench.tdc, TimeTagger)

    run(story)


def test_a_long_count_is_the_sum_of_several_windows() -> None:
    async def story(bench: Bench) -> None:
        counts = await bench.tdc.count(2.5, (1, 2, 3, 4))
        assert counts.duration_s == 2.5
        assert counts.by_input == {1: 2500, 2: 5000, 3: 7500, 4: 10000}
        assert max(duration_s for _, duration_s in bench.clicks.windows) <= 1.0

    run(story)


def test_a_window_may_be_as_long_as_the_unit_counts() -> None:
    async def story(bench: Bench) -> None:
        counts = await bench.tdc.count(65.535, (1,))
        assert counts.by_input == {1: 65535}
        assert len(bench.clicks.windows) == 1

    run(story, longest_window_s=65.535)


@pytest.mark.parametrize("hears_while_counting", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.79, 0.8])
def test_the_late_answer_of_a_cancelled_count_answers_no_later_question(
    hears_while_counting: bool, after_s: float
) -> None:
    async def story(bench: Bench) -> None:
        counting = asyncio.get_running_loop().create_task(bench.tdc.count(0.8, (1,)))
        await asyncio.sleep(after_s)
        counting.cancel()
        await asyncio.wait([counting])
        assert (await bench.tdc.identify()).model == "TDC1"
        assert await bench.tdc.read_threshold() == -0.5
        assert (await bench.tdc.count(0.5, (1,))).by_input == {1: 500}

    run(story, settings=Tdc1Settings(hears_while_counting=hears_while_counting))


def test_making_safe_cuts_a_count_short() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        counting = loop.create_task(bench.tdc.count(3600.0, (1,)))
        await asyncio.sleep(10.3)
        begin_s = loop.time()
        await bench.tdc.make_safe()
        assert loop.time() - begin_s < 2.5
        with pytest.raises(TransportError, match="make_safe"):
            await counting

    run(story)


def test_tags_are_those_of_the_detectors_by_the_clock_of_the_unit() -> None:
    async def story(bench: Bench) -> None:
        tags = await collected(bench.tdc, 2.0, (1, 2, 3, 4))
        counts = np.bincount(tags.channel)[1:]
        assert np.abs(counts - 2.0 * np.array(bench.clicks.rates_hz)).max() <= 2
        assert (np.diff(tags.time_ps) >= 0).all()
        assert 1.999e12 < tags.time_ps[-1] < 2.0e12
        gaps_ps = np.diff(tags.time_ps[tags.channel == 2])
        assert np.abs(gaps_ps - 5e8).max() <= 2000

    run(story)


def test_a_stream_ends_on_time_although_no_detector_clicks() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        blocks = [block async for block in bench.tdc.stream(5.0, (1,))]
        assert blocks == []
        assert 5.0 <= loop.time() - begin_s < 6.5

    run(story, clicks=Clicks((0.0, 0.0, 0.0, 0.0)))


def test_a_stream_of_one_input_has_no_tags_of_the_others() -> None:
    async def story(bench: Bench) -> None:
        tags = await collected(bench.tdc, 0.2, (3,))
        assert set(tags.channel.tolist()) == {3}

    run(story)


def test_a_slip_loses_a_few_tags_and_invents_none(caplog: pytest.LogCaptureFixture) -> None:
    async def story(bench: Bench) -> None:
        tags = await collected(bench.tdc, 0.5, (1, 2))
        assert "two bytes" in caplog.text
        for number, hz in ((1, 50_000.0), (2, 30_000.0)):
            times_ps = tags.time_ps[tags.channel == number]
            assert abs(times_ps.size - 0.5 * hz) < 8
            gaps = np.diff(times_ps) * hz / 1e12
            assert np.abs(gaps - np.rint(gaps)).max() < 0.001

    settings = Tdc1Settings(slip_after=30_001 * 2)
    run(story, clicks=Clicks((50_000.0, 30_000.0, 0.0, 0.0)), settings=settings)


def test_tags_that_the_unit_lost_are_not_kept_quiet() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(ReplyError, match="lost"):
            await collected(bench.tdc, 0.2, (1,))
        assert (await bench.tdc.count(0.1, (1,))).by_input == {1: 100}

    run(story, settings=Tdc1Settings(most_hz=5000.0))


def test_a_count_after_a_stream_is_right() -> None:
    async def story(bench: Bench) -> None:
        await collected(bench.tdc, 0.2, (1,))
        assert (await bench.tdc.count(0.1, (1, 2))).by_input == {1: 100, 2: 200}

    run(story)


def test_a_stream_that_is_left_early_ends_and_leaves_no_byte_behind() -> None:
    async def story(bench: Bench) -> None:
        async with aclosing(bench.tdc.stream(100.0, (1,))) as blocks:
            async for _ in blocks:
                break
        assert not bench.unit.outputs(0.0)["streams"]
        assert (await bench.tdc.count(0.1, (1,))).by_input == {1: 100}

    run(story)


def test_a_cancelled_stream_leaves_no_byte_behind() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        streaming = loop.create_task(collected(bench.tdc, 100.0, (1, 2)))
        await asyncio.sleep(1.234)
        streaming.cancel()
        await asyncio.wait([streaming])
        assert not bench.unit.outputs(0.0)["streams"]
        assert (await bench.tdc.count(0.1, (1,))).by_input == {1: 100}

    run(story)


def test_making_safe_ends_a_stream_from_which_nobody_takes() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        async with aclosing(bench.tdc.stream(3600.0, (1, 2))) as blocks:
            await anext(blocks)
            await asyncio.sleep(100)  # busy elsewhere
            begin_s = loop.time()
            await bench.tdc.make_safe()
            assert loop.time() - begin_s < 2.5
            assert not bench.unit.outputs(loop.time())["streams"]
            with pytest.raises(TransportError, match="make_safe"):
                async for _ in blocks:
                    pass
        assert (await bench.tdc.count(0.5, (1,))).duration_s == 0.5

    run(story)


def test_making_safe_ends_a_stream() -> None:
    async def story(bench: Bench) -> None:
        streaming = asyncio.get_running_loop().create_task(collected(bench.tdc, 100.0, (1,)))
        await asyncio.sleep(1)
        await bench.tdc.make_safe()
        with pytest.raises(TransportError, match="make_safe"):
            await streaming
        assert bench.unit.outputs(0.0) == {"threshold": -0.5, "mode": "singles", "streams": False}

    run(story)


@pytest.mark.parametrize("fault", ["mute", "stall", "unplug", "power-cycle"])
def test_a_stream_that_a_fault_hits_is_reported_and_the_next_is_whole(fault: Any) -> None:
    async def story(bench: Bench) -> None:
        streaming = asyncio.get_running_loop().create_task(collected(bench.tdc, 5.0, (1,)))
        await asyncio.sleep(1.5)
        bench.served.set_fault(fault)
        async with asyncio.timeout(8):
            with pytest.raises(TransportError):
                await streaming
        bench.served.set_fault(fault, is_on=False)
        await asyncio.sleep(1)
        tags = await collected(bench.tdc, 0.5, (1,))
        assert abs(tags.channel.size - 500) <= 1

    run(story)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e6, float("nan")])
def test_a_stream_of_impossible_length_is_refused(duration_s: float) -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(SettingError):
            await collected(bench.tdc, duration_s, (1,))

    run(story)
