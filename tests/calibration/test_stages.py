import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from calibration.clicks import Window
from calibration.metering import RESTORE_TIMEOUT_S, RETRY_DELAYS_S, Progress, Rules
from calibration.searches import Finding, Search, SearchBuilder, Setting
from calibration.stages import LOOKS_AGAIN, StageResult, StageRun
from calibration.trials import MemoryTrialLog, Params, Space
from drivers.errors import InstrumentError, SettingError, TransportError
from sim.virtual_time import run

START = {"knob": 3.0}
GOOD = {"knob": 0.0}
RULES = Rules(
    target_excess=0.01,
    acceptable_qber=0.05,
    max_photons=1_000_000,
    max_settings=100,
    before_photons=1000,
)


class FakeBench:
    """One knob with its minimum at 0; counts without noise, one microsecond each."""

    def __init__(self, qber: Callable[[float], float] = lambda v: min(0.01 + v**2, 0.5)) -> None:
        self.qber = qber
        self.knob = START["knob"]
        self.applied: list[float] = []
        self.photons = 0
        self.flags: frozenset[str] = frozenset()
        self.fail_apply: Callable[[float], InstrumentError | None] = lambda value: None
        self.fail_measure: Callable[[int], Exception | None] = lambda count: None
        self.windows = 0
        self.settle_s = 0.01

    def limits(self, name: str) -> tuple[float, float]:
        return -5.0, 5.0

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        await asyncio.sleep(self.settle_s)
        if error := self.fail_apply(setting["knob"]):
            raise error
        self.knob = setting["knob"]
        self.applied.append(self.knob)
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        self.windows += 1
        if error := self.fail_measure(self.windows):
            raise error
        await asyncio.sleep(photons * 1e-6)
        wrong = round(self.qber(self.knob) * photons / 8)
        right = photons // 8 - wrong
        other = photons // 16
        half = [[right, wrong, other, other], [wrong, right, other, other]]
        table = np.array([*half, *(row[2:] + row[:2] for row in half)])
        self.photons += int(table.sum())
        return Window(
            start_s=0.0,
            duration_s=photons * 1e-6,
            source="scan",
            disclosure="calibration",
            intensities=("signal",),
            clicks=table[np.newaxis],
            singles=table.sum(axis=0),
            flags=self.flags,
        )


@dataclass
class ScriptedSearch:
    """Finds what it is told to, one finding per trial, and reviews by what is to change in them.

    The last one of either is used again and again.
    """

    findings: Sequence[Finding]
    reviews: Sequence[Mapping[str, object]] = ({},)
    name: str = "scripted"
    patience: int = 2
    rivals: int = 0
    photons_per_trial: int = 100
    trials_at_assessment: list[int] = field(default_factory=list)
    trials_at_review: list[int] = field(default_factory=list)
    sampler: RandomSampler = field(default_factory=lambda: RandomSampler(seed=0))
    space: Space = field(default_factory=lambda: {"knob": FloatDistribution(-5, 5)})

    def params(self, setting: Setting, photons: int) -> Params:
        return dict(setting)

    def photons(self, params: Params) -> int:
        return self.photons_per_trial

    def assess(self, study: Study) -> Finding:
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        self.trials_at_assessment.append(len(complete))
        return self.findings[min(len(self.trials_at_assessment), len(self.findings)) - 1]

    def review(self, study: Study, finding: Finding) -> Finding:
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        self.trials_at_review.append(len(complete))
        changes = self.reviews[min(len(self.trials_at_review), len(self.reviews)) - 1]
        return replace(finding, **changes)  # type: ignore[arg-type]


def found(setting: Setting = GOOD, **changes: object) -> Finding:
    finding = Finding(
        setting=setting,
        is_final=True,
        predicted_qber=0.01,
        ceiling=0.02,
        excess_mean=0.002,
        excess_q90=0.005,
        posterior={"fibre": 1},
    )
    return replace(finding, **changes)  # type: ignore[arg-type]


@dataclass
class Outcome:
    result: StageResult
    progress: list[Progress]
    log: MemoryTrialLog
    seconds: float


def stage_run(
    bench: FakeBench, rules: Rules, progress: list[Progress], log: MemoryTrialLog
) -> StageRun:
    return StageRun("stage", "study", bench, log, progress.append, START, rules, seed=7)


