"""The clock of the QKD stack, as the messages that it posts tell it."""

from collections import OrderedDict, deque

from qkdctl.feed import FeedMessage
from qkdctl.feed_order import MAX_STREAMS

RECENT = 32
"""Messages among which the fastest one tells the offset; a clock that runs off is followed."""


class StackClock:
    """Turns times of the stack into times of the daemon.

    A message that says when it was posted came later than that by its delay on the way. The least
    such difference of the latest messages is the offset of the two clocks, too large by the
    shortest delay: well below a millisecond on a Unix socket.

    Args:
        offset_s: Added where a message does not say when it was posted, s.
    """

    def __init__(self, offset_s: float) -> None:
        self._offset_s = offset_s
        self._recent_s: OrderedDict[str, deque[float]] = OrderedDict()

    def start_s(self, message: FeedMessage, arrived_s: float) -> float:
        """Return when a window began by the daemon's clock, s."""
        if message.posted_s is None:
            return message.start_s + self._offset_s
        if message.stream not in self._recent_s and len(self._recent_s) >= MAX_STREAMS:
            self._recent_s.popitem(last=False)
        recent_s = self._recent_s.setdefault(message.stream, deque(maxlen=RECENT))
        self._recent_s.move_to_end(message.stream)
        recent_s.append(arrived_s - message.posted_s)
        return message.start_s + min(recent_s)
