"""Two channels side by side: all pairs of tags that lie close together, in bounded memory.

Two runs in order are merged by a stable sort, which is linear for them. In the merged order close
tags are neighbours, so that differences between neighbours find all pairs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock

Times = NDArray[np.int64]

CHUNK_TAGS = 1 << 16
"""Tags of one channel handled at a time, so that they stay in the processor's cache."""

_NEVER_PS = 1 << 62


class OrderError(ValueError):
    """Tags are not in order of time, which what was asked for needs."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of two channels: tags of the first, and all of the second within reach of them.

    Attributes:
        a_ps: Times of the first channel, in order, at least one, shape ``(n_a,)``, ps.
        b_ps: Times of the second channel less the delay, in order, shape ``(n_b,)``, ps.
    """

    a_ps: Times
    b_ps: Times


class ChannelPair(Protocol):
    """Two channels, of one stream or of two."""

    def match(self, reach_ps: int, delay_ps: int = 0) -> "Matches":
        """Take both side by side.

        Args:
            reach_ps: Pairs up to this far apart will be looked for, ps.
            delay_ps: What the second channel lags, ps; it is taken off its times.
        """
        ...


@dataclass(frozen=True)
class OneStream:
    """Two channels of one stream.

    Attributes:
        blocks: The stream, in order of time.
        channel_a: First channel.
        channel_b: Second channel; it may be the same.
    """

    blocks: Iterable[TagBlock]
    channel_a: int
    channel_b: int

    def match(self, reach_ps: int, delay_ps: int = 0) -> "Matches":
        """Take both channels side by side, see ChannelPair."""
        source = in_pieces(self.blocks)

        def advance(a: _Queue, b: _Queue) -> None:
            if (block := next(source, None)) is None:
                a.is_over = b.is_over = True
                return
            for queue, channel, shift_ps in ((a, self.channel_a, 0), (b, self.channel_b, delay_ps)):
                ends_ps = block.time_ps[[0, -1]] - shift_ps
                times_ps = times_of(block, channel)
                queue.add(times_ps - shift_ps if shift_ps else times_ps, ends_ps)

        return Matches(advance, reach_ps)


@dataclass(frozen=True)
class TwoStreams:
    """A channel of one stream and a channel of another, as of two receivers.

    Attributes:
        blocks_a: First stream, in order of time.
        channel_a: Its channel.
        blocks_b: Second stream, in order of time.
        channel_b: Its channel.
        to_a: Translates times of the second clock to the first, before a delay is taken off; it
            keeps their order. None where both have the same clock.
        piece_tags: Tags handled at a time; None for CHUNK_TAGS. Fewer take longer, and let a
            translation that learns on the way learn sooner.
    """

    blocks_a: Iterable[TagBlock]
    channel_a: int
    blocks_b: Iterable[TagBlock]
    channel_b: int
    to_a: Callable[[Times], Times] | None = None
    piece_tags: int | None = None

    def match(self, reach_ps: int, delay_ps: int = 0) -> "Matches":
        """Take both channels side by side, see ChannelPair."""
        tags = self.piece_tags or CHUNK_TAGS
        source_a, source_b = in_pieces(self.blocks_a, tags), in_pieces(self.blocks_b, tags)

        def to_a(times_ps: Times) -> Times:
            return (times_ps if self.to_a is None else self.to_a(times_ps)) - delay_ps

        def advance(a: _Queue, b: _Queue) -> None:
            if b.is_over or (not a.is_over and a.end_ps <= b.end_ps - reach_ps):
                if (block := next(source_a, None)) is None:
                    a.is_over = True
                else:
                    a.add(times_of(block, self.channel_a), block.time_ps[[0, -1]])
            elif (block := next(source_b, None)) is None:
                b.is_over = True
            else:
                times_ps = to_a(times_of(block, self.channel_b))
                b.add(times_ps, to_a(block.time_ps[[0, -1]]))

        return Matches(advance, reach_ps, tags)


class Matches:
    """The stretches of two channels, one after the other; to be gone through once.

    Only the time is looked at that both channels cover, once the delay is taken off the second:
    from the later beginning to the earlier end. Each of the first channel's tags in it is in one
    stretch. What is counted here is complete once the stretches have been gone through.

    Attributes:
        reach_ps: Pairs up to this far apart can be found, ps.
        singles_a: Tags of the first channel in the time that both cover.
        singles_b: Tags of the second.
        start_ps: Where that time begins, on the first one's clock, ps.
        end_ps: Where it ends, ps.

    Raises:
        ValueError: The reach is negative.
        OrderError: While going through: tags are not in order of time.
    """

    def __init__(
        self,
        advance: Callable[["_Queue", "_Queue"], None],
        reach_ps: int,
        piece_tags: int | None = None,
    ) -> None:
        if reach_ps < 0:
            raise ValueError(f"pairs cannot be {reach_ps} ps apart")
        self.reach_ps = int(reach_ps)
        self.singles_a = self.singles_b = 0
        self.start_ps = self.end_ps = 0
        self._advance, self._piece_tags = advance, piece_tags or CHUNK_TAGS
        self._a, self._b = _Queue(), _Queue()

    @property
    def duration_s(self) -> float:
        """Time that both channels cover, s."""
        return max(self.end_ps - self.start_ps, 0) * 1e-12

    def __iter__(self) -> Iterator[Stretch]:
        a, b = self._a, self._b
        # A stream that goes on may have more tags at its end: only beyond it all are known.
        while not (
            (a.is_over and (b.is_over or b.end_ps > a.end_ps))
            or (b.is_over and a.end_ps > b.end_ps)
        ):
            self._advance(a, b)
            if a.start_ps is None or b.start_ps is None:
                continue
            self.start_ps = max(a.start_ps, b.start_ps)
            if len(a) + len(b) >= self._piece_tags:
                yield from self._ready(min(a.end_ps, b.end_ps - self.reach_ps))
        if a.start_ps is None or b.start_ps is None:
            return
        self.end_ps = min(a.end_ps, b.end_ps)
        b.drop_from(self.end_ps + 1)
        yield from self._ready(self.end_ps + 1)
        self.singles_b += len(b.pop_before(self.end_ps + 1))

    def _ready(self, limit_ps: int) -> Iterator[Stretch]:
        """Yield the stretches before a time up to which all partners are known."""
        a, b, reach_ps = self._a, self._b, self.reach_ps
        a.pop_before(self.start_ps)
        b.pop_before(self.start_ps)
        ready, partners = a.pop_before(limit_ps), b.waiting()
        self.singles_a += len(ready)
        for first in range(0, len(ready), self._piece_tags):
            part = ready[first : first + self._piece_tags]
            start = np.searchsorted(partners, part[0] - reach_ps)
            end = np.searchsorted(partners, part[-1] + reach_ps, side="right")
            yield Stretch(part, partners[start:end])
        self.singles_b += len(b.pop_before(limit_ps - reach_ps))


