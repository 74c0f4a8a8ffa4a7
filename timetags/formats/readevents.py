"""S-Fifteen ``readevents7`` files (TDC2 timestamp unit), variants a0, a1, a1 with -X, and a2.

One event is 64 bits: 54 of time in units of 1/256 ns, five unused or flags, one that marks a dummy
event, and a pattern of the four inputs. A dummy event carries the time over long waits so that a
start from zero (every 19.5 hours) is never missed; it is no hit. a1 is binary, little-endian; with
-X the high 32 bits come first. a2 is 16 hexadecimal digits a line; a0 is eight digits a line, the
low half first.

A tick is 125/32 ps exactly. Times are rounded to the nearest picosecond (half upward), so that they
are off by at most 0.5 ps, and writing them again gives the same ticks.

Sources: TDC2 data sheet; s-fifteen-instruments/fpfind, parse_timestamps; kurtsiefer/qcrypto.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.errors import DamageLog
from timetags.formats.checks import check_channels, check_times
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.formats.patterns import INPUTS, pattern_of_channels, tags_of_patterns
from timetags.lines import LineStream
from timetags.records import RecordStream
from timetags.ticks import Unwrapper, to_picoseconds, to_ticks

TICK_PS = Fraction(125, 32)
COUNTER_RANGE = 1 << 54
DUMMY = 0x10
FLAGS = 0x3E0
NO_INPUT = "an event of no input that is no dummy event"

Words = NDArray[np.uint64]

_ENOUGH = 32
_SHARE = 0.98


def likeness_of_words(words: Words) -> Likeness:
    """Tell how much 64-bit words look like events."""
    if words.size == 0:
        return Likeness.NO
    has_meaning = ((words & np.uint64(0xF)) != 0) | ((words & np.uint64(DUMMY)) != 0)
    is_plain = (words & np.uint64(FLAGS)) == 0
    ticks = (words >> np.uint64(10)).astype(np.int64)
    goes_on = np.diff(ticks, prepend=ticks[0]) >= 0
    if (has_meaning & is_plain & goes_on).mean() < _SHARE:
        return Likeness.NO
    return Likeness.LIKELY if words.size >= _ENOUGH else Likeness.POSSIBLE


class _Decoder:
    """Turns the words of one file into tags."""

    def __init__(self, damage: DamageLog) -> None:
        self._damage = damage
        half = COUNTER_RANGE // 2
        self._counter = Unwrapper(COUNTER_RANGE, half, half)

    def decode(self, words: Words, offset: int, record_bytes: int) -> TagBlock:
        """Decode words that start at ``offset`` and take ``record_bytes`` each in the file."""
        low = words.astype(np.uint8)
        ticks = self._counter.unwrap((words >> np.uint64(10)).astype(np.int64))
        time_ps = to_picoseconds(ticks, TICK_PS)
        pattern: NDArray[np.uint8] = low & np.uint8(0xF)
        is_hit = (low - 1) & 0x1F < 0xF  # bits 4..0 are 1 to 15
        if not is_hit.all():
            stray = np.flatnonzero((low & 0x1F) == 0)
            self._damage.add_records(
                (offset + stray * record_bytes).tolist(), NO_INPUT, record_bytes=record_bytes
            )
            pattern, time_ps = pattern[is_hit], time_ps[is_hit]
        return tags_of_patterns(pattern, time_ps)


def _words_of_tags(target: Target, block: TagBlock) -> Words:
    if block.time_ps.size == 0:
        return np.empty(0, dtype=np.uint64)
    check_channels(target, block, range(1, INPUTS + 1), "readevents7")
    check_times(target, block, "readevents7", (COUNTER_RANGE - 1) * 125 // 32)
    ticks = to_ticks(block.time_ps, TICK_PS).astype(np.uint64)
    return ticks << np.uint64(10) | pattern_of_channels(block.channel)


def _say(source: Source, variant: str) -> None:
    source.metadata |= {
        "instrument": "S-Fifteen timestamp unit",
        "variant": variant,
        "tick_ps": float(TICK_PS),
    }


@dataclass(frozen=True)
class _Binary:
    """Variant a1."""

    is_swapped: bool

    def recognise(self, head: bytes) -> Likeness:
        return likeness_of_words(self._words(head[: len(head) // 8 * 8]))

    def read(self, source: Source) -> Iterator[TagBlock]:
        _say(source, "a1 -X" if self.is_swapped else "a1")
        decoder = _Decoder(source.damage)
        for block in RecordStream(source.file, 0, source.size, 8, source.damage):
            yield decoder.decode(self._words(block.data), block.offset, 8)

    def create(self, target: Target) -> "_BinarySink":
        return _BinarySink(target, is_swapped=self.is_swapped)

    def _words(self, data: bytes | NDArray[np.uint8]) -> Words:
        words = np.frombuffer(data, dtype="<u8")
        return swap_halves(words) if self.is_swapped else words


def swap_halves(words: Words) -> Words:
    """Exchange the high and the low 32 bits of each word."""
    return words << np.uint64(32) | words >> np.uint64(32)


class _BinarySink:
    def __init__(self, target: Target, *, is_swapped: bool) -> None:
        self._target = target
        self._is_swapped = is_swapped

    def write(self, block: TagBlock) -> None:
        words = _words_of_tags(self._target, block)
        words = swap_halves(words) if self._is_swapped else words
        self._target.file.write(words.astype("<u8").tobytes())

    def finish(self) -> None:
        """There is nothing at the end."""


_NO_DIGIT = 0xFF
_DIGIT_OF = np.full(256, _NO_DIGIT, dtype=np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _DIGIT_OF[np.frombuffer(_digits, dtype=np.uint8)] = np.arange(16)


@dataclass(frozen=True)
class _Text:
    """Variants a0 (two lines of eight digits an event) and a2 (one line of sixteen)."""

    lines_per_event: int

    @property
    def _digits(self) -> int:
        return 16 // self.lines_per_event

    def recognise(self, head: bytes) -> Likeness:
        lines = head[: head.rfind(b"\n") + 1].replace(b"\r", b"").split(b"\n")[:-1]
        lines = lines[: len(lines) // self.lines_per_event * self.lines_per_event]
        is_hex = lines and all(
            len(line) == self._digits and (_DIGIT_OF[np.frombuffer(line, np.uint8)] < 16).all()
            for line in lines[:256]
        )
        if not is_hex:
            return Likeness.NO
        values = np.array([int(line, 16) for line in lines[:256]], dtype=np.uint64)
        return likeness_of_words(self._words(values))

    def read(self, source: Source) -> Iterator[TagBlock]:
        _say(source, "a0" if self.lines_per_event == 2 else "a2")
        decoder = _Decoder(source.damage)
        left = np.empty(0, dtype=np.uint64)
        is_left_good = np.empty(0, dtype=bool)
        line_bytes = self._digits + 1
        for block in LineStream(source.file, 0, source.size, source.damage):
            line_bytes = block.text.find(b"\n") + 1
            values, is_good = self._parse(block.text, block.offset, source.damage)
            values = np.concatenate((left, values))
            is_good = np.concatenate((is_left_good, is_good))
            whole = values.size // self.lines_per_event * self.lines_per_event
            left, is_left_good = values[whole:], is_good[whole:]
            good = is_good[:whole].reshape(-1, self.lines_per_event).all(axis=1)
            words = self._words(values[:whole])[good]
            yield decoder.decode(words, block.offset, line_bytes * self.lines_per_event)
        if left.size:
            source.damage.add(
                source.size - line_bytes, 1, "the last event lacks its high half", length=line_bytes
            )

    def create(self, target: Target) -> "_TextSink":
        return _TextSink(target, self.lines_per_event)

    def _words(self, values: Words) -> Words:
        if self.lines_per_event == 1:
            return values
        return values[0::2] | values[1::2] << np.uint64(32)

    def _parse(
        self, text: bytes, offset: int, damage: DamageLog
    ) -> tuple[Words, NDArray[np.bool_]]:
        """Read one number a line; a line that is none is noted and marked."""
        line_bytes = text.find(b"\n") + 1
        end = b"\r\n" if line_bytes == self._digits + 2 else b"\n"
        if line_bytes == self._digits + len(end) and len(text) % line_bytes == 0:
            lines = np.frombuffer(text, dtype=np.uint8).reshape(-1, line_bytes)
            digits = _DIGIT_OF[lines[:, : self._digits]]
            ends = lines[:, self._digits :] == np.frombuffer(end, dtype=np.uint8)
            if digits.max() < 16 and ends.all():
                return self._number(digits), np.ones(len(lines), dtype=bool)
        return self._parse_lines(text, offset, damage)

    def _number(self, digits: NDArray[np.uint8]) -> Words:
        pairs = digits[:, 0::2] << 4 | digits[:, 1::2]
        wide = np.zeros((len(pairs), 8), dtype=np.uint8)
        wide[:, 8 - pairs.shape[1] :] = pairs
        return wide.view(">u8").astype(np.uint64).reshape(-1)

    def _parse_lines(
        self, text: bytes, offset: int, damage: DamageLog
    ) -> tuple[Words, NDArray[np.bool_]]:
        values, is_good = [], []
        for line in text.splitlines(keepends=True):
            word = line.strip()
            good = len(word) == self._digits and all(_DIGIT_OF[byte] < 16 for byte in word)
            if not good:
                shown = word[:40].decode("ascii", "backslashreplace")
                problem = f"not {self._digits} hexadecimal digits: {shown!r}"
                damage.add(offset, 1, problem, length=len(line))
            values.append(int(word, 16) if good else 0)
            is_good.append(good)
            offset += len(line)
        return np.array(values, dtype=np.uint64), np.array(is_good, dtype=bool)


class _TextSink:
    def __init__(self, target: Target, lines_per_event: int) -> None:
        self._target = target
        self._lines_per_event = lines_per_event

    def write(self, block: TagBlock) -> None:
        digits = _words_of_tags(self._target, block).astype(">u8").tobytes().hex()
        events = (digits[at : at + 16] for at in range(0, len(digits), 16))
        if self._lines_per_event == 1:
            text = "".join(f"{event}\n" for event in events)
        else:
            text = "".join(f"{event[8:]}\n{event[:8]}\n" for event in events)
        self._target.file.write(text.encode("ascii"))

    def finish(self) -> None:
        """There is nothing at the end."""


_A1, _A1X, _A0, _A2 = (
    _Binary(is_swapped=False),
    _Binary(is_swapped=True),
    _Text(lines_per_event=2),
    _Text(lines_per_event=1),
)

FORMATS = (
    TagFormat(
        "readevents-a1",
        "S-Fifteen readevents7 binary (a1)",
        (".a1", ".Aa1", ".Aa1.ts"),
        _A1.recognise,
        _A1.read,
        _A1.create,
    ),
    TagFormat(
        "readevents-a1x",
        "S-Fifteen readevents7 binary, halves swapped (a1 -X)",
        (".a1x", ".Aa1X", ".Aa1fX.ts", ".Aa1X.ts", ".Aa1X.dat"),
        _A1X.recognise,
        _A1X.read,
        _A1X.create,
    ),
    TagFormat(
        "readevents-a0",
        "S-Fifteen readevents7 hexadecimal, two lines an event (a0)",
        (".a0", ".Aa0.ts", ".Aa0f.ts"),
        _A0.recognise,
        _A0.read,
        _A0.create,
    ),
    TagFormat(
        "readevents-a2",
        "S-Fifteen readevents7 hexadecimal, one line an event (a2)",
        (".a2", ".Aa2.ts", ".Aa2f.ts"),
        _A2.recognise,
        _A2.read,
        _A2.create,
    ),
)
