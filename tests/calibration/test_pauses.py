"""Stages that are held up between two windows, lose their light, or are told to finish."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study

from calibration.account import Account, StageBudget
from calibration.bench import LightLostError
from calibration.clicks import Window
from calibration.metering import RETRY_DELAYS_S, Rules
from calibration.searches import Finding, Setting
from calibration.signal_run import Figure, SignalResult, SignalRun
from calibration.stages import StageResult, StageRun
from calibration.trials import MemoryTrialLog, Params
from sim.virtual_time import run

START, BEST = {"knob": 3.0}, {"knob": 0.0}
RULES = Rules(
    target_excess=0.01,
    acceptable_qber=0.05,
    max_photons=100_000,
    max_settings=1000,
    before_photons=1000,
)


@dataclass
class Holding:
    """Pauses that a test tells what to do."""

    pause_at: int = -1
    pause_s: float = 1000.0
    light_back_after_s: float | None = None
    is_finishing: bool = False
    paused_s: float = 0.0
    passes: int = 0
    waits: list[str] = field(default_factory=list)
    on_window: Callable[[], None] = lambda: None

    async def before_window(self) -> None:
        self.passes += 1
        if self.passes == self.pause_at:
            await asyncio.sleep(self.pause_s)
            self.paused_s += self.pause_s

    def heed(self, window: Window) -> None:
        self.on_window()

    async def until_light(self, error: LightLostError) -> None:
        self.waits.append(str(error))
        if self.light_back_after_s is None:
            raise error
        await asyncio.sleep(self.light_back_after_s)
        self.paused_s += self.light_back_after_s


class Receiver:
    """One knob with its best setting at 0; counts without noise, a microsecond each."""

    def __init__(self) -> None:
        self.knob = START["knob"]
        self.window_times_s: list[float] = []
        self.share: Callable[[float], Any] = lambda now_s: 1.0
        self.flags: Callable[[float], frozenset[str]] = lambda now_s: frozenset()

    def limits(self, name: str) -> tuple[float, float]:
        return -5.0, 5.0

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        self.knob = setting["knob"]
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        now_s = asyncio.get_running_loop().time()
        self.window_times_s.append(now_s)
        await asyncio.sleep(photons * 1e-6)
        wrong = min(0.01 + 0.1 * self.knob**2, 0.5) * photons / 8
        right, other = photons / 8 - wrong, photons / 16
        half = [[right, wrong, other, other], [wrong, right, other, other]]
        table = np.array([*half, *(row[2:] + row[:2] for row in half)]) * self.share(now_s)
        counts = np.round(table).astype(np.int64)
        return Window(
            start_s=0.0,
            duration_s=photons * 1e-6,
            source="scan",
            disclosure="calibration",
            intensities=("signal",),
            clicks=counts[np.newaxis],
            singles=counts.sum(axis=0),
            flags=self.flags(now_s),
        )


@dataclass
class Endless:
    """A search that always wants another trial, and recommends what it is told to."""

    setting: Setting = field(default_factory=lambda: dict(BEST))
    name: str = "endless"
    patience: int = 1
    rivals: int = 0
    sampler: RandomSampler = field(default_factory=lambda: RandomSampler(seed=0))
    space: Mapping[str, FloatDistribution] = field(
        default_factory=lambda: {"knob": FloatDistribution(-5, 5)}
    )

    def params(self, setting: Setting, photons: int) -> Params:
        return dict(setting)

    def photons(self, params: Params) -> int:
        return 1000

    def assess(self, study: Study) -> Finding:
        return Finding(
            setting=self.setting,
            is_final=False,
            predicted_qber=0.01,
            excess_mean=0.01,
            excess_q90=0.02,
        )

    def review(self, study: Study, finding: Finding) -> Finding:
        return finding


@dataclass
class Ran:
    result: StageResult
    log: MemoryTrialLog
    seconds: float


def align(receiver: Receiver, pauses: Holding, setting: Setting | None = None) -> Ran:
    log = MemoryTrialLog()

    async def main() -> tuple[StageResult, float]:
        stage = StageRun(
            "stage", "study", receiver, log, lambda p: None, START, RULES, seed=0, pauses=pauses
        )
        search = Endless(setting or BEST)
        result = await stage.run([lambda at, past: search])
        return result, asyncio.get_running_loop().time()

    result, seconds = run(main())
    return Ran(result, log, seconds)


def test_a_pause_leaves_every_trial_whole_and_costs_no_time() -> None:
    plain, held = Receiver(), Receiver()

    without, with_pause = align(plain, Holding()), align(held, Holding(pause_at=5))

    gaps_s = np.diff(held.window_times_s)
    assert np.flatnonzero(gaps_s > 900).tolist() == [3]
    trials = run(with_pause.log.past("study"))
    assert {trial.state for trial in trials} == {"complete"}
    assert len(trials) == len(run(without.log.past("study")))
    assert with_pause.seconds == pytest.approx(without.seconds + 1000)
    assert with_pause.result.duration_s == pytest.approx(without.result.duration_s)


def test_a_search_told_to_finish_has_its_best_point_verified_and_kept() -> None:
    receiver, pauses = Receiver(), Holding()

    def finish_after_five() -> None:
        pauses.is_finishing = len(receiver.window_times_s) >= 5

    pauses.on_window = finish_after_five
    result = align(receiver, pauses).result

    assert result.outcome == "accepted"
    assert "the search was told to end before the target was shown" in result.reason
    assert (receiver.knob, result.setting) == (0.0, BEST)
    assert result.photons["search"] == pytest.approx(4000, rel=0.05)
    assert result.photons["verify"] > 0


def test_a_search_told_to_finish_with_nothing_better_is_rolled_back() -> None:
    receiver = Receiver()

    result = align(receiver, Holding(is_finishing=True), {"knob": -3.0}).result

    assert result.outcome == "rolled-back"
    assert result.reason.startswith("no gain")
    assert (receiver.knob, result.setting) == (START["knob"], START)


def test_the_stage_waits_while_windows_are_dark_and_goes_on_after_that() -> None:
    receiver, pauses = Receiver(), Holding(light_back_after_s=50.0)
    receiver.flags = lambda now_s: frozenset({"dark"} if 0.005 < now_s < 20 else ())

    ran = align(receiver, pauses)

    assert ran.result.outcome == "accepted"
    assert len(pauses.waits) == 1
    assert pauses.waits[0].startswith("no light")
    states = [trial.state for trial in run(ran.log.past("study"))]
    assert states.count("failed") == len(RETRY_DELAYS_S) + 1
    assert ran.result.duration_s < 20


def test_a_rate_far_below_that_of_the_first_window_counts_as_lost_light() -> None:
    receiver, pauses = Receiver(), Holding(light_back_after_s=50.0)
    receiver.share = lambda now_s: 0.02 if 0.005 < now_s < 20 else 1.0

    ran = align(receiver, pauses)

    assert ran.result.outcome == "accepted"
    assert [text.split(":")[0] for text in pauses.waits] == ["hardly any light"]


def test_light_that_does_not_come_back_fails_the_stage_with_the_start_put_back() -> None:
    receiver = Receiver()
    receiver.share = lambda now_s: 1.0 if now_s < 0.005 else 0.02

    result = align(receiver, Holding()).result

    assert result.outcome == "failed"
    assert result.reason.startswith("hardly any light")
    assert receiver.knob == START["knob"]


@pytest.mark.parametrize("detector", range(4))
def test_a_detector_that_dies_on_the_way_cannot_make_the_qber_look_better(detector: int) -> None:
    receiver = Receiver()
    receiver.share = lambda now_s: np.where(np.arange(4) == detector, float(now_s < 0.005), 1.0)

    result = align(receiver, Holding()).result

    assert result.outcome == "failed"
    assert f"silent since the stage began: detector {'HVDA'[detector]}" in result.reason
    assert receiver.knob == START["knob"]


def test_windows_without_a_single_count_fail_the_stage_with_the_reason() -> None:
    receiver = Receiver()
    receiver.share = lambda now_s: 0.0

    result = align(receiver, Holding()).result

    assert result.outcome == "failed"
    assert "no sifted count among 0 detections" in result.reason


class Looking:
    """A procedure of ten looks, ten seconds each."""

    name, figure_name, unit, target = "looking", "error", "ps", None

    async def measure(self, account: Account) -> Figure:
        return Figure.normal(1.0, 0.1)

    async def search(self, account: Account) -> str:
        for _ in range(10):
            await account.look({}, self._look)
        return ""

    async def _look(self) -> float:
        await asyncio.sleep(10)
        return 1.0

    def is_good(self, figure: Figure) -> bool:
        return False

    def is_worse(self, before: Figure, after: Figure) -> bool:
        return False

    async def restore(self) -> None:
        pass

    def in_force(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(("max_s", "outcome"), [(120.0, "accepted"), (80.0, "failed")])
def test_time_paused_does_not_count_against_the_time_of_a_stage(max_s: float, outcome: str) -> None:
    async def main() -> SignalResult:
        account = Account(
            "looking",
            "study",
            StageBudget(max_s=max_s),
            MemoryTrialLog(),
            lambda progress: None,
            Holding(pause_at=4),
        )
        return await SignalRun(Looking(), account).run()

    result = run(main())

    assert result.outcome == outcome
    assert result.duration_s == pytest.approx(min(max_s, 100.0))