def ready(search: Search) -> SearchBuilder:
    return lambda setting, past: search


def conduct(bench: FakeBench, *searches: Search, rules: Rules = RULES) -> Outcome:
    """Run a stage in virtual time; each search stands ready, whatever the ones before it found."""
    progress: list[Progress] = []
    log = MemoryTrialLog()

    async def main() -> tuple[StageResult, float]:
        stage = stage_run(bench, rules, progress, log)
        result = await stage.run([ready(search) for search in searches])
        assert stage.result is result
        return result, asyncio.get_running_loop().time()

    result, seconds = run(main())
    return Outcome(result, progress, log, seconds)


def test_a_finding_that_a_fresh_window_confirms_is_accepted_and_left_in_force() -> None:
    bench = FakeBench()

    result = conduct(bench, ScriptedSearch([found(is_final=False)] * 3 + [found()])).result

    assert result.outcome == "accepted"
    assert (result.setting, bench.knob) == (GOOD, GOOD["knob"])
    assert result.before is not None
    assert result.before.value == pytest.approx(0.5, abs=0.01)
    assert result.after is not None
    assert result.after.value == pytest.approx(0.01, abs=5e-3)
    assert (result.excess_mean, result.excess_q90) == (0.002, 0.005)
    assert result.posterior == {"fibre": 1}
    assert (result.seed, result.sampler) == (7, "scripted")


def mirrored(voltage: float) -> float:
    return 1 - min(0.01 + voltage**2, 0.5)


INVERTED = ("Z", "X")


def test_a_finding_of_inverted_bits_is_judged_by_inverted_counts() -> None:
    outcome = conduct(FakeBench(mirrored), ScriptedSearch([found(inverted=INVERTED)]))

    result = outcome.result
    assert (result.outcome, result.inverted) == ("accepted", INVERTED)
    assert result.after is not None
    assert result.after.value < 0.02
    assert "with the bits of Z and X inverted" in result.reason
    assert max(told.qber.value for told in outcome.progress if told.qber) < 0.6


def test_the_record_holds_counts_that_are_not_inverted() -> None:
    outcome = conduct(FakeBench(mirrored), ScriptedSearch([found(inverted=INVERTED)]))

    value = run(outcome.log.past("study"))[-1].value
    assert value is not None
    assert value > 0.98


def test_what_is_claimed_is_what_the_verification_leaves_of_the_claim() -> None:
    taught = {"excess_mean": 0.004, "excess_q90": 0.008, "posterior": {"fibre": 2}}
    search = ScriptedSearch([found()], reviews=[taught])

    result = conduct(FakeBench(), search).result

    assert search.trials_at_review == [4]  # before, search, and two windows of verification
    assert (result.excess_mean, result.excess_q90) == (0.004, 0.008)
    assert result.posterior == {"fibre": 2}


def test_nothing_is_to_be_inverted_after_a_roll_back() -> None:
    result = conduct(FakeBench(lambda _: 0.5), ScriptedSearch([found(inverted=INVERTED)])).result

    assert (result.outcome, result.inverted) == ("rolled-back", ())


def test_every_photon_that_was_looked_at_is_counted_by_phase() -> None:
    bench = FakeBench()

    result = conduct(bench, ScriptedSearch([found(is_final=False), found()])).result

    assert sum(result.photons.values()) == bench.photons
    assert result.photons["before"] == pytest.approx(1000, abs=16)
    assert result.photons["search"] == pytest.approx(200, abs=32)
    # sqrt(e0 / (n / 2)) is the target over 2.5: 2 * 0.01 * (2.5 / 0.01)^2
    assert result.photons["verify"] == pytest.approx(1250, rel=0.1)


def test_the_bounds_are_those_of_the_photons_that_the_search_saw() -> None:
    result = conduct(FakeBench(), ScriptedSearch([found()])).result
    photons = result.photons["before"] + result.photons["search"]

    assert result.bound_known == pytest.approx(1.457 / photons, rel=1e-3)
    assert result.bound_unknown == pytest.approx(1.9 / photons)


