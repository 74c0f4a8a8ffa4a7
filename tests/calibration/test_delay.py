"""The delay stage at a tagger that stamps the light of a known pattern."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.delay import DelayProcedure, DelaySettings
from calibration.folding import Pattern
from calibration.signal_run import SignalRun
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from drivers.roles import TimeTags
from sim.virtual_time import run

Conduct = Callable[..., Any]

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
TRUE_PS = {"H": 1200.0, "V": 13_350.0, "D": -9100.0, "A": 21_100.0}
SETTINGS = DelaySettings()
SLOT_PS = 1e4
PERIOD_PS = 20 * SLOT_PS


@dataclass
class FakeTagger:
    """Four jittering detectors behind cables of different length."""

    in_force_ps: dict[str, float] = field(default_factory=lambda: dict.fromkeys("HVDA", 0.0))
    true_ps: dict[str, float] = field(default_factory=lambda: dict(TRUE_PS))
    dead: str = ""
    levels: tuple[float, ...] = (1.0, 1.0, 1.0, 0.2, 0.001)
    is_lit: bool = True
    acquisitions_left: int = 1_000_000
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(10))

    async def acquire(self, photons: int) -> TimeTags:
        self.acquisitions_left -= 1
        if self.acquisitions_left < 0:
            raise TransportError("tagger", "link lost")
        await asyncio.sleep(photons / 2e5)
        return TimeTags(
            photons / 2e5,
            {INPUTS[d]: self.stamps(d, 0 if d == self.dead else photons // 4) for d in "HVDA"},
        )

    def stamps(self, detector: str, n: int) -> np.ndarray:
        weights = np.tile(self.levels, 4)
        lit = self.noise.binomial(n, 0.98) if self.is_lit else 0
        slots = self.noise.choice(20, size=lit, p=weights / weights.sum())
        arrivals = (slots + 0.5) * SLOT_PS + self.true_ps[detector]
        arrivals += 100 * self.noise.standard_normal(lit)
        even = self.noise.uniform(0, PERIOD_PS, n - lit)
        return np.asarray(np.concatenate([arrivals, even]) % PERIOD_PS, dtype=np.uint64)

    def delays_ps(self) -> dict[str, float]:
        return dict(self.in_force_ps)

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        self.in_force_ps = dict(delays_ps)


ARMS = [-2000, 0, 2000], [0.25, 0.5, 0.25]


def procedure(
    bench: FakeTagger,
    settings: DelaySettings = SETTINGS,
    inputs: Mapping[str, int] = INPUTS,
) -> DelayProcedure:
    return DelayProcedure(settings, bench, PATTERN, inputs, MEANS)


def test_whole_slots_and_the_fraction_of_a_bin_are_found(conduct: Conduct) -> None:
    bench = FakeTagger()

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.in_force_ps == pytest.approx(TRUE_PS, abs=15)
    assert result.before.value == pytest.approx(21_100, abs=15)
    assert result.after.value < 20
    assert result.setting["receiver.delays_ps.V"] == bench.in_force_ps["V"]
    assert "jitter 10" in result.reason
    assert sum(result.photons.values()) == 3 * 8000


def test_crowds_beside_the_middle_one_are_no_background(conduct: Conduct) -> None:
    bench = FakeTagger()
    alone = bench.stamps

    def behind_an_interferometer(detector: str, n: int) -> np.ndarray:
        arms = bench.noise.choice(ARMS[0], size=n, p=ARMS[1])
        stamps = alone(detector, n).astype(np.int64) + arms
        return np.asarray(stamps % int(PERIOD_PS), dtype=np.uint64)

    bench.stamps = behind_an_interferometer  # type: ignore[method-assign]

    result = conduct(procedure(bench, DelaySettings(interferometer_ps=2000.0))).result

    assert result.outcome == "accepted", result.reason
    assert bench.in_force_ps == pytest.approx(TRUE_PS, abs=15)
    assert "jitter 10" in result.reason


def test_early_and_late_pulses_at_one_detector_get_a_delay_each(conduct: Conduct) -> None:
    bench = FakeTagger(in_force_ps={"H": -900.0, "V": 1100.0, "D": 13_000.0, "A": 21_000.0})
    inputs = {"H": 1, "V": 1, "D": 2, "A": 3}
    at_arms = {1: ("H", [-2000, 0], [0.5, 0.5]), 2: ("V", *ARMS), 3: ("A", *ARMS)}

    async def acquire(photons: int) -> TimeTags:
        seen = {}
        for number, (cable, arms, shares) in at_arms.items():
            stamps = bench.stamps(cable, photons // 3).astype(np.int64)
            stamps += bench.noise.choice(arms, size=len(stamps), p=shares)
            seen[number] = np.asarray(stamps % int(PERIOD_PS), dtype=np.uint64)
        return TimeTags(photons / 2e5, seen)

    bench.acquire = acquire  # type: ignore[method-assign]

    result = conduct(procedure(bench, DelaySettings(interferometer_ps=2000.0), inputs)).result

    assert result.outcome == "accepted", result.reason
    expected_ps = {"H": -800.0, "V": 1200.0, "D": 13_350.0, "A": 21_100.0}
    assert bench.in_force_ps == pytest.approx(expected_ps, abs=15)


def test_delays_that_are_right_are_left_alone(conduct: Conduct) -> None:
    bench = FakeTagger(in_force_ps={d: ps + 20 for d, ps in TRUE_PS.items()})

    result = conduct(procedure(bench), only_if_needed=True).result

    assert result.outcome == "skipped"
    assert result.photons == {"before": 8000}
    assert bench.in_force_ps["H"] == 1220


def test_one_detector_that_is_off_is_enough_to_find_them_anew(conduct: Conduct) -> None:
    bench = FakeTagger(in_force_ps={**TRUE_PS, "D": TRUE_PS["D"] + 300})

    result = conduct(procedure(bench), only_if_needed=True).result

    assert result.outcome == "accepted"
    assert bench.in_force_ps == pytest.approx(TRUE_PS, abs=15)


@pytest.mark.parametrize(
    ("bench", "reason"),
    [
        (FakeTagger(dead="D"), "detector D clicked 0 times only"),
        (FakeTagger(is_lit=False), "do not follow a clock of 1e+08 Hz: no light"),
        (FakeTagger(levels=(1, 1, 1, 1, 1)), "not the intensity pattern"),
        (FakeTagger(levels=(0.01, 0.01, 0.01, 0.33, 0.48)), "see to the intensity modulator"),
    ],
    ids=["dead detector", "no light", "no contrast", "inverted"],
)
def test_without_clicks_that_follow_the_clock_the_stage_stops(
    conduct: Conduct, bench: FakeTagger, reason: str
) -> None:
    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert reason in result.reason
    assert bench.in_force_ps == dict.fromkeys("HVDA", 0.0)


def test_a_detector_that_dies_during_the_stage_leaves_the_delays_of_the_start(
    conduct: Conduct,
) -> None:
    bench = FakeTagger()
    put = bench.set_delays

    def put_and_die(delays_ps: Mapping[str, float]) -> None:
        put(delays_ps)
        bench.dead = "A"

    bench.set_delays = put_and_die  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "detector A" in result.reason
    assert bench.in_force_ps == dict.fromkeys("HVDA", 0.0)


def test_a_cable_changed_during_the_stage_is_rolled_back(conduct: Conduct) -> None:
    bench = FakeTagger(in_force_ps=dict(TRUE_PS))
    put = bench.set_delays

    def put_and_change(delays_ps: Mapping[str, float]) -> None:
        put(delays_ps)
        bench.true_ps["A"] += 700

    bench.set_delays = put_and_change  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "rolled-back"
    assert bench.in_force_ps == TRUE_PS


def test_a_lost_tagger_leaves_the_delays_of_the_start(conduct: Conduct) -> None:
    bench = FakeTagger(acquisitions_left=2)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert result.reason.startswith("tagger: link lost")
    assert bench.in_force_ps == dict.fromkeys("HVDA", 0.0)


def test_a_cancellation_leaves_the_delays_of_the_start() -> None:
    bench = FakeTagger()

    async def main() -> None:
        account = Account("d", "d", SETTINGS, MemoryTrialLog(), lambda progress: None)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(SignalRun(procedure(bench), account).run())
            while bench.in_force_ps["H"] == 0:
                await asyncio.sleep(0.01)
            task.cancel()

    run(main())

    assert bench.in_force_ps == dict.fromkeys("HVDA", 0.0)


def test_a_detector_that_clicks_seldom_is_looked_at_for_longer(conduct: Conduct) -> None:
    bench = FakeTagger()
    fair = bench.stamps

    def seldom(detector: str, n: int) -> np.ndarray:
        return fair(detector, n // 15 if detector == "A" else n)

    bench.stamps = seldom  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.in_force_ps == pytest.approx(TRUE_PS, abs=40)
