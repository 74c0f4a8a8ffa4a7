"""Compressed time stamps of qutools quTAU (and IDQ ID800, quTAG): five bytes a tag.

After a header of 40 bytes that only the vendor's library evaluates, or none, records of 37 bits of
time and three of channel, little-endian. The time starts again from zero every 2^37 ticks (11 s at
81 ps); a wait longer than that cannot be seen. A tick is 81 ps nominally; the conventions may say
otherwise. Channels count from 0 in the file, here from 1 as on the front panel.

Which bits are the channel is not said clearly in public text (the manuals name the time first).
Read the wrong way, times step back more often; so the reader looks. A file that is too short to
tell (less than 2^34 ticks) is taken to have the channel in the high bits.

Sources: qutools quTAU/quPSI manual 4.0, ch. 10; tdcbase.h, TDC_writeTimestamps.
"""

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.formats.checks import OrderGuard, check_channels
from timetags.formats.format import PROBE_BYTES, Likeness, Source, TagFormat, Target
from timetags.formats.qutag import HEADER, HEADER_BYTES
from timetags.records import LOST_WITH_TIME, RecordStream
from timetags.ticks import Unwrapper, tick_fraction, to_picoseconds, to_ticks

RECORD_BYTES = 5
TIME_BITS = 37
TICK_PS = 81
BACKWARD_LIMIT = 1 << 30
"""A time may step back this far (87 ms at 81 ps) and be out of order only."""

PLACES = 256
"""Places all over the file that are looked at to tell time from channel."""

Words = NDArray[np.int64]

_ENOUGH = 32
_SHARE = 0.98


def _words(data: bytes | NDArray[np.uint8]) -> Words:
    flat = np.frombuffer(data, dtype=np.uint8)
    records = flat[: flat.size // RECORD_BYTES * RECORD_BYTES].reshape(-1, RECORD_BYTES)
    wide = np.zeros((len(records), 8), dtype=np.uint8)
    wide[:, :RECORD_BYTES] = records
    return wide.view("<i8").reshape(-1)


def _split(words: Words, *, is_channel_high: bool) -> tuple[Words, NDArray[np.int16]]:
    """Take words apart into times and channels (from 0)."""
    if is_channel_high:
        return words & ((1 << TIME_BITS) - 1), (words >> TIME_BITS).astype(np.int16)
    return words >> 3, (words & 7).astype(np.int16)


def _steps_back(words: Words, *, is_channel_high: bool) -> int:
    """How many times are before their predecessor."""
    time, _ = _split(words, is_channel_high=is_channel_high)
    return int((np.diff(time) < 0).sum())


def _header_bytes(head: bytes) -> int:
    """Length of the header: 40 bytes, or none if what would be the header are records in order."""
    if head.startswith(HEADER):
        return HEADER_BYTES
    words = _words(head[: HEADER_BYTES + RECORD_BYTES])
    for is_channel_high in (True, False):
        time, _ = _split(words, is_channel_high=is_channel_high)
        before_end = time[HEADER_BYTES // RECORD_BYTES - 1 :][:1]
        if (np.diff(time) >= 0).all() and (before_end > time[:1]).all():
            return 0
    return HEADER_BYTES


def _recognise(head: bytes) -> Likeness:
    words = _words(head[_header_bytes(head) :])
    if words.size < 2:
        return Likeness.NO
    back = min(_steps_back(words, is_channel_high=is_high) for is_high in (True, False))
    if back > (1 - _SHARE) * words.size:
        return Likeness.NO
    return Likeness.LIKELY if words.size >= _ENOUGH else Likeness.POSSIBLE


def _is_channel_high(source: Source, start: int) -> bool:
    """Take the reading in which times step back less, at the start and all over the file."""
    descriptor = source.file.fileno()
    if os.pread(descriptor, HEADER_BYTES, 0) == HEADER:  # of our own
        return True
    first = _words(os.pread(descriptor, PROBE_BYTES, start))
    count = (source.size - start) // RECORD_BYTES
    places = (start + RECORD_BYTES * (count * place // PLACES) for place in range(PLACES))
    few = _words(b"".join(os.pread(descriptor, RECORD_BYTES, place) for place in places))
    high, low = (
        sum(_steps_back(words, is_channel_high=is_high) for words in (first, few[few != 0]))
        for is_high in (True, False)
    )
    return high <= low


def _read(source: Source) -> Iterator[TagBlock]:
    start = _header_bytes(os.pread(source.file.fileno(), HEADER_BYTES + RECORD_BYTES, 0))
    tick_ps = tick_fraction(source.conventions.tick_ps or TICK_PS)
    is_channel_high = _is_channel_high(source, start)
    source.metadata |= {
        "instrument": "qutools quTAU or IDQ ID800",
        "tick_ps": float(tick_ps),
        "header_bytes": start,
        "channel_bits": "high" if is_channel_high else "low",
    }
    counter = Unwrapper(1 << TIME_BITS, BACKWARD_LIMIT)
    stream = RecordStream(
        source.file, start, source.size, RECORD_BYTES, source.damage, lost=LOST_WITH_TIME
    )
    for block in stream:
        count, channel = _split(_words(block.data), is_channel_high=is_channel_high)
        yield TagBlock(channel + np.int16(1), to_picoseconds(counter.unwrap(count), tick_ps))


class _Sink:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._tick_ps = tick_fraction(target.conventions.tick_ps or TICK_PS)
        self._order = OrderGuard(target, "quTAU compressed")
        self._last = 0
        target.file.write(HEADER)

    def write(self, block: TagBlock) -> None:
        if block.time_ps.size == 0:
            return
        check_channels(self._target, block, range(1, 9), "quTAU compressed")
        self._order.check(block)
        ticks = to_ticks(block.time_ps, self._tick_ps)
        if int(np.diff(ticks, prepend=self._last).max()) >= (1 << TIME_BITS) - BACKWARD_LIMIT:
            raise self._target.error(
                "a wait of more than 11 s between two tags cannot be seen in quTAU compressed",
                "choose another format",
            )
        self._last = int(ticks[-1])
        words = ticks & ((1 << TIME_BITS) - 1)
        words |= (block.channel.astype(np.int64) - 1) << TIME_BITS
        wide = words.astype("<i8").view(np.uint8).reshape(-1, 8)
        self._target.file.write(wide[:, :RECORD_BYTES].tobytes())

    def finish(self) -> None:
        """There is nothing at the end."""


FORMATS = (
    TagFormat(
        "qutau",
        "qutools quTAU compressed, 5 bytes a tag",
        (".qutau",),
        _recognise,
        _read,
        _Sink,
    ),
)
