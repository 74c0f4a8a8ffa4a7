"""Counts of a WebSQ: one pushed line of text per measurement period, on a socket of its own.

A line reads ``unix_time,c1,c2,…``. The unit's clock and ours need not agree. The smallest
difference seen between the arrival of a line and its stamp bounds how late lines come, so that one
that was held up on the way is not taken for a fresh one.

Weak facts: the stamp has a resolution well below the period; a changed period is in force one line
after the unit has confirmed it.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from drivers.errors import ReplyError, TransportError
from drivers.transport.channel import Channel, ChannelError
from drivers.transport.framing import ReceiveBuffer

MIN_PERIOD_MS = 10
# A count of a few seconds is cut into as many periods as this, a longer one into seconds.
MANY_PERIODS = 100
LONG_PERIOD_MS = 1000
LONGEST_LINE = 65536
OPEN_TIMEOUT_S = 5.0
# A stream that nobody reads is given up before it is so full that the unit is held up.
IDLE_S = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CountLine:
    """Counts of one period.

    Attributes:
        stamp_s: The unit's time, s.
        counts: Of each detector.
    """

    stamp_s: float
    counts: tuple[int, ...]


def parse_line(instrument: str, text: str, n_detectors: int) -> CountLine:
    """Read one line.

    Raises:
        ReplyError: Not a time and a count for each detector.
    """
    try:
        stamp_s, *counts = (float(field) for field in text.split(","))
        is_right = len(counts) >= n_detectors and math.isfinite(stamp_s)
    except ValueError:
        is_right = False
    if not is_right or not all(0 <= count < 2**53 for count in counts):
        raise ReplyError(instrument, f"no counts of {n_detectors} detectors", received=text[:200])
    return CountLine(stamp_s, tuple(round(count) for count in counts))


def plan_periods(duration_s: float) -> tuple[int, int]:
    """Divide a duration into periods so that the count is over soonest.

    One period passes, on the average half of it in vain, before the first whole one begins.

    Returns:
        Number of periods and their length, ms; together at least the duration.
    """
    wanted_ms = max(math.ceil(duration_s * 1e3 - 1e-6), MIN_PERIOD_MS)
    most = max(MANY_PERIODS, wanted_ms // LONG_PERIOD_MS)
    plans = [(n, math.ceil(wanted_ms / n)) for n in range(1, most + 1)]
    possible = [(n, period_ms) for n, period_ms in plans if period_ms >= MIN_PERIOD_MS]
    return min(possible, key=lambda plan: (plan[0] + 1) * plan[1])


@dataclass
class Window:
    """Collects consecutive whole periods that began after a given time.

    Attributes:
        n_periods: How many.
        period_s: Length of one, s.
        since_s: No period may have begun before this, s on the clock that tells of arrivals.
        skip: Lines to leave out besides the first, while a changed period comes into force.
        lines: Those collected.
        gaps: How often a line was missing or of another period.
    """

    n_periods: int
    period_s: float
    since_s: float
    skip: int = 0
    lines: list[CountLine] = field(default_factory=list)
    gaps: int = 0

    def __post_init__(self) -> None:
        self._previous: CountLine | None = None
        self._lateness_s = math.inf

    def take(self, line: CountLine, arrived_s: float) -> bool:
        """Look at the next line; tell whether the window is complete."""
        previous, self._previous = self._previous, line
        self._lateness_s = min(self._lateness_s, arrived_s - line.stamp_s)
        if previous is None:
            return False
        if abs(line.stamp_s - previous.stamp_s - self.period_s) > self.period_s / 2:
            self.gaps += 1
            self.lines.clear()
        elif self.skip:
            self.skip -= 1
        elif self.lines or line.stamp_s - self.period_s + self._lateness_s >= self.since_s:
            self.lines.append(line)
        return len(self.lines) == self.n_periods


class CountStream:
    """The socket on which counts are pushed.

    Args:
        instrument: Name in errors.
        channel: The socket; it stays open from one count to the next.
    """

    def __init__(self, instrument: str, channel: Channel) -> None:
        self._instrument = instrument
        self._channel = channel
        self._buffer = ReceiveBuffer()
        self._is_open = False
        self._read_s = 0.0
        self.errors = 0
        self.last_error: str | None = None

    async def fill(
        self,
        window: Window,
        n_detectors: int,
        *,
        within_s: float,
        check: Callable[[], None],
    ) -> None:
        """Read lines until a window is complete.

        Args:
            window: Takes the lines.
            n_detectors: Counts in a line.
            within_s: Longest time, s.
            check: Called before each line; raises what is to end the wait.

        Raises:
            ReplyError: A line does not parse.
            TransportError: No socket, it broke, or no complete window in time.
        """
        try:
            async with asyncio.timeout(within_s):
                text = await self._first_line()
                while not self._take(window, text, n_detectors):
                    check()
                    text = await self._next_line()
        except TimeoutError as exc:
            problem = f"no {window.n_periods} whole periods of counts in a row"
            gaps = f"; {window.gaps} gaps" if window.gaps else ""
            raise await self._failed(f"{problem} within {within_s:.3g} s{gaps}") from exc
        except ChannelError as exc:
            raise await self._failed(f"the counts broke off: {exc}") from exc
        except ReplyError as exc:
            await self._failed(exc.problem)
            raise
        if window.gaps:
            log.warning("%s: counts began anew after %d gaps", self._instrument, window.gaps)

    async def close(self) -> None:
        """Disconnect, also after an ``open`` that failed; what had arrived is lost."""
        if self._is_open:
            self._is_open = False
            self._buffer.take_all()
            await self._channel.close()

    def _take(self, window: Window, text: str, n_detectors: int) -> bool:
        line = parse_line(self._instrument, text, n_detectors)
        return window.take(line, asyncio.get_running_loop().time())

    async def _first_line(self) -> str:
        """The first line; on a new connection if the old one has idled or broke meanwhile."""
        if asyncio.get_running_loop().time() - self._read_s > IDLE_S:
            await self.close()
        if self._is_open:
            with suppress(ChannelError):
                return await self._next_line()
            await self.close()
        self._is_open = True
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._channel.open()
        except TimeoutError as exc:
            raise ChannelError(f"not connected within {OPEN_TIMEOUT_S:g} s") from exc
        return await self._next_line()

    async def _next_line(self) -> str:
        while (line := self._buffer.take_reply(b"\n")) is None:
            if len(self._buffer) > LONGEST_LINE:
                received = self._buffer.take_all()[:200].decode("ascii", "backslashreplace")
                raise ReplyError(self._instrument, "counts without end of line", received=received)
            self._buffer.feed(await self._channel.receive())
        self._read_s = asyncio.get_running_loop().time()
        return line.decode("ascii", "replace").rstrip("\r")

    async def _failed(self, problem: str) -> TransportError:
        self.errors += 1
        self.last_error = problem
        await self.close()
        return TransportError(self._instrument, problem)
