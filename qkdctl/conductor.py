"""What the bench does at any moment: it rests, calibrates, tracks or recovers, one at a time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from calibration.polarization import Progress
from drivers.errors import InstrumentError
from qkdctl.aligner import Aligner
from qkdctl.calibration_request import CalibrationRequest
from qkdctl.events import Event, EventBus
from qkdctl.history import History
from qkdctl.holding import LockLostError
from qkdctl.pausing import CalibrationPauses
from qkdctl.recovery import wait_for_instruments
from qkdctl.signal_calibrator import SignalCalibrator
from qkdctl.signal_stages import DARK_AT_FIRST, OUTER_LOOPS, SIGNAL_STAGES
from qkdctl.stages import progress_dict, stages_of, whole_course
from qkdctl.studies import study_kind
from qkdctl.testbed import CeilingError, OpenTestbed, UnsafeError
from qkdctl.tracking_activity import Realignments, TrackingActivity

log = logging.getLogger(__name__)

State = Literal["starting", "idle", "calibrating", "paused", "tracking", "degraded", "safe"]
Intent = Literal["rest", "track"]
Activity = Callable[[], Coroutine[Any, Any, None]]

DEGRADED_AFTER_S = 30.0
"""How long a link may be dark before its state says so. The light stays on: it is looked for."""

INTERRUPT_TIMEOUT_S = 30.0
"""How long an activity may take to restore its setting before it is cancelled once more."""

PAUSE_TIMEOUT_S = 10.0
"""How long an answer waits until a pause has begun or ended; the window under way may last."""


class RefusedError(Exception):
    """The bench cannot do this now; the text says why and what to do first."""


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
        self._progress: Progress | None = None
        self._doing = ""
        self._signal = SignalCalibrator(bench, history, now, self._publish_progress)
        self._aligner = Aligner(bench, history, now, self._signal, self._publish_progress)
        limit = bench.config.tracking.max_realignments_per_hour
        self._realignments = Realignments(limit, now)
        self.tracking = TrackingActivity(
            bench, self._aligner, self._signal, now, self._publish, self._realignments
        )
        self.calibration: CalibrationRequest | None = None
        self.state: State = "starting"
        self.reason = ""
        self.intent: Intent = "rest"
        self.since_s = now()
        self.last_calibration: dict[str, Any] | None = None
        self.failures: dict[str, str] = {}

    @property
    def is_watched(self) -> bool:
        """Whether nobody but a poll would soon notice that an instrument is gone."""
        return self.state in {"tracking", "idle"} or self.tracking.is_running

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
        self._aligner.setting, self._aligner.posterior = setting, posterior
        self._aligner.studies.interrupted = interrupted
        if intent == "track" and setting:
            self.intent = "track"
            self._requested = self._track
        await self._enter("idle", reason)

    async def request_calibration(
        self, stages: tuple[str, ...], *, is_continued: bool = False
    ) -> CalibrationRequest:
        """Interrupt what runs and calibrate.

        Args:
            stages: In order; if empty all that the link has, but for those still good.
            is_continued: Whether to go on with the unfinished study of the stage that aligns.

        Raises:
            RefusedError: A calibration runs already, a stage is unknown, or none is unfinished.
        """
        known = stages_of(self._bench.config)
        unknown = [stage for stage in stages if stage not in known]
        if unknown:
            raise RefusedError(f"there is no stage {unknown[0]!r}; stages are: {', '.join(known)}")
        if self.calibration is not None:
            raise RefusedError("a calibration is running; cancel it first, or wait for it")
        request = self._request(stages or whole_course(self._bench.config), "operator")
        request.only_if_needed = not stages
        if is_continued:
            request.continued_study = await self._unfinished_study(stages)
        await self._switch(partial(self._calibrate, request), request)
        return request

    async def pause_calibration(self, reason: str, *, keeps_light: bool) -> bool:
        """Pause the running calibration before its next window.

        Returns:
            Whether the pause has begun; else it will when the window under way is done.

        Raises:
            RefusedError: No calibration is running.
        """
        pauses = self._running_calibration().pauses
        pauses.ask(reason, keeps_light=keeps_light)
        await self._wait_for_state(lambda: pauses.is_in_effect or self.calibration is None)
        return pauses.is_in_effect

    async def finish_calibration(self) -> None:
        """End the running search with the best point known; a pause ends.

        Raises:
            RefusedError: No calibration is running.
        """
        self._running_calibration().pauses.finish()

    async def cancel_calibration(self) -> None:
        """Cancel the running calibration, wait until the old setting is restored.

        Raises:
            RefusedError: No calibration is running.
        """
        self._running_calibration()
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

        A calibration that is paused goes on.

        Raises:
            RefusedError: The bench is not in such a state.
        """
        if self.calibration is not None and (self.state == "paused" or self._is_pause_asked()):
            self.calibration.pauses.end()
            await self._wait_for_state(lambda: self.state != "paused")
            return
        if self.state not in {"safe", "degraded", "idle"}:
            raise RefusedError(f"nothing to resume: the daemon is {self.state}")
        if self._aligner.setting is None:
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
        if self.state in {"calibrating", "paused", "tracking"} or self.tracking.is_running:
            raise RefusedError(
                f"the knobs are in use ({self.state}); run 'qkdctl safe' before setting one by hand"
            )
        return (await self._bench.apply({name: value}))[name]

    async def report_failure(self, error: InstrumentError) -> None:
        """Take note that an instrument failed outside of an activity (a poll)."""
        if self.is_watched:
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
            await self.tracking.end()
            await self._signal.restore_after_rest()
            for name in request.stages:
                self._doing = f"{name} ({request.origin})"
                await self._enter("calibrating", self._doing)
                if not request.add(await self._run_stage(name, request)):
                    break
            if request.has_good(self._bench.config.aligning_stage):
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

    async def _run_stage(self, name: str, request: CalibrationRequest) -> dict[str, Any]:
        """Run one stage, or see that it is not needed; return its result, JSON-able."""
        self._progress = None
        if name not in DARK_AT_FIRST:
            await self._bench.light.turn_on()
        if name in SIGNAL_STAGES or name in OUTER_LOOPS:
            needed = request.only_if_needed
            summary = await self._signal.run(name, request.pauses, only_if_needed=needed)
        else:
            summary = await self._aligner.align(name, request)
        self.last_calibration = summary | {"time_s": self._now()}
        self._publish("calibration", summary)
        return summary

    def _request(self, stages: tuple[str, ...], origin: str) -> CalibrationRequest:
        pauses = CalibrationPauses(self._bench, self._show_pause)
        return CalibrationRequest(stages, origin, pauses)

    def _running_calibration(self) -> CalibrationRequest:
        if self.calibration is None:
            raise RefusedError("no calibration is running")
        return self.calibration

    async def _unfinished_study(self, stages: tuple[str, ...]) -> str:
        """Return the study to go on with."""
        stage = self._bench.config.aligning_stage
        if stages != (stage,):
            raise RefusedError(f"only {stage} can be continued; name it, and no other stage")
        kind = study_kind(stage, self._bench.inverted)
        study = await self._history.unfinished_study(kind)
        if study is None:
            raise RefusedError(f"no unfinished {stage} is on record; calibrate without --continue")
        if self.calibration is not None:
            raise RefusedError("another calibration was begun meanwhile")
        return study

    async def _show_pause(self, reason: str | None) -> None:
        """Enter the paused state, or leave it; whoever follows the calibration is told."""
        state: State = "calibrating" if reason is None else "paused"
        await self._enter(state, self._doing if reason is None else reason)
        if self._progress is not None:
            note = "going on" if reason is None else f"paused: {reason}"
            self._publish("progress", progress_dict(replace(self._progress, note=note)))

    def _is_pause_asked(self) -> bool:
        return self.calibration is not None and self.calibration.pauses.is_asked

    async def _wait_for_state(self, is_reached: Callable[[], bool]) -> None:
        """Wait until a state is reached, within PAUSE_TIMEOUT_S."""
        try:
            async with asyncio.timeout(PAUSE_TIMEOUT_S):
                while not is_reached():
                    self._entered.clear()
                    await self._entered.wait()
        except TimeoutError:
            return

    def _end(self, request: CalibrationRequest) -> None:
        request.is_done = True
        self._publish("ended", {"stages": list(request.stages), "results": request.results})

    def _after_calibration(self) -> Activity:
        """Return what follows a calibration that changed nothing."""
        is_held = self.intent == "track" and self._aligner.setting
        return self._track if is_held else self._go_idle

    async def _go_idle(self) -> None:
        self.tracking.forget()
        try:
            await self._bench.light.turn_off()
        except InstrumentError as exc:
            await self._shut(str(exc))
            return
        await self._enter("idle", "light shut; waiting for a command")
        await self._rest()

    async def _track(self) -> None:
        """Hold the setting until the lock or an instrument is lost."""
        await self._enter("tracking", "holding the last good setting")
        try:
            await self.tracking.run(self._tell_darkness)
        except InstrumentError as exc:
            self._following = partial(self._recover, exc)
        except LockLostError as exc:
            self._following = self._realign(exc)
        except CeilingError as exc:
            self._following = partial(self._shut, str(exc))

    async def _tell_darkness(self, dark_s: float | None) -> None:
        """Let the state say for how long a link that is tracked has been dark."""
        if dark_s is None and self.state == "degraded":
            await self._enter("tracking", "light is back")
        elif dark_s is not None and dark_s >= DEGRADED_AFTER_S and self.state == "tracking":
            await self._enter(
                "degraded",
                f"no light for {dark_s:.0f} s; the setting is frozen, the light stays on and is "
                "looked for",
            )

    def _realign(self, lost: LockLostError) -> Activity:
        """Calibrate again after a loss of lock, unless that happens too often."""
        if self._realignments.are_exhausted():
            limit = self._realignments.limit
            text = f"{lost}; realigned {limit} times within an hour, which is the limit"
            return partial(self._shut, text)
        self._realignments.note()
        alarm = {"name": "loss-of-lock", "text": str(lost), "cause": lost.cause}
        self._publish("alarm", alarm)
        stage = lost.stage or self._bench.config.aligning_stage
        request = self._request((stage,), f"loss of lock: {lost}")
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
        attempts = await wait_for_instruments(self._bench.instruments.values())
        self.failures.clear()
        self._publish("note", {"text": f"all instruments answer after {attempts} attempts"})
        await self._recover_and_track()

    async def _recover_and_track(self) -> None:
        """Put the last good setting back in force, then track or rest as intended."""
        setting = self._aligner.setting
        if self.intent == "track" and setting is not None:
            try:
                await self._bench.read_setting()  # a power cycle may have moved everything
                await self._signal.restore()
                await self._bench.apply(setting)
            except InstrumentError as exc:
                self._following = partial(self._recover, exc)
            else:
                self._following = self._track
        else:
            self._following = self._go_idle

    async def _shut(self, reason: str, outcome: "asyncio.Future[None] | None" = None) -> None:
        """Make everything safe and stay so until the operator resumes."""
        unsafe: UnsafeError | None = None
        self.tracking.forget()
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
        self._progress = progress
        self._publish("progress", progress_dict(progress))
