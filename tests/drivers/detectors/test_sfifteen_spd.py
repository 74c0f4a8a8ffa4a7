import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.detectors.sfifteen_spd import Spd
from drivers.detectors.sfifteen_spd_options import SpdOptions
from drivers.errors import ReplyError, SettingError, TransportError
from drivers.roles import PhotonCounter, TemperatureController
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.spd import Spd as SimulatedSpd
from sim.record import Record
from sim.wire import MAIN, Reply

OPEN = [(b"*IDN?\r\n", b"S-Fifteen Instruments SPD-0042\r\n")]


async def opened(wire: Any, **options: Any) -> Spd:
    spd = Spd("spd", "memory:wire", SpdOptions(max_bias_v=160.0, **options), wire.connector)
    await spd.open()
    return spd


# The exact bytes.


async def test_open_identifies_the_unit_and_sets_nothing(scripted: Callable[..., Any]) -> None:
    wire = scripted(OPEN)
    spd = Spd("spd", "memory:wire", SpdOptions(max_bias_v=160.0), wire.connector)

    identity = await spd.open()

    assert (identity.model, identity.serial) == ("SPD", "0042")
    assert isinstance(spd, PhotonCounter)
    assert isinstance(spd, TemperatureController)
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    "identity", [b"S-Fifteen Instruments SPDCSDR-1\r\n", b"USB Counter TDC1-0019\r\n", b"17\r\n"]
)
async def test_another_model_is_named_as_such(
    scripted: Callable[..., Any], identity: bytes
) -> None:
    with pytest.raises(ReplyError, match="you configured"):
        await opened(scripted([(b"*IDN?\r\n", identity)]))


async def test_open_switches_the_regulator_as_configured(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"loop 1\r\n", None), (b"loop?\r\n", b"1\r\n")])
    await opened(wire, is_cooled=True)
    assert not wire.channel.remaining


async def test_a_regulator_that_was_not_switched_is_reported(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"loop 0\r\n", None), (b"loop?\r\n", b"1\r\n")])
    with pytest.raises(ReplyError, match="regulator"):
        await opened(wire, is_cooled=False)


@pytest.mark.parametrize(
    ("channel", "value", "command", "question", "reply", "read"),
    [
        ("bias", 141.26, b"hvolt 141.3\r\n", b"hvolt?\r\n", b"141.28\r\n", 141.28),
        ("threshold", -0.0001, b"threshvolt 0.000\r\n", b"threshvolt?\r\n", b"0.0\r\n", 0.0),
        ("temperature", -20.04, b"settemp -20.0\r\n", b"settemp?\r\n", b"-20\r\n", -20.0),
    ],
)
async def test_what_is_set_is_read_back(
    scripted: Callable[..., Any],
    channel: str,
    value: float,
    command: bytes,
    question: bytes,
    reply: bytes,
    read: float,
) -> None:
    spd = await opened(scripted([*OPEN, (command, b"ok\r\n"), (question, reply)]))
    assert await spd.actuators()[channel].write(value) == read


async def test_another_bias_than_was_set_is_reported(scripted: Callable[..., Any]) -> None:
    spd = await opened(scripted([*OPEN, (b"hvolt 140.0\r\n", None), (b"hvolt?\r\n", b"120\r\n")]))
    with pytest.raises(ReplyError, match="120"):
        await spd.set_bias(140.0)


@pytest.mark.parametrize("bias_v", [160.1, -0.1, float("nan")])
async def test_no_bias_beyond_what_the_diode_bears_is_sent(
    scripted: Callable[..., Any], bias_v: float
) -> None:
    spd = await opened(scripted(OPEN))
    with pytest.raises(SettingError):
        await spd.set_bias(bias_v)


async def test_counts_come_from_one_window_of_whole_milliseconds(
    scripted: Callable[..., Any],
) -> None:
    script = [(b"time 3\r\n", None), (b"time?\r\n", b"3.0\r\n"), (b"counts?\r\n", b"1234\r\n")]
    counts = await (await opened(scripted([*OPEN, *script]), input=2)).count(0.0021, (2,))
    assert (counts.duration_s, counts.by_input) == (0.003, {2: 1234})


@pytest.mark.parametrize("reply", [b"1 2 3 4\r\n", b"-1\r\n", b"\r\n", b"1.5\r\n"])
async def test_what_is_no_count_is_refused(scripted: Callable[..., Any], reply: bytes) -> None:
    script = [(b"time 1\r\n", None), (b"time?\r\n", b"1\r\n"), (b"counts?\r\n", reply)]
    spd = await opened(scripted([*OPEN, *script]))
    with pytest.raises(ReplyError, match="count"):
        await spd.count(0.001, (1,))


