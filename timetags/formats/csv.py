"""Plain CSV: a header line that names ``channel`` and ``time_ps``, then whole numbers.

Lines before the header that begin with ``#`` are kept as metadata where they say ``name: value``.
Columns are told by their names, may come in any order, and others are left out; all hold whole
numbers. They are parted by commas, semicolons or tabs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from timetags.block import TagBlock
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.lines import LineStream, NumberColumns

CHANNEL = "channel"
TIME = "time_ps"
LONGEST_HEAD = 1 << 20

_CHANNELS = np.iinfo(np.int16)


@dataclass(frozen=True)
class Head:
    """What comes before the numbers.

    Attributes:
        said: Metadata lines, by name.
        names: Names of the columns.
        separator: What parts them.
        end: Where the numbers start, bytes.
    """

    said: dict[str, str]
    names: tuple[str, ...]
    separator: str
    end: int


def parse_head(text: bytes) -> Head | None:
    """Read metadata lines and header; None if they do not end within the text."""
    said: dict[str, str] = {}
    start = 0
    while (feed := text.find(b"\n", start)) >= 0:
        line = text[start:feed].decode("utf-8", "replace").lstrip("\ufeff").strip()
        start = feed + 1
        if line.startswith("#"):
            name, colon, value = line[1:].partition(":")
            said |= {name.strip(): value.strip()} if colon else {}
        elif line:
            separator = next((mark for mark in (",", ";", "\t") if mark in line), ",")
            names = tuple(name.strip().strip('"').lower() for name in line.split(separator))
            return Head(said, names, separator, start)
    return None


def _recognise(head: bytes) -> Likeness:
    parsed = parse_head(head)
    if parsed is None or CHANNEL not in parsed.names:
        return Likeness.NO
    return (
        Likeness.CERTAIN if any(name.startswith("time") for name in parsed.names) else Likeness.NO
    )


def _read(source: Source) -> Iterator[TagBlock]:
    source.file.seek(0)
    head = parse_head(source.file.read(LONGEST_HEAD))
    if head is None or CHANNEL not in head.names or TIME not in head.names:
        shown = "there is none" if head is None else "it is " + head.separator.join(head.names)[:80]
        raise source.error(
            f"a CSV file needs a header line with the columns {CHANNEL} and {TIME}; {shown}",
            offset=0,
            remedy=f"name the columns, and give times as whole picoseconds ({TIME})",
        )
    source.metadata |= head.said
    channel_at, time_at = head.names.index(CHANNEL), head.names.index(TIME)
    columns = NumberColumns(len(head.names), head.separator.encode())
    for block in LineStream(source.file, head.end, source.size, source.damage):
        numbers = columns.parse(block, source.damage)
        channel = numbers[:, channel_at]
        is_wrong = (channel < _CHANNELS.min) | (channel > _CHANNELS.max)
        if is_wrong.any():
            source.damage.add(
                block.offset,
                int(is_wrong.sum()),
                "a channel of more than 16 bits",
                length=len(block.text),
            )
            numbers = numbers[~is_wrong]
        yield TagBlock(
            numbers[:, channel_at].astype(np.int16), np.ascontiguousarray(numbers[:, time_at])
        )


class _Sink:
    def __init__(self, target: Target) -> None:
        self._target = target
        said = "".join(
            f"# {name}: {' '.join(str(value).split())}\n" for name, value in target.metadata.items()
        )
        target.file.write(f"{said}{CHANNEL},{TIME}\n".encode())

    def write(self, block: TagBlock) -> None:
        rows = zip(block.channel.tolist(), block.time_ps.tolist(), strict=True)
        self._target.file.write("".join(f"{channel},{time}\n" for channel, time in rows).encode())

    def finish(self) -> None:
        """There is nothing at the end."""


FORMATS = (TagFormat("csv", "CSV with channel and time_ps", (".csv",), _recognise, _read, _Sink),)
