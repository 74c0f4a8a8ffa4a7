"""ID Quantique ID900 / ID1000 time stamps, binary and text.

Binary: little-endian 64-bit picoseconds since the latest reference event (since the start of the
acquisition if there is no reference), each followed by a 64-bit reference index if that was asked
for. Text: ``timestamp;index`` or ``timestamp`` a line. A file holds one input and does not name it:
the channel comes from the conventions.

Times since a START event become absolute with an index and the period of START; without the period
they stay what the file says, and the blocks carry the index beside them.

Source: IDQ Time Controller series user manual, time stamp service.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.errors import DamageLog
from timetags.formats.checks import check_one_channel, check_times
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.lines import LineStream, NumberColumns
from timetags.records import RecordStream

TITLE = "an ID900 file"
BEYOND = "a time or an index of more than 62 bits"

Words = NDArray[np.uint64]

_ENOUGH = 32
_SHARE = 0.98
_MOST = 1 << 62


@dataclass(frozen=True)
class ReferencedBlock(TagBlock):
    """Tags whose times count from a reference event.

    Attributes:
        reference_index: Which reference event, shape ``(n,)``.
    """

    reference_index: NDArray[np.int64]


class Layout(Enum):
    """What the 64-bit words of a binary file are."""

    ABSOLUTE = "times in order"
    SINCE_REFERENCE = "times since the latest reference event, without index"
    INDEXED = "times since the latest reference event, with index"


def layout_of_words(words: Words) -> tuple[Layout, Likeness]:
    """Tell what the first words of a file are, and how likely it is an ID900 file at all."""
    if words.size == 0 or (words >= _MOST).mean() > 1 - _SHARE:
        return Layout.ABSOLUTE, Likeness.NO
    enough = Likeness.LIKELY if words.size >= _ENOUGH else Likeness.POSSIBLE
    signed = words.astype(np.int64)
    if _is_in_order(signed):
        return Layout.ABSOLUTE, enough if signed[-1] > signed[0] else Likeness.POSSIBLE
    pairs = signed[: signed.size // 2 * 2].reshape(-1, 2)
    if len(pairs) > 1 and _is_in_order(pairs[:, 1]):
        return Layout.INDEXED, enough
    return Layout.SINCE_REFERENCE, Likeness.POSSIBLE


def _is_in_order(values: NDArray[np.int64]) -> bool:
    return values.size < 2 or bool((np.diff(values) >= 0).mean() >= _SHARE)


def _recognise_binary(head: bytes) -> Likeness:
    return layout_of_words(np.frombuffer(head[: len(head) // 8 * 8], dtype="<u8"))[1]


def _read_binary(source: Source) -> Iterator[TagBlock]:
    layout = _layout(source)
    words_per_tag = 2 if layout is Layout.INDEXED else 1
    stream = RecordStream(source.file, 0, source.size, 8 * words_per_tag, source.damage)
    tags = _Tags(source, layout)
    for block in stream:
        words = block.data.view("<u8")
        beyond = (words >= _MOST).any(axis=1)
        if beyond.any():
            offsets = block.offset + np.flatnonzero(beyond) * 8 * words_per_tag
            source.damage.add_records(offsets.tolist(), BEYOND, record_bytes=8 * words_per_tag)
            words = words[~beyond]
        yield tags.block(words.astype(np.int64))


def _layout(source: Source) -> Layout:
    has_index = source.conventions.has_index
    if has_index:
        return Layout.INDEXED
    first = next(iter(RecordStream(source.file, 0, source.size, 8, DamageLog(), 4096)), None)
    if first is None:
        return Layout.ABSOLUTE
    layout, _ = layout_of_words(first.data.view("<u8").reshape(-1))
    if has_index is False and layout is Layout.INDEXED:
        return Layout.SINCE_REFERENCE
    return layout


class _Tags:
    """Turns the numbers of one file into tags, and says in the metadata what its times are."""

    def __init__(self, source: Source, layout: Layout) -> None:
        conventions = source.conventions
        self._channel = conventions.channel
        self._period_ps = conventions.reference_period_ps
        self._is_indexed = layout is Layout.INDEXED
        source.metadata |= {"instrument": "ID Quantique time controller", "times": layout.value}
        if not self._is_indexed and self._period_ps is not None:
            raise source.error(
                f"a reference period was given, but the file has {layout.value}",
                remedy="leave the period out, or say that the file has an index",
            )
        if self._is_indexed and self._period_ps is not None:
            source.metadata["reference_period_ps"] = self._period_ps

    def block(self, numbers: NDArray[np.int64]) -> TagBlock:
        """Make a block of numbers of shape ``(n, 1)``, or ``(n, 2)`` with the index."""
        time_ps = np.ascontiguousarray(numbers[:, 0])
        channel = np.full(time_ps.size, self._channel, dtype=np.int16)
        if not self._is_indexed:
            return TagBlock(channel, time_ps)
        index = np.ascontiguousarray(numbers[:, 1])
        if self._period_ps is None:
            return ReferencedBlock(channel, time_ps, index)
        return TagBlock(channel, index * self._period_ps + time_ps)


def _recognise_text(head: bytes) -> Likeness:
    lines = head[: head.rfind(b"\n") + 1].splitlines(keepends=True)[:256]
    if not lines:
        return Likeness.NO
    if all(_PAIR.matches(line) for line in lines):
        return Likeness.LIKELY if len(lines) >= _ENOUGH else Likeness.POSSIBLE
    return Likeness.POSSIBLE if all(_SINGLE.matches(line) for line in lines) else Likeness.NO


def _read_text(source: Source) -> Iterator[TagBlock]:
    tags: _Tags | None = None
    columns = _SINGLE
    for block in LineStream(source.file, 0, source.size, source.damage):
        if tags is None:
            first_line = block.text[: block.text.index(b"\n") + 1]
            columns = _PAIR if b";" in first_line else _SINGLE
            tags = _Tags(source, Layout.INDEXED if columns is _PAIR else Layout.ABSOLUTE)
        yield tags.block(columns.parse(block, source.damage))


class _Numbers:
    """Turns blocks into the numbers of a file: times, or times and indices."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._has_index: bool | None = None

    def of(self, block: TagBlock) -> NDArray[np.int64]:
        """Numbers of a block, shape ``(n, 1)`` or ``(n, 2)``."""
        if block.time_ps.size == 0:
            return np.empty((0, 2 if self._has_index else 1), dtype=np.int64)
        check_one_channel(self._target, block, TITLE)
        check_times(self._target, block, TITLE, _MOST - 1)
        has_index = isinstance(block, ReferencedBlock) or bool(self._target.conventions.has_index)
        if self._has_index is None:
            self._has_index = has_index
        elif self._has_index != has_index:
            raise self._target.error("some tags have a reference index and others have none")
        if not has_index:
            return block.time_ps.reshape(-1, 1)
        if isinstance(block, ReferencedBlock):
            return np.stack((block.time_ps, block.reference_index), axis=1)
        period_ps = self._target.conventions.reference_period_ps
        if period_ps is None:
            raise self._target.error(
                "an index needs the period of the reference", "give the period, or leave the index"
            )
        index, since_ps = np.divmod(block.time_ps, period_ps)
        return np.stack((since_ps, index), axis=1)


class _BinarySink:
    def __init__(self, target: Target) -> None:
        self._file = target.file
        self._numbers = _Numbers(target)

    def write(self, block: TagBlock) -> None:
        self._file.write(self._numbers.of(block).astype("<u8").tobytes())

    def finish(self) -> None:
        """There is nothing at the end."""


class _TextSink:
    def __init__(self, target: Target) -> None:
        self._file = target.file
        self._numbers = _Numbers(target)

    def write(self, block: TagBlock) -> None:
        rows = self._numbers.of(block).tolist()
        self._file.write("".join(";".join(map(str, row)) + "\n" for row in rows).encode("ascii"))

    def finish(self) -> None:
        """There is nothing at the end."""


_PAIR = NumberColumns(2, b";")
_SINGLE = NumberColumns(1, b";")

FORMATS = (
    TagFormat(
        "id900",
        "ID Quantique ID900/ID1000 binary",
        (".bin", ".id900"),
        _recognise_binary,
        _read_binary,
        _BinarySink,
    ),
    TagFormat(
        "id900-text",
        "ID Quantique ID900/ID1000 text",
        (".txt", ".id900.txt"),
        _recognise_text,
        _read_text,
        _TextSink,
    ),
)
