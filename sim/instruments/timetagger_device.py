"""A simulated Swabian Time Tagger inside: settings, the stream of tags, and who listens to it.

Detectors are at inputs 1 to 4. The stream goes on by whole periods of the pattern, whenever
somebody looks. Pulses have a length and no height: every trigger level sees them. Dead times are
kept, but those of the detectors are longer than any that makes sense.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

OVERFLOW_HZ: Final = 70e6
"""Tags per second that the link to the computer carries; what comes on top is lost."""

FIFO_TAGS: Final = 1000
"""Tags that find room in the unit until the link carries them."""

TIME_TAG, ERROR, OVERFLOW_BEGIN, OVERFLOW_END, MISSED_EVENTS = range(5)
MOST_MISSED: Final = 65535
"""Lost events that one record can tell."""

CHUNK_PERIODS: Final = 500_000
"""Periods of the pattern that are dealt with at a time."""

PULSE_PS: Final = 10_000
"""From the rising to the falling edge of every pulse, ps."""

TEST_PERIOD_PS: Final = 1_200_000
"""Between two pulses of the test signal, ps."""

DETECTORS: Final = (1, 2, 3, 4)
PS_PER_S: Final = 1e12


class Clicks(Protocol):
    """What the detectors see."""

    @property
    def sync_period_ps(self) -> float:
        """Time between two START pulses, ps."""
        ...

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        """Draw the clicks of a window that is over, ps since its start, by detector 1 to 4."""
        ...


class Events:
    """Records of the stream, in order of time.

    Attributes:
        channel: Channels, negative for falling edges, shape ``(n,)``.
        time_ps: Times since the unit's start, ps, shape ``(n,)``.
        event_type: What each record is, shape ``(n,)``.
        missed: Lost events of the channel, shape ``(n,)``.
    """

    def __init__(
        self,
        channel: NDArray[np.int32],
        time_ps: NDArray[np.int64],
        event_type: NDArray[np.uint8] | None = None,
        missed: NDArray[np.uint16] | None = None,
    ) -> None:
        n = len(channel)
        self.channel = channel
        self.time_ps = time_ps
        self.event_type = np.zeros(n, np.uint8) if event_type is None else event_type
        self.missed = np.zeros(n, np.uint16) if missed is None else missed

    def __len__(self) -> int:
        return len(self.channel)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "Events":
        """Return some of them."""
        return Events(
            self.channel[which], self.time_ps[which], self.event_type[which], self.missed[which]
        )

    @staticmethod
    def joined(parts: Iterable["Events"]) -> "Events":
        """Put records one after the other."""
        known = [Events(np.empty(0, np.int32), np.empty(0, np.int64)), *parts]
        return Events(
            np.concatenate([each.channel for each in known]),
            np.concatenate([each.time_ps for each in known]),
            np.concatenate([each.event_type for each in known]),
            np.concatenate([each.missed for each in known]),
        )


class Listener(Protocol):
    """A measurement."""

    channels: tuple[int, ...]

    @property
    def is_listening(self) -> bool:
        """Whether it takes in records."""
        ...

    def hear(self, events: Events, position_ps: int) -> None:
        """Take in records; the stream has come to a time, ps."""
        ...


class TagSource:
    """Makes the stream of one unit.

    Args:
        clicks: The detectors.
        sync_input: Input of the START pulses.
    """

    def __init__(self, clicks: Clicks, sync_input: int) -> None:
        self._clicks = clicks
        self._sync_input = sync_input
        self._periods = 0
        self._started_ps = 0
        self._held = Events.joined([])
        self.position_ps = 0

    def restart(self, now_s: float) -> None:
        """Begin a new stream with time zero."""
        self._periods = self._periods_until(now_s)
        self._started_ps = self._time_ps(self._periods)
        self._held = Events.joined([])
        self.position_ps = 0

    def advance(
        self,
        now_s: float,
        listeners: Iterable[Listener],
        delays_ps: Mapping[int, int],
        dividers: Mapping[int, int],
        tested: Iterable[int],
    ) -> None:
        """Let the stream come up to now; without listeners it is not made.

        Args:
            now_s: Time of the bench, s.
            listeners: Measurements.
            delays_ps: Delay by channel, ps.
            dividers: Of so many pulses one is let through, by channel.
            tested: Inputs on the test signal.
        """
        until = self._periods_until(now_s)
        while self._periods < until:
            hearing = [each for each in listeners if each.is_listening]
            n = min(until - self._periods, CHUNK_PERIODS) if hearing else until - self._periods
            first, self._periods = self._periods, self._periods + n
            end_ps = self._time_ps(self._periods) - self._started_ps
            channels = sorted({channel for each in hearing for channel in each.channels})
            if not channels:
                self._held, self.position_ps = Events.joined([]), end_ps
                continue
            made = self._made(channels, first, n, delays_ps, dividers, frozenset(tested))
            edge_ps = end_ps + min(0, *(delays_ps.get(channel, 0) for channel in channels))
            is_due = made.time_ps < edge_ps
            self._held = made.take(~is_due)
            begin_ps, self.position_ps = self.position_ps, max(edge_ps, self.position_ps)
            events = _carried(made.take(is_due), begin_ps, self.position_ps)
            for each in hearing:
                each.hear(events, self.position_ps)

    def _made(
        self,
        channels: list[int],
        first: int,
        n: int,
        delays_ps: Mapping[int, int],
        dividers: Mapping[int, int],
        tested: frozenset[int],
    ) -> Events:
        """Make the records of some periods, and put those that were held before among them."""
        begin_ps, end_ps = self._time_ps(first), self._time_ps(first + n)
        arrivals: Mapping[int, NDArray[np.float64]] = {}
        if any(abs(channel) in DETECTORS for channel in channels):
            arrivals = self._clicks.arrivals(begin_ps / PS_PER_S, (end_ps - begin_ps) / PS_PER_S)
        parts = [self._held]
        for channel in channels:
            number, divider = abs(channel), dividers.get(channel, 1)
            if number in tested:
                times = np.arange(-(-begin_ps // TEST_PERIOD_PS), -(-end_ps // TEST_PERIOD_PS))
                times = times * TEST_PERIOD_PS
            elif number in DETECTORS:
                times = begin_ps + np.rint(arrivals[number]).astype(np.int64)
            elif number == self._sync_input:
                pulses = np.arange(-(-first // divider) * divider, first + n, divider)
                since_ps = np.rint((pulses - first) * self._clicks.sync_period_ps)
                times = begin_ps + since_ps.astype(np.int64)
            else:
                continue
            times = times + delays_ps.get(channel, 0) + (PULSE_PS if channel < 0 else 0)
            parts.append(Events(np.full(len(times), channel, np.int32), times - self._started_ps))
        made = Events.joined(parts)
        return made.take(np.argsort(made.time_ps, kind="stable"))

    def _periods_until(self, now_s: float) -> int:
        return int(now_s * PS_PER_S / self._clicks.sync_period_ps + 1e-6)

    def _time_ps(self, periods: int) -> int:
        return round(periods * Fraction(self._clicks.sync_period_ps))  # exact after months, too


def _carried(events: Events, begin_ps: int, end_ps: int) -> Events:
    """Return what the link to the computer carries of the records of a stretch of time."""
    if len(events) <= FIFO_TAGS + OVERFLOW_HZ * (end_ps - begin_ps) / PS_PER_S:
        return events
    told = [(0, OVERFLOW_BEGIN, 0)]
    for channel, lost in zip(*np.unique(events.channel, return_counts=True), strict=True):
        whole, rest = divmod(int(lost), MOST_MISSED)
        told += [(int(channel), MISSED_EVENTS, n) for n in [MOST_MISSED] * whole + [rest]]
    told.append((0, OVERFLOW_END, 0))
    channel, event_type, missed = np.array(told).T
    time_ps = np.full(len(told), end_ps, np.int64)
    time_ps[0] = begin_ps
    return Events(
        channel.astype(np.int32), time_ps, event_type.astype(np.uint8), missed.astype(np.uint16)
    )
