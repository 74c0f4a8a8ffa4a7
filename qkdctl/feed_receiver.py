"""Windows from the feed: of the setting now in force, or late ones while key is made.

While key is made nobody waits for a setting's own windows, which come late. Settings change at the
borders of the stack's windows, as far as these can be foreseen, and every window that comes is used
with the setting that was in force when it was measured.
"""

import math
from collections.abc import Callable, Mapping

from calibration.clicks import Window
from calibration.inversion import NOTHING, Inverted
from qkdctl.feed_inbox import LEAST_SHARE, FeedInbox
from qkdctl.feed_windows import FeedWindow, stale_window, window_of
from qkdctl.receiver import HeldWindow
from qkdctl.settings_in_force import SettingsInForce

BORDER_SHARE = 1 - LEAST_SHARE
"""How far into a window, as a share of it, a setting may come into force and still count for it."""

SILENT_WINDOWS = 3
"""Windows of the stack that must be missing before it is silent, however long they are."""


class FeedReceiver:
    """Takes windows that the QKD stack posts.

    Args:
        inbox: Where they come in.
        settings: Which setting was in force when.
        signal: Name of the signal intensity.
        now: Tells seconds since the epoch.

    Attributes:
        inverted: Bases whose bits are inverted; may be changed between windows.
    """

    def __init__(
        self, inbox: FeedInbox, settings: SettingsInForce, signal: str, now: Callable[[], float]
    ) -> None:
        self._inbox = inbox
        self._settings = settings
        self._signal = signal
        self._now = now
        self._since_s = now()
        self._useful_s = self._since_s
        self._is_silent = False
        self.inverted: Inverted = NOTHING

    def begin(self) -> None:
        """Use no window that began before now: another light was sent, or none."""
        self._inbox.forget()
        self._since_s = self._useful_s = self._now()

    async def measure(self, duration_s: float) -> Window:
        """Wait until the setting in force has been measured for a time; the first window may do.

        Within feed.timeout_s beyond that time; what has come by then is what there is, and without
        anything the window is flagged as dark and stale.
        """
        begun_s = self._now()
        deadline_s = begun_s + duration_s + self._timeout_s
        own: list[FeedWindow] = []
        while sum(each.duration_s for each in own) < duration_s:
            window = await self._inbox.next_by(deadline_s)
            if window is None:
                break
            if self._is_of_now(window):
                own.append(window)
        if not own:
            return stale_window(begun_s, self._now() - begun_s, self._signal, self.inverted)
        return self._window(*own)

    async def held(self, in_force: Mapping[str, float], duration_s: float) -> list[HeldWindow]:
        """Leave the setting in force for a time, and return what has come meanwhile.

        Args:
            in_force: The setting now.
            duration_s: How long at least; it becomes a whole number of the stack's windows.

        Returns:
            One window or more, in the order of time, each with the setting that it was measured
            with; where none came for feed.timeout_s a single one, flagged as dark and stale. After
            such a silence the first window ends the wait and the others on their way are left out:
            the setting stood still, and error counts do not tell to which side the link has gone.
        """
        begun_s = self._now()
        until_s = self._border(begun_s, duration_s)
        seen: list[HeldWindow] = []
        while window := await self._inbox.next_by(until_s):
            seen += self._use(window)
        while not seen:
            deadline_s = max(self._useful_s + self._timeout_s, self._now())
            late = await self._inbox.next_by(deadline_s)
            if late is None:
                self._tell(is_silent=True)
                lasted_s = max(self._now() - begun_s, duration_s)
                silent = stale_window(begun_s, lasted_s, self._signal, self.inverted)
                return [HeldWindow(silent, in_force, self._now())]
            seen += self._use(late)
        if self._is_silent:
            self._tell(is_silent=False)
            del seen[1:]
            self.begin()
        return seen

    @property
    def _timeout_s(self) -> float:
        """How long nothing may come: as the file says, or some of the stack's windows."""
        latest, timeout_s = self._inbox.latest, self._inbox.config.timeout_s
        return timeout_s if latest is None else max(timeout_s, SILENT_WINDOWS * latest.duration_s)

    def _use(self, window: FeedWindow) -> list[HeldWindow]:
        """Return the window if one setting was in force meanwhile, and key was made."""
        if window.setting is None or window.start_s < self._since_s:
            return []
        self._useful_s = self._now()
        return [HeldWindow(self._window(window), window.setting, window.end_s)]

    def _window(self, *windows: FeedWindow) -> Window:
        dark_rate_hz = self._inbox.config.dark_rate_hz
        return window_of(windows, self._signal, self.inverted, dark_rate_hz)

    def _is_of_now(self, window: FeedWindow) -> bool:
        """Whether a window was measured with what is in force now."""
        if window.message.in_force_s is not None:
            return window.message.in_force_s >= self._settings.since_s
        early_s = self._settings.since_s - window.start_s
        return window.setting is not None and early_s <= BORDER_SHARE * window.duration_s

    def _border(self, begun_s: float, duration_s: float) -> float:
        """Return when the stack's window ends that leaves a setting in force long enough."""
        latest = self._inbox.latest
        if latest is None:
            return begun_s + duration_s
        window_s = latest.duration_s
        passed = (begun_s - latest.end_s) / window_s
        first = math.ceil(passed - BORDER_SHARE)
        lasting = max(math.ceil(duration_s / window_s - BORDER_SHARE), 1)
        return latest.end_s + (first + lasting) * window_s

    def _tell(self, *, is_silent: bool) -> None:
        if is_silent != self._is_silent:
            self._is_silent = is_silent
            silence = f"no window of use for {self._timeout_s:g} s"
            text = silence if is_silent else "windows come again"
            self._inbox.on_event({"reason": "silent" if is_silent else "heard", "text": text})