def test_progress_tells_phase_photons_and_expected_excess_after_every_window() -> None:
    bench = FakeBench()

    outcome = conduct(bench, ScriptedSearch([found(is_final=False), found()]))

    phases = [progress.phase for progress in outcome.progress]
    assert phases == ["before", "search", "search", "verify", "verify"]
    assert [progress.excess_q90 for progress in outcome.progress] == [None, *[0.005] * 4]
    assert outcome.progress[-1].photons == bench.photons
    assert outcome.progress[-1].settings == outcome.result.settings == 3
    elapsed_s = [progress.elapsed_s for progress in outcome.progress]
    assert elapsed_s == sorted(elapsed_s)
    assert outcome.result.duration_s == pytest.approx(outcome.seconds)


def test_every_window_is_a_trial_of_the_record() -> None:
    outcome = conduct(FakeBench(), ScriptedSearch([found(is_final=False), found()]))

    past = run(outcome.log.past("study"))

    assert [trial.number for trial in past] == [0, 1, 2, 3, 4]
    assert sum(int(trial.clicks.sum()) for trial in past if trial.clicks is not None) == sum(
        outcome.result.photons.values()
    )
    assert past[-1].params == GOOD


def test_a_refuted_prediction_is_fed_back_and_the_search_goes_on() -> None:
    wrong = {"knob": 0.5}
    search = ScriptedSearch([found(wrong), found(is_final=False), found()])

    outcome = conduct(FakeBench(), search)

    # After one trial the wrong claim; its refuting windows are trials when the search goes on.
    assert search.trials_at_assessment[:2] == [2, 5]
    assert outcome.result.outcome == "accepted"
    assert outcome.result.setting == GOOD
    assert any("refuted" in (progress.note or "") for progress in outcome.progress)


def test_a_search_refuted_as_often_as_it_may_be_hands_on_to_the_next() -> None:
    wrong, right = ScriptedSearch([found({"knob": 0.5})]), ScriptedSearch([found()], name="other")

    outcome = conduct(FakeBench(), wrong, right)

    assert len(wrong.trials_at_assessment) == 2
    assert (outcome.result.outcome, outcome.result.sampler) == ("accepted", "other")
    assert outcome.result.photons["fallback"] > 0
    assert [len(run(outcome.log.past(name))) for name in ("study", "study.other")] == [7, 3]


def test_a_claim_that_the_verification_leaves_in_doubt_sends_the_search_on() -> None:
    near = {"knob": 0.02}
    search = ScriptedSearch([found(near), found()], reviews=[{"is_final": False}, {}])

    outcome = conduct(FakeBench(), search)

    assert (outcome.result.setting, outcome.result.excess_q90) == (GOOD, 0.005)
    assert search.trials_at_assessment == [2, 5]  # a trial of its own after the verification's two
    assert any("in doubt" in (progress.note or "") for progress in outcome.progress)


def test_a_claim_that_stays_in_doubt_is_verified_so_often_and_no_more() -> None:
    search = ScriptedSearch([found()], reviews=[{"is_final": False, "excess_q90": 0.02}])

    outcome = conduct(FakeBench(), search)

    assert (outcome.result.outcome, outcome.result.excess_q90) == ("accepted", 0.02)
    assert len(search.trials_at_review) == 1 + LOOKS_AGAIN
    assert "the search was given up before the target was shown" in outcome.result.reason


def test_a_model_strained_by_a_verification_goes_on_with_its_counts_once() -> None:
    search = ScriptedSearch([found()], reviews=[{"is_strained": True}])

    outcome = conduct(FakeBench(), search)

    assert outcome.result.outcome == "accepted"
    notes = [progress.note or "" for progress in outcome.progress]
    assert sum("strained" in note for note in notes) == 1


def test_a_search_that_claims_nothing_is_not_reviewed() -> None:
    search = ScriptedSearch([found(excess_q90=None, excess_mean=None)])

    conduct(FakeBench(), search)

    assert search.trials_at_review == []


def test_no_second_look_exceeds_the_budget() -> None:
    search = ScriptedSearch([found()], reviews=[{"is_final": False}])

    outcome = conduct(FakeBench(), search, rules=replace(RULES, max_photons=3000))

    assert sum(outcome.result.photons.values()) <= 3000


