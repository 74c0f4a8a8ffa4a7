import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from calibration.clicks import Window
from calibration.interferometer import Encoding
from calibration.metering import Progress
from calibration.phase import PhaseSettings, PhaseStage
from calibration.phase_posterior import PhasePosterior
from calibration.stages import StageResult
from calibration.trials import MemoryTrialLog
from drivers.errors import InstrumentError
from sim.virtual_time import run

VISIBILITY = 0.98
ENCODINGS: tuple[Encoding, ...] = ("time-bin", "four-phase")


class PhaseBench:
    """Interferometers with a random phase; 1e6 counts per second.

    Args:
        seed: Fixes the bench and its noise.
        encoding: What the counts see.
        cubic_rad: Phase that grows with the cube of the voltage, rad at the ends of the range.
        dies_after: Settings after which the piezo does not answer any more.
    """

    def __init__(
        self,
        seed: int,
        encoding: Encoding = "time-bin",
        *,
        cubic_rad: float = 0.0,
        dies_after: float = np.inf,
    ) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._encoding = encoding
        self._phase = self._rng.uniform(0, 2 * np.pi)
        self._rad_per_v = np.pi / 12 * self._rng.uniform(0.9, 1.1)
        self._cubic_rad = cubic_rad
        self._dies_after = dies_after
        self.start = {"piezo": 37.5 + 12 * (np.pi / 2 - self._phase) / np.pi % 12}
        self.setting: Mapping[str, float] = {}
        self.settings = self.photons = 0
        self.is_lit = True
        self.is_saturated = False

    def limits(self, name: str) -> tuple[float, float]:
        return 0.0, 75.0

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.001)
        self.settings += 1
        if self._dies_after < self.settings:
            raise InstrumentError("piezo", "does not answer")
        self.setting = dict(setting)
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        await asyncio.sleep(photons * 1e-6)
        c, s = np.cos(self.theta(self.setting)), np.sin(self.theta(self.setting))
        turned = np.array([[1.0, 0.0], [0.0, c]])
        if self._encoding == "four-phase":
            turned = np.array([[c, s], [-s, c]])
        expected = photons / 16 * (1 + VISIBILITY * np.kron(turned, [[1, -1], [-1, 1]]))
        table = self._rng.poisson(expected if self.is_lit else 0 * expected)
        self.photons += int(table.sum())
        flags = {"saturated"} if self.is_saturated else set[str]()
        return Window(
            start_s=0.0,
            duration_s=photons * 1e-6,
            source="pattern",
            disclosure="calibration",
            intensities=("signal",),
            clicks=table[np.newaxis],
            singles=table.sum(axis=0),
            flags=frozenset(flags if self.is_lit else {"dark"}),
        )

    def theta(self, setting: Mapping[str, float]) -> float:
        away_v = setting["piezo"] - 37.5
        return float(
            self._phase + self._rad_per_v * away_v + self._cubic_rad * (away_v / 37.5) ** 3
        )

    def excess(self, setting: Mapping[str, float]) -> float:
        share = 0.5 if self._encoding == "time-bin" else 1.0
        return float(share * VISIBILITY * (1 - np.cos(self.theta(setting))) / 2)


def align(
    bench: PhaseBench,
    encoding: Encoding = "time-bin",
    *,
    log: MemoryTrialLog | None = None,
    progress: list[Progress] | None = None,
    warm: Mapping[str, Any] | None = None,
    resume: bool = False,
    seed: int = 0,
    **settings: Any,
) -> StageResult:
    wanted = PhaseSettings(knob="piezo", **{"half_wave_v": 12.0, **settings})
    stage = PhaseStage(wanted, encoding, seed=seed)
    told = progress if progress is not None else []
    return run(
        stage.run(
            bench, log or MemoryTrialLog(), told.append, bench.start, warm=warm, resume=resume
        )
    )


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", range(3))
def test_any_phase_is_found_with_few_photons_and_a_claim_that_holds(
    seed: int, encoding: Encoding
) -> None:
    bench, progress = PhaseBench(seed, encoding), list[Progress]()

    result = align(bench, encoding, seed=seed, progress=progress)

    assert (result.outcome, result.sampler) == ("accepted", "model")
    assert result.excess_q90 is not None
    assert result.excess_q90 < 0.002
    assert bench.excess(result.setting) < 0.002
    assert sum(result.photons.values()) == bench.photons
    # Of seed 1 the first claim with four phases is false: the verification sends the search on.
    first = next(number for number, told in enumerate(progress) if told.phase == "verify")
    assert progress[first - 1].photons < 4000
    assert bench.setting == result.setting


