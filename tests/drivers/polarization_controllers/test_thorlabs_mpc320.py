import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.polarization_controllers.thorlabs_mpc320 import Mpc320
from drivers.polarization_controllers.thorlabs_mpc320_options import Mpc320Options
from drivers.roles import PolarizationController
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from sim import virtual_time
from sim.endpoints.memory import MemoryChannel
from sim.endpoints.service import Clock, ServedInstrument
from sim.instruments.mpc320 import Mpc320 as Unit
from sim.instruments.mpc320 import Mpc320Settings
from sim.paddles import PaddleBank, PaddleSettings
from sim.record import Record
from sim.wire import MAIN, Reply

STEP_DEG = 170 / 1370
HOMED_AND_ON = 1 << 10 | 1 << 31
COMPLETED = {n: bytes.fromhex(f"64 04 0{n} 00 01 50") for n in (1, 2, 4)}

Exchange = tuple[bytes, bytes | None]


def told(text: str) -> Exchange:
    """A message that is answered with nothing."""
    return bytes.fromhex(text), None


def info(model: bytes = b"MPC320", n_channels: int = 3) -> Exchange:
    who = (38000042, model, 44, 4, 0, 1, 0, b"", 1, 0, n_channels)
    data = struct.pack("<I8sH4B60sHHH", *who)
    return bytes.fromhex("05 00 00 00 50 01"), bytes.fromhex("06 00 54 00 81 50") + data


def status_bytes(channel: int, steps: int, bits: int = HOMED_AND_ON) -> bytes:
    data = struct.pack("<HihhI", channel, steps, 0, 0, bits)
    return bytes.fromhex("91 04 0e 00 81 50") + data


def status(channel: int, steps: int, bits: int = HOMED_AND_ON, before: bytes = b"") -> Exchange:
    question = bytes.fromhex(f"90 04 0{channel} 00 50 01")
    return question, before + status_bytes(channel, steps, bits)


def parameters(velocity_percent: int, home_steps: int = 685) -> Exchange:
    data = struct.pack("<6H", 0, velocity_percent, home_steps, 25, 25, 25)
    return bytes.fromhex("31 05 00 00 50 01"), bytes.fromhex("32 05 0c 00 81 50") + data


STOP_UPDATES = told("12 00 00 00 50 01")
ACKNOWLEDGE = told("92 04 00 00 50 01")
IDENTIFY = [STOP_UPDATES, info(), ACKNOWLEDGE]
FENCE = parameters(50)  # asked before every round: what comes before its answer is old
READY = [FENCE, status(1, 600), status(2, 685), status(4, 685), ACKNOWLEDGE]
OPEN = [*IDENTIFY, parameters(50), *READY]
MOVE_1_TO_685 = bytes.fromhex("53 04 06 00 d0 01 01 00 ad 02 00 00")


def converse(
    scripted: Callable[..., Any],
    script: list[Exchange],
    story: Callable[[Mpc320], Awaitable[None]] | None = None,
    **options: Any,
) -> None:
    """Open the driver on a script, tell a story about it, and see that all was said."""
    wire = scripted(script)

    async def run() -> None:
        driver = Mpc320("paddles", "memory:wire", Mpc320Options(**options), wire.connector)
        await driver.open()
        if story is not None:
            await story(driver)
        assert not wire.channel.remaining

    virtual_time.run(run())


