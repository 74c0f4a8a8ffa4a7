"""The daemon of one link: its start, its supervised services, what it does for operators."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import qkdctl
from calibration.clicks import Window
from calibration.inversion import Inverted
from drivers.errors import InstrumentError
from qkdctl.calibration_request import CalibrationRequest
from qkdctl.conductor import Conductor, RefusedError
from qkdctl.events import Event, EventBus, window_dict
from qkdctl.history import CLEAN, GoodSetting, History, LastRun
from qkdctl.live_key_rate import LiveKeyRate
from qkdctl.testbed import OpenTestbed, UnsafeError
from qkdctl.verbs import ErrorCode, Json, OperationError

log = logging.getLogger(__name__)

POLL_S = 5.0
"""Time between two looks at the instruments while nothing else uses them, s."""

Serve = Callable[[], Awaitable[NoReturn] | Awaitable[None]]


class StopRequested(Exception):  # noqa: N818 - it is a request, not an error
    """Somebody asked the daemon to end."""


class Daemon:
    """One link's daemon; fulfils `qkdctl.verbs.Operations`.

    Args:
        bench: The testbed, not yet opened.
        history: The record, not yet opened.
        bus: Where everything that happens is published.
        now: Tells seconds since the epoch.
    """

    def __init__(
        self, bench: OpenTestbed, history: History, bus: EventBus, now: Callable[[], float]
    ) -> None:
        self._bench = bench
        self._history = history
        self._bus = bus
        self._now = now
        self._conductor = Conductor(bench, history, bus, now)
        self._stop = asyncio.Event()
        self._window: dict[str, Any] | None = None
        self._key_rate = LiveKeyRate(bench.config.link)
        self._last_run: str | None = None
        bench.on_window = self._show_window
        bench.on_inverted = self._show_inverted
        if bench.feed is not None:
            bench.feed.on_event = partial(self._publish, "feed")

    async def run(self, *services: tuple[str, Serve]) -> None:
        """Open the bench, serve until asked to stop, leave the bench safe on every way out.

        Args:
            services: More services to run beside the daemon's own, by name.

        Raises:
            InstrumentError: An instrument could not be opened; the others are safe.
            UnsafeError: On the way out an instrument is not known to be safe.
            HistoryError: The record cannot be used.
        """
        last = await self._history.open()
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._end_record)
            stack.push_async_callback(self._bench.close)
            stack.push_async_callback(self._bench.make_safe)
            await self._bench.open()
            await self._restore(last)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for name, serve in (
                        ("history", self._record),
                        ("conductor", self._conductor.serve),
                        ("poll", self._poll),
                        ("stop", self._wait_for_stop),
                        *services,
                    ):
                        tasks.create_task(_forever(name, serve), name=name)
            except* StopRequested:
                log.info("stopping")

    @property
    def state(self) -> str:
        """The state it is in."""
        return self._conductor.state

    def request_stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        self._stop.set()

    async def status(self) -> Json:
        """Tell everything that matters at a glance."""
        conductor, window = self._conductor, self._window or {}
        failures, supervisor = conductor.failures, conductor.tracking.supervisor
        return {
            "link": self._bench.config.link.name,
            "state": conductor.state,
            "reason": conductor.reason,
            "since_s": conductor.since_s,
            "now_s": self._now(),
            "version": qkdctl.__version__,
            "qber": window.get("qber"),
            "qber_z": window.get("qber_z"),
            "qber_x": window.get("qber_x"),
            **self._excess(),
            "detection_rate_hz": window.get("detection_rate_hz"),
            "light_on": self._bench.light.is_on,
            "last_run": self._last_run,
            "instruments": {
                name: {"ok": name not in failures, "error": failures.get(name)}
                for name in self._bench.instruments
            },
            "setting": {name: self._bench.confirmed.get(name) for name in self._bench.knobs},
            "inverted": list(self._bench.inverted),
            "last_calibration": conductor.last_calibration,
            "alarms": dict(conductor.tracking.alarms.active),
            "key_rate": self._key_rate.as_dict(),
            "tracking": None if supervisor is None else supervisor.status(),
            "feed": None if self._bench.feed is None else self._bench.feed.counts(),
        }

    async def instruments(self) -> Sequence[Json]:
        """List instruments, identities and link health."""
        listed = []
        for name, instrument in self._bench.instruments.items():
            entry, health = self._bench.config.instruments[name], instrument.health()
            listed.append(
                {
                    "name": name,
                    "kind": entry.kind,
                    "resource": entry.resource,
                    "identity": str(self._bench.identities[name]),
                    "ok": name not in self._conductor.failures,
                    "health": {
                        "exchanges": health.exchanges,
                        "errors": health.errors,
                        "reconnects": health.reconnects,
                        "last_round_trip_s": health.last_round_trip_s,
                        "last_error": health.last_error,
                    },
                }
            )
        return listed

    async def knobs(self) -> Sequence[Json]:
        """List knobs with value and limits."""
        return [
            {
                "name": name,
                "value": self._bench.confirmed.get(name),
                "unit": knob.limits.unit,
                "minimum": knob.limits.minimum,
                "maximum": knob.limits.maximum,
                "instrument": self._bench.config.knobs[name].instrument,
                "channel": self._bench.config.knobs[name].channel,
            }
            for name, knob in self._bench.knobs.items()
        ]

    async def knob_set(self, name: str, value: float) -> Json:
        """Set one knob by hand."""
        try:
            settled = await self._conductor.set_knob(name, value)
        except RefusedError as exc:
            raise OperationError(ErrorCode.REFUSED, str(exc)) from None
        self._publish("setting", {"setting": {name: settled}, "by": "operator"})
        return {"name": name, "value": settled, "unit": self._bench.knobs[name].limits.unit}

    async def safe(self) -> Json:
        """Make the bench safe and stay there."""
        try:
            await self._conductor.make_safe("operator")
        except UnsafeError as exc:
            raise OperationError(
                ErrorCode.INSTRUMENT, f"not known to be safe: {exc}", "shut the light by hand"
            ) from None
        return self._state()

    async def resume(self) -> Json:
        """Leave the safe state, or go on with a paused calibration."""
        try:
            await self._conductor.resume("operator")
        except RefusedError as exc:
            raise OperationError(ErrorCode.REFUSED, str(exc)) from None
        return self._state()

    async def pause(self, *, keeps_light: bool = False) -> Json:
        """Pause the calibration before its next window."""
        try:
            if await self._conductor.pause_calibration("operator", keeps_light=keeps_light):
                return self._state()
        except RefusedError as exc:
            raise OperationError(ErrorCode.REFUSED, str(exc)) from None
        return self._state() | {"reason": "pauses when what is under way is done"}

    async def finish(self) -> Json:
        """End the calibration's search with the best point known."""
        try:
            await self._conductor.finish_calibration()
        except RefusedError as exc:
            raise OperationError(ErrorCode.REFUSED, str(exc)) from None
        return self._state() | {"reason": "finishing: fresh windows decide on the best point known"}

    async def calibrate(
        self, stages: Sequence[str], *, is_continued: bool = False
    ) -> AsyncIterator[Json]:
        """Run stages, yield progress, then the report; cancelling puts the old setting back."""
        with self._bus.subscribe() as events:
            try:
                request = await self._conductor.request_calibration(
                    tuple(stages), is_continued=is_continued
                )
            except RefusedError as exc:
                raise OperationError(ErrorCode.REFUSED, str(exc)) from None
            try:
                async for event in events:
                    if event.kind == "progress":
                        yield event.data
                    if event.kind == "ended" and request.is_done:
                        break
            except asyncio.CancelledError:
                await self._cancel(request)
                raise
        if request.was_cancelled:
            raise OperationError(ErrorCode.CANCELLED, "the calibration was cancelled")
        yield {"results": request.results}

    async def history(self, kind: str, limit: int, since_s: float) -> Json:
        """Read the record."""
        return {"rows": await self._history.rows(kind, limit, since_s)}

    async def events(self) -> AsyncIterator[Json]:
        """Yield events as they happen."""
        with self._bus.subscribe() as events:
            async for event in events:
                yield event.as_dict()

    async def stop(self) -> Json:
        """Make the bench safe, then let the daemon end."""
        state = await self.safe()
        self.request_stop()
        return state

    def _show_window(self, window: Window) -> None:
        """Publish a window that the bench measured."""
        self._window = window_dict(window)
        if self._conductor.tracking.is_running:
            self._key_rate.take(window)
        else:
            self._key_rate.forget()
        self._bus.publish(Event(window.start_s, "window", self._window))

    def _show_inverted(self, inverted: Inverted) -> None:
        """Publish which bases are inverted from now on."""
        self._publish("inverted", {"inverted": list(inverted)})

    async def _end_record(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._history.close(CLEAN if error is None else f"{type(error).__name__}: {error}")

    async def _cancel(self, request: CalibrationRequest) -> None:
        if self._conductor.calibration is request:
            await self._conductor.cancel_calibration()

    async def _restore(self, last: LastRun | None) -> None:
        """Go on where the previous run ended; if that was a crash, make safe before all else."""
        crashed = last is not None and not last.is_clean
        if crashed:
            await self._bench.make_safe()
        await self._conductor.recall()
        good = await self._history.last_good_setting()
        if good is not None and not self._fits(good):
            good = None
        reason = "started"
        if good is not None:
            await self._bench.apply(good.setting)
            self._bench.invert(good.inverted)
            reason = f"started; restored the good setting of {_date(good.time_s)}"
        if last is not None and crashed:
            self._last_run = _explain(last, good)
            await self._history.add_event(self._now(), "note", {"text": self._last_run})
            log.warning("%s", self._last_run)
        await self._conductor.begin(
            intent="track" if last is not None and last.intent == "track" else "rest",
            setting=good.setting if good else None,
            posterior=good.posterior if good else None,
            interrupted=last.interrupted_study if last else None,
            reason=reason,
        )

    def _fits(self, good: GoodSetting) -> bool:
        """Whether a setting still fits the testbed file.

        Its knobs are known and within their limits, and bits may be inverted if they were.
        """
        stage = self._bench.config.stages.polarization
        if good.inverted and not (stage is not None and stage.may_invert):
            return False
        for name, value in good.setting.items():
            if name not in self._bench.knobs:
                return False
            minimum, maximum = self._bench.limits(name)
            if not minimum <= value <= maximum:
                return False
        return True

    async def _record(self) -> None:
        """Write events to the history; states are written by the conductor itself."""
        with self._bus.subscribe(capacity=10_000) as events:
            async for event in events:
                match event.kind:
                    case "window":
                        await self._history.add_window(event.time_s, event.data)
                    case "alarm" | "calibration" | "inverted" | "key-cost" | "note" | "setting":
                        await self._history.add_event(event.time_s, event.kind, event.data)

    async def _poll(self) -> None:
        """Notice instruments that vanish, and hands at the shutter, while nothing else would."""
        while True:
            await asyncio.sleep(POLL_S)
            if self._conductor.is_watched:
                await self._look_at_instruments()

    async def _look_at_instruments(self) -> None:
        for name, instrument in self._bench.instruments.items():
            try:
                if name == self._bench.light.name:
                    await self._bench.light.check()
                else:
                    await instrument.identify()
            except InstrumentError as exc:
                await self._conductor.report_failure(exc)
                return

    async def _wait_for_stop(self) -> None:
        await self._stop.wait()
        raise StopRequested

    def _excess(self) -> dict[str, float | None]:
        """Tell how far the QBER is above the best one, and how far it has to be at least."""
        supervisor = self._conductor.tracking.supervisor
        names = "expected_excess", "excess_q90", "limit_excess"
        if supervisor is None or supervisor.report is None:
            return dict.fromkeys(names)
        return {name: getattr(supervisor.report, name) for name in names}

    def _state(self) -> dict[str, Any]:
        return {"state": self._conductor.state, "reason": self._conductor.reason}

    def _publish(self, kind: str, data: Json) -> None:
        self._bus.publish(Event(self._now(), kind, data))


async def _forever(name: str, serve: Serve) -> NoReturn:
    """Run a service that serves until cancelled; its return is a bug."""
    await serve()
    raise RuntimeError(f"{name} returned although it serves until cancelled")


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _explain(last: LastRun, good: GoodSetting | None) -> str:
    """Say in one sentence how the previous run ended and what was done about it."""
    doing = f"{last.state} ({last.state_reason})" if last.state else "starting"
    trials = {0: "no trial was unfinished", 1: "one unfinished trial was told as failed"}.get(
        last.interrupted_trials, f"{last.interrupted_trials} unfinished trials were told as failed"
    )
    restored = (
        f"the good setting of {_date(good.time_s)} was restored"
        if good
        else "no good setting was on record"
    )
    how = "was killed" if last.ending is None else f"ended by an error ({last.ending})"
    return (
        f"the run that began {_date(last.started_s)} {how} while {doing}; "
        f"the light was shut first, {trials}, {restored}"
    )
