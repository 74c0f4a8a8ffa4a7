"""The bias stage at a modulator whose null has drifted away."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.bias import BiasSettings, LockProcedure, NullProcedure
from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.signal_run import SignalRun
from calibration.slots import SlotReader
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from drivers.roles import TimeTags
from sim.virtual_time import run

Conduct = Callable[..., Any]

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
SLOT_PS = 1e4
RATE_HZ = 2e5
SETTINGS = BiasSettings()


@dataclass
class FakeModulator:
    """Signal, decoy and empty pulses behind a Mach-Zehnder, counted at one detector."""

    null_v: float = 1.7
    half_wave_v: float = 5.3
    bias_v: float = 0.0
    floor: float = 0.0005
    limits_v: tuple[float, float] = (-8.0, 8.0)
    windows_left: int = 1_000_000
    is_lit: bool = True
    applied: list[float] = field(default_factory=list)
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(9))

    def limits(self, name: str) -> tuple[float, float]:
        return self.limits_v

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.01)
        self.bias_v = round(setting["bias"], 4)
        assert self.limits_v[0] <= self.bias_v <= self.limits_v[1]
        self.applied.append(self.bias_v)
        return {"bias": self.bias_v}

    def passes(self, drive: float) -> float:
        angle = math.pi / 2 * (drive + (self.bias_v - self.null_v) / self.half_wave_v)
        return self.floor + (1 - self.floor) * math.sin(angle) ** 2

    async def measure(self, photons: int) -> Window:
        raise NotImplementedError

    def delays_ps(self) -> dict[str, float]:
        return dict.fromkeys("HVDA", 0.0)

    async def acquire(self, photons: int) -> TimeTags:
        self.windows_left -= 1
        if self.windows_left < 0:
            raise TransportError("tagger", "link lost")
        duration_s = min(photons / RATE_HZ, 2.0)
        await asyncio.sleep(duration_s)
        levels = [self.passes(drive) for drive in (1.0, 1.0, 1.0, 0.295, 0.0)]
        mean = np.array(levels) * self.is_lit * RATE_HZ / 3.2 * duration_s
        stamps = {n: self.stamps(mean / 4, 40 * duration_s) for n in INPUTS.values()}
        return TimeTags(duration_s, stamps)

    def stamps(self, mean: np.ndarray, dark: float) -> np.ndarray:
        """Clicks of one detector behind a cable of 2.3 slots: light of each place, and darkness."""
        counts = self.noise.poisson(np.tile(mean / 4, 4))
        slots = np.repeat(np.arange(20), counts)
        light = (slots + 2.8) * SLOT_PS + 100 * self.noise.standard_normal(len(slots))
        even = self.noise.uniform(0, 20 * SLOT_PS, self.noise.poisson(dark))
        return np.asarray(np.concatenate([light, even]) % (20 * SLOT_PS), dtype=np.uint64)

    @property
    def miss_v(self) -> float:
        """Distance of the bias from the nearest null."""
        period_v = 2 * self.half_wave_v
        return abs((self.bias_v - self.null_v + period_v / 2) % period_v - period_v / 2)


def slots(bench: FakeModulator) -> SlotReader:
    return SlotReader(bench, PATTERN, INPUTS, 0.4 * SLOT_PS, MEANS)


def procedure(bench: FakeModulator, settings: BiasSettings = SETTINGS) -> NullProcedure:
    return NullProcedure(settings, slots(bench), bench, "bias", bench.bias_v)


@pytest.mark.parametrize("null_v", [-4.5, -1.7, 0.9, 1.7, 5.2])
def test_the_null_is_found_from_a_few_settings(conduct: Conduct, null_v: float) -> None:
    bench = FakeModulator(null_v=null_v)

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.miss_v < 0.08
    assert result.after.value > 30
    assert result.after.value > result.before.value
    assert len(set(bench.applied)) == 9
    assert result.setting == {"bias": bench.bias_v}
    assert sum(result.photons.values()) < 300_000


def test_a_modulator_at_its_peak_is_brought_to_its_null(conduct: Conduct) -> None:
    bench = FakeModulator(null_v=5.3)

    result = conduct(procedure(bench)).result

    assert result.before.value == 0
    assert result.outcome == "accepted"
    assert bench.miss_v < 0.08


def test_empty_pulses_that_are_empty_are_left_alone(conduct: Conduct) -> None:
    bench = FakeModulator(null_v=0.05)

    result = conduct(procedure(bench), only_if_needed=True).result

    assert result.outcome == "skipped"
    assert bench.applied == []


def test_a_null_outside_of_the_knobs_limits_is_said_so(conduct: Conduct) -> None:
    bench = FakeModulator(null_v=5.0, limits_v=(-2.0, 2.0))

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "outside the -2 to 2 V of knob 'bias'" in result.reason
    assert bench.bias_v == 0.0


def test_without_light_the_stage_stops_and_says_where_to_look(conduct: Conduct) -> None:
    bench = FakeModulator(is_lit=False)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "no light at the receiver" in result.reason
    assert bench.bias_v == 0.0


def test_zero_counts_are_no_light(conduct: Conduct) -> None:
    bench = FakeModulator()

    async def silent(photons: int) -> TimeTags:
        return TimeTags(0.1, {number: np.empty(0, dtype=np.uint64) for number in INPUTS.values()})

    bench.acquire = silent  # type: ignore[method-assign]

    assert "no light at the receiver" in conduct(procedure(bench)).result.reason


@pytest.mark.parametrize("windows", [0, 3, 7])
def test_a_tagger_that_dies_puts_the_start_bias_back(conduct: Conduct, windows: int) -> None:
    bench = FakeModulator(windows_left=windows)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert result.reason.startswith("tagger: link lost")
    assert bench.bias_v == 0.0


def test_a_null_that_leaps_away_during_the_stage_is_rolled_back(conduct: Conduct) -> None:
    bench = FakeModulator(null_v=0.1)
    begin = bench.acquire

    async def leaping(photons: int) -> TimeTags:
        if len(bench.applied) == 9:
            bench.null_v = 3.0
        return await begin(photons)

    bench.acquire = leaping  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "rolled-back"
    assert bench.bias_v == 0.0


def test_a_cancellation_puts_the_start_bias_back() -> None:
    bench = FakeModulator()

    async def main() -> None:
        account = Account("b", "b", SETTINGS, MemoryTrialLog(), lambda progress: None)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(SignalRun(procedure(bench), account).run())
            while bench.bias_v == 0:
                await asyncio.sleep(0.01)
            task.cancel()

    run(main())

    assert bench.bias_v == 0.0


@dataclass
class FakeLock:
    """A bias controller at the same modulator."""

    modulator: FakeModulator
    is_held: bool = False
    fails: bool = False

    async def lock(self) -> None:
        if self.fails:
            raise TransportError("mbx", "not locked to null within 120 s")
        await asyncio.sleep(6)
        self.modulator.bias_v, self.is_held = self.modulator.null_v, True

    async def is_locked(self) -> bool:
        return self.is_held

    async def read_bias(self) -> float:
        return self.modulator.bias_v

    async def hold(self, voltage_v: float) -> float:
        self.modulator.bias_v, self.is_held = voltage_v, False
        return voltage_v


def test_a_bias_controller_that_locks_is_judged_by_the_same_figure(conduct: Conduct) -> None:
    bench = FakeModulator(bias_v=0.5)
    lock = FakeLock(bench)

    result = conduct(LockProcedure(SETTINGS, slots(bench), lock)).result

    assert result.outcome == "accepted"
    assert "locked at 1.700 V" in result.reason
    assert lock.is_held
    assert result.after.value > 30 > result.before.value


def test_a_lock_that_fails_holds_the_voltage_of_the_start(conduct: Conduct) -> None:
    bench = FakeModulator(bias_v=0.5)
    lock = FakeLock(bench, fails=True)

    result = conduct(LockProcedure(SETTINGS, slots(bench), lock)).result

    assert result.outcome == "failed"
    assert "not locked to null" in result.reason
    assert (bench.bias_v, lock.is_held) == (0.5, False)


def test_of_a_pattern_that_is_not_recognised_no_extinction_is_claimed(conduct: Conduct) -> None:
    bench = FakeModulator(null_v=5.3)  # signal pulses are dark, empty ones bright

    before = conduct(procedure(bench)).result.before

    assert before.low < -30 < before.value < before.high
