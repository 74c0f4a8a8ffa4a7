"""qutools quTAG time stamps (quTAU and IDQ ID800 too): binary, raw and text.

Binary: a header of 40 bytes that only the vendor's library evaluates, then records of ten bytes:
little-endian 64-bit time and 16-bit channel. Raw: the same without header. Text: ``time,channel`` a
line. The compressed form is in ``timetags.formats.qutau``.

Times are in the unit's base units: 1 ps for a quTAG, 81 ps (nominally) for a quTAU or ID800; the
conventions say which if it is not 1 ps. Channels count from 0 in the binary forms and from 1 in
text; here they are from 1, as on the front panel. Marker inputs are 100 and up, 104 is a
millisecond tick.

Sources: qutools quTAU/quPSI manual 4.0, ch. 10; tdcbase.h, TDC_writeTimestamps.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.formats.checks import check_channels, check_times
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.lines import LineStream, NumberColumns
from timetags.records import RecordStream
from timetags.ticks import tick_fraction, to_picoseconds, to_ticks

HEADER_BYTES = 40
HEADER = b"time tags; this header is not evaluated".ljust(HEADER_BYTES, b"\0")
RECORD = np.dtype([("time", "<i8"), ("channel", "<u2")])
QUTAG_TICK_PS = 1
FIRST_MARKER = 100
LAST_MARKER = 299
NO_CHANNEL = 99

_ENOUGH = 32
_SHARE = 0.98
_MOST_PS = (1 << 62) - 1


def _likeness(is_fine: NDArray[np.bool_]) -> Likeness:
    if is_fine.size < 2 or is_fine.mean() < _SHARE:
        return Likeness.NO
    return Likeness.LIKELY if is_fine.size >= _ENOUGH else Likeness.POSSIBLE


def _records(body: bytes) -> NDArray[np.void]:
    return np.frombuffer(body[: len(body) // RECORD.itemsize * RECORD.itemsize], dtype=RECORD)


def _are_fine(records: NDArray[np.void]) -> NDArray[np.bool_]:
    channel, time = records["channel"], records["time"]
    goes_on = np.diff(time, prepend=time[:1]) >= 0
    return (channel <= LAST_MARKER) & (time >= 0) & goes_on


def _has_header(head: bytes) -> bool:
    """Whether the first 40 bytes are no records: wrong, out of order, or all the same."""
    if head.startswith(HEADER):
        return True
    first = _records(head[: HEADER_BYTES + RECORD.itemsize])
    time = first["time"][: HEADER_BYTES // RECORD.itemsize]
    return not _are_fine(first).all() or (time.size > 1 and time[-1] == time[0])


@dataclass(frozen=True)
class _Binary:
    """Records of ten bytes, after a header or without one."""

    header_bytes: int

    def recognise(self, head: bytes) -> Likeness:
        if len(head) < 2 * RECORD.itemsize or _has_header(head) != bool(self.header_bytes):
            return Likeness.NO
        return _likeness(_are_fine(_records(head[self.header_bytes :])))

    def read(self, source: Source) -> Iterator[TagBlock]:
        tick_ps = tick_fraction(source.conventions.tick_ps or QUTAG_TICK_PS)
        source.metadata |= {"instrument": "qutools time tagger", "tick_ps": float(tick_ps)}
        stream = RecordStream(
            source.file, self.header_bytes, source.size, RECORD.itemsize, source.damage
        )
        for block in stream:
            records = block.data.reshape(-1).view(RECORD)
            channel = records["channel"]
            is_wrong = (channel > LAST_MARKER) | (channel == NO_CHANNEL) | (records["time"] < 0)
            if is_wrong.any():
                offsets = block.offset + np.flatnonzero(is_wrong) * RECORD.itemsize
                problem = "a channel that does not exist or a time below 0"
                source.damage.add_records(offsets.tolist(), problem, record_bytes=RECORD.itemsize)
                records, channel = records[~is_wrong], channel[~is_wrong]
            number = channel.astype(np.int16)
            number += number < FIRST_MARKER
            yield TagBlock(number, to_picoseconds(np.ascontiguousarray(records["time"]), tick_ps))

    def create(self, target: Target) -> "_BinarySink":
        if self.header_bytes:
            target.file.write(HEADER)
        return _BinarySink(target)


class _BinarySink:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._tick_ps = tick_fraction(target.conventions.tick_ps or QUTAG_TICK_PS)

    def write(self, block: TagBlock) -> None:
        if block.time_ps.size == 0:
            return
        check_channels(self._target, block, range(1, LAST_MARKER + 1), "quTAG binary")
        check_times(self._target, block, "quTAG binary", _MOST_PS)
        records = np.empty(block.time_ps.size, dtype=RECORD)
        records["time"] = to_ticks(block.time_ps, self._tick_ps)
        records["channel"] = block.channel - (block.channel < FIRST_MARKER)
        self._target.file.write(records.tobytes())

    def finish(self) -> None:
        """There is nothing at the end."""


_COLUMNS = NumberColumns(2, b",")


def _recognise_text(head: bytes) -> Likeness:
    lines = head[: head.rfind(b"\n") + 1].splitlines(keepends=True)[:256]
    if not lines or not all(_COLUMNS.matches(line) for line in lines):
        return Likeness.NO
    channels = [int(line.split(b",")[1]) for line in lines]
    if not all(1 <= channel <= LAST_MARKER for channel in channels):
        return Likeness.NO
    return Likeness.LIKELY if len(lines) >= _ENOUGH else Likeness.POSSIBLE


def _read_text(source: Source) -> Iterator[TagBlock]:
    tick_ps = tick_fraction(source.conventions.tick_ps or QUTAG_TICK_PS)
    source.metadata |= {"instrument": "qutools time tagger", "tick_ps": float(tick_ps)}
    for block in LineStream(source.file, 0, source.size, source.damage):
        numbers = _COLUMNS.parse(block, source.damage)
        is_wrong = (numbers[:, 1] < 1) | (numbers[:, 1] > LAST_MARKER) | (numbers[:, 0] < 0)
        if is_wrong.any():
            count = int(is_wrong.sum())
            source.damage.add(
                block.offset,
                count,
                "a channel that does not exist or a time below 0",
                length=len(block.text),
            )
            numbers = numbers[~is_wrong]
        time_ps = to_picoseconds(np.ascontiguousarray(numbers[:, 0]), tick_ps)
        yield TagBlock(numbers[:, 1].astype(np.int16), time_ps)


class _TextSink:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._tick_ps = tick_fraction(target.conventions.tick_ps or QUTAG_TICK_PS)

    def write(self, block: TagBlock) -> None:
        if block.time_ps.size == 0:
            return
        check_channels(self._target, block, range(1, LAST_MARKER + 1), "quTAG text")
        check_times(self._target, block, "quTAG text", 10**18 - 1)
        ticks = to_ticks(block.time_ps, self._tick_ps).tolist()
        rows = zip(ticks, block.channel.tolist(), strict=True)
        self._target.file.write("".join(f"{time},{channel}\n" for time, channel in rows).encode())

    def finish(self) -> None:
        """There is nothing at the end."""


_WITH_HEADER, _RAW = _Binary(HEADER_BYTES), _Binary(0)

FORMATS = (
    TagFormat(
        "qutag-raw",
        "qutools quTAG binary without header (raw)",
        (".qutag-raw", ".raw"),
        _RAW.recognise,
        _RAW.read,
        _RAW.create,
    ),
    TagFormat(
        "qutag",
        "qutools quTAG binary, 10 bytes a tag",
        (".qutag", ".timestamps"),
        _WITH_HEADER.recognise,
        _WITH_HEADER.read,
        _WITH_HEADER.create,
    ),
    TagFormat(
        "qutag-text",
        "qutools quTAG/quTAU text",
        (".qutag.txt", ".asc"),
        _recognise_text,
        _read_text,
        _TextSink,
    ),
)
