"""Where posted windows wait in order until they are used, each with the setting it was made by."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qkdctl.feed import FeedError, FeedMessage, parse_message
from qkdctl.feed_clock import StackClock
from qkdctl.feed_config import FeedConfig
from qkdctl.feed_order import Sequencer
from qkdctl.feed_windows import FeedWindow
from qkdctl.settings_in_force import SettingsInForce

log = logging.getLogger(__name__)

LEAST_SHARE = 0.9
"""Share of a window for which one setting has to be in force; what the rest of it adds to the
errors is within the noise of any window."""

MAX_AHEAD_S = 1.0
"""How far a window may seem to end after its message came, before the clocks count as wrong."""

TOLD_EVERY_S = 1.0
"""Refusals of one kind become one event in this time, and a count."""


@dataclass
class _Told:
    """When refusals of one kind were told last, and how many came since."""

    at_s: float = -TOLD_EVERY_S
    untold: int = 0


class FeedInbox:
    """Takes lines, answers each, keeps what is accepted until somebody wants it.

    Args:
        config: The feed in the testbed file.
        settings: Which setting was in force when.
        now: Tells seconds since the epoch.

    Attributes:
        on_event: Is told what an operator should know: refusals at most once a second each kind.
        on_message: Is shown every accepted message and when it came.
        latest: The newest window, or None.
    """

    def __init__(
        self, config: FeedConfig, settings: SettingsInForce, now: Callable[[], float]
    ) -> None:
        self.config = config
        self._settings = settings
        self._now = now
        self._clock = StackClock(config.clock_offset_s)
        self._order = Sequencer[FeedWindow](config.reorder_windows, config.reorder_wait_s)
        self._ready: deque[FeedWindow] = deque()
        self._arrived = asyncio.Event()
        self._told: dict[str, _Told] = {}
        self._refused: Counter[str] = Counter()
        self._accepted = self._dropped = self._mixed = 0
        self._heard_s: float | None = None
        self._delay_s = 0.0
        self.latest: FeedWindow | None = None
        self.on_event: Callable[[Mapping[str, Any]], None] = lambda event: None
        self.on_message: Callable[[FeedMessage, float], None] = lambda message, arrived_s: None

    def post(self, line: bytes) -> dict[str, Any]:
        """Take a line and return the answer to it; never raises."""
        try:
            message = parse_message(line)
            self._take(message, self._now())
        except FeedError as exc:
            return self.refuse(exc)
        return {"ok": True, "sequence": message.sequence}

    def refuse(self, error: FeedError) -> dict[str, Any]:
        """Count a refusal, tell of it, and return the answer."""
        self._refused[error.reason] += 1
        self._tell(error)
        return {
            "ok": False,
            "sequence": error.sequence,
            "reason": error.reason,
            "error": str(error),
        }

    async def next_by(self, deadline_s: float) -> FeedWindow | None:
        """Wait for the next window in order; return None where none has come by a time, s."""
        while True:
            self._release_overdue()
            if self._ready:
                return self._ready.popleft()
            wake_s = min(deadline_s, self._order.next_due_s or deadline_s)
            if self._now() >= deadline_s:
                return None
            self._arrived.clear()
            try:
                async with asyncio.timeout(max(wake_s - self._now(), 0.0)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    def forget(self) -> None:
        """Forget the windows that nobody has used; only what comes from now on is wanted."""
        self._release_overdue()
        self._ready.clear()

    def silent_s(self) -> float:
        """Return for how long no window has come, s; infinite before the first."""
        return float("inf") if self._heard_s is None else self._now() - self._heard_s

    def counts(self) -> dict[str, Any]:
        """Tell what has become of what was posted."""
        return {
            "accepted": self._accepted,
            "refused": dict(self._refused),
            "missing": self._order.counts.missing,
            "reordered": self._order.counts.late,
            "restarts": self._order.counts.restarts,
            "dropped": self._dropped,
            "mixed": self._mixed,
            "heard_s": self._heard_s,
            "delay_s": None if self.latest is None else self._delay_s,
        }

    def _take(self, message: FeedMessage, now_s: float) -> None:
        if message.is_pooled and not self.config.pooled:
            text = (
                "errors of both bases together tell no tracker where to go: post Z and X, or set "
                "feed.pooled = true to have the setting watched"
            )
            raise FeedError("pooled", text, message.sequence)
        start_s = self._clock.start_s(message, now_s)
        window = FeedWindow(message, start_s, self._setting(message, start_s))
        self._check_time(window, now_s)
        ready = self._order.put(message.stream, window, now_s)
        self._accepted += 1
        self._mixed += window.setting is None
        self._heard_s = now_s
        if self.latest is None or window.end_s >= self.latest.end_s:
            self.latest, self._delay_s = window, now_s - window.end_s
        self.on_message(message, now_s)
        for each in ready:
            self._queue(each)
        self._arrived.set()  # also for one that is held back: whoever waits must know until when

    def _setting(self, message: FeedMessage, start_s: float) -> Mapping[str, float] | None:
        if message.in_force_s is not None:
            return self._settings.at(message.in_force_s)
        return self._settings.during(start_s, start_s + message.duration_s, LEAST_SHARE)

    def _check_time(self, window: FeedWindow, now_s: float) -> None:
        ahead_s = window.end_s - now_s
        if ahead_s > MAX_AHEAD_S:
            text = (
                f"the window ends {ahead_s:.3g} s after its message came: the stack's clock is "
                "ahead; post posted_s as well, or set feed.clock_offset_s"
            )
            raise FeedError("in-the-future", text, window.sequence)
        remembered_s = self._settings.remembered_since_s
        if (window.message.in_force_s or window.start_s) < remembered_s:
            text = (
                f"the window began {now_s - window.start_s:.3g} s ago, and which setting was in "
                f"force is remembered for {now_s - remembered_s:.3g} s; post sooner"
            )
            raise FeedError("too-late", text, window.sequence)

    def _release_overdue(self) -> None:
        for window in self._order.overdue(self._now()):
            self._queue(window)

    def _queue(self, window: FeedWindow) -> None:
        if len(self._ready) >= self.config.queue_windows:
            self._ready.popleft()
            self._dropped += 1
        self._ready.append(window)

    def _tell(self, error: FeedError) -> None:
        told = self._told.setdefault(error.reason, _Told())
        told.untold += 1
        if self._now() - told.at_s < TOLD_EVERY_S:
            return
        log.warning("feed: %s (%d refused)", error, told.untold)
        self.on_event({"reason": error.reason, "text": str(error), "refused": told.untold})
        told.at_s, told.untold = self._now(), 0
