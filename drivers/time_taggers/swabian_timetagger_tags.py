"""Tags as the vendor's library hands them over: overflows, and times since the latest START."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ReplyError

# Kinds of record in a stream of tags.
TIME_TAG, ERROR, OVERFLOW_BEGIN, OVERFLOW_END, MISSED_EVENTS = range(5)


@dataclass(frozen=True)
class TagBatch:
    """Records of a stream, in order of time.

    Attributes:
        is_running: Whether the stream goes on.
        channel: Channels, negative for falling edges, shape ``(n,)``.
        time_ps: Times since the tagger started, ps, shape ``(n,)``.
        event_type: What each record is; only TIME_TAG is a detection, shape ``(n,)``.
        missed: Events of that channel that were lost, with MISSED_EVENTS, shape ``(n,)``.
        is_full: Whether the library's buffer had no room left.
    """

    is_running: bool
    channel: NDArray[np.int32]
    time_ps: NDArray[np.int64]
    event_type: NDArray[np.uint8]
    missed: NDArray[np.uint16]
    is_full: bool

    @property
    def n_intact(self) -> int:
        """Records before the first one that is no detection."""
        others = np.flatnonzero(self.event_type != TIME_TAG)
        return int(others[0]) if others.size else len(self.event_type)

    def check(self, instrument: str) -> None:
        """Refuse a batch in which something is missing.

        Raises:
            ReplyError: Tags were lost, or the tagger's clock was disturbed.
        """
        if problem := self._problem():
            raise ReplyError(instrument, problem)

    def _problem(self) -> str | None:
        n_intact = self.n_intact
        if n_intact < len(self.event_type):
            at_s = int(self.time_ps[n_intact]) / 1e12
            if (self.event_type == ERROR).any():
                return (
                    f"the tagger's clock was disturbed {at_s:.6f} s after its start: no time fits"
                )
            n_missed = int(self.missed[self.event_type == MISSED_EVENTS].sum())
            return (
                f"tags were lost in an overflow {at_s:.6f} s after the tagger's start, {n_missed} "
                "of them counted so far: reduce the rate, or set sync_divider"
            )
        if self.is_full:
            return (
                f"the library's buffer of {len(self.event_type)} tags was full and tags were lost: "
                "raise buffer_tags, or reduce the rate"
            )
        return None


class SinceStart:
    """Turns absolute times into times since the latest START, batch by batch.

    Detections before the first START have no such time and are left out: less than one period.

    Args:
        instrument: Name for errors.
        start: Channel of START.
        inputs: Number of each input by its channel.
    """

    def __init__(self, instrument: str, start: int, inputs: Mapping[int, int]) -> None:
        self._instrument = instrument
        self._start = start
        self._inputs = dict(inputs)
        self._latest_start_ps = np.empty(0, dtype=np.int64)
        self._latest_ps = np.empty(0, dtype=np.int64)
        self._parts: dict[int, list[NDArray[np.uint64]]] = {n: [] for n in inputs.values()}
        self.n_tags = 0

    @property
    def has_start(self) -> bool:
        """Whether any START came."""
        return bool(self._latest_start_ps.size)

    def add(self, batch: TagBatch) -> None:
        """Add a batch in which nothing is missing.

        Raises:
            ReplyError: The times are not in order.
        """
        time_ps = np.concatenate((self._latest_ps, batch.time_ps))
        if (time_ps[1:] < time_ps[:-1]).any():
            raise ReplyError(self._instrument, "times are not in order: has its clock rolled over?")
        self._latest_ps = time_ps[-1:]
        starts_ps = np.concatenate(
            (self._latest_start_ps, batch.time_ps[batch.channel == self._start])
        )
        for channel, number in self._inputs.items():
            clicks_ps = batch.time_ps[batch.channel == channel]
            latest = np.searchsorted(starts_ps, clicks_ps, side="right") - 1
            since_ps = clicks_ps[latest >= 0] - starts_ps[latest[latest >= 0]]
            self._parts[number].append(since_ps.astype(np.uint64))
            self.n_tags += since_ps.size
        self._latest_start_ps = starts_ps[-1:]

    def since_start_ps(self) -> dict[int, NDArray[np.uint64]]:
        """Times since the latest START by input, ps."""
        nothing = np.empty(0, dtype=np.uint64)
        return {n: np.concatenate((nothing, *parts)) for n, parts in self._parts.items()}