def test_the_bound_is_told_beside_the_expected_excess() -> None:
    result = align(PhaseBench(1), target_excess=0.0005)
    assert result.excess_mean is not None
    assert result.bound_unknown is not None
    assert 0.8 < result.excess_mean / result.bound_unknown < 3


def test_half_wave_voltage_visibility_and_slope_are_stated() -> None:
    result = align(PhaseBench(2, "four-phase"), "four-phase")
    assert "half-wave voltage 1" in result.reason
    assert "visibility 0.9" in result.reason
    assert "the phase rises with the voltage" in result.reason


@pytest.mark.parametrize("sampler", ["descent", "tpe"])
def test_a_search_without_a_model_can_be_chosen(sampler: str) -> None:
    bench = PhaseBench(3)
    result = align(bench, sampler=sampler, max_settings=40)
    assert result.outcome == "accepted"
    assert result.excess_mean is None
    assert bench.excess(result.setting) < 0.02


def test_a_piezo_that_defies_the_model_is_still_brought_into_phase() -> None:
    bench = PhaseBench(4, cubic_rad=9.0)
    result = align(bench, first_dwell=2000)
    assert result.outcome == "accepted"
    assert bench.excess(result.setting) < 0.01


def test_a_setting_that_cannot_be_beaten_is_kept() -> None:
    bench = PhaseBench(5)
    first = align(bench)
    bench.start = dict(first.setting)
    again = align(bench, seed=1)
    assert again.outcome in ("accepted", "rolled-back")
    assert bench.excess(bench.setting) < 0.004


def test_a_spent_budget_ends_the_search() -> None:
    bench = PhaseBench(6)
    result = align(bench, max_photons=3000, target_excess=1e-5)
    assert bench.photons < 4000
    assert result.outcome in ("accepted", "rolled-back")


def test_a_piezo_that_dies_ends_the_stage_and_says_so() -> None:
    bench = PhaseBench(7, dies_after=3)
    result = align(bench)
    assert result.outcome == "failed"
    assert "does not answer" in result.reason
    assert result.setting == {}


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [("is_lit", False, "no light"), ("is_saturated", True, "saturates")],
)
def test_without_usable_light_the_start_is_put_back(attribute: str, value: bool, said: str) -> None:
    bench = PhaseBench(8)
    setattr(bench, attribute, value)
    result = align(bench)
    assert result.outcome == "failed"
    assert said in result.reason
    assert bench.setting == bench.start


def test_a_cancelled_stage_puts_the_start_back_and_keeps_its_result() -> None:
    bench = PhaseBench(9)
    stage = PhaseStage(PhaseSettings(knob="piezo", half_wave_v=12.0), "time-bin")

    async def story() -> None:
        work = stage.run(bench, MemoryTrialLog(), lambda _: None, bench.start)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            while bench.settings < 3:
                await asyncio.sleep(0.0005)
            task.cancel()

    run(story())

    assert stage.result is not None
    assert stage.result.outcome == "rolled-back"
    assert bench.setting == bench.start


def test_a_resumed_study_goes_on_from_its_past_trials() -> None:
    bench, log = PhaseBench(1), MemoryTrialLog()
    first = align(bench, log=log)
    second = align(bench, log=log, resume=True)
    assert second.settings < first.settings


def test_what_an_earlier_calibration_knew_of_the_device_is_used() -> None:
    first = align(PhaseBench(2))
    assert first.posterior is not None
    known = PhasePosterior.from_dict(first.posterior)
    warm = align(PhaseBench(2), warm=first.posterior, seed=1)
    assert warm.outcome == "accepted"
    assert known.interferometer_prior().scale_sigma < 0.1


@pytest.mark.parametrize("warm", [{}, {"kind": "phase"}, {"chain": 1}])
def test_knowledge_that_cannot_be_read_is_ignored(warm: Mapping[str, Any]) -> None:
    assert align(PhaseBench(1), warm=warm).outcome == "accepted"


def test_the_same_seed_gives_the_same_record() -> None:
    told: list[list[Progress]] = [[], []]
    for each in told:
        align(PhaseBench(4), progress=each)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "wrong", [{"half_wave_v": 0}, {"sampler": "cma-es"}, {"scale_sigma": 0.5}, {"knobs": ["a"]}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PhaseSettings(knob="piezo", **{"half_wave_v": 12.0, **wrong})
