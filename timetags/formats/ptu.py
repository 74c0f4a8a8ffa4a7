"""PicoQuant PTU files, T2 and T3.

T2 times are ticks of the global resolution. T3 times are the number of the latest sync event times
the sync period (the global resolution), plus the time since it; each part is rounded to the nearest
picosecond. Markers become channels 101 to 104, one tag for each bit that is set.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.formats.checks import OrderGuard
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.formats.patterns import tags_of_patterns
from timetags.formats.ptu_header import (
    MAGIC,
    VERSION,
    Header,
    HeaderError,
    HeaderValue,
    encode_entry,
    read_header,
)
from timetags.formats.ptu_records import (
    BY_CODE,
    FIRST_MARKER,
    KINDS,
    MARKERS,
    Fields,
    RecordKind,
)
from timetags.records import LOST_WITH_TIME, RecordStream
from timetags.ticks import tick_fraction, to_picoseconds, to_ticks

RECORD_BYTES = 4
UNKNOWN_RECORD = "a special record of no known meaning, or an input that does not exist"
MOST_OVERFLOWS = 50_000_000
PS_PER_S = 10**12

_RECORD_TYPE = "TTResultFormat_TTTRRecType"
_RECORDS = "TTResult_NumberOfRecords"
_GLOBAL_RESOLUTION = "MeasDesc_GlobalResolution"
_RESOLUTION = "MeasDesc_Resolution"
_SHOWN = ("HW_Type", "HW_SerialNo", "File_CreatingTime", "File_Comment", "TTResult_SyncRate")


def _recognise(head: bytes) -> Likeness:
    return Likeness.CERTAIN if head.startswith(MAGIC[:6]) else Likeness.NO


def _read(source: Source) -> Iterator[TagBlock]:
    try:
        header = read_header(source.file)
    except HeaderError as exc:
        remedy = "without its header nothing of a PTU file can be read: copy it again"
        raise source.error(str(exc), offset=exc.offset, remedy=remedy) from exc
    kind, clock = _kind(source, header), _clock(source, header)
    source.metadata |= {
        "instrument": "PicoQuant",
        "record": kind.name,
        "tick_ps": float(clock[0]),
        **({"since_sync_tick_ps": float(clock[1])} if kind.is_t3 else {}),
        **{name: value for name in _SHOWN if (value := header.values.get(name)) is not None},
    }
    decoder = _Decoder(source, kind, *clock)
    end = _end(source, header)
    stream = RecordStream(
        source.file, header.end, end, RECORD_BYTES, source.damage, lost=LOST_WITH_TIME
    )
    for block in stream:
        yield decoder.decode(block.data.reshape(-1).view("<u4"), block.offset)
    _note_what_is_missing(source, header, end)


def _kind(source: Source, header: Header) -> RecordKind:
    code = header.values.get(_RECORD_TYPE)
    if header.values.get("TTResultFormat_BitsPerRecord", 32) != 32:
        raise source.error("the records are not of 32 bits, as all known ones are")
    if not isinstance(code, int) or code not in BY_CODE:
        shown = f"{code:#010x}" if isinstance(code, int) else "missing"
        raise source.error(
            f"the kind of record ({_RECORD_TYPE}) is {shown}, none that is known",
            remedy="known are " + ", ".join(KINDS),
        )
    return BY_CODE[code]


def _clock(source: Source, header: Header) -> tuple[Fraction, Fraction]:
    """Length of a tick, and of a tick of the time since sync, ps."""
    tick_s = header.values.get(_GLOBAL_RESOLUTION)
    since_s = header.values.get(_RESOLUTION, tick_s)
    try:
        return (
            tick_fraction(float(tick_s) * PS_PER_S),  # type: ignore[arg-type] # the except tells
            tick_fraction(float(since_s) * PS_PER_S),  # type: ignore[arg-type] # the except tells
        )
    except (TypeError, ValueError, OverflowError) as exc:
        problem = f"the header's resolution makes no sense ({_GLOBAL_RESOLUTION} {tick_s!r})"
        raise source.error(problem) from exc


def _announced(header: Header) -> int:
    """How many records the header announces; 0 if it does not."""
    records = header.values.get(_RECORDS)
    return records if isinstance(records, int) and records > 0 else 0


def _end(source: Source, header: Header) -> int:
    announced = _announced(header)
    if not announced:
        return source.size
    return min(source.size, header.end + announced * RECORD_BYTES)


def _note_what_is_missing(source: Source, header: Header, end: int) -> None:
    announced = _announced(header)
    if not announced:
        problem = "the header announces no records: the recording was not ended; read to the end"
        source.damage.add(header.end, 0, problem, length=0)
        return
    missing = announced - -(-(end - header.end) // RECORD_BYTES)
    if missing > 0:
        problem = f"the file ends early: the header announces {announced} records"
        source.damage.add(end, missing, problem, length=0)
    elif source.size > end:
        problem = f"{source.size - end} bytes after the records that the header announces"
        source.damage.add(end, 0, problem, length=source.size - end)


class _Decoder:
    """Turns the records of one file into tags."""

    def __init__(
        self, source: Source, kind: RecordKind, tick_ps: Fraction, since_sync_tick_ps: Fraction
    ) -> None:
        self._damage = source.damage
        self._kind = kind
        self._tick_ps = tick_ps
        self._since_sync_tick_ps = since_sync_tick_ps
        self._wrapped = 0  # ticks before the counter started again last

    def decode(self, records: NDArray[np.uint32], offset: int) -> TagBlock:
        fields = self._kind.decode(records)
        time_ps = self._times(fields)
        is_event = fields.is_event
        if not self._kind.has_special_bit:
            wrong = fields.channel > self._kind.channels.stop - 1
            is_event = ~wrong if is_event is None else is_event & ~wrong
        if is_event is None:
            return TagBlock(fields.channel, time_ps)
        self._note_unknown(fields, is_event, offset)
        if fields.markers is not None:
            return _with_markers(fields.channel, time_ps, fields.markers, is_event)
        return TagBlock(fields.channel[is_event], time_ps[is_event])

    def _times(self, fields: Fields) -> NDArray[np.int64]:
        ticks: NDArray[np.int64] = fields.ticks
        if fields.overflows is not None:
            wraps = np.cumsum(fields.overflows)
            ticks = ticks + wraps * self._kind.wrap
        if self._wrapped:
            ticks = ticks + self._wrapped
        if fields.overflows is not None:
            self._wrapped += int(wraps[-1]) * self._kind.wrap
        time_ps = to_picoseconds(ticks, self._tick_ps)
        if fields.since_sync is None:
            return time_ps
        since_sync = fields.since_sync
        if fields.markers is not None:  # a marker has no time since sync
            since_sync = np.where(fields.markers != 0, 0, since_sync)
        return time_ps + to_picoseconds(since_sync, self._since_sync_tick_ps)

    def _note_unknown(self, fields: Fields, is_event: NDArray[np.bool_], offset: int) -> None:
        known = is_event.copy()
        if fields.overflows is not None:
            known |= fields.overflows > 0
        if fields.markers is not None:
            known |= fields.markers > 0
        if not known.all():
            places = offset + np.flatnonzero(~known) * RECORD_BYTES
            self._damage.add_records(places.tolist(), UNKNOWN_RECORD, record_bytes=RECORD_BYTES)


def _with_markers(
    channel: NDArray[np.int16],
    time_ps: NDArray[np.int64],
    markers: NDArray[np.uint8],
    is_event: NDArray[np.bool_],
) -> TagBlock:
    """Put events and markers together in the order of their records."""
    of_markers = tags_of_patterns(markers, np.arange(markers.size), first_input=FIRST_MARKER)
    events = np.flatnonzero(is_event)
    record = np.concatenate((events, of_markers.time_ps))
    order = np.argsort(record, kind="stable")
    record = record[order]
    numbers = np.concatenate((channel[events], of_markers.channel))[order]
    return TagBlock(numbers, time_ps[record])


class _Sink:
    """Writes one file; the number of records is put into the header at the end."""

    def __init__(self, target: Target) -> None:
        conventions = target.conventions
        if conventions.ptu_record not in KINDS:
            raise target.error(
                f"there is no kind of record {conventions.ptu_record!r}", "use " + ", ".join(KINDS)
            )
        self._target = target
        self._kind = KINDS[conventions.ptu_record]
        self._order = OrderGuard(target, "PTU")
        self._tick_ps, self._since_sync_tick_ps = self._resolutions()
        self._records = 0
        self._wraps = 0
        self._write_header()

    def write(self, block: TagBlock) -> None:
        if block.time_ps.size == 0:
            return
        self._check_channels(block)
        self._order.check(block)
        ticks, since_sync = self._split(block.time_ps)
        wraps = ticks // self._kind.wrap
        words = self._kind.event(block.channel, ticks - wraps * self._kind.wrap, since_sync)
        steps = np.diff(wraps, prepend=self._wraps)
        self._wraps = int(wraps[-1])
        at = np.flatnonzero(steps)
        if at.size:
            self._check_overflows(int(steps.sum()))
            copies, overflows = self._kind.overflows(steps[at])
            words = np.insert(words, np.repeat(at, copies), overflows)
        self._target.file.write(words.astype("<u4").tobytes())
        self._records += words.size

    def finish(self) -> None:
        self._target.file.seek(self._records_at)
        self._target.file.write(encode_entry(_RECORDS, self._records))

    def _resolutions(self) -> tuple[Fraction, Fraction]:
        tick_ps = self._target.conventions.tick_ps
        if not self._kind.is_t3:
            tick = tick_fraction(1 if tick_ps is None else tick_ps)
            return tick, tick
        period_ps = self._target.conventions.reference_period_ps
        if period_ps is None:
            raise self._target.error(
                "T3 records count from the latest sync event", "give the period of sync"
            )
        finest = -(-period_ps // self._kind.most_since_sync)
        return Fraction(period_ps), tick_fraction(finest if tick_ps is None else tick_ps)

    def _split(
        self, time_ps: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        if not self._kind.is_t3:
            return to_ticks(time_ps, self._tick_ps), None
        sync, since_ps = np.divmod(time_ps, int(self._tick_ps))
        since_sync = to_ticks(since_ps, self._since_sync_tick_ps)
        if int(since_sync.max()) > self._kind.most_since_sync:
            raise self._target.error(
                f"the time since sync does not fit {self._kind.since_sync_bits} bits",
                "choose a longer tick or a shorter period",
            )
        return sync, since_sync

    def _check_channels(self, block: TagBlock) -> None:
        inputs = self._kind.channels
        is_input = (block.channel >= inputs.start) & (block.channel < inputs.stop)
        is_marker = (block.channel >= FIRST_MARKER) & (block.channel < FIRST_MARKER + MARKERS)
        wrong = block.channel[~(is_input | is_marker)]
        if wrong.size:
            raise self._target.error(
                f"channel {wrong[0]} does not fit: {self._kind.name} has {inputs.start} to "
                f"{inputs.stop - 1}, and markers {FIRST_MARKER} to {FIRST_MARKER + MARKERS - 1}",
                "choose channels, or another format",
            )

    def _check_overflows(self, count: int) -> None:
        if not self._kind.counts_overflows and count > MOST_OVERFLOWS:
            raise self._target.error(
                f"a wait so long takes {count} overflow records of {self._kind.name}",
                "choose a kind that counts overflows, such as multiharp-t2",
            )

    def _write_header(self) -> None:
        comment = "; ".join(f"{name}: {value}" for name, value in self._target.metadata.items())
        entries: dict[str, HeaderValue] = {
            "File_Comment": comment,
            "CreatorSW_Name": "qkdctl",
            "Measurement_Mode": 3 if self._kind.is_t3 else 2,
            "Measurement_SubMode": 0,
            "TTResultFormat_BitsPerRecord": 32,
            _RECORD_TYPE: self._kind.code,
            _GLOBAL_RESOLUTION: float(self._tick_ps / PS_PER_S),
            _RESOLUTION: float(self._since_sync_tick_ps / PS_PER_S),
        }
        if self._kind.is_t3:
            entries["TTResult_SyncRate"] = round(PS_PER_S / self._tick_ps)
        file = self._target.file
        file.write(MAGIC + VERSION)
        file.write(b"".join(encode_entry(name, value) for name, value in entries.items()))
        self._records_at = file.tell()
        file.write(encode_entry(_RECORDS, 0) + encode_entry("Header_End", None))


FORMATS = (TagFormat("ptu", "PicoQuant PTU, T2 or T3", (".ptu",), _recognise, _read, _Sink),)