def test_the_next_search_starts_from_where_the_last_one_came_to_and_sees_its_trials() -> None:
    given: list[tuple[Setting, int]] = []

    def builder(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
        given.append((setting, len(past)))
        wrong = found({"knob": 0.5}, misfit="the model does not fit")
        return ScriptedSearch([found() if len(given) > 1 else wrong])

    async def main() -> None:
        await stage_run(FakeBench(), RULES, [], MemoryTrialLog()).run([builder, builder])

    run(main())

    assert given == [(START, 0), ({"knob": 0.5}, 2)]


def test_a_misfit_is_not_worth_a_verification() -> None:
    misfit = ScriptedSearch([found(misfit="the model does not fit")])

    outcome = conduct(FakeBench(), misfit, ScriptedSearch([found()], name="other"))

    phases = [progress.phase for progress in outcome.progress]
    assert phases == ["before", "search", "search", "fallback", "verify", "verify"]
    assert outcome.progress[2].note == "the model does not fit"


def test_where_nothing_else_is_left_even_a_misfit_is_measured() -> None:
    result = conduct(FakeBench(), ScriptedSearch([found(misfit="the model does not fit")])).result

    assert result.outcome == "accepted"
    assert result.after is not None


def test_without_a_claim_an_unacceptable_qber_calls_the_next_search() -> None:
    vague = {"excess_mean": None, "excess_q90": None, "ceiling": None, "posterior": None}
    poor = ScriptedSearch([found({"knob": 0.3}, **vague)])
    good = ScriptedSearch([found(GOOD, **vague)], name="other")

    assert conduct(FakeBench(), poor, good).result.sampler == "other"
    assert conduct(FakeBench(), good, poor).result.sampler == "other"


def test_of_several_results_the_best_is_measured_afresh_and_kept() -> None:
    vague = {"excess_mean": None, "excess_q90": None, "ceiling": None, "posterior": None}
    better = ScriptedSearch([found({"knob": 0.25}, **vague)], name="better")
    worse = ScriptedSearch([found({"knob": 0.4}, **vague)], name="worse")
    bench = FakeBench()

    outcome = conduct(bench, better, worse)

    assert (outcome.result.sampler, bench.knob) == ("better", 0.25)
    assert bench.applied[-2:] == [0.4, 0.25]


def test_among_rivals_fresh_windows_choose_and_another_one_reports() -> None:
    lucky = found(
        {"knob": 0.6},
        rivals=({"knob": 0.1}, {"knob": -0.4}),
        ceiling=None,
        excess_q90=None,
        excess_mean=None,
    )
    bench = FakeBench()

    result = conduct(bench, ScriptedSearch([lucky], rivals=2)).result

    assert bench.applied[-4:] == [0.6, 0.1, -0.4, 0.1]
    assert result.setting == {"knob": 0.1}
    assert result.predicted_qber == pytest.approx(0.02, abs=3e-3)
    assert result.after is not None
    assert result.after.value == pytest.approx(0.02, abs=3e-3)


def test_what_made_things_worse_is_rolled_back_and_says_so() -> None:
    bench = FakeBench(qber=lambda v: 0.02 if v == START["knob"] else 0.3)

    result = conduct(bench, ScriptedSearch([found(predicted_qber=0.3, ceiling=0.31)])).result

    assert result.outcome == "rolled-back"
    assert "worse: QBER 30" in result.reason
    assert (result.setting, bench.knob) == (START, START["knob"])


def test_what_is_not_worse_beyond_the_interval_is_kept() -> None:
    bench = FakeBench(qber=lambda v: 0.02 if v == START["knob"] else 0.022)

    assert conduct(bench, ScriptedSearch([found(ceiling=0.03)])).result.outcome == "accepted"


def test_a_refuted_result_that_is_still_better_is_kept_without_any_claim() -> None:
    result = conduct(FakeBench(), ScriptedSearch([found({"knob": 0.3})], patience=1)).result

    assert result.outcome == "accepted"
    assert "refuted" in result.reason
    assert (result.excess_mean, result.excess_q90, result.posterior) == (None, None, None)


def test_a_refuted_result_that_is_not_clearly_better_is_rolled_back() -> None:
    bench = FakeBench(qber=lambda v: 0.3)

    result = conduct(bench, ScriptedSearch([found()], patience=1)).result

    assert result.outcome == "rolled-back"
    assert result.reason.startswith("no gain: QBER 29.87 %")
    assert bench.knob == START["knob"]


def test_a_hopeless_qber_is_not_verified_more_finely_than_an_acceptable_one() -> None:
    hopeless = found(predicted_qber=0.4, ceiling=0.45, is_final=False)
    rules = replace(RULES, max_settings=2)

    result = conduct(FakeBench(lambda v: 0.3), ScriptedSearch([hopeless]), rules=rules).result

    assert result.photons["verify"] == pytest.approx(2 * RULES.acceptable_qber * 250**2, rel=0.01)


def test_an_instrument_that_recovers_costs_a_failed_trial_only() -> None:
    bench = FakeBench()
    lost = TransportError("tagger", "link lost")
    bench.fail_measure = lambda count: lost if count in {2, 3, 4} else None

    outcome = conduct(bench, ScriptedSearch([found()]))

    assert outcome.result.outcome == "accepted"
    states = [trial.state for trial in run(outcome.log.past("study"))]
    assert states == ["complete", "failed", "failed", "failed", "complete", "complete", "complete"]
    assert any("trying again" in (progress.note or "") for progress in outcome.progress)


@pytest.mark.parametrize("good_windows", [0, 1, 2])
def test_an_instrument_that_stays_lost_fails_the_stage_and_the_start_is_put_back(
    good_windows: int,
) -> None:
    bench = FakeBench()
    lost = TransportError("tagger", "link lost")
    bench.fail_measure = lambda count: lost if count > good_windows else None

    outcome = conduct(bench, ScriptedSearch([found()]))

    assert outcome.result.outcome == "failed"
    assert "tagger: link lost; the start setting is in force again" in outcome.result.reason
    assert (outcome.result.setting, bench.knob) == (START, START["knob"])
    assert bench.windows == good_windows + len(RETRY_DELAYS_S) + 1
    assert outcome.seconds > sum(RETRY_DELAYS_S)


def test_an_impossible_setting_is_not_tried_again() -> None:
    bench = FakeBench()
    refusal = SettingError("knob", "5 V is above the limit")
    bench.fail_apply = lambda value: None if value == START["knob"] else refusal

    outcome = conduct(bench, ScriptedSearch([found()]))

    assert outcome.result.outcome == "failed"
    assert "5 V is above the limit" in outcome.result.reason
    assert outcome.seconds < RETRY_DELAYS_S[0]


@pytest.mark.parametrize(("flag", "complaint"), [("dark", "no light"), ("saturated", "attenuat")])
def test_without_usable_light_the_stage_fails_with_the_reason(flag: str, complaint: str) -> None:
    bench = FakeBench()
    bench.flags = frozenset({flag})

    result = conduct(bench, ScriptedSearch([found()])).result

    assert result.outcome == "failed"
    assert complaint in result.reason
    assert sum(result.photons.values()) == bench.photons > 0


def test_a_start_that_cannot_be_put_back_is_reported_as_unknown() -> None:
    bench = FakeBench()
    lost = TransportError("controller", "cable pulled")
    bench.fail_apply = lambda value: lost if bench.applied else None

    result = conduct(bench, ScriptedSearch([found()])).result

    assert result.outcome == "failed"
    assert "could not be put back: controller: cable pulled" in result.reason
    assert result.setting == {}


async def cancelled_run(
    bench: FakeBench, cancel_at_s: Sequence[float]
) -> tuple[StageResult | None, float]:
    """Cancel an endless run at each of the given times; return its result and when it ended."""
    loop = asyncio.get_running_loop()
    stage = stage_run(bench, RULES, [], MemoryTrialLog())
    endless = ScriptedSearch([found(is_final=False)])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stage.run([ready(endless)]))
        for time_s in cancel_at_s:
            await asyncio.sleep(time_s - loop.time())
            task.cancel()
    assert task.cancelled()
    return stage.result, loop.time()


