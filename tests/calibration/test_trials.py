import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from calibration.bench import UnusableWindowError
from calibration.clicks import Window
from calibration.trials import (
    CLICKS,
    PHOTONS,
    MemoryTrialLog,
    Params,
    PastTrial,
    Space,
    TrialLog,
    Trials,
    carry_through,
)
from drivers.errors import TransportError
from sim.virtual_time import run

SPACE: Space = {"v1": FloatDistribution(-5, 5), "n_photons": IntDistribution(1, 1000, log=True)}
TABLE = np.array([[97, 3, 50, 50], [3, 97, 50, 50], [50, 50, 97, 3], [50, 50, 3, 97]])


def window_of(table: NDArray[np.int64] = TABLE, flags: frozenset[str] = frozenset()) -> Window:
    return Window(
        start_s=0.0,
        duration_s=1.0,
        source="scan",
        disclosure="calibration",
        intensities=("signal",),
        clicks=table[np.newaxis],
        singles=table.sum(axis=0),
        flags=flags,
    )


class CountingSampler(RandomSampler):
    """Counts what it is asked and told, and fails where it is wanted to."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.asked: Counter[int] = Counter()
        self.told: Counter[int] = Counter()
        self.fails = False

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.asked[trial.number] += 1

    def sample_independent(self, study: Study, trial: FrozenTrial, *rest: Any) -> Any:
        if self.fails:
            raise np.linalg.LinAlgError("singular")
        return super().sample_independent(study, trial, *rest)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.told[trial.number] += 1


class SlowLog(MemoryTrialLog):
    """Takes a few turns of the loop per entry, and fails where it is wanted to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = "nowhere"
        self.order: list[tuple[str, int]] = []

    async def begin(self, study: str, number: int, params: Params) -> None:
        await asyncio.sleep(0)
        if self.fails == "log begin":
            raise OSError("disk full")
        await super().begin(study, number, params)
        await asyncio.sleep(0)
        self.order.append(("begin", number))

    async def finish(self, study: str, number: int, *rest: Any) -> None:
        await asyncio.sleep(0)
        if self.fails == "log finish":
            raise OSError("disk full")
        await super().finish(study, number, *rest)
        await asyncio.sleep(0)
        self.order.append(("finish", number))


def states(trials: Trials) -> list[TrialState]:
    return [trial.state for trial in trials.study.get_trials()]


async def well(params: Params) -> Window:
    return window_of()


async def test_a_trial_is_recorded_before_it_is_measured_and_before_it_is_told() -> None:
    log, sampler = SlowLog(), CountingSampler()
    trials = Trials("study", sampler, SPACE, log)
    seen = []

    async def measure(params: Params) -> Window:
        seen.append((params, log.order.copy()))
        return window_of()

    await trials.measure(measure)

    ((params, order_before),) = seen
    assert order_before == [("begin", 0)]
    assert log.order == [("begin", 0), ("finish", 0)]
    (past,) = await log.past("study")
    assert (past.state, past.value, past.params) == ("complete", 0.03, params)
    assert past.clicks is not None
    assert past.clicks.tolist() == TABLE.tolist()


async def test_a_complete_trial_tells_the_sampler_qber_and_counts() -> None:
    trials = Trials("study", CountingSampler(), SPACE, MemoryTrialLog())

    await trials.measure(well)

    (trial,) = trials.complete()
    assert trial.value == 0.03
    assert trial.user_attrs[CLICKS] == TABLE.tolist()
    assert trial.user_attrs[PHOTONS] == TABLE.sum()


async def test_a_trial_at_given_parameters_does_not_ask_the_sampler() -> None:
    sampler = CountingSampler()
    sampler.fails = True
    trials = Trials("study", sampler, SPACE, MemoryTrialLog())

    await trials.measure(well, at={"v1": 1.25, "n_photons": 77})

    assert trials.complete()[0].params == {"v1": 1.25, "n_photons": 77}


@pytest.mark.parametrize(
    ("table", "flags"),
    [
        (TABLE, frozenset({"dark"})),
        (TABLE, frozenset({"saturated"})),
        (np.zeros((4, 4), dtype=np.int64), frozenset()),
    ],
)
async def test_an_unusable_window_fails_its_trial_and_is_kept_in_the_record(
    table: NDArray[np.int64], flags: frozenset[str]
) -> None:
    log = MemoryTrialLog()
    trials = Trials("study", CountingSampler(), SPACE, log)

    async def measure(params: Params) -> Window:
        return window_of(table, flags)

    with pytest.raises(UnusableWindowError):
        await trials.measure(measure)

    (past,) = await log.past("study")
    assert (past.state, past.value) == ("failed", None)
    assert past.clicks is not None
    assert states(trials) == [TrialState.FAIL]


