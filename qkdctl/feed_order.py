"""Windows of the feed in the order of their numbers: gaps, duplicates, latecomers."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from qkdctl.feed import FeedError

MAX_STREAMS = 16
"""Streams remembered; then the one that was silent for longest is forgotten."""


class Numbered(Protocol):
    """What has a place in a stream."""

    @property
    def sequence(self) -> int:
        """Number in the stream."""
        ...

    @property
    def start_s(self) -> float:
        """When it began, s."""
        ...


T = TypeVar("T", bound=Numbered)


@dataclass
class OrderCounts:
    """What became of the numbers.

    Attributes:
        missing: Numbers that never came, or came too late.
        late: Those that came out of order, and were put in order.
        restarts: How often a stream began anew.
    """

    missing: int = 0
    late: int = 0
    restarts: int = 0


@dataclass
class _Stream(Generic[T]):
    """One sequence of numbers.

    Attributes:
        next: The lowest number that may still come.
        newest_start_s: Latest start of a window seen.
        starts_s: Start of the windows released last, by number: what a duplicate is told by.
        held: Windows that wait for earlier ones, with the time until when.
    """

    next: int
    newest_start_s: float
    starts_s: OrderedDict[int, float] = field(default_factory=OrderedDict)
    held: dict[int, tuple[T, float]] = field(default_factory=dict)


class Sequencer(Generic[T]):
    """Puts windows in order that come out of order, without waiting for ever.

    A window whose predecessor is missing is held until that has come, until ``wait_s`` has passed,
    or until ``depth`` windows are held; then the missing numbers count as a gap, and are refused
    should they still come. A stream whose numbers fall while its time goes on has begun anew.

    Args:
        depth: Windows held at most, per stream.
        wait_s: How long one is held at most, s.

    Attributes:
        counts: What became of the numbers so far.
    """

    def __init__(self, depth: int, wait_s: float) -> None:
        self._depth = depth
        self._wait_s = wait_s
        self._streams: OrderedDict[str, _Stream[T]] = OrderedDict()
        self.counts = OrderCounts()

    def put(self, stream: str, window: T, now_s: float) -> list[T]:
        """Take a window; return those that are in order by now.

        Raises:
            FeedError: It came before, or those after it have been released already.
        """
        known = self._streams.get(stream)
        if known is None:
            known = self._begin(stream, window)
        elif window.sequence < known.next:
            if window.start_s <= known.newest_start_s:
                raise self._too_late(known, window)
            released = self._release(known, len(known.held))
            self.counts.restarts += 1
            known = self._begin(stream, window)
            return released + self._take(known, window, now_s)
        elif window.sequence in known.held:
            raise _duplicate(window)
        self._streams.move_to_end(stream)
        return self._take(known, window, now_s)

    def overdue(self, now_s: float) -> list[T]:
        """Return the windows that have waited long enough for those before them."""
        released: list[T] = []
        for stream in self._streams.values():
            waited = [until_s <= now_s for _, until_s in stream.held.values()]
            if any(waited):
                released += self._release(stream, sum(waited))
        return released

    @property
    def next_due_s(self) -> float | None:
        """When the next held window is overdue, or None."""
        due_s = [until_s for each in self._streams.values() for _, until_s in each.held.values()]
        return min(due_s, default=None)

    def _begin(self, name: str, window: T) -> _Stream[T]:
        if name not in self._streams and len(self._streams) >= MAX_STREAMS:
            self._streams.popitem(last=False)
        self._streams[name] = _Stream(window.sequence, window.start_s)
        self._streams.move_to_end(name)
        return self._streams[name]

    def _take(self, stream: _Stream[T], window: T, now_s: float) -> list[T]:
        if any(number > window.sequence for number in stream.held):
            self.counts.late += 1
        stream.held[window.sequence] = window, now_s + self._wait_s
        stream.newest_start_s = max(stream.newest_start_s, window.start_s)
        released = self._in_line(stream)
        if len(stream.held) > self._depth:
            released += self._release(stream, 1)
        return released

    def _release(self, stream: _Stream[T], least: int) -> list[T]:
        """Give up on missing numbers until so many held windows, or more, are released."""
        released: list[T] = []
        while stream.held and len(released) < least:
            lowest = min(stream.held)
            self.counts.missing += lowest - stream.next
            stream.next = lowest
            released += self._in_line(stream)
        return released

    def _in_line(self, stream: _Stream[T]) -> list[T]:
        """Release the windows without a gap before them."""
        released: list[T] = []
        while stream.next in stream.held:
            window, _ = stream.held.pop(stream.next)
            stream.starts_s[stream.next] = window.start_s
            if len(stream.starts_s) > self._depth:
                stream.starts_s.popitem(last=False)
            stream.next += 1
            released.append(window)
        return released

    def _too_late(self, stream: _Stream[T], window: T) -> FeedError:
        if stream.starts_s.get(window.sequence) == window.start_s:
            return _duplicate(window)
        text = (
            f"window {window.sequence} comes too late: those up to {stream.next - 1} have been "
            f"used; a window may come {self._depth} windows or {self._wait_s:g} s late "
            "(feed.reorder_windows, feed.reorder_wait_s)"
        )
        return FeedError("too-late", text, window.sequence)


def _duplicate(window: Numbered) -> FeedError:
    text = f"window {window.sequence} came before; number windows one by one"
    return FeedError("duplicate", text, window.sequence)