@pytest.mark.parametrize("cancel_at_s", np.linspace(0.0, 0.1, 21))
def test_a_cancelled_run_puts_the_start_back_and_says_so(cancel_at_s: float) -> None:
    bench = FakeBench()

    result, _ = run(cancelled_run(bench, [cancel_at_s + 1e-5]))

    assert bench.knob == START["knob"]
    assert bench.applied[-1] == START["knob"]
    assert result is not None
    assert (result.outcome, result.setting) == ("rolled-back", START)
    assert "cancelled" in result.reason


def test_putting_the_start_back_survives_further_cancellations() -> None:
    bench = FakeBench()
    bench.settle_s = 1.0

    result, ended_s = run(cancelled_run(bench, [3.5, 3.6, 3.7]))

    assert bench.knob == START["knob"]
    assert result is not None
    assert result.outcome == "rolled-back"
    assert ended_s == pytest.approx(4.5)


def test_putting_the_start_back_is_bounded() -> None:
    bench = FakeBench()

    async def main() -> tuple[StageResult | None, float]:
        asyncio.get_running_loop().call_later(0.5, setattr, bench, "settle_s", 1e6)
        return await cancelled_run(bench, [1.0])

    result, ended_s = run(main())

    assert ended_s == pytest.approx(1.0 + RESTORE_TIMEOUT_S)
    assert result is not None
    assert (result.outcome, result.setting) == ("failed", {})
    assert "no answer within 20 s" in result.reason