EXPECTED = (TransportError, UnusableWindowError, RuntimeError, OSError, np.linalg.LinAlgError)
Ending = Literal["well", "instrument", "dark", "sampler", "log begin", "log finish", "bug"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Ending.__args__),  # type: ignore[attr-defined]
            st.none() | st.integers(0, 25),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=150, deadline=None)
def test_every_ask_gets_exactly_one_tell_whatever_fails_and_whenever_it_is_cancelled(
    plan: list[tuple[Ending, int | None]],
) -> None:
    log, sampler = SlowLog(), CountingSampler()
    trials = Trials("study", sampler, SPACE, log)

    async def one(ending: Ending) -> None:
        async def measure(params: Params) -> Window:
            for _ in range(3):
                await asyncio.sleep(0)
            match ending:
                case "instrument":
                    raise TransportError("tagger", "link lost")
                case "bug":
                    raise RuntimeError("a bug")
                case "dark":
                    return window_of(flags=frozenset({"dark"}))
            return window_of()

        sampler.fails = ending == "sampler"
        log.fails = ending
        await trials.measure(measure)

    async def main() -> None:
        for ending, cancelled_after in plan:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(guarded(ending))
                for _ in range(cancelled_after or 0):
                    await asyncio.sleep(0)
                if cancelled_after is not None:
                    task.cancel()
            assert TrialState.RUNNING not in states(trials)

    async def guarded(ending: Ending) -> None:
        with contextlib.suppress(*EXPECTED):
            await one(ending)

    run(main())
    past = run(log.past("study"))

    assert sampler.told == sampler.asked
    assert set(sampler.told.values()) <= {1}
    complete = [trial.number for trial in trials.complete()]
    assert [trial.number for trial in past if trial.state == "complete"] == complete
    if all(ending != "log finish" for ending, _ in plan):
        assert all(trial.state != "running" for trial in past)


async def test_a_cancelled_trial_is_recorded_as_failed_before_the_cancellation_goes_on() -> None:
    log = SlowLog()
    trials = Trials("study", CountingSampler(), SPACE, log)
    is_measuring = asyncio.Event()

    async def measure(params: Params) -> Window:
        is_measuring.set()
        await asyncio.Event().wait()
        return window_of()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(trials.measure(measure))
        await is_measuring.wait()
        task.cancel()

    assert task.cancelled()
    assert [past.state for past in await log.past("study")] == ["failed"]
    assert states(trials) == [TrialState.FAIL]


async def filled_log() -> TrialLog:
    log = MemoryTrialLog()
    good = {"v1": 0.5, "n_photons": 100}
    for number in range(4):
        await log.begin("study", number, good | {"v1": 7.0 if number == 3 else 0.5})
    await log.finish("study", 0, "complete", 0.03, TABLE)
    await log.finish("study", 1, "failed", None, None)
    await log.finish("study", 3, "complete", 0.04, TABLE)  # trial 2 was cut short
    return log


async def test_complete_past_trials_that_fit_the_space_are_fed_to_a_new_study() -> None:
    trials = Trials("study", CountingSampler(), SPACE, await filled_log())

    assert await trials.resume(feed=True) == 1

    (trial,) = trials.complete()
    assert (trial.value, trial.params["v1"]) == (0.03, 0.5)
    assert trial.user_attrs[CLICKS] == TABLE.tolist()


@pytest.mark.parametrize("feed", [False, True])
async def test_numbers_go_on_where_the_record_ends(feed: bool) -> None:
    log = await filled_log()
    trials = Trials("study", CountingSampler(), SPACE, log)
    await trials.resume(feed=feed)

    await trials.measure(well)
    await trials.measure(well)

    past: list[PastTrial] = await log.past("study")
    assert [trial.number for trial in past] == [0, 1, 2, 3, 4, 5]
    assert len(trials.complete()) == (3 if feed else 2)


async def test_the_record_refuses_a_number_twice() -> None:
    log = MemoryTrialLog()
    await log.begin("study", 0, {})

    with pytest.raises(ValueError, match="trial 0 already"):
        await log.begin("study", 0, {})


async def test_what_is_carried_through_ends_before_a_cancellation_is_raised() -> None:
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await may_end.wait()
        ended.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(carry_through(work()))
        await began.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        may_end.set()

    assert task.cancelled()
    assert ended.is_set()


async def test_what_is_carried_through_returns_its_result_or_raises_its_error() -> None:
    async def fail() -> None:
        raise TransportError("tagger", "link lost")

    assert await carry_through(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(TransportError):
        await carry_through(fail())