@pytest.mark.parametrize(
    ("loop", "temperature", "is_stable"),
    [(b"1", b"-19.6", True), (b"1", b"-19.4", False), (b"0", None, False)],
)
async def test_the_temperature_is_stable_when_it_is_held_where_it_should_be(
    scripted: Callable[..., Any], loop: bytes, temperature: bytes | None, is_stable: bool
) -> None:
    script = [(b"loop?\r\n", loop + b"\r\n")]
    if temperature is not None:
        script += [(b"temp?\r\n", temperature + b"\r\n"), (b"settemp?\r\n", b"-20.0\r\n")]
    assert await (await opened(scripted([*OPEN, *script]))).is_stable() is is_stable


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_bias_v": 400.0},
        {"max_bias_v": 150.0, "min_bias_v": 150.0},
        {"max_bias_v": 150.0, "rest_bias_v": 151.0},
        {"max_bias_v": 150.05},
        {"max_bias_v": 150.0, "min_threshold_v": 0.5, "max_threshold_v": 0.2},
        {"max_bias_v": 150.0, "min_temperature_degc": 40.0},
        {"max_bias_v": 150.0, "input": 5},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SpdOptions(**options)


# The behaviour, against the simulated unit, in virtual time.


class Detectors:
    """A thousand clicks a second on the first detector."""

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        return np.array([round(1000 * duration_s), 0, 0, 0])


@dataclass
class Bench:
    unit: SimulatedSpd
    served: ServedInstrument
    spd: Spd


def run(story: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    """Tell a story about an opened driver with a simulated unit at the other end."""

    async def main() -> None:
        unit = SimulatedSpd("spd", Detectors(), Record())
        served = ServedInstrument("spd", unit, Clock())
        channel = MemoryChannel(served, link="serial", error=ChannelError)
        connector = Connector(memory={"spd": lambda: channel})
        spd = Spd("spd", "memory:spd", SpdOptions(max_bias_v=160.0, **options), connector)
        await spd.open()
        await story(Bench(unit, served, spd))
        await spd.close()

    virtual_time.run(main())


def test_a_long_count_is_the_sum_of_several_windows() -> None:
    async def story(bench: Bench) -> None:
        counts = await bench.spd.count(3.7, (1,))
        assert (counts.duration_s, counts.by_input) == (3.7, {1: 3700})

    run(story)


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.79, 0.8])
def test_the_late_answer_of_a_cancelled_count_answers_no_later_question(after_s: float) -> None:
    async def story(bench: Bench) -> None:
        counting = asyncio.get_running_loop().create_task(bench.spd.count(0.8, (1,)))
        await asyncio.sleep(after_s)
        counting.cancel()
        await asyncio.wait([counting])
        assert await bench.spd.read_bias() == 150.0
        assert (await bench.spd.count(0.5, (1,))).by_input == {1: 500}

    run(story)


def test_making_safe_cuts_a_count_short_and_takes_the_bias_down() -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        counting = loop.create_task(bench.spd.count(3600.0, (1,)))
        await asyncio.sleep(10.3)
        begin_s = loop.time()
        await bench.spd.make_safe()
        assert loop.time() - begin_s < 2.5
        assert bench.unit.outputs(loop.time())["bias"] == 0.0
        with pytest.raises(TransportError, match="make_safe"):
            await counting

    run(story)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_making_safe_sends_the_rest_bias_before_a_window_is_over(is_cancelled: bool) -> None:
    async def story(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        heard_s: dict[bytes, float] = {}
        handle = bench.unit.handle

        def note(data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
            heard_s.setdefault(data, loop.time())
            return handle(data, now_s, port)

        bench.unit.handle = note  # type: ignore[method-assign]  # instead of a wire tap
        counting = loop.create_task(bench.spd.count(10.0, (1,)))
        await asyncio.sleep(0.3)
        if is_cancelled:
            counting.cancel()
            await asyncio.wait([counting])
        begin_s = loop.time()
        await bench.spd.make_safe()
        assert heard_s[b"hvolt 0.0\r\n"] - begin_s < 0.05
        await asyncio.wait([counting])

    run(story)


def test_making_safe_leaves_the_cooling_on() -> None:
    async def story(bench: Bench) -> None:
        await bench.spd.make_safe()
        outputs = bench.unit.outputs(0.0)
        assert (outputs["loop"], outputs["temperature"]) == (True, -20.0)

    run(story)


def test_the_temperature_is_waited_for() -> None:
    async def story(bench: Bench) -> None:
        await asyncio.sleep(60)
        assert await bench.spd.is_stable()
        await bench.spd.set_temperature(-30.0)
        assert not await bench.spd.is_stable()
        await asyncio.sleep(10)
        assert await bench.spd.is_stable()
        assert await bench.spd.read_temperature() == pytest.approx(-30.0)

    run(story)
