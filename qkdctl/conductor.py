"""What the bench does at any moment: it rests, calibrates, tracks or recovers, one at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from calibration.polarization import Progress, StageResult
from drivers.errors import InstrumentError
from qkdctl.events import Event, EventBus
from qkdctl.history import History
from qkdctl.holding import Hold, LockLostError, hold_for
from qkdctl.signal_calibrator import SignalCalibrator
from qkdctl.signal_stages import DARK_AT_FIRST, OUTER_LOOPS, SIGNAL_STAGES
from qkdctl.stages import make_stage, progress_dict, result_dict, stages_of, whole_course
from qkdctl.testbed import CeilingError, OpenTestbed, UnsafeError

log = logging.getLogger(__name__)

State = Literal["starting", "idle", "calibrating", "tracking", "degraded", "safe"]
Intent = Literal["rest", "track"]
Activity = Callable[[], Coroutine[Any, Any, None]]

REMEMBER_EVERY_S = 60.0
"""How often the setting that tracking has arrived at is recorded."""

RESUME_WITHIN_S = 600.0
"""A calibration that a crash cut short is continued with its counts if no older than this."""

INTERRUPT_TIMEOUT_S = 30.0
"""How long an activity may take to restore its setting before it is cancelled once more."""

RECOVERY_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to reach a lost instrument; the last one repeats."""


class RefusedError(Exception):
    """The bench cannot do this now; the text says why and what to do first."""


@dataclass
class CalibrationRequest:
    """A calibration that somebody asked for.

    Attributes:
        stages: Stage names, in order.
        origin: ``operator`` or ``loss of lock``.
        only_if_needed: Whether stages are skipped that a quick look shows to be still good.
        results: One entry per finished stage.
        is_done: Whether it has ended, however it did; an ``ended`` event is published then.
        was_cancelled: Whether it was cancelled.
    """

    stages: tuple[str, ...]
    origin: str
    only_if_needed: bool = False
    results: list[dict[str, Any]] = field(default_factory=list)
    is_done: bool = False
    was_cancelled: bool = False


