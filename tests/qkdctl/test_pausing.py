"""Pauses of a calibration against a bench that does as it is told, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from calibration.bench import LightLostError
from drivers.errors import InstrumentError, SettingError, TransportError
from qkdctl.pause_config import PausingConfig, WatchConfig
from qkdctl.pausing import CalibrationPauses
from qkdctl.watched import READ_TIMEOUT_S, WatchedQuantities
from sim.virtual_time import run

SETTING = {"squeezer-1": 1.5}
PAUSING = PausingConfig(look_every_s=10, light_wait_s=100)
EXPECTED_HZ = 1e5


class Sensor:
    """Reads a temperature and a power that a test sets; can be lost, or hang."""

    name = "tc"

    def __init__(self) -> None:
        self.value: Callable[[], float] = lambda: 22.0
        self.error: InstrumentError | None = None
        self.hangs = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._read

    async def _read(self) -> float:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error
        return self.value()


class Light:
    """A shutter that notes what is done to it."""

    def __init__(self, done: list[str]) -> None:
        self._done = done
        self.is_on = True
        self.shutter = True

    async def is_open(self) -> bool:
        return self.shutter

    async def turn_on(self) -> None:
        if not self.is_on:
            self._done.append("on")
            self.is_on = self.shutter = True

    async def turn_off(self) -> None:
        if self.is_on:
            self._done.append("off")
        self.is_on = self.shutter = False


class FakeBench:
    """What pauses see of a testbed."""

    def __init__(self, watch: Mapping[str, WatchConfig] | None = None) -> None:
        self.done: list[str] = []
        self.light = Light(self.done)
        self.confirmed = dict(SETTING)
        self.sensor = Sensor()
        receiver = SimpleNamespace(expected_rate_hz=EXPECTED_HZ)
        self.config = SimpleNamespace(pausing=PAUSING, receiver=receiver)
        instruments: Any = {"tc": self.sensor}
        self.watched = WatchedQuantities(watch or {}, instruments)
        self.apply_errors: list[InstrumentError] = []
        self.rate_hz: Callable[[float], float] = lambda now_s: EXPECTED_HZ
        self.looks_s: list[float] = []

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        if self.apply_errors:
            raise self.apply_errors.pop()
        self.done.append("set")
        assert setting == SETTING
        return dict(setting)

    async def measure_for(self, duration_s: float) -> Any:
        assert self.light.is_on
        now_s = asyncio.get_running_loop().time()
        self.looks_s.append(now_s)
        return window(self.rate_hz(now_s), duration_s)


def window(rate_hz: float, duration_s: float = 1.0) -> Any:
    flags = frozenset({"dark"} if rate_hz < 100 else ())
    return SimpleNamespace(photons=rate_hz * duration_s, duration_s=duration_s, flags=flags)


class Session:
    """Pauses of a bench, and what was told of them with the time."""

    def __init__(self, bench: FakeBench) -> None:
        self.bench = bench
        self.told: list[tuple[float, str | None]] = []
        testbed: Any = bench
        self.pauses = CalibrationPauses(testbed, self._tell)

    async def _tell(self, reason: str | None) -> None:
        self.told.append((round(asyncio.get_running_loop().time(), 3), reason))

    @property
    def reasons(self) -> list[str | None]:
        return [reason for _, reason in self.told]


Later = tuple[float, Callable[[Session], None]]


def after(
    bench: FakeBench, wait: Callable[[Session], Awaitable[None]], *later: Later
) -> tuple[Session, float]:
    """Wait as a stage would while things happen at given times; return when it could go on."""

    async def happen(session: Session, at_s: float, what: Callable[[Session], None]) -> None:
        await asyncio.sleep(at_s)
        what(session)

    async def main() -> tuple[Session, float]:
        session = Session(bench)
        async with asyncio.timeout(1e6), asyncio.TaskGroup() as tasks:
            for at_s, what in later:
                tasks.create_task(happen(session, at_s, what))
            await asyncio.sleep(0.001)  # what happens at 0 comes first
            await wait(session)
            ended_s = asyncio.get_running_loop().time()
        return session, ended_s

    return run(main())


async def next_window(session: Session) -> None:
    await session.pauses.before_window()


async def light(session: Session) -> None:
    await session.pauses.until_light(LightLostError("no light", least_hz=0.05 * EXPECTED_HZ))


def pause(session: Session) -> None:
    session.pauses.ask("operator", keeps_light=False)


def pause_in_the_light(session: Session) -> None:
    session.pauses.ask("operator", keeps_light=True)


def end(session: Session) -> None:
    session.pauses.end()


def test_a_pause_lasts_until_somebody_ends_it_and_light_comes_after_the_setting() -> None:
    session, ended_s = after(FakeBench(), next_window, (0, pause), (1e5, end))

    assert ended_s == pytest.approx(1e5)
    assert session.bench.done == ["off", "set", "on"]
    assert session.reasons == ["operator", None]
    assert session.pauses.paused_s == pytest.approx(1e5, abs=0.01)


def test_light_that_was_off_stays_off_after_a_pause() -> None:
    bench = FakeBench()
    bench.light.is_on = bench.light.shutter = False

    after(bench, next_window, (0, pause), (10, end))

    assert bench.done == ["set"]


def test_light_stays_on_only_where_that_was_asked_for_last() -> None:
    kept, shut = FakeBench(), FakeBench()

    after(kept, next_window, (0, pause_in_the_light), (10, end))
    after(shut, next_window, (0, pause_in_the_light), (5, pause), (10, end))

    assert (kept.done, shut.done) == (["set"], ["off", "set", "on"])


def test_a_setting_that_cannot_be_put_back_keeps_the_bench_dark_until_it_can() -> None:
    bench = FakeBench()
    bench.apply_errors = [TransportError("epc", "no answer")]

    async def twice(session: Session) -> None:
        with pytest.raises(TransportError):
            await session.pauses.before_window()
        assert not bench.light.is_on
        await session.pauses.before_window()

    after(bench, twice, (0, pause), (10, end))

    assert bench.done == ["off", "set", "on"]


WARM = {"laser": WatchConfig(quantity="temperature", instrument="tc", minimum=20, maximum=24)}


def heating(session: Session) -> None:
    session.bench.sensor.value = lambda: 24.6


def cooled(session: Session) -> None:
    session.bench.sensor.value = lambda: 23.9


def test_a_watched_quantity_out_of_its_band_pauses_until_it_is_back() -> None:
    session, ended_s = after(FakeBench(WARM), next_window, (0, heating), (42, cooled))

    assert session.reasons == [
        "laser (tc): temperature 24.6 degC is outside 20 to 24 degC",
        None,
    ]
    assert ended_s == pytest.approx(50, abs=0.1)
    assert session.bench.done == ["off", "set", "on"]


def test_a_value_that_changes_while_it_is_outside_is_told_once() -> None:
    bench = FakeBench(WARM)

    def drifting(session: Session) -> None:
        session.bench.sensor.value = lambda: 25 - asyncio.get_running_loop().time() / 50

    session, ended_s = after(bench, next_window, (0, drifting))

    assert ended_s == pytest.approx(50, abs=0.1)
    assert session.reasons == ["laser (tc): temperature 25 degC is outside 20 to 24 degC", None]


def test_a_pause_that_began_by_itself_stays_when_the_operator_wants_one_too() -> None:
    session, ended_s = after(
        FakeBench(WARM), next_window, (0, heating), (15, pause), (20, cooled), (500, end)
    )

    assert ended_s == pytest.approx(500)
    assert session.reasons[1:] == ["operator", None]


def test_the_operator_has_the_quantity_read_at_once() -> None:
    _, ended_s = after(FakeBench(WARM), next_window, (0, heating), (12, cooled), (13, end))

    assert ended_s == pytest.approx(13)


def test_a_quantity_that_cannot_be_read_is_an_error_before_a_pause_and_none_within_it() -> None:
    bench, lost = FakeBench(WARM), FakeBench(WARM)
    lost.sensor.error = TransportError("tc", "no answer")

    def unplug(session: Session) -> None:
        session.bench.sensor.error = TransportError("tc", "no answer")

    def plug(session: Session) -> None:
        session.bench.sensor.error = None

    session, ended_s = after(
        bench, next_window, (0, heating), (5, unplug), (25, cooled), (35, plug)
    )

    with pytest.raises(ExceptionGroup) as caught:
        after(lost, next_window)
    assert caught.group_contains(TransportError, match="no answer")
    assert ended_s == pytest.approx(40, abs=0.1)
    assert session.reasons[1:] == ["tc: no answer", None]


def test_a_reading_that_hangs_is_an_error_within_bounds() -> None:
    bench = FakeBench(WARM)
    bench.sensor.hangs = True

    async def wait(session: Session) -> None:
        with pytest.raises(InstrumentError, match="no temperature within 10 s"):
            await session.pauses.before_window()

    assert after(bench, wait)[1] == pytest.approx(READ_TIMEOUT_S, abs=0.1)


def test_a_power_that_the_shutter_cuts_off_is_looked_at_with_light() -> None:
    bench = FakeBench({"laser": WatchConfig(quantity="power", instrument="tc", minimum=1e-6)})
    power_w = 1e-9
    bench.sensor.value = lambda: power_w if bench.light.is_on else 0.0

    def brighten(session: Session) -> None:
        nonlocal power_w
        power_w = 2e-6

    session, ended_s = after(bench, next_window, (15, brighten))

    assert ended_s == pytest.approx(20, abs=0.1)
    assert session.reasons == ["laser (tc): power 1e-09 W is below 1e-06 W", None]
    assert bench.done == ["off", "on", "off", "on", "set"]


RATE = {"key": WatchConfig(quantity="detection-rate", minimum=5e4, maximum=2e5)}


def test_a_window_whose_rate_is_outside_of_its_band_is_refused() -> None:
    async def wait(session: Session) -> None:
        session.pauses.heed(window(1e5))
        with pytest.raises(LightLostError, match="key: detection-rate 4e\\+04"):
            session.pauses.heed(window(4e4))

    after(FakeBench(RATE), wait)


def test_missing_light_is_looked_for_by_one_window_at_a_time_in_the_dark_between() -> None:
    bench = FakeBench()
    bench.rate_hz = lambda now_s: EXPECTED_HZ if now_s > 45 else 0.0

    session, ended_s = after(bench, light)

    assert bench.looks_s == pytest.approx([10, 20, 30, 40, 50], abs=0.1)
    assert bench.done == [*["off", "on"] * 5, "set"]
    assert ended_s == pytest.approx(50, abs=0.1)
    assert session.reasons == ["no light", None]


@pytest.mark.parametrize(("rate_hz", "is_back"), [(4e3, False), (6e3, True)])
def test_light_counts_as_back_from_the_rate_that_was_missed(rate_hz: float, is_back: bool) -> None:
    bench = FakeBench()
    bench.rate_hz = lambda now_s: rate_hz if now_s < 15 else EXPECTED_HZ

    after(bench, light)

    assert len(bench.looks_s) == (1 if is_back else 2)


def test_light_that_does_not_come_back_is_given_up() -> None:
    bench = FakeBench()
    bench.rate_hz = lambda now_s: 0.0

    async def wait(session: Session) -> None:
        with pytest.raises(LightLostError, match=r"waited 100 s for it \(pausing.light_wait_s\)"):
            await light(session)

    assert after(bench, wait)[1] == pytest.approx(100, abs=0.1)
    assert not bench.light.is_on


def test_light_that_flickers_is_given_up_as_well() -> None:
    bench = FakeBench()

    async def flicker(session: Session) -> None:
        while True:  # every look sees light, no window of the stage does
            await light(session)

    async def wait(session: Session) -> None:
        with pytest.raises(LightLostError, match="waited 100 s"):
            await flicker(session)

    assert after(bench, wait)[1] == pytest.approx(100, abs=0.1)


def test_a_shutter_shut_by_hand_is_opened_by_the_hand_or_on_the_operators_word() -> None:
    by_hand, by_word = FakeBench(), FakeBench()
    for bench in (by_hand, by_word):
        bench.light.shutter = False

    def open_by_hand(session: Session) -> None:
        session.bench.light.shutter = True

    ended_s = [
        after(by_hand, light, (35, open_by_hand))[1],
        after(by_word, light, (33, end))[1],
    ]

    assert ended_s == pytest.approx([40, 33], abs=0.1)
    assert (len(by_hand.looks_s), len(by_word.looks_s)) == (1, 1)


def test_the_time_that_the_operator_pauses_is_no_time_of_waiting_for_light() -> None:
    bench = FakeBench()
    bench.rate_hz = lambda now_s: EXPECTED_HZ if now_s > 1050 else 0.0

    _, ended_s = after(bench, light, (5, pause), (1000, end))

    assert ended_s == pytest.approx(1060, abs=1)


def test_a_search_that_is_finished_is_no_longer_paused() -> None:
    session, ended_s = after(
        FakeBench(), next_window, (0, pause), (30, lambda session: session.pauses.finish())
    )

    assert ended_s == pytest.approx(30)
    assert session.pauses.is_finishing


def test_an_instrument_that_does_not_read_what_is_watched_is_refused() -> None:
    meterless: Any = {"tc": SimpleNamespace(name="tc")}

    with pytest.raises(SettingError, match=r"watch.laser: this instrument does not read temper"):
        WatchedQuantities(WARM, meterless)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"quantity": "temperature", "minimum": 20}, "needs an instrument"),
        ({"quantity": "detection-rate", "minimum": 1, "instrument": "tc"}, "remove instrument"),
        ({"quantity": "detection-rate"}, "neither minimum nor maximum"),
        ({"quantity": "detection-rate", "minimum": 2, "maximum": 1}, "swap them"),
        ({"quantity": "humidity", "minimum": 2}, "Input should be"),
    ],
)
def test_a_watch_without_sense_is_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        WatchConfig.model_validate(wrong)
