import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna import Study, create_study
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from calibration.clicks import Window
from calibration.inversion import Inverted, half_turn
from calibration.metering import Progress
from calibration.polarization import ModelSearch, PolarizationSettings, PolarizationStage
from calibration.sampler import Advice, RotationSampler
from calibration.searches import Finding
from calibration.stages import StageResult
from calibration.trials import MemoryTrialLog
from sim.virtual_time import run

KNOBS = ("v1", "v2", "v3", "v4")
STOKES = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
FLOOR = 0.005


class RotationBench:
    """Two random fibres around four squeezers with errors; Poisson counts at 1e6 per second.

    Args:
        seed: Fixes the bench and its noise.
        play_v: Half width of a hysteresis that follows the last move on each channel.
        most_v: Largest voltage of either sign.
    """

    def __init__(self, seed: int, play_v: float = 0.0, most_v: float = 5.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._fibre, self._receiver = Rotation.random(2, rng=self._rng)
        self._rad_per_v = np.pi / 2.5 * self._rng.uniform(0.9, 1.1, 4)
        self._offset_rad = self._rng.uniform(0, 2 * np.pi, 4)
        azimuth = np.radians(self._rng.normal([0, 90, 0, 90], 6))
        self._axes = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(4)], axis=-1)
        self._play_v = play_v
        self._most_v = most_v
        self._felt_v = np.zeros(4)
        self.start = dict(zip(KNOBS, self._rng.uniform(-4, 4, 4), strict=True))
        self.setting: Mapping[str, float] = {}
        self.photons = 0

    def limits(self, name: str) -> tuple[float, float]:
        return -self._most_v, self._most_v

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(0.001)
        self.setting = dict(setting)
        voltages = self._voltages(setting)
        self._felt_v = np.clip(self._felt_v, voltages - self._play_v, voltages + self._play_v)
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        await asyncio.sleep(photons * 1e-6)
        turned = STOKES @ self._whole(self._felt_v).as_matrix().T @ STOKES.T
        table = self._rng.poisson(photons / 16 * (1 + (1 - 2 * FLOOR) * turned))
        self.photons += int(table.sum())
        return Window(
            start_s=0.0,
            duration_s=photons * 1e-6,
            source="pattern",
            disclosure="calibration",
            intensities=("signal",),
            clicks=table[np.newaxis],
            singles=table.sum(axis=0),
        )

    def excess(self, setting: Mapping[str, float], inverted: Inverted = ()) -> float:
        matrix = self._whole(self._voltages(setting)).as_matrix()
        matrix = half_turn(inverted) @ matrix
        return float((1 - 2 * FLOOR) * (2 - matrix[0, 0] - matrix[1, 1]) / 4)

    def _voltages(self, setting: Mapping[str, float]) -> NDArray[np.float64]:
        return np.array([setting[name] for name in KNOBS])

    def _whole(self, voltages: NDArray[np.float64]) -> Rotation:
        whole = self._fibre
        angles = self._rad_per_v * voltages + self._offset_rad
        for axis, angle in zip(self._axes, angles, strict=True):
            whole = Rotation.from_rotvec(angle * axis) * whole
        return self._receiver * whole