class Conductor:
    """Runs one activity at a time and moves between the daemon's states."""

    def __init__(
        self,
        bench: OpenTestbed,
        history: History,
        bus: EventBus,
        now: Callable[[], float],
    ) -> None:
        """Args: the opened bench, the record, the bus, and the seconds since the epoch."""
        self._bench = bench
        self._history = history
        self._bus = bus
        self._now = now
        self._requested: Activity | None = None
        self._following: Activity | None = None
        self._current: asyncio.Task[None] | None = None
        self._entered = asyncio.Event()
        self._realignments: deque[float] = deque()
        self._posterior: Mapping[str, Any] | None = None
        self._interrupted: tuple[str, float] | None = None
        self._last_good: Mapping[str, float] | None = None
        self._signal = SignalCalibrator(bench, history, now, self._publish_progress)
        self.calibration: CalibrationRequest | None = None
        self.state: State = "starting"
        self.reason = ""
        self.intent: Intent = "rest"
        self.since_s = now()
        self.last_calibration: dict[str, Any] | None = None
        self.expected_excess: float | None = None
        self.failures: dict[str, str] = {}

    async def serve(self) -> None:
        """Run activities until cancelled: what was asked for, else what the last one wants next."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                activity = self._requested or self._following or self._rest
                self._requested = self._following = None
                self._current = tasks.create_task(activity(), name="activity")
                await asyncio.wait({self._current})

    async def recall(self) -> None:
        """Put back in force what stages before the alignment had found in earlier runs.

        Raises:
            InstrumentError: An instrument failed.
        """
        await self._signal.recall()

    async def begin(
        self,
        intent: Intent,
        setting: Mapping[str, float] | None,
        posterior: Mapping[str, Any] | None,
        interrupted: tuple[str, float] | None,
        reason: str,
    ) -> None:
        """Choose the first activity after a start.

        Args:
            intent: What the previous run wanted.
            setting: The last confirmed setting, already in force, or None.
            posterior: What the estimator knew then.
            interrupted: Study that a crash cut short and time of its last trial, or None.
            reason: Cause of the first state, for the record.
        """
        self._last_good, self._posterior = setting, posterior
        self._interrupted = interrupted
        if intent == "track" and setting:
            self.intent = "track"
            self._requested = self._track
        await self._enter("idle", reason)

    async def request_calibration(
        self, stages: tuple[str, ...], origin: str = "operator"
    ) -> CalibrationRequest:
        """Interrupt what runs and calibrate.

        Args:
            stages: In order; if empty all that the link has, but for those still good.
            origin: Who wants it.

        Raises:
            RefusedError: A calibration runs already, or a stage is unknown.
        """
        known = stages_of(self._bench.config)
        unknown = [stage for stage in stages if stage not in known]
        if unknown:
            raise RefusedError(f"there is no stage {unknown[0]!r}; stages are: {', '.join(known)}")
        if self.calibration is not None:
            raise RefusedError("a calibration is running; cancel it first, or wait for it")
        course = stages or whole_course(self._bench.config)
        request = CalibrationRequest(course, origin, only_if_needed=not stages)
        await self._switch(partial(self._calibrate, request), request)
        return request

    async def cancel_calibration(self) -> None:
        """Cancel the running calibration, wait until the old setting is restored.

        Raises:
            RefusedError: No calibration is running.
        """
        request = self.calibration
        if request is None:
            raise RefusedError("no calibration is running")
        await self._switch_and_enter(self._after_calibration())

    async def make_safe(self, reason: str) -> None:
        """Interrupt what runs and make the bench safe.

        Raises:
            UnsafeError: An instrument is not known to be safe; light was tried first.
        """
        self.intent = "rest"
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._switch(partial(self._shut, reason, outcome))
        await outcome

    async def resume(self, reason: str) -> None:
        """Leave ``safe`` or ``degraded``: track from the last good setting, or rest.

        Raises:
            RefusedError: The bench is not in such a state.
        """
        if self.state not in {"safe", "degraded", "idle"}:
            raise RefusedError(f"nothing to resume: the daemon is {self.state}")
        if self._last_good is None:
            await self._enter("idle", f"{reason}; no good setting is known: run a calibration")
            return
        self.intent = "track"
        await self._switch_and_enter(self._recover_and_track)

    async def set_knob(self, name: str, value: float) -> float:
        """Set one knob by the operator's hand.

        Raises:
            RefusedError: The knob is in use by a calibration or the tracker.
            SettingError: Unknown knob or a value outside its limits; nothing was sent.
        """
        if self.state in {"calibrating", "tracking"}:
            raise RefusedError(
                f"the knobs are in use ({self.state}); run 'qkdctl safe' before setting one by hand"
            )
        return (await self._bench.apply({name: value}))[name]

    async def report_failure(self, error: InstrumentError) -> None:
        """Take note that an instrument failed outside of an activity (a poll)."""
        if self.state in {"tracking", "idle"}:
            await self._switch(partial(self._recover, error))

    async def _switch(
        self, activity: Activity, calibration: CalibrationRequest | None = None
    ) -> None:
        """Interrupt the current activity and run another one next.

        A calibration that is interrupted, or was still waiting for its turn, ends as cancelled.
        """
        interrupted, self.calibration = self.calibration, calibration
        if interrupted is not None:
            interrupted.was_cancelled = True
        self._requested = activity
        current = self._current
        while current is not None and not current.done():
            current.cancel()
            await asyncio.wait({current}, timeout=INTERRUPT_TIMEOUT_S)
        if interrupted is not None:
            self._end(interrupted)

    async def _switch_and_enter(self, activity: Activity) -> None:
        """Switch, and wait until the new activity says what state it has brought about."""
        self._entered.clear()
        await self._switch(activity)
        await self._entered.wait()

    async def _rest(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def _calibrate(self, request: CalibrationRequest) -> None:
        """Run the stages of a request; then track, or go back to what was intended before."""
        self._following = self._after_calibration()
        try:
            await self._signal.restore_after_rest()
            for name in request.stages:
                await self._enter("calibrating", f"{name} ({request.origin})")
                result = await self._run_stage(name, only_if_needed=request.only_if_needed)
                request.results.append(result)
                if result["outcome"] not in {"accepted", "skipped"}:
                    break
            else:
                if self._bench.config.aligning_stage in request.stages:
                    self.intent = "track"
                self._following = self._after_calibration()
        except InstrumentError as exc:
            request.results.append({"outcome": "failed", "reason": str(exc)})
            self._following = partial(self._recover, exc)
        except CeilingError as exc:
            request.results.append({"outcome": "failed", "reason": str(exc)})
            self._following = partial(self._shut, str(exc))
        finally:
            if self.calibration is request:
                self.calibration = None
                self._end(request)

    async def _run_stage(self, name: str, *, only_if_needed: bool) -> dict[str, Any]:
        """Run one stage, or see that it is not needed; return its result, JSON-able."""
        if name not in DARK_AT_FIRST:
            await self._bench.light.turn_on()
        if name in SIGNAL_STAGES or name in OUTER_LOOPS:
            summary = await self._signal.run(name, only_if_needed=only_if_needed)
        else:
            summary = await self._align(name, only_if_needed=only_if_needed)
        self.last_calibration = summary | {"time_s": self._now()}
        self._publish("calibration", summary)
        return summary

    async def _align(self, name: str, *, only_if_needed: bool) -> dict[str, Any]:
        if only_if_needed:
            skipped = await self._signal.check_alignment(name, self._last_good)
            if skipped is not None:
                return skipped
        result = await self._run_alignment(name)
        if result.outcome == "accepted":
            self._last_good, self._posterior = result.setting, result.posterior
            await self._history.add_good_setting(result.setting, result.posterior)
            figure = None if result.after is None else result.after.value
            await self._signal.keep(name, {}, figure)
        return result_dict(result)

    async def _run_alignment(self, name: str) -> StageResult:
        stage = make_stage(name, self._bench.config)
        interrupted, self._interrupted = self._interrupted, None
        study, is_resumed = f"{name}@{self._now():.3f}", False
        if interrupted is not None and self._is_continued(name, *interrupted):
            study, is_resumed = interrupted[0], True
        return await stage.run(
            self._bench,
            self._history,
            on_progress=self._publish_progress,
            start_setting=await self._bench.read_setting(),
            warm=self._posterior,
            study=study,
            resume=is_resumed,
        )

    def _is_continued(self, name: str, study: str, latest_s: float) -> bool:
        """Whether a study that was cut short is of this stage, and recent."""
        return study.startswith(f"{name}@") and self._now() - latest_s < RESUME_WITHIN_S

    def _end(self, request: CalibrationRequest) -> None:
        request.is_done = True
        self._publish("ended", {"stages": list(request.stages), "results": request.results})

    def _after_calibration(self) -> Activity:
        """Return what follows a calibration that changed nothing."""
        return self._track if self.intent == "track" and self._last_good else self._go_idle

    async def _go_idle(self) -> None:
        try:
            await self._bench.light.turn_off()
        except InstrumentError as exc:
            await self._shut(str(exc))
            return
        await self._enter("idle", "light shut; waiting for a command")
        await self._rest()

    async def _track(self) -> None:
        """Hold the setting until the lock or an instrument is lost."""
        setting = self._last_good
        if setting is None:
            raise RuntimeError("tracking needs a good setting")
        await self._enter("tracking", "holding the last good setting")
        try:
            await self._bench.light.turn_on()
            await self._follow(hold_for(self._bench, setting, self._posterior, self._now))
        except InstrumentError as exc:
            self._following = partial(self._recover, exc)
        except LockLostError as exc:
            self._following = self._realign(str(exc))
        except CeilingError as exc:
            self._following = partial(self._shut, str(exc))
        finally:
            self.expected_excess = None

    async def _follow(self, hold: Hold) -> None:
        """Hold, and remember from time to time where the setting has gone."""
        remembered_s = self._now()
        while True:
            report = await hold.step()
            self._last_good, self.expected_excess = report.setting, report.expected_excess
            if self._now() - remembered_s >= REMEMBER_EVERY_S:
                remembered_s = self._now()
                self._posterior = hold.posterior()
                await self._history.add_good_setting(report.setting, self._posterior)

    def _realign(self, reason: str) -> Activity:
        """Calibrate again after a loss of lock, unless that happens too often."""
        limit = self._bench.config.tracking.max_realignments_per_hour
        now_s = self._now()
        while self._realignments and self._realignments[0] < now_s - 3600:
            self._realignments.popleft()
        if len(self._realignments) >= limit:
            text = f"{reason}; realigned {limit} times within an hour, which is the limit"
            return partial(self._shut, text)
        self._realignments.append(now_s)
        self._publish("alarm", {"name": "loss-of-lock", "text": reason})
        stage = self._bench.config.aligning_stage
        request = CalibrationRequest((stage,), f"loss of lock: {reason}")
        self.calibration = request
        return partial(self._calibrate, request)

    async def _recover(self, error: InstrumentError) -> None:
        """Shut the light, wait for the lost instrument, then go on as intended."""
        self.failures[error.instrument] = str(error)
        self._publish("alarm", {"name": "instrument", "text": str(error)})
        if error.instrument == self._bench.light.name:
            await self._shut(str(error))
            return
        try:
            await self._bench.light.turn_off()
        except InstrumentError as exc:
            await self._shut(f"{error}; and {exc}")
            return
        await self._enter("degraded", str(error))
        await self._wait_for_instruments()
        await self._recover_and_track()

    async def _recover_and_track(self) -> None:
        """Put the last good setting back in force, then track or rest as intended."""
        if self.intent == "track" and self._last_good is not None:
            try:
                await self._bench.read_setting()  # a power cycle may have moved everything
                await self._signal.restore()
                await self._bench.apply(self._last_good)
            except InstrumentError as exc:
                self._following = partial(self._recover, exc)
            else:
                self._following = self._track
        else:
            self._following = self._go_idle

    async def _wait_for_instruments(self) -> None:
        """Try until every instrument answers to its name."""
        attempt = 0
        while True:
            await asyncio.sleep(RECOVERY_DELAYS_S[min(attempt, len(RECOVERY_DELAYS_S) - 1)])
            attempt += 1
            try:
                for instrument in self._bench.instruments.values():
                    await instrument.identify()
            except InstrumentError as exc:
                log.info("still waiting: %s", exc)
            else:
                self.failures.clear()
                self._publish("note", {"text": f"all instruments answer after {attempt} attempts"})
                return

    async def _shut(self, reason: str, outcome: "asyncio.Future[None] | None" = None) -> None:
        """Make everything safe and stay so until the operator resumes."""
        unsafe: UnsafeError | None = None
        self._signal.note_rest()
        try:
            await self._bench.make_safe()
        except UnsafeError as exc:
            unsafe = exc
            reason = f"{reason}; NOT SAFE: {exc}"
            self._publish("alarm", {"name": "not-safe", "text": str(exc)})
        await self._enter("safe", reason)
        if outcome is not None and unsafe is not None:
            outcome.set_exception(unsafe)
        elif outcome is not None:
            outcome.set_result(None)
        await self._rest()

    async def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason, self.since_s = state, reason, self._now()
        data = {"state": state, "reason": reason, "intent": self.intent}
        await self._history.add_event(self.since_s, "state", data)
        self._bus.publish(Event(self.since_s, "state", data))
        self._entered.set()
        log.info("%s: %s", state, reason)

    def _publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self._bus.publish(Event(self._now(), kind, data))

    def _publish_progress(self, progress: Progress) -> None:
        self._publish("progress", progress_dict(progress))
