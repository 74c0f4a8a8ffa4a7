"""Trials of one study: asked, recorded, measured, recorded and told, each exactly once.

Optuna runs in memory; the record is ours. A trial is written to the log before anything is done
for it, and its end is written before the study is told, so that a crash at any moment leaves a
record from which the study can be fed again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from calibration.bench import refuse_unusable
from calibration.clicks import Window

T = TypeVar("T")

Space = Mapping[str, FloatDistribution | IntDistribution]
Params = Mapping[str, float]
Measure = Callable[[Params], Awaitable[Window]]
State = Literal["running", "complete", "failed"]

CLICKS = "clicks"
"""User attribute of a complete trial: the signal's counts, 4 x 4, sent state by detector."""

TIME = "time_s"
"""User attribute of a complete trial: when it ended, s, by the clock of the record."""

PHOTONS = "photons"
"""User attribute of a trial of this run: detections that its window cost, all counted."""

# Optuna announces every study on stderr otherwise; the daemon has a log of its own.
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class PastTrial:
    """One trial of the record.

    Attributes:
        number: Number within its study, counting on over restarts.
        state: How it ended; a trial still ``running`` when the record is read was cut short.
        params: What the sampler chose.
        value: QBER, or None if the trial failed.
        clicks: Counts of the signal, shape ``(4, 4)``, or None if nothing was measured.
        time_s: When it ended, s, by the clock of the record, or None if that is not known.
    """

    number: int
    state: State
    params: Params
    value: float | None
    clicks: NDArray[np.int64] | None
    time_s: float | None = None


class TrialLog(Protocol):
    """The record of trials; each call returns once its entry is safe."""

    def now_s(self) -> float:
        """Tell the time, s, by a clock that goes on over restarts of what is recorded."""
        ...

    async def begin(self, study: str, number: int, params: Params) -> None:
        """Record a trial before anything is done for it."""
        ...

    async def finish(
        self,
        study: str,
        number: int,
        state: Literal["complete", "failed"],
        value: float | None,
        clicks: NDArray[np.int64] | None,
    ) -> None:
        """Record how a trial ended, before the study is told."""
        ...

    async def past(self, study: str) -> list[PastTrial]:
        """Return the trials of a study, in order."""
        ...


class MemoryTrialLog:
    """A record that lives as long as the process."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Args: ``now`` tells the time, s; by default the loop's."""
        self._now = now
        self._studies: dict[str, dict[int, PastTrial]] = {}

    def now_s(self) -> float:
        """Tell the time, s."""
        return asyncio.get_running_loop().time() if self._now is None else self._now()

    async def begin(self, study: str, number: int, params: Params) -> None:
        """Record a trial before anything is done for it."""
        trials = self._studies.setdefault(study, {})
        if number in trials:
            raise ValueError(f"study {study!r} has a trial {number} already")
        trials[number] = PastTrial(number, "running", dict(params), None, None)

    async def finish(
        self,
        study: str,
        number: int,
        state: Literal["complete", "failed"],
        value: float | None,
        clicks: NDArray[np.int64] | None,
    ) -> None:
        """Record how a trial ended."""
        trials = self._studies[study]
        trials[number] = replace(
            trials[number], state=state, value=value, clicks=clicks, time_s=self.now_s()
        )

    async def past(self, study: str) -> list[PastTrial]:
        """Return the trials of a study, in order."""
        return list(self._studies.get(study, {}).values())


