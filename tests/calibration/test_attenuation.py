"""The attenuation stage at an attenuator, a shutter and a noisy meter."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.attenuation import AttenuationProcedure, AttenuationSettings
from calibration.folding import Pattern
from calibration.mean_photon import Tap, signal_share
from calibration.signal_run import SignalRun
from calibration.slots import SlotReader
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from drivers.roles import TimeTags
from sim.virtual_time import run

Conduct = Callable[..., Any]

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
SETTINGS = AttenuationSettings(tap_db=50.0)
SCALE_W = Tap(1e8, signal_share(PATTERN, MEANS), 50.0, 1550.0, 0.0).watts_per_photon


@dataclass
class FakeEmission:
    """A laser of so many photons per signal at 0 dB, an attenuator, a shutter, a tap, a meter."""

    laser: float = 0.5 * 10**1.0
    attenuation_db: float = 10.0
    noise_w: float = 3e-12
    is_lit: bool = False
    set_db: float = 60.0
    readings_left: int = 1_000_000
    decoy: float = 0.2
    brightest: float = 0.0
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(8))

    @property
    def level(self) -> float:
        return self.laser * 10 ** (-self.set_db / 10) if self.is_lit else 0.0

    def attenuation_limits_db(self) -> tuple[float, float]:
        return 3.0, 45.0

    async def attenuate(self, attenuation_db: float) -> float:
        assert 3 <= attenuation_db <= 45
        await asyncio.sleep(0.1)
        self.attenuation_db = self.set_db = round(attenuation_db, 2)
        self.brightest = max(self.brightest, self.level)
        return self.set_db

    async def let_light(self, *, is_on: bool) -> None:
        if is_on:
            self.set_db = self.attenuation_db
        self.is_lit = is_on
        self.brightest = max(self.brightest, self.level)

    async def read_power(self) -> float:
        await asyncio.sleep(0.03)
        self.readings_left -= 1
        if self.readings_left < 0:
            raise TransportError("monitor", "link lost")
        power_w = self.level * SCALE_W
        shake, offset = self.noise.normal(size=2)
        return float(1e-10 + power_w * (1 + 2e-4 * shake) + self.noise_w * offset)

    def delays_ps(self) -> dict[str, float]:
        return dict.fromkeys("HVDA", 0.0)

    async def acquire(self, photons: int) -> TimeTags:
        levels = np.tile([1.0, 1.0, 1.0, self.decoy, 0.001], 4)
        lit = photons if self.level > 0 else 0
        slots = self.noise.choice(20, size=lit, p=levels / levels.sum())
        even = self.noise.uniform(0, 2e5, 40)
        tags = np.concatenate([(slots + 0.5) * 1e4 + 100 * self.noise.normal(size=lit), even])
        parts = np.array_split(self.noise.permutation(tags), 4)
        stamps = {n + 1: part.astype(np.uint64) for n, part in enumerate(parts)}
        return TimeTags(photons / 2e5, stamps)


def procedure(
    bench: FakeEmission, settings: AttenuationSettings = SETTINGS, doubt: float = 1.0
) -> AttenuationProcedure:
    slots = SlotReader(bench, PATTERN, {"H": 1, "V": 2, "D": 3, "A": 4}, 4000.0, MEANS)
    return AttenuationProcedure(settings, bench, PATTERN, MEANS, slots, doubt=doubt)


@pytest.mark.parametrize("off_db", [-6.0, -1.0, 1.0])
def test_the_signal_leaves_with_the_configured_mean_photon_number(
    conduct: Conduct, off_db: float
) -> None:
    bench = FakeEmission(laser=5 * 10 ** (off_db / 10))

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.level == pytest.approx(0.5, rel=0.005)
    assert result.after.value == pytest.approx(0.5, rel=0.005)
    assert result.after.low < 0.5 < result.after.high
    assert result.setting == {"light.attenuation_db": pytest.approx(10 + off_db, abs=0.02)}
    assert bench.attenuation_db == bench.set_db
    assert result.reason.count("as it should be") == 2


@pytest.mark.parametrize("off_db", [-3.0, 0.0, 2.0, 9.0, 20.0])
def test_the_level_is_never_above_the_safe_one_on_the_way(conduct: Conduct, off_db: float) -> None:
    bench = FakeEmission(laser=5 * 10 ** (off_db / 10))

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.brightest <= 0.6


def test_a_start_that_is_too_bright_to_be_set_is_told_from_the_steps_before(
    conduct: Conduct,
) -> None:
    result = conduct(procedure(FakeEmission(laser=50.0))).result

    assert result.before.value == pytest.approx(5.0, rel=0.02)


def test_while_the_modulator_is_in_doubt_the_level_is_held_as_much_below_the_safe_one(
    conduct: Conduct,
) -> None:
    bench = FakeEmission(laser=8.0)

    result = conduct(procedure(bench, doubt=1.88)).result

    assert result.outcome == "accepted", result.reason
    assert bench.brightest <= 0.6 / 1.88
    assert result.target == pytest.approx(0.6 / 1.88, rel=0.06)
    assert bench.level == pytest.approx(result.target, rel=0.01)
    assert "until the bias of the intensity modulator is known" in result.reason


def test_a_level_that_is_right_is_left_alone(conduct: Conduct) -> None:
    bench = FakeEmission(laser=5.05)

    result = conduct(procedure(bench), only_if_needed=True).result

    assert result.outcome == "skipped", result.reason
    assert (bench.is_lit, bench.set_db) == (True, 10.0)
    assert result.photons == {}


def test_a_decoy_that_is_off_is_reported(conduct: Conduct) -> None:
    result = conduct(procedure(FakeEmission(decoy=0.4))).result

    assert result.outcome == "accepted"
    assert "where 0.1 is wanted: see to the intensity modulator" in result.reason


@pytest.mark.parametrize(
    ("bench", "reason"),
    [
        (FakeEmission(laser=0.0), "the meter sees no light"),
        (FakeEmission(laser=5e5), "the laser is too bright"),
        (FakeEmission(laser=0.5), "outside the 3 to 45 dB"),
    ],
    ids=["no laser", "too bright", "too weak"],
)
def test_without_a_laser_of_the_right_power_the_stage_stops_dark(
    conduct: Conduct, bench: FakeEmission, reason: str
) -> None:
    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert reason in result.reason
    assert not bench.is_lit
    assert bench.attenuation_db == 10.0


def test_a_wanted_level_that_is_not_safe_is_refused(conduct: Conduct) -> None:
    settings = AttenuationSettings(tap_db=50.0, safe_mean_photons=0.505)

    result = conduct(procedure(FakeEmission(), settings)).result

    assert "not safely below" in result.reason


def test_a_meter_too_noisy_for_the_safe_level_is_refused(conduct: Conduct) -> None:
    bench = FakeEmission(laser=2.5, noise_w=1e-7)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert bench.brightest <= 0.6
    assert not bench.is_lit


@pytest.mark.parametrize("readings", [2, 6, 20])
def test_a_meter_that_dies_leaves_the_light_shut_and_the_start_attenuation(
    conduct: Conduct, readings: int
) -> None:
    bench = FakeEmission(laser=4.0, readings_left=readings)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert result.reason.startswith("monitor: link lost")
    assert not bench.is_lit
    assert bench.attenuation_db == 10.0


def test_a_cancellation_leaves_the_light_shut_and_the_start_attenuation() -> None:
    bench = FakeEmission(laser=4.0)

    async def main() -> None:
        account = Account("a", "a", SETTINGS, MemoryTrialLog(), lambda progress: None)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(SignalRun(procedure(bench), account).run())
            await asyncio.sleep(0.5)
            assert bench.is_lit
            task.cancel()

    run(main())

    assert not bench.is_lit
    assert bench.attenuation_db == 10.0


def test_no_light_at_the_receiver_does_not_stop_the_stage(conduct: Conduct) -> None:
    bench = FakeEmission()

    async def silent(photons: int) -> TimeTags:
        return TimeTags(0.1, {n: np.empty(0, dtype=np.uint64) for n in (1, 2, 3, 4)})

    bench.acquire = silent  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted"
    assert "not checked: no light at the receiver" in result.reason
