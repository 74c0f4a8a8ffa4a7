"""The outer loop for the key rate at a link of two knobs."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from calibration.account import Account
from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.key_rate_stage import KeyRateProcedure, KeyRateSettings, PatternKey
from calibration.signal_run import SignalRun
from calibration.trials import MemoryTrialLog
from drivers.errors import TransportError
from sim.virtual_time import run

Conduct = Callable[..., Any]

INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
PATTERN = Pattern("HVDA", INTENSITIES, 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
SETTINGS = KeyRateSettings(trials=12, figure_photons=20_000, reach=0.3, seed=1)
START = {"angle": 0.0, "bias": 1.0}
LIMITS = {"angle": (-1.0, 1.0), "bias": (0.0, 2.0)}
BEST = {"angle": 0.25, "bias": 1.3}


@dataclass
class FakeLink:
    """A link whose errors depend on an angle, and its gain on a bias."""

    setting: dict[str, float] = field(default_factory=lambda: dict(START))
    applied: list[dict[str, float]] = field(default_factory=list)
    blind_above: float = np.inf
    windows_left: int = 1_000_000
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def limits(self, name: str) -> tuple[float, float]:
        return LIMITS[name]

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.01)
        self.setting |= setting
        self.applied.append(dict(self.setting))
        return {name: self.setting[name] for name in setting}

    async def measure(self, photons: int) -> Window:
        self.windows_left -= 1
        if self.windows_left < 0:
            raise TransportError("tagger", "link lost")
        is_blind = self.setting["bias"] > self.blind_above
        gain = 0.0 if is_blind else 0.01 * np.exp(-4 * (self.setting["bias"] - BEST["bias"]) ** 2)
        duration_s = 1e-4 if is_blind else photons / (0.62 * gain * 1e8)
        await asyncio.sleep(duration_s)
        error = 0.01 + np.sin(self.setting["angle"] - BEST["angle"]) ** 2
        one = np.array([[1 - error, error], [error, 1 - error]])
        shares = np.block([[one, np.full((2, 2), 0.5)], [np.full((2, 2), 0.5), one]]) / 8
        expected = gain * 1e8 * duration_s * np.array([0.6, 0.02, 0.0])[:, None, None] * shares
        clicks = self.noise.poisson(expected)
        flags = frozenset({"dark"} if is_blind else ())
        names = ("signal", "decoy", "vacuum")
        singles = clicks.sum(axis=(0, 1))
        return Window(
            0.0, duration_s, "pattern", "calibration", names, clicks, singles, flags=flags
        )


def procedure(bench: FakeLink, settings: KeyRateSettings = SETTINGS) -> KeyRateProcedure:
    return KeyRateProcedure(settings, bench, list(START), START, PatternKey(PATTERN, MEANS))


def test_knobs_end_near_the_best_key_rate(conduct: Conduct) -> None:
    bench = FakeLink()

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert result.setting == bench.setting
    assert bench.setting == pytest.approx(BEST, abs=0.12)
    assert result.after.low > result.before.high


def test_no_setting_is_outside_of_the_region(conduct: Conduct) -> None:
    bench = FakeLink()

    result = conduct(procedure(bench, SETTINGS.model_copy(update={"reach": 0.05}))).result

    for setting in bench.applied:
        assert all(abs(setting[knob] - START[knob]) <= 0.1 + 1e-9 for knob in START)
    assert "bias at the edge of what was tried" in result.reason


def test_dark_trials_are_failed_trials(conduct: Conduct) -> None:
    bench = FakeLink(blind_above=1.2)

    result = conduct(procedure(bench)).result

    assert result.outcome == "accepted", result.reason
    assert "of them dark or saturated" in result.reason
    assert bench.setting["bias"] <= 1.2


def test_without_light_the_stage_fails_and_says_so(conduct: Conduct) -> None:
    bench = FakeLink(blind_above=0.0)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "no light at the receiver" in result.reason


def test_photons_run_out_before_the_last_measurement_does(conduct: Conduct) -> None:
    bench = FakeLink()

    account = conduct(procedure(bench), max_photons=120_000)

    assert account.result.outcome == "accepted", account.result.reason
    assert sum(account.result.photons.values()) <= 120_000


def test_a_budget_too_small_for_a_trial_is_named(conduct: Conduct) -> None:
    result = conduct(procedure(FakeLink()), max_photons=50_000).result

    assert result.outcome == "failed"
    assert "no photons are left for a trial" in result.reason


def test_a_lost_tagger_puts_back_what_was_in_force(conduct: Conduct) -> None:
    bench = FakeLink(windows_left=6)

    result = conduct(procedure(bench)).result

    assert result.outcome == "failed"
    assert "tagger: link lost" in result.reason
    assert bench.setting == START


def test_a_cancellation_puts_back_what_was_in_force() -> None:
    bench = FakeLink()

    async def main() -> None:
        account = Account("k", "k", SETTINGS, MemoryTrialLog(), lambda progress: None)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(SignalRun(procedure(bench), account).run())
            while len(bench.applied) < 4:
                await asyncio.sleep(0.001)
            task.cancel()

    run(main())

    assert bench.setting == START