async def carry_through(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end even if the caller is cancelled meanwhile.

    Returns:
        What ``work`` returned.

    Raises:
        asyncio.CancelledError: The caller was cancelled; raised only once ``work`` has ended. An
            error of ``work`` is then its cause.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None and not task.cancelled():
        raise cancelled from task.exception()
    return task.result()


@dataclass
class _Asked:
    """How far a trial has come: asked of the study, and written to the record."""

    trial: Trial | None = None
    number: int = -1
    is_recorded: bool = False


class Trials:
    """Runs the trials of one study, one at a time."""

    def __init__(self, name: str, sampler: BaseSampler, space: Space, log: TrialLog) -> None:
        """Args: name in the record, who proposes, what may be chosen, and the record."""
        self.name = name
        self.study = optuna.create_study(sampler=sampler, study_name=name)
        self._space = space
        self._log = log
        self._first_number = 0

    async def resume(self, *, feed: bool) -> int:
        """Number on from the record, and feed its complete trials to the study if wanted.

        Trials that do not fit the present search space are left out.

        Returns:
            How many trials were fed.
        """
        past = await self._log.past(self.name)
        fed = [self._as_frozen(t) for t in past if feed and self._fits(t)]
        await asyncio.to_thread(self.study.add_trials, fed)
        self._first_number = max((t.number + 1 for t in past), default=0) - len(fed)
        return len(fed)

    async def measure(self, measure: Measure, at: Params | None = None) -> Window:
        """Run one trial.

        Args:
            measure: Measures at the parameters that it is given.
            at: Parameters to use; by default the sampler chooses.

        Returns:
            The window, which is good for an estimate.

        Raises:
            UnusableWindowError: The window is not good for an estimate; the trial failed.
            Exception: Whatever ``measure``, the sampler or the log raised; the trial failed.
        """
        asked = _Asked()
        window: Window | None = None
        is_usable = False
        try:
            params = await carry_through(self._begin(asked, at))
            window = await measure(params)
            refuse_unusable(window)
            is_usable = True
        finally:
            await carry_through(self._finish(asked, window, is_usable=is_usable))
        return window

    def complete(self) -> list[FrozenTrial]:
        """Return the complete trials of the study, fed ones included."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    async def _begin(self, asked: _Asked, at: Params | None) -> Params:
        params = await asyncio.to_thread(self._ask, asked, at)
        await self._log.begin(self.name, asked.number, params)
        asked.is_recorded = True
        return params

    async def _finish(self, asked: _Asked, window: Window | None, *, is_usable: bool) -> None:
        if asked.trial is None:
            return
        clicks = None if window is None else window.signal
        told = clicks if is_usable else None
        is_told = False
        try:
            if asked.is_recorded:
                await self._log.finish(
                    self.name,
                    asked.number,
                    "failed" if told is None else "complete",
                    None if told is None else told.qber.value,
                    None if clicks is None else clicks.table,
                )
                is_told = told is not None
        finally:
            # What the record does not hold, the study must not know either.
            known = window if is_told else None
            await asyncio.to_thread(self._tell, asked.trial, known, self._log.now_s())

    def _ask(self, asked: _Asked, at: Params | None) -> Params:
        """Ask the study; the trial is in ``asked``, to be told, before any sampler can fail."""
        if at is not None:
            self.study.enqueue_trial(dict(at))
        trial = asked.trial = self.study.ask()
        asked.number = self._first_number + trial.number
        return {name: _suggest(trial, name, allowed) for name, allowed in self._space.items()}

    def _tell(self, trial: Trial, window: Window | None, time_s: float) -> None:
        if window is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr(CLICKS, window.signal.table.tolist())
            trial.set_user_attr(PHOTONS, max(window.photons, window.signal.photons))
            trial.set_user_attr(TIME, time_s)
            self.study.tell(trial, window.signal.qber.value)

    def _fits(self, trial: PastTrial) -> bool:
        return (
            trial.state == "complete"
            and trial.params.keys() == self._space.keys()
            and all(d.low <= trial.params[name] <= d.high for name, d in self._space.items())
        )

    def _as_frozen(self, trial: PastTrial) -> FrozenTrial:
        known = {CLICKS: trial.clicks.tolist()} if trial.clicks is not None else {}
        if trial.time_s is not None:
            known[TIME] = trial.time_s
        return create_trial(
            value=trial.value,
            params=dict(trial.params),
            distributions=dict(self._space),
            user_attrs=known,
        )


def _suggest(trial: Trial, name: str, allowed: FloatDistribution | IntDistribution) -> float:
    if isinstance(allowed, IntDistribution):
        return trial.suggest_int(name, allowed.low, allowed.high, log=allowed.log)
    return trial.suggest_float(name, allowed.low, allowed.high, log=allowed.log)