def test_open_identifies_the_unit(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        assert isinstance(driver, PolarizationController)
        identity = await driver.identify()
        assert str(identity) == "Thorlabs MPC320, serial 38000042, firmware 1.0.4"

    converse(scripted, [*OPEN, info(), ACKNOWLEDGE], story)


def test_open_sets_the_speed_and_sees_it_taken(scripted: Callable[..., Any]) -> None:
    set_parameters = told("30 05 0c 00 d0 01 00 00 32 00 ad 02 19 00 19 00 19 00")
    converse(scripted, [*IDENTIFY, parameters(10), set_parameters, parameters(50), *READY])


def test_a_speed_that_is_not_taken_is_reported(scripted: Callable[..., Any]) -> None:
    set_parameters = told("30 05 0c 00 d0 01 00 00 32 00 ad 02 19 00 19 00 19 00")
    with pytest.raises(RejectedError, match="speed not taken"):
        converse(scripted, [*IDENTIFY, parameters(10), set_parameters, parameters(10)])


def test_open_switches_motors_on_with_one_mask_for_all(scripted: Callable[..., Any]) -> None:
    off = [status(n, 685, 1 << 10) for n in (1, 2, 4)]
    on = [status(n, 685) for n in (1, 2, 4)]
    converse(
        scripted,
        [
            *IDENTIFY,
            parameters(50),
            FENCE,
            *off,
            ACKNOWLEDGE,
            (bytes.fromhex("10 02 07 01 50 01"), status_bytes(1, 685)),
            FENCE,
            *on,
            ACKNOWLEDGE,
            FENCE,
            *on,
            ACKNOWLEDGE,
        ],
    )


def test_open_homes_a_paddle_that_is_not(scripted: Callable[..., Any]) -> None:
    converse(
        scripted,
        [
            *IDENTIFY,
            parameters(50),
            FENCE,
            status(1, 0, 1 << 31),
            ACKNOWLEDGE,
            (bytes.fromhex("43 04 01 00 50 01"), None),
            FENCE,
            status(1, 100, 1 << 31 | 1 << 9),
            ACKNOWLEDGE,
            FENCE,
            status(1, 685, before=bytes.fromhex("44 04 01 00 01 50")),
            ACKNOWLEDGE,
            FENCE,
            status(1, 685),
            ACKNOWLEDGE,
        ],
        paddles=(1,),
    )


def test_a_move_is_confirmed_by_completion_and_status(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        assert await driver.set_drives({1: 85.0}) == {1: 685 * STEP_DEG}

    converse(
        scripted,
        [*OPEN, *READY, (MOVE_1_TO_685, COMPLETED[1]), FENCE, status(1, 685), ACKNOWLEDGE],
        story,
    )


def test_a_paddle_that_stops_one_step_short_has_arrived(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        assert await driver.set_drives({1: 85.0}) == {1: 684 * STEP_DEG}

    converse(
        scripted,
        [*OPEN, *READY, (MOVE_1_TO_685, COMPLETED[1]), FENCE, status(1, 684), ACKNOWLEDGE],
        story,
    )


def test_the_completion_of_another_paddle_is_not_taken_for_this_ones(
    scripted: Callable[..., Any],
) -> None:
    async def story(driver: Mpc320) -> None:
        assert await driver.set_drives({1: 85.0}) == {1: 685 * STEP_DEG}

    converse(
        scripted,
        [
            *OPEN,
            *READY,
            (MOVE_1_TO_685, COMPLETED[2]),
            FENCE,
            status(1, 600),  # it has not begun
            ACKNOWLEDGE,
            FENCE,
            status(1, 640, HOMED_AND_ON | 1 << 5),
            ACKNOWLEDGE,
            FENCE,
            status(1, 685),
            ACKNOWLEDGE,
        ],
        story,
    )


def test_a_status_of_another_paddle_is_no_answer(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        assert (await driver.read_drives())[1] == 600 * STEP_DEG

    unasked = status_bytes(2, 17) + COMPLETED[4]
    read = [FENCE, status(1, 600, before=unasked), status(2, 685), status(4, 685), ACKNOWLEDGE]
    converse(scripted, [*OPEN, *read], story)


def test_the_rest_of_a_message_before_an_answer_is_dropped(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        assert (await driver.read_drives())[1] == 600 * STEP_DEG

    rest = status_bytes(1, 17)[7:]
    read = [FENCE, status(1, 600, before=rest), status(2, 685), status(4, 685), ACKNOWLEDGE]
    converse(scripted, [*OPEN, *read], story)


def test_the_name_of_a_fault_is_told_where_a_paddle_stands_elsewhere(
    scripted: Callable[..., Any],
) -> None:
    async def story(driver: Mpc320) -> None:
        with pytest.raises(RejectedError, match="paddle 1 did not arrive: overload, over-current"):
            await driver.set_drives({1: 85.0})

    bits = HOMED_AND_ON | 1 << 24 | 1 << 26
    converse(
        scripted,
        [*OPEN, *READY, (MOVE_1_TO_685, COMPLETED[1]), FENCE, status(1, 610, bits), ACKNOWLEDGE],
        story,
    )


def test_a_paddle_that_arrived_elsewhere_is_not_confirmed(scripted: Callable[..., Any]) -> None:
    async def story(driver: Mpc320) -> None:
        with pytest.raises(ReplyError, match=r"sent to 85\.00 degrees and stands at 74\.45"):
            await driver.set_drives({1: 85.0})

    converse(
        scripted,
        [*OPEN, *READY, (MOVE_1_TO_685, COMPLETED[1]), FENCE, status(1, 600), ACKNOWLEDGE],
        story,
    )


def test_a_paddle_found_turning_is_stopped_before_it_is_sent_elsewhere(
    scripted: Callable[..., Any],
) -> None:
    async def story(driver: Mpc320) -> None:
        await driver.set_drives({1: 85.0})

    stopped = bytes.fromhex("66 04 01 00 01 50")
    converse(
        scripted,
        [
            *OPEN,
            FENCE,
            status(1, 300, HOMED_AND_ON | 1 << 4),
            *READY[2:],
            (bytes.fromhex("65 04 01 01 50 01"), stopped),
            *READY,
            (MOVE_1_TO_685, COMPLETED[1]),
            FENCE,
            status(1, 685),
            ACKNOWLEDGE,
        ],
        story,
    )


def test_make_safe_stops_every_paddle_and_turns_none(scripted: Callable[..., Any]) -> None:
    stops = [told(f"65 04 0{n} 01 50 01") for n in (1, 2, 4)]
    converse(scripted, [*OPEN, *stops, *READY], Mpc320.make_safe)


@pytest.mark.parametrize("model", [b"KDC101", b"PRM1-Z8", b"", b"\xff\xfe"])
def test_another_model_is_named_as_such(scripted: Callable[..., Any], model: bytes) -> None:
    with pytest.raises(ReplyError, match="is it the instrument you configured"):
        converse(scripted, [STOP_UPDATES, info(model), ACKNOWLEDGE])


def test_a_paddle_that_the_model_does_not_have_is_a_mistake_in_the_file(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(SettingError, match="MPC220 has no paddle 3"):
        converse(scripted, [STOP_UPDATES, info(b"MPC220", 2), ACKNOWLEDGE])


@pytest.mark.parametrize(
    ("paddle", "angle"), [(1, 1.99), (1, 158.01), (1, float("nan")), (4, 80.0), (0, 80.0)]
)
def test_impossible_drives_are_refused_before_anything_is_sent(
    scripted: Callable[..., Any], paddle: int, angle: float
) -> None:
    async def story(driver: Mpc320) -> None:
        with pytest.raises(SettingError):
            await driver.set_drives({paddle: angle})

    converse(scripted, OPEN, story)


@pytest.mark.parametrize(
    "options",
    [
        {"paddles": ()},
        {"paddles": (1, 1)},
        {"paddles": (4,)},
        {"min_angle_deg": 100, "max_angle_deg": 100},
        {"home_angle_deg": 1.0},
        {"velocity_percent": 9},
        {"velocity_percent": 101},
        {"velocity_percent": 10, "move_timeout_s": 8},
        {"max_angle_deg": 171},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mpc320Options(**options)


def test_rounding_stays_inside_the_limits() -> None:
    options = Mpc320Options(min_angle_deg=2, max_angle_deg=158)
    assert options.steps(2.0) * STEP_DEG >= 2.0
    assert options.steps(158.0) * STEP_DEG <= 158.0


@dataclass
class Bench:
    """A simulated unit with its driver, in virtual time."""

    unit: Unit
    served: ServedInstrument
    driver: Mpc320
    record: Record
    paddles: PaddleBank
    clock: Clock

    def at_the_unit(self, message: str) -> None:
        self.unit.handle(bytes.fromhex(message), self.clock.now_s())

    @contextmanager
    def hearing(self, hear: Callable[[bytes], bytes]) -> Iterator[None]:
        """Have the unit hear something else than it is sent."""
        handle = self.unit.handle

        def instead(data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
            return handle(hear(data), now_s, port)

        self.unit.handle = instead  # type: ignore[method-assign]  # comes between, in this test
        yield
        self.unit.handle = handle  # type: ignore[method-assign]


def on_a_bench(
    story: Callable[[Bench], Awaitable[None]],
    settings: Mpc320Settings | None = None,
    **options: Any,
) -> None:
    async def run() -> None:
        paddles = PaddleBank(PaddleSettings(), np.random.default_rng(1))
        record, clock = Record(), Clock()
        unit = Unit("paddles", paddles, record, settings)
        served = ServedInstrument("paddles", unit, clock)
        memory = {"paddles": lambda: MemoryChannel(served, link="serial", error=ChannelError)}
        connector = Connector(memory=memory)
        driver = Mpc320("paddles", "memory:paddles", Mpc320Options(**options), connector)
        await driver.open()
        await story(Bench(unit, served, driver, record, paddles, clock))
        await driver.close()
        assert record.violations == []

    virtual_time.run(run())


def test_paddles_stand_where_they_were_sent_when_that_is_confirmed() -> None:
    async def story(bench: Bench) -> None:
        read = await bench.driver.set_drives({1: 20.0, 2: 150.0, 3: 85.0})
        now_s = bench.clock.now_s()
        assert read == {n: bench.paddles.angle_deg(n, now_s) for n in (1, 2, 3)}
        assert not bench.paddles.is_moving(now_s)
        assert read == pytest.approx({1: 20.0, 2: 150.0, 3: 85.0}, abs=STEP_DEG)

    on_a_bench(story)


def test_a_unit_that_wants_to_be_acknowledged_never_falls_silent() -> None:
    async def story(bench: Bench) -> None:
        for _ in range(60):
            await bench.driver.read_drives()
            await bench.driver.identify()
        assert bench.driver.health().errors == 0

    on_a_bench(story)


def test_status_updates_that_nobody_asked_for_disturb_nothing() -> None:
    async def story(bench: Bench) -> None:
        bench.at_the_unit("11 00 00 00 50 01")
        for angle in (20.0, 150.0, 20.2):
            read = await bench.driver.set_drives({2: angle})
            assert read == pytest.approx({2: angle}, abs=STEP_DEG)
        assert bench.driver.health().errors == 0

    on_a_bench(story, Mpc320Settings(sends_updates_at_power_up=True))


def test_a_motor_that_somebody_switched_off_is_switched_on_before_it_is_sent_anywhere() -> None:
    async def story(bench: Bench) -> None:
        bench.at_the_unit("10 02 00 01 50 01")
        read = await bench.driver.set_drives({2: 30.0})
        assert read == pytest.approx({2: 30.0}, abs=STEP_DEG)

    on_a_bench(story)  # which sees that no motor that is off was sent anywhere


def test_a_move_without_completion_message_is_confirmed_by_its_status() -> None:
    async def story(bench: Bench) -> None:
        bench.at_the_unit("6b 04 00 00 50 01")
        read = await bench.driver.set_drives({1: 40.0})
        assert read == pytest.approx({1: 40.0}, abs=STEP_DEG)

    on_a_bench(story)


def test_a_target_out_of_the_units_reach_is_refused_by_its_status_bit() -> None:
    async def story(bench: Bench) -> None:
        before = await bench.driver.read_drives()

        def hear(data: bytes) -> bytes:
            return data[:8] + struct.pack("<i", 2000) if data[:2] == b"\x53\x04" else data

        with bench.hearing(hear), pytest.raises(RejectedError, match="position error"):
            await bench.driver.set_drives({1: 40.0})
        assert await bench.driver.read_drives() == before

    on_a_bench(story)


def test_a_refusal_names_the_paddles_that_had_turned_before() -> None:
    async def story(bench: Bench) -> None:
        def hear(data: bytes) -> bytes:
            is_second = data[:2] == b"\x53\x04" and data[6] == 2
            return data[:8] + struct.pack("<i", 2000) if is_second else data

        with bench.hearing(hear), pytest.raises(RejectedError, match=r"paddle 2.*already: 1"):
            await bench.driver.set_drives({1: 40.0, 2: 40.0, 3: 40.0})

    on_a_bench(story)


def test_a_paddle_that_does_not_arrive_in_time_is_reported() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(TransportError, match="paddle 1 did not arrive within 2 s"):
            await bench.driver.set_drives({1: 150.0})

    # The unit is twenty times slower than it is known to be.
    settings = Mpc320Settings(full_speed_deg_per_s=20.0, is_homed_at_power_up=True)
    on_a_bench(story, settings, move_timeout_s=2.0)


def test_open_homes_paddles_that_are_homed_only_where_it_is_told_to() -> None:
    homed = Mpc320Settings(is_homed_at_power_up=True)

    async def not_homed_again(bench: Bench) -> None:
        assert bench.record.totals["paddles", "home"] == 0

    async def homed_again(bench: Bench) -> None:
        assert bench.record.totals["paddles", "home"] == 3

    on_a_bench(not_homed_again, homed)
    on_a_bench(homed_again, homed, home_on_open=True)


def test_make_safe_stops_a_move_and_homes_nothing_after_a_power_cycle() -> None:
    async def story(bench: Bench) -> None:
        moving = asyncio.get_running_loop().create_task(bench.driver.set_drives({1: 150.0}))
        await asyncio.sleep(0.1)
        moving.cancel()
        await asyncio.wait([moving])
        bench.served.set_fault("power-cycle")
        await asyncio.sleep(1)
        homed = bench.record.totals["paddles", "home"]
        await bench.driver.make_safe()
        assert bench.record.totals["paddles", "home"] == homed
        assert not bench.unit.outputs(bench.clock.now_s())["moves"]

    on_a_bench(story)


def test_paddles_that_lost_their_home_are_homed_before_they_are_read() -> None:
    async def story(bench: Bench) -> None:
        await bench.driver.set_drives({1: 20.0})
        bench.served.set_fault("power-cycle")
        await asyncio.sleep(1)
        with pytest.raises(TransportError):
            await bench.driver.read_drives()  # which finds the link lost
        read = await bench.driver.read_drives()
        now_s = bench.clock.now_s()
        assert read == {n: bench.paddles.angle_deg(n, now_s) for n in (1, 2, 3)}

    on_a_bench(story)


def test_a_cancelled_move_does_not_pass_for_the_next_one() -> None:
    async def story(bench: Bench) -> None:
        moving = asyncio.get_running_loop().create_task(bench.driver.set_drives({1: 150.0}))
        await asyncio.sleep(0.15)
        moving.cancel()
        await asyncio.wait([moving])
        read = await bench.driver.set_drives({1: 60.0})
        assert read == pytest.approx({1: 60.0}, abs=STEP_DEG)

    on_a_bench(story)


def test_a_two_paddle_unit_is_driven_as_one() -> None:
    async def story(bench: Bench) -> None:
        assert set(await bench.driver.read_drives()) == {1, 2}
        assert set(bench.driver.actuators()) == {"1", "2"}

    on_a_bench(story, Mpc320Settings(model="MPC220"), paddles=(1, 2))