def align(
    bench: RotationBench,
    *,
    log: MemoryTrialLog | None = None,
    progress: list[Progress] | None = None,
    warm: Mapping[str, Any] | None = None,
    resume: bool = False,
    seed: int = 0,
    drift_rad: float = 0.0,
    past: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> StageResult:
    stage = PolarizationStage(
        PolarizationSettings(knobs=KNOBS, **settings), seed=seed, drift_rad=drift_rad, past=past
    )
    told = progress if progress is not None else []
    return run(
        stage.run(
            bench, log or MemoryTrialLog(), told.append, bench.start, warm=warm, resume=resume
        )
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_model_aligns_any_fibre_with_few_photons_and_a_claim_that_holds(seed: int) -> None:
    bench = RotationBench(seed)

    result = align(bench, seed=seed)

    assert result.outcome == "accepted"
    assert result.sampler == "model"
    assert result.excess_q90 is not None
    assert result.excess_q90 < 0.003
    assert bench.excess(result.setting) < 0.006
    assert sum(result.photons.values()) == bench.photons
    assert result.photons["search"] < 15_000
    assert bench.setting == result.setting


@pytest.mark.parametrize(
    ("sampler", "most_excess"),
    [("cma-es", 0.10), ("tpe", 0.15)],
)
def test_a_stock_sampler_can_be_chosen_and_its_choice_is_measured_afresh(
    sampler: str, most_excess: float
) -> None:
    bench = RotationBench(1)

    result = align(bench, sampler=sampler, max_settings=150)

    assert (result.outcome, result.sampler) == ("accepted", sampler)
    assert result.excess_mean is None
    assert bench.excess(result.setting) < most_excess
    assert result.after is not None
    # The interval holds 90 %; three times its width holds always.
    true, width = bench.excess(result.setting) + FLOOR, result.after.high - result.after.low
    assert abs(result.after.value - true) < 1.5 * width
    assert result.photons["verify"] > 0


def test_a_bench_that_defies_the_model_is_aligned_by_the_fallback() -> None:
    bench = RotationBench(2, play_v=0.15)
    progress: list[Progress] = []

    result = align(bench, progress=progress, max_settings=150)

    assert result.sampler in {"coordinate-descent", "cma-es"}
    assert any(
        "does not fit" in (told.note or "") or "refuted" in (told.note or "") for told in progress
    )
    assert result.before is not None
    assert result.after is not None
    assert result.after.high < result.before.low


def test_inverted_bits_align_a_bench_whose_limits_do_not() -> None:
    results, excess = {}, {}

    for may_invert in (False, True):
        bench = RotationBench(1003, most_v=0.9)
        result = align(bench, may_invert=may_invert, max_settings=12)
        results[may_invert] = result
        excess[may_invert] = bench.excess(result.setting, result.inverted)

    assert results[True].outcome == "accepted"
    assert (results[False].inverted, results[True].inverted) == ((), ("Z",))
    assert excess[False] > 0.05
    assert excess[True] < 0.006
    assert results[True].after is not None
    assert results[True].after.high < 0.015


ADVICE = Advice(
    setting={"v1": 1.0},
    predicted_qber=0.012,
    floor=0.01,
    excess_mean=0.002,
    excess_q90=0.0029,
    excess_q10=0.0005,
    reachable=0.0,
    photons=3000,
    settings=9,
    modes=1,
    chi2_per_dof=1.0,
    misfit=0.0,
    posterior={},
)


def assess(**advice: Any) -> Finding:
    class Adviser(RotationSampler):
        def __init__(self) -> None:
            """Know nothing."""

        def advice(self, study: Study) -> Advice:
            return replace(ADVICE, **advice)

    return ModelSearch(Adviser(), {}, target_excess=0.003).assess(create_study())


@pytest.mark.parametrize(
    ("settings", "chi2_per_dof", "is_misfit"), [(9, 3.9, False), (8, 99.0, False), (9, 4.1, True)]
)
def test_the_model_is_given_up_when_it_does_not_fit_after_nine_settings(
    settings: int, chi2_per_dof: float, is_misfit: bool
) -> None:
    finding = assess(settings=settings, chi2_per_dof=chi2_per_dof)

    assert (finding.misfit is not None) == is_misfit


@pytest.mark.parametrize(
    ("settings", "excess_q90", "is_final"),
    [(3, 0.0029, True), (2, 0.0029, False), (9, 0.003, False)],
)
def test_the_model_has_its_finding_once_the_90_percent_bound_is_below_the_target(
    settings: int, excess_q90: float, is_final: bool
) -> None:
    assert assess(settings=settings, excess_q90=excess_q90).is_final == is_final


@pytest.mark.parametrize(
    ("settings", "reachable", "excess_q10", "is_final"),
    [
        (9, 0.0080, 0.0080, True),
        (2, 0.0080, 0.0080, False),
        (9, 0.0080, 0.0020, False),
        (9, 0.0010, 0.0080, False),
    ],
    ids=["well-known", "too-early", "hardly-known", "better-elsewhere"],
)
def test_the_model_gives_up_a_target_that_is_known_to_be_out_of_reach(
    settings: int, reachable: float, excess_q10: float, is_final: bool
) -> None:
    finding = assess(
        settings=settings,
        reachable=reachable,
        excess_q10=excess_q10,
        excess_mean=0.0085,
        excess_q90=0.0090,
    )

    assert finding.is_final == is_final
    assert (finding.remark is not None) == is_final


def test_the_model_stakes_its_claim_on_floor_and_target() -> None:
    assert assess().ceiling == pytest.approx(0.013)
    assert assess(predicted_qber=0.05).ceiling == pytest.approx(0.05)


def test_the_same_seed_gives_the_same_record() -> None:
    logs = [MemoryTrialLog(), MemoryTrialLog()]

    for log in logs:
        align(RotationBench(3), log=log, seed=5)

    first, second = (run(log.past("polarization")) for log in logs)
    assert [trial.params for trial in first] == [trial.params for trial in second]
    assert [trial.value for trial in first] == [trial.value for trial in second]


def test_a_resumed_study_goes_on_from_its_past_trials() -> None:
    log = MemoryTrialLog()
    bench = RotationBench(1)
    align(bench, log=log, target_excess=0.02)

    result = align(bench, log=log, resume=True, target_excess=0.02)

    assert result.outcome == "accepted"
    assert result.settings <= 2  # one more trial, then the verification


def test_what_an_earlier_alignment_knew_of_the_controller_is_used_for_a_new_fibre() -> None:
    bench = RotationBench(1)
    earlier = align(bench, target_excess=0.002)
    bench._fibre = Rotation.random(rng=np.random.default_rng(9))

    cold, warm = align(bench), align(bench, warm=earlier.posterior)

    assert (cold.outcome, warm.outcome) == ("accepted", "accepted")
    assert warm.photons["search"] < 1.5 * cold.photons["search"]
    assert bench.excess(warm.setting) < 0.006


def test_a_study_that_was_cut_short_goes_on_the_next_day() -> None:
    clock_s = 0.0
    log = MemoryTrialLog(lambda: clock_s)
    bench = RotationBench(1)
    align(bench, log=log, max_settings=9, target_excess=0.02, drift_rad=0.002)
    bench._fibre = Rotation.from_rotvec([0.3, -0.4, 0.2]) * bench._fibre
    clock_s = 8 * 3600.0

    result = align(bench, log=log, resume=True, target_excess=0.02, drift_rad=0.002)

    assert result.outcome == "accepted"
    assert bench.excess(result.setting) < 0.03


def test_a_controller_that_has_been_replaced_is_aligned_in_spite_of_its_past() -> None:
    former = align(RotationBench(1), target_excess=0.02).posterior
    assert former is not None
    bench = RotationBench(3)

    result = align(bench, past=[former], target_excess=0.02)

    assert result.outcome == "accepted"
    assert bench.excess(result.setting) < 0.03


@pytest.mark.parametrize("warm", [{}, {"chain": {}}, {"chain": {"prior_mean": "much"}}])
def test_knowledge_that_cannot_be_read_is_ignored(warm: Mapping[str, Any]) -> None:
    assert align(RotationBench(0), warm=warm, target_excess=0.05).outcome == "accepted"


def test_a_start_read_back_from_beyond_the_limits_is_put_back_at_the_limit() -> None:
    bench = RotationBench(0)
    bench.start["v2"] = 5.001

    assert align(bench, target_excess=0.05).outcome == "accepted"


def test_a_knob_without_a_start_value_is_refused_before_anything_is_applied() -> None:
    bench = RotationBench(0)
    del bench.start["v3"]

    with pytest.raises(KeyError, match="v3"):
        align(bench)

    assert bench.setting == {}


def test_a_cancelled_alignment_puts_the_start_back_and_keeps_its_result() -> None:
    bench = RotationBench(0)
    stage = PolarizationStage(PolarizationSettings(knobs=KNOBS))

    async def main() -> None:
        is_searching = asyncio.Event()

        def follow(progress: Progress) -> None:
            if progress.settings == 3:
                is_searching.set()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(stage.run(bench, MemoryTrialLog(), follow, bench.start))
            await is_searching.wait()
            task.cancel()
        assert task.cancelled()

    run(main())

    assert bench.setting == bench.start
    assert stage.result is not None
    assert stage.result.outcome == "rolled-back"
    assert stage.result.photons["search"] > 0


@pytest.mark.parametrize(
    "wrong", [{"target_excess": 0}, {"sampler": "gp"}, {"knobs": ()}, {"tagret_excess": 0.1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolarizationSettings(**({"knobs": KNOBS} | wrong))
