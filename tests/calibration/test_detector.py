"""The detector stage at four nanowires, one of which may latch."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.clicks import STATES, Window
from calibration.detector import DetectorProcedure, DetectorSettings
from calibration.folding import Pattern
from calibration.link_model import link_model
from calibration.signal_run import SignalRun
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from sim.virtual_time import run

Conduct = Callable[..., Any]

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
GATE_SHARE = 0.4
KNOBS = {state: f"bias-{state.lower()}" for state in STATES}
SETTINGS = DetectorSettings()
LINK = link_model(PATTERN, MEANS, 4e-9, 0.01)


@dataclass
class FakeWires:
    """Four nanowires: efficiency levels off, dark counts grow, above 20 uA the third may latch."""

    bias_ua: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KNOBS.values(), 9.0))
    plateau_hz: float = 2000.0
    dark_hz: float = 30.0
    gated: float = 0.4
    afterpulses: float = 0.0
    latching_ua: float = math.inf
    dead: set[str] = field(default_factory=set)
    is_lit: bool = True
    windows_left: int = 1_000_000
    latched: bool = False
    applied: list[dict[str, float]] = field(default_factory=list)
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))

    def limits(self, name: str) -> tuple[float, float]:
        return 4.0, 22.0

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.01)
        self.bias_ua |= setting
        self.applied.append(dict(self.bias_ua))
        current_ua = self.bias_ua[KNOBS["D"]]
        self.latched = current_ua > self.latching_ua or (self.latched and current_ua > 4.5)
        return {name: self.bias_ua[name] for name in setting}

    async def let_light(self, *, is_on: bool) -> None:
        self.is_lit = is_on

    def rates_hz(self) -> tuple[np.ndarray, np.ndarray]:
        """Light and dark counts of each detector, Hz."""
        bias_ua = np.array([self.bias_ua[KNOBS[state]] for state in STATES])
        share = np.array([(1 + math.erf((each - 8) / 2)) / 2 for each in bias_ua])
        alive = np.array([not (s in self.dead or (s == "D" and self.latched)) for s in STATES])
        dark_hz = self.dark_hz * np.exp((bias_ua - 15) / 1.5)
        return alive * share * self.plateau_hz * self.is_lit, alive * dark_hz

    async def measure(self, photons: int) -> Window:
        light_hz, dark_hz = self.rates_hz()
        return await self.measure_for(min(photons / max(sum(light_hz + dark_hz), 1.0), 4.0))

    async def measure_for(self, duration_s: float) -> Window:
        self.windows_left -= 1
        if self.windows_left < 0:
            raise TransportError("counter", "link lost")
        await asyncio.sleep(duration_s)
        light_hz, dark_hz = self.rates_hz()
        even_hz = dark_hz + self.afterpulses * light_hz
        inside = self.noise.poisson((light_hz + GATE_SHARE * even_hz) * duration_s)
        outside = self.noise.poisson((1 - GATE_SHARE) * even_hz * duration_s)
        clicks = np.zeros((3, 4, 4), dtype=np.int64)
        clicks[0, 0] = inside
        names = ("signal", "decoy", "vacuum")
        singles = inside + outside
        return Window(0.0, duration_s, "pattern", "calibration", names, clicks, singles)

    def key_rate(self) -> float:
        """Key rate of the biases in force, without noise."""
        light_hz, dark_hz = self.rates_hz()
        return LINK.key_rate(light_hz, dark_hz + self.afterpulses * light_hz)

    def best_key_rate(self) -> float:
        """Best key rate with all detectors alike."""
        before, rates = dict(self.bias_ua), []
        for bias_ua in np.linspace(4, 22, 361):
            self.bias_ua = dict.fromkeys(KNOBS.values(), float(bias_ua))
            rates.append(self.key_rate())
        self.bias_ua = before
        return max(rates)


def procedure(bench: FakeWires, last: float | None = None) -> DetectorProcedure:
    return DetectorProcedure(SETTINGS, bench, KNOBS, bench.bias_ua, LINK, GATE_SHARE, last=last)


@pytest.mark.parametrize("plateau_hz", [200.0, 2000.0, 20_000.0])
def test_the_biases_are_those_of_most_key(conduct: Conduct, plateau_hz: float) -> None:
    bench = FakeWires(plateau_hz=plateau_hz)

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert bench.key_rate() > 0.97 * bench.best_key_rate()
    assert result.after.value > result.before.value
    assert result.setting == bench.bias_ua
    assert bench.is_lit


def test_more_background_is_answered_by_less_bias(conduct: Conduct) -> None:
    quiet, noisy = FakeWires(dark_hz=3.0), FakeWires(dark_hz=300.0)

    conduct(procedure(quiet))
    conduct(procedure(noisy))

    assert max(noisy.bias_ua.values()) < min(quiet.bias_ua.values())


def test_afterpulses_are_told_by_the_clicks_outside_of_the_gates(conduct: Conduct) -> None:
    result = conduct(procedure(FakeWires(afterpulses=0.02))).result

    share = float(result.reason.split("afterpulses ")[1].split(" %")[0])
    assert share == pytest.approx(2, abs=0.4)


def test_detectors_as_good_as_last_time_are_left_alone(conduct: Conduct) -> None:
    bench = FakeWires(bias_ua=dict.fromkeys(KNOBS.values(), 13.0))

    result = conduct(procedure(bench, last=bench.key_rate()), only_if_needed=True).result

    assert result.outcome == "skipped"
    assert bench.applied == []
    assert bench.is_lit


@pytest.mark.parametrize("last", [None, 1.0])
def test_detectors_worse_than_last_time_or_never_chosen_are_chosen(
    conduct: Conduct, last: float | None
) -> None:
    result = conduct(procedure(FakeWires(), last=last), only_if_needed=True).result

    assert result.outcome == "accepted"


def test_a_wire_that_latches_is_taken_down_and_biased_lower(conduct: Conduct) -> None:
    bench = FakeWires(dark_hz=0.01, latching_ua=17.0)

    outcome = conduct(procedure(bench))

    assert outcome.result.outcome == "accepted", outcome.result.reason
    assert "detector D goes blind" in outcome.notes
    assert not bench.latched
    assert bench.bias_ua[KNOBS["D"]] < 17


def test_a_dead_detector_stops_the_stage_by_name(conduct: Conduct) -> None:
    result = conduct(procedure(FakeWires(dead={"V"}))).result

    assert result.outcome == "failed"
    assert "detector V sees no light" in result.reason


@pytest.mark.parametrize("looks", [2, 6])
def test_a_detector_that_dies_during_the_stage_puts_the_biases_back(
    conduct: Conduct, looks: int
) -> None:
    bench = FakeWires()
    start = dict(bench.bias_ua)
    begin = bench.apply

    async def dying(setting: Mapping[str, float]) -> dict[str, float]:
        if len(bench.applied) == looks:
            bench.dead.add("A")
        return await begin(setting)

    bench.apply = dying  # type: ignore[method-assign]

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "detector A" in result.reason
    assert bench.bias_ua == start


def test_clicks_outside_of_the_gates_ask_for_the_delay_stage_first(conduct: Conduct) -> None:
    bench = FakeWires(afterpulses=1.5)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "run the delay stage first" in result.reason


def test_a_lost_counter_puts_biases_and_light_back(conduct: Conduct) -> None:
    bench = FakeWires(windows_left=7)
    start = dict(bench.bias_ua)

    result = conduct(procedure(bench)).result

    assert result.reason.startswith("counter: link lost")
    assert bench.bias_ua == start
    assert bench.is_lit


def test_no_counts_at_all_stop_the_stage(conduct: Conduct) -> None:
    result = conduct(procedure(FakeWires(dead=set(STATES)))).result

    assert result.outcome == "failed"
    assert "detector H sees no light" in result.reason


def test_a_cancellation_puts_biases_and_light_back() -> None:
    bench = FakeWires()
    start = dict(bench.bias_ua)

    async def main() -> None:
        account = Account("d", "d", SETTINGS, MemoryTrialLog(), lambda progress: None)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(SignalRun(procedure(bench), account).run())
            while len(bench.applied) < 3 or bench.is_lit:
                await asyncio.sleep(0.05)
            task.cancel()

    run(main())

    assert bench.bias_ua == start
    assert bench.is_lit


def test_afterpulses_that_are_not_there_do_not_shift_the_interval_of_the_key_rate(
    conduct: Conduct,
) -> None:
    held = []
    for seed in range(40):
        biases_ua = dict.fromkeys(KNOBS.values(), 12.0)
        bench = FakeWires(biases_ua, dark_hz=300.0, noise=np.random.default_rng(seed))
        before = conduct(procedure(bench, last=0.0), only_if_needed=True).result.before
        held.append(before.low <= bench.key_rate() <= before.high)

    assert np.mean(held) >= 0.8


def test_detectors_too_noisy_for_any_key_at_the_top_are_not_shut_off(conduct: Conduct) -> None:
    bench = FakeWires(plateau_hz=1000.0, dark_hz=900.0)

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert min(bench.bias_ua.values()) > 7