def test_what_nobody_expected_puts_the_start_back_and_goes_on_up() -> None:
    class CeilingError(Exception):
        pass

    bench = FakeBench()
    bench.fail_measure = lambda count: CeilingError("too much light") if count == 3 else None

    async def main() -> StageResult | None:
        stage = stage_run(bench, RULES, [], MemoryTrialLog())
        with pytest.raises(CeilingError):
            await stage.run([ready(ScriptedSearch([found()]))])
        return stage.result

    result = run(main())

    assert bench.knob == START["knob"]
    assert result is not None
    assert result.reason == "too much light; the start setting is in force again"


@pytest.mark.parametrize("max_photons", [1000, 3000, 20_000])
@pytest.mark.parametrize("rivals", [0, 3])
def test_the_photon_budget_is_kept_and_leaves_a_verification(max_photons: int, rivals: int) -> None:
    bench = FakeBench()
    finding = found(is_final=False, rivals=tuple({"knob": 0.1 * n} for n in range(1, rivals + 1)))
    rules = replace(RULES, max_photons=max_photons)

    result = conduct(bench, ScriptedSearch([finding], rivals=rivals), rules=rules).result

    assert bench.photons <= max_photons
    assert result.outcome == "accepted"
    assert result.photons["verify"] >= min(1800, max_photons // 2) // (1 + rivals) // 2


def test_a_search_that_asks_for_too_many_photons_still_leaves_some_for_the_verification() -> None:
    bench = FakeBench()
    greedy = ScriptedSearch([found()], photons_per_trial=10**9)

    result = conduct(bench, greedy, rules=replace(RULES, max_photons=5000)).result

    assert bench.photons <= 5000
    assert result.outcome == "accepted"
    assert result.photons["verify"] > 1000


@pytest.mark.parametrize(("max_settings", "rivals"), [(5, 0), (20, 0), (20, 4)])
def test_the_settings_budget_is_kept(max_settings: int, rivals: int) -> None:
    finding = found(is_final=False, rivals=tuple({"knob": 0.1 * n} for n in range(1, rivals + 1)))
    rules = replace(RULES, max_settings=max_settings)

    result = conduct(FakeBench(), ScriptedSearch([finding], rivals=rivals), rules=rules).result

    assert max_settings - 1 <= result.settings <= max_settings
    assert "the budget was spent before the target was shown" in result.reason


def test_what_a_search_remarks_on_its_finding_is_told_with_the_result() -> None:
    finding = found(remark="nothing better is within reach")

    result = conduct(FakeBench(), ScriptedSearch([finding])).result

    assert result.outcome == "accepted"
    assert result.reason.endswith("1.00 % predicted; nothing better is within reach")


def test_a_verification_stops_early_when_the_floor_was_predicted_too_high() -> None:
    bench = FakeBench()

    result = conduct(bench, ScriptedSearch([found(predicted_qber=0.04, ceiling=0.05)])).result

    assert result.photons["verify"] == pytest.approx(2 * 0.04 * 250**2 / 2, rel=0.02)
    assert result.after is not None
    sigma = math.sqrt(0.01 / (result.photons["verify"] / 2))
    assert sigma < RULES.target_excess / 2.5
