"""The record generator of the ID900: from ``PLAY`` to time stamps on a stream."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.instruments.id900_blocks import DEAD_TIME_PS, Delay, Generator, Input, TimeStamps
from sim.instruments.id900_datalink import DataLink
from sim.wire import Reply

SHORTEST_SUB_ACQUISITION_PS: Final = 2 * 10**11
"""Anything shorter, repeated, loses time stamps: the error counters say so."""

OVERFLOW_HZ: Final = 1e7
"""Rate of one channel above which the unit overflows."""

BUFFER_TAGS: Final = 1 << 22
"""Time stamps that a channel holds back at most until the acquisition ends."""

TRANSFER_S: Final = 0.005
"""Time from the end of an acquisition to its data on the stream."""

PIECE_S: Final = 0.1
"""Longest stretch of an acquisition drawn at once: drawing holds up everybody else."""


class Tags(Protocol):
    """Where the time stamps come from."""

    @property
    def sync_period_ps(self) -> float:
        """Time between two START events, ps."""
        ...

    def tags(self, start_s: float, duration_s: float) -> Mapping[int, NDArray[np.uint64]]:
        """Picoseconds since the last START event per input, for a time that is over."""
        ...


@dataclass
class _Play:
    """An acquisition under way.

    Attributes:
        begin_s: Begin of the present sub-acquisition.
        width_s: Length of each.
        period_s: Time from the begin of one to the begin of the next.
        left: Sub-acquisitions left, this one included; 0: until stopped.
        drawn_s: Time up to which time stamps are drawn.
    """

    begin_s: float
    width_s: float
    period_s: float
    left: int
    drawn_s: float

    @property
    def end_s(self) -> float:
        """End of the present sub-acquisition."""
        return self.begin_s + self.width_s

    @property
    def next_s(self) -> float:
        """When more time stamps are to be drawn."""
        return min(self.end_s, self.drawn_s + PIECE_S)


class Recorder:
    """Records what the time-stamp blocks are linked to, and hands it to the DataLink service.

    Args:
        source: Where the time stamps come from.
        inputs: Inputs by number, 0 is START.
        delays: Delay blocks by number.
        stamps: Time-stamp blocks by number.
        datalink: The service.
        can_see: Whether an input sees the pulses that reach it.
    """

    def __init__(
        self,
        source: Tags,
        inputs: Mapping[int, Input],
        delays: Mapping[int, Delay],
        stamps: Mapping[int, TimeStamps],
        datalink: DataLink,
        can_see: Callable[[Input], bool],
    ) -> None:
        self.generator = Generator()
        self._tags = source
        self._inputs = inputs
        self._delays = delays
        self._stamps = stamps
        self._datalink = datalink
        self._can_see = can_see
        self._play: _Play | None = None

    @property
    def is_playing(self) -> bool:
        """Whether an acquisition is under way."""
        return self._play is not None

    def due_s(self) -> float | None:
        """Return when there is more to draw, or None."""
        return self._play.next_s if self._play else None

    def advance(self, now_s: float) -> list[Reply]:
        """Draw what is due by a time; return what goes onto the streams."""
        replies: list[Reply] = []
        while self._play and self._play.next_s <= now_s:
            replies += self._draw(self._play, self._play.next_s)
        return replies

    def begin(self, now_s: float) -> None:
        """Begin an acquisition, if the generator is enabled and at rest."""
        generator = self.generator
        if not generator.enabled or self._play or not generator.width_ps:
            return
        period_ps = max(generator.period_ps, generator.width_ps + DEAD_TIME_PS)
        is_too_short = generator.repeats != 1 and period_ps < SHORTEST_SUB_ACQUISITION_PS
        for stamps in self._stamps.values():
            stamps.held.clear()
            stamps.errors += is_too_short
        self._play = _Play(
            begin_s=now_s,
            width_s=generator.width_ps * 1e-12,
            period_s=max(period_ps, SHORTEST_SUB_ACQUISITION_PS) * 1e-12,
            left=generator.repeats,
            drawn_s=now_s,
        )

    def stop(self, now_s: float) -> list[Reply]:
        """End the acquisition here and now; what it has seen is still delivered."""
        if self._play is None:
            return []
        self._play.left = 1
        self._play.width_s = max(0.0, now_s - self._play.begin_s)
        return self._draw(self._play, self._play.end_s)

    def _draw(self, play: _Play, until_s: float) -> list[Reply]:
        """Draw the time stamps up to a time, and end what ends there."""
        begin_s = max(play.begin_s, play.drawn_s)
        listening = [stamps for stamps in self._stamps.values() if self._is_recorded(stamps)]
        if listening and until_s > begin_s:
            tags = self._tags.tags(begin_s, until_s - begin_s)
            for stamps in listening:
                self._hold(stamps, self._referred(stamps, tags), until_s - begin_s)
        play.drawn_s = until_s
        is_end = until_s >= play.end_s
        if is_end:
            self._go_on(play)
        sending = [stamps for stamps in self._stamps.values() if stamps.sends]
        return [r for stamps in sending for r in self._release(stamps, until_s, is_end=is_end)]

    def _go_on(self, play: _Play) -> None:
        """Go on to the next sub-acquisition, or end."""
        if play.left == 1:
            self._play = None
        play.left = max(0, play.left - 1)
        play.begin_s += play.period_s

    def _is_recorded(self, stamps: TimeStamps) -> bool:
        ends = (self._source(stamps.stop)[0], self._source(stamps.reference)[0])
        sees_both = all(end is not None and self._can_see(end) for end in ends)
        return stamps.sends and sees_both and self._datalink.is_listening(stamps.number)

    def _source(self, link: str) -> tuple[Input | None, int]:
        """Follow a link to the input it comes from, and the delay on the way, ps."""
        if link.startswith("DELA"):
            delay = self._delays[int(link[-1])]
            source, earlier_ps = self._source(delay.link)
            return source, earlier_ps + delay.value_ps
        if link == "STAR":
            return self._inputs[0], self._inputs[0].delay_ps
        return (self._inputs[int(link[-1])], 0) if link.startswith("INPU") else (None, 0)

    def _referred(
        self, stamps: TimeStamps, tags: Mapping[int, NDArray[np.uint64]]
    ) -> NDArray[np.uint64]:
        """Return a block's time stamps, the delays of both ends taken into account."""
        source, stop_delay_ps = self._source(stamps.stop)
        _, reference_delay_ps = self._source(stamps.reference)
        since_ps = tags[source.number] if source and source.number else np.empty(0, np.uint64)
        period_ps = self._tags.sync_period_ps
        shift_ps = (stop_delay_ps - reference_delay_ps) % period_ps
        return ((since_ps + shift_ps) % period_ps).astype(np.uint64) if shift_ps else since_ps

    def _hold(self, stamps: TimeStamps, tags: NDArray[np.uint64], duration_s: float) -> None:
        stamps.held.append(tags)
        stamps.errors += tags.size > OVERFLOW_HZ * duration_s

    def _release(self, stamps: TimeStamps, now_s: float, *, is_end: bool) -> list[Reply]:
        """Send what a block holds, at the end of an acquisition or when it holds too much."""
        if not is_end and sum(tags.size for tags in stamps.held) <= BUFFER_TAGS:
            return []
        tags = np.concatenate([np.empty(0, np.uint64), *stamps.held])
        stamps.held.clear()
        return self._datalink.deliver(stamps.number, tags, now_s, TRANSFER_S, is_end=is_end)