class _Queue:
    """Tags of one channel that are not done with.

    Attributes:
        start_ps: From here on the channel is known, ps; None as long as nothing is.
        end_ps: Up to here, ps.
        is_over: There is nothing after that.
    """

    def __init__(self) -> None:
        self.start_ps: int | None = None
        self.end_ps = -_NEVER_PS
        self.is_over = False
        self._parts: list[Times] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, times_ps: Times, ends_ps: Times) -> None:
        """Add the tags of a block; the channel is then known from its start to its end."""
        start_ps, end_ps = int(ends_ps[0]), int(ends_ps[1])
        edges = np.concatenate([[self.end_ps, start_ps], times_ps[:1]]), times_ps[-1:]
        is_in_order = np.all(edges[0][1:] >= edges[0][:-1]) and np.all(edges[1] <= end_ps)
        if not (is_in_order and start_ps <= end_ps and np.all(times_ps[1:] >= times_ps[:-1])):
            raise OrderError(f"tags near {start_ps} ps are not in order of time: sort them first")
        if self.start_ps is None:
            self.start_ps = start_ps
        self.end_ps = end_ps
        self._parts.append(times_ps)

    def waiting(self) -> Times:
        """Return all tags, as one array."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.empty(0, dtype=np.int64), *self._parts])]
        return self._parts[0]

    def pop_before(self, limit_ps: int) -> Times:
        """Return the tags before a time, and drop them."""
        times_ps = self.waiting()
        count = int(np.searchsorted(times_ps, limit_ps))
        self._parts = [times_ps[count:]]
        return times_ps[:count]

    def drop_from(self, limit_ps: int) -> None:
        """Drop the tags from a time on."""
        self._parts = [self.pop_before(limit_ps)]


def close_pairs(stretch: Stretch, reach_ps: int) -> tuple[Times, Times]:
    """Find all pairs of a stretch that lie within reach.

    Every pair counts: a tag with several partners is in several pairs.

    Args:
        stretch: Tags of both channels.
        reach_ps: Largest distance, included, ps.

    Returns:
        Time of the first channel's tag and how much later the second's is, both of shape
        ``(n_pairs,)``, in no particular order, ps.
    """
    key, base_ps = _merged(stretch)
    limit = 2 * reach_ps + 1
    early = np.flatnonzero(np.subtract(key[1:], key[:-1]) <= limit)
    at_ps, later_ps = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    neighbour = 1
    while len(early):
        first, second = key[early], key[early + neighbour]
        gap = (second >> 1) - (first >> 1)
        is_pair = ((first ^ second) & 1).astype(bool) & (gap <= reach_ps)
        first, second, gap = first[is_pair], second[is_pair], gap[is_pair]
        is_b_later = (second & 1).astype(bool)
        later_ps.append(np.where(is_b_later, gap, -gap))
        at_ps.append(np.where(is_b_later, first, second) >> 1)
        neighbour += 1
        early = early[: np.searchsorted(early, len(key) - neighbour)]
        early = early[key[early + neighbour] - key[early] <= limit]
    return np.concatenate(at_ps) + base_ps, np.concatenate(later_ps)


def _merged(stretch: Stretch) -> tuple[Times, int]:
    """Merge both channels in order; the lowest bit tells them apart. Also return the zero, ps."""
    a, b = stretch.a_ps, stretch.b_ps
    base_ps = int(min(a[0], b[0])) if len(b) else int(a[0])
    key = np.empty(len(a) + len(b), dtype=np.int64)
    np.subtract(a, base_ps, out=key[: len(a)])
    np.subtract(b, base_ps, out=key[len(a) :])
    np.left_shift(key, 1, out=key)
    np.bitwise_or(key[len(a) :], 1, out=key[len(a) :])
    key.sort(kind="stable")
    return key, base_ps


def times_of(block: TagBlock, channel: int) -> Times:
    """Return the times of one channel of a block, ps."""
    return block.time_ps[np.flatnonzero(block.channel == channel)]


def in_pieces(blocks: Iterable[TagBlock], tags: int | None = None) -> Iterator[TagBlock]:
    """Cut a stream's large blocks so that their parts fit into the cache; drop empty blocks."""
    tags = tags or CHUNK_TAGS
    for block in blocks:
        for first in range(0, len(block.time_ps), tags):
            piece = slice(first, first + tags)
            yield TagBlock(block.channel[piece], block.time_ps[piece])
