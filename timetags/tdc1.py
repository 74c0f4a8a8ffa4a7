"""The tag stream of the S-Fifteen TDC1: 32-bit little-endian words, one an event.

Bits 31 to 5 of a word count units of 2 ns, bit 4 marks a dummy event, bits 3 to 0 are the pattern
of the four inputs. The count rolls over every 268.435456 ms; dummy events carry the time where
nothing else happens, so that no rollover is missed. There is no terminator and no check sum.

Sources: S-Fifteen TDC1 documentation; s-fifteen-instruments/pyS15; kurtsiefer's ``readevents4a``.

At high rates two bytes of the stream may be missing or too many, for no known reason. Every word
after that is made of the halves of two. Read so, the time rolls over about once in 4.1 us or every
other word, and read two bytes further it does not: that is what gives the slip away. The decoder
therefore holds back the last few words, until it has seen that the other reading makes no sense.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.formats.patterns import pattern_of_channels, tags_of_patterns

WORD_BYTES: Final = 4
SLIP_BYTES: Final = 2
UNIT_PS: Final = 2000
TIME_SHIFT: Final = 5
DUMMY: Final = 0x10
PATTERN: Final = 0x0F
INPUTS: Final = (1, 2, 3, 4)
ROLLOVER: Final = 1 << 27
"""Units of 2 ns until the count starts again."""

STEP_BACK: Final = 1 << 24
"""A step back by more units than this (34 ms) is a rollover, by fewer a pair out of order."""

REORDERED: Final = 1 << 12
"""Units that a word may come too late by, just after a rollover (8 us)."""

SLIP_ROLLOVERS: Final = 4
"""So many rollovers of the time as it is read, and at most one of the other reading: a slip."""

SANE_ROLLOVERS: Final = 3
"""Words are let go once the other reading has stepped back so often after them."""

LONGEST_DOUBT: Final = 1024
"""Words within which a slip shows, and which are held back at most."""

PIECE_BYTES: Final = 1 << 17
"""Worked on at a time."""

KEPT_SLIPS: Final = 1000

Times = NDArray[np.int64]
Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Slip:
    """Where two bytes of the stream are missing or too many.

    Attributes:
        offset_bytes: Of the first byte that was not read.
        skipped_bytes: How many were not: halves of words, and a few words in doubt.
        before_ps: Time of the last word before it, ps; None if there was none.
    """

    offset_bytes: int
    skipped_bytes: int
    before_ps: int | None


class Tdc1Decoder:
    """Turns the bytes of one stream into tags, however they are cut into pieces.

    Times count from the last zero of the unit's own clock before the first word: rollovers before
    that are not known of. Tags come in the order of the stream. A slip within the last dozen words
    does not show any more.

    Attributes:
        words: Whole words let go so far, dummy events included.
        dummies: Dummy events among them.
        latest_ps: Time of the last word let go, dummy events included, ps; None before the first.
        slip_total: Slips found.
        slips: The first of them.
    """

    def __init__(self) -> None:
        self._held = b""
        self._offset_bytes = 0  # of the first byte held
        self._raw: int | None = None  # of the last word let go
        self._rollovers = 0
        self.words = 0
        self.dummies = 0
        self.latest_ps: int | None = None
        self.slip_total = 0
        self.slips: list[Slip] = []

    @property
    def held_bytes(self) -> int:
        """Bytes that are held back; after ``finish``, those of half a word at the end."""
        return len(self._held)

    def feed(self, data: bytes) -> TagBlock:
        """Take the next bytes; return the tags that are certain now, perhaps none."""
        blocks = []
        for begin in range(0, len(data), PIECE_BYTES):
            self._held += data[begin : begin + PIECE_BYTES]
            blocks += self._up_to_slips()
            blocks.append(self._let_go(_certain_words(self._words())))
        return _joined(blocks)

    def finish(self) -> TagBlock:
        """Return what was held back: no more bytes come."""
        return _joined([*self._up_to_slips(), self._let_go(len(self._held) // WORD_BYTES)])

    def _up_to_slips(self) -> list[TagBlock]:
        """Let everything up to the last slip go, and go on behind it."""
        blocks = []
        while (slip := self._find_slip()) is not None:
            good, resumed = slip
            blocks.append(self._let_go(good))
            skipped_bytes = (resumed - good) * WORD_BYTES + SLIP_BYTES
            if len(self.slips) < KEPT_SLIPS:
                self.slips.append(Slip(self._offset_bytes, skipped_bytes, self.latest_ps))
            self.slip_total += 1
            self._drop(skipped_bytes)
        return blocks

    def _find_slip(self) -> tuple[int, int] | None:
        """Return the last good word and the first one behind a slip, or None where none shows."""
        words = self._words()
        rollovers = np.flatnonzero(_steps(_times(words)) < -STEP_BACK) + 1
        first, last = rollovers[: 1 - SLIP_ROLLOVERS], rollovers[SLIP_ROLLOVERS - 1 :]
        is_dense = last - first <= LONGEST_DOUBT
        if not is_dense.any():
            return None
        steps_back = np.cumsum(_steps(_shifted(words)) < 0)  # of the other reading, up to a word
        begin, end = first[is_dense], last[is_dense]
        before = np.where(begin > 1, steps_back[begin - 2], 0)
        slips = end[steps_back[end - 2] - before <= 1]
        return _around_slip(words[: slips[0] + 1]) if slips.size else None

    def _words(self) -> Words:
        return np.frombuffer(self._held, "<u4", len(self._held) // WORD_BYTES)

    def _drop(self, n_bytes: int) -> None:
        self._held = self._held[n_bytes:]
        self._offset_bytes += n_bytes

    def _let_go(self, n_words: int) -> TagBlock:
        words = self._words()[:n_words]
        self._drop(n_words * WORD_BYTES)
        self.words += n_words
        if not n_words:
            return _NOTHING
        time_ps = self._unwrapped(_times(words)) * UNIT_PS
        self.latest_ps = int(time_ps[-1])
        is_dummy = (words & DUMMY) != 0
        self.dummies += int(np.count_nonzero(is_dummy))
        patterns = np.where(is_dummy, 0, words & PATTERN).astype(np.uint8)
        return tags_of_patterns(patterns, time_ps)

    def _unwrapped(self, raw: Times) -> Times:
        """Return the times with the rollovers in them, units."""
        before = raw[0] if self._raw is None else self._raw
        steps = np.diff(raw, prepend=before)
        is_early = steps > ROLLOVER - REORDERED  # out of order just behind a rollover
        turns = np.cumsum((steps < -STEP_BACK).astype(np.int64) - is_early)
        turns += self._rollovers
        self._raw, self._rollovers = int(raw[-1]), int(turns[-1])
        return raw + turns * ROLLOVER


class Tdc1Encoder:
    """Turns tags into the words of a stream, with dummy events wherever a rollover could hide.

    Times are cut down to whole units of 2 ns.
    """

    def __init__(self) -> None:
        self._units = 0

    def feed(self, block: TagBlock) -> bytes:
        """Return the words of a block, which must not begin before the last one ended.

        Raises:
            ValueError: A channel is no input of the unit, or the tags are out of order or before
                zero.
        """
        if not block.time_ps.size:
            return b""
        units = block.time_ps // UNIT_PS
        if not np.isin(block.channel, INPUTS).all():
            raise ValueError("a TDC1 has the inputs 1 to 4")
        if units[0] < self._units or (np.diff(units) < 0).any():
            raise ValueError("the tags are not in order of time, or before zero")
        half = ROLLOVER // 2
        dummies = np.arange(self._units // half + 1, units[-1] // half + 1) * half
        times = np.concatenate((dummies, units))
        marks = np.concatenate(
            (np.full(dummies.size, DUMMY, np.uint64), pattern_of_channels(block.channel))
        )
        order = np.argsort(times, kind="stable")
        self._units = int(units[-1])
        raw = (times[order] % ROLLOVER).astype(np.uint64)
        words: NDArray[np.uint32] = (raw << TIME_SHIFT | marks[order]).astype("<u4")
        return words.tobytes()


def _times(words: Words) -> Times:
    return (words >> TIME_SHIFT).astype(np.int64)


def _shifted(words: Words) -> Times:
    """Return the times of the words that begin two bytes later, one fewer."""
    halves = words.astype(np.int64)
    return (halves[:-1] >> 16 | halves[1:] << 16 & 0xFFFF0000) >> TIME_SHIFT


def _steps(times: Times) -> Times:
    return np.diff(times)


def _certain_words(words: Words) -> int:
    """Return how many words at the beginning cannot be behind a slip that is still to show."""
    oldest = max(0, words.size - LONGEST_DOUBT)
    if words.size < 2:
        return 0
    back = np.flatnonzero(_steps(_shifted(words[oldest:])) < 0) + 1
    if back.size < SANE_ROLLOVERS:
        return oldest
    return oldest + int(back[-SANE_ROLLOVERS])


def _around_slip(words: Words) -> tuple[int, int]:
    """Return how many words are good before the slip that has shown at the end of ``words``.

    Of all ways to go over to the other reading, the shortest through the times is taken. Where
    several are as short, the words between are given up, and the first of the other reading too:
    made of two halves, it may look right but for 4 us.

    Returns:
        How many words are good before, and from which word on the other reading is.
    """
    start = _certain_words(words)
    times, others = _times(words[start:-1]), _shifted(words[start:])
    before = np.cumsum(_distances(np.diff(times, prepend=times[:1])))
    behind = np.cumsum(_distances(np.diff(others, append=others[-1:]))[::-1])[::-1]
    way = before[:-1] + _distances(others[1:] - times[:-1]) + behind[1:]
    shortest = np.flatnonzero(way == way.min()) + start + 1
    return int(shortest[0]), int(shortest[-1]) + 1


def _distances(steps: Times) -> Times:
    """Return how far apart two times are, whichever comes first, rollover or not."""
    return np.minimum(steps % ROLLOVER, -steps % ROLLOVER)


_NOTHING: Final = TagBlock(np.empty(0, np.int16), np.empty(0, np.int64))


def _joined(blocks: list[TagBlock]) -> TagBlock:
    blocks = [each for each in blocks if each.time_ps.size] or [_NOTHING]
    if len(blocks) == 1:
        return blocks[0]
    return TagBlock(
        np.concatenate([each.channel for each in blocks]),
        np.concatenate([each.time_ps for each in blocks]),
    )
