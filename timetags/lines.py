"""Lines of whole numbers from a text file, in blocks; lines that make no sense are noted."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from timetags.errors import DamageLog
from timetags.records import RecordStream

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 4096
LARGEST_DIGITS = 18
CUT_SHORT = "the line is cut short: no end of line"
TOO_LONG = "no end of line within 4096 bytes"


@dataclass(frozen=True)
class LineBlock:
    """Some whole lines in a row, at least one.

    Attributes:
        offset: Where the first one starts in the file, bytes.
        text: The lines; each ends in a line feed.
    """

    offset: int
    text: bytes


@dataclass(frozen=True)
class LineStream:
    """The lines of a file from some place on; lost stretches are left out and noted.

    A last line without an end may be cut short, and half a number is a wrong number: it is noted
    as damage, never read.
    """

    file: BinaryIO
    start: int
    end: int
    damage: DamageLog

    def __iter__(self) -> Iterator[LineBlock]:
        """Read block after block."""
        pieces = RecordStream(
            self.file,
            self.start,
            self.end,
            1,
            self.damage,
            block_records=BLOCK_BYTES,
            counted_bytes=0,
        )
        carried, carried_at = b"", self.start
        is_whole = True  # whether what is carried starts where a line does
        for piece in pieces:
            if piece.offset != carried_at + len(carried):
                self._note_cut(carried_at, carried)
                carried, carried_at, is_whole = b"", piece.offset, False
            text = carried + piece.data.tobytes()
            if not is_whole:
                text, carried_at, is_whole = self._skip_line(text, carried_at)
            cut = text.rfind(b"\n") + 1
            if cut and is_whole:
                yield LineBlock(carried_at, text[:cut])
                text, carried_at = text[cut:], carried_at + cut
            if is_whole and len(text) > LONGEST_LINE:
                self.damage.add(carried_at, 1, TOO_LONG, length=len(text))
                text, carried_at, is_whole = b"", carried_at + len(text), False
            carried = text
        self._note_cut(carried_at, carried)

    def _skip_line(self, text: bytes, at: int) -> tuple[bytes, int, bool]:
        """Drop the rest of a line whose start is lost."""
        feed = text.find(b"\n")
        rest_bytes = len(text) if feed < 0 else feed + 1
        self.damage.add(at, 0, "rest of a line whose start is lost", length=rest_bytes)
        return text[rest_bytes:], at + rest_bytes, feed >= 0

    def _note_cut(self, offset: int, text: bytes) -> None:
        if text:
            self.damage.add(offset, 1, CUT_SHORT, length=len(text))


@dataclass(frozen=True)
class NumberColumns:
    """Lines of whole numbers with something between them.

    Attributes:
        columns: Numbers in a line.
        separator: One character between two numbers.
    """

    columns: int
    separator: bytes

    def parse(self, block: LineBlock, damage: DamageLog) -> NDArray[np.int64]:
        """Read the numbers of a block; lines that are not such numbers are noted and left out.

        Blanks around the numbers, carriage returns and empty lines are no damage. A number has at
        most 18 digits.

        Returns:
            Numbers, shape ``(n_lines, columns)``.
        """
        values = self._parse_clean(block.text)
        return self._parse_lines(block, damage) if values is None else values

    def matches(self, line: bytes) -> bool:
        """Whether a line has as many numbers as it should."""
        return self._pattern.fullmatch(line) is not None

    def _parse_clean(self, text: bytes) -> NDArray[np.int64] | None:
        """Read a block in which every line is as it should be; None if one is not."""
        if b"\r\n" in text:
            text = text.replace(b"\r\n", b"\n")
        characters = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero((characters < ord("0")) & (characters != ord("-")))
        if ends.size % self.columns or (characters > ord("9")).any():
            return None
        kinds = characters[ends].reshape(-1, self.columns)
        if (kinds[:, -1] != ord("\n")).any() or (kinds[:, :-1] != self.separator[0]).any():
            return None
        digits = np.diff(ends, prepend=-1) - 1
        minus = np.flatnonzero(characters == ord("-"))
        if minus.size:
            number = np.searchsorted(ends, minus)
            if not np.array_equal(minus, ends[number] - digits[number]):
                return None  # a sign that does not start its number
            digits[number] -= 1
        if digits.min() < 1 or digits.max() > LARGEST_DIGITS:
            return None
        return self._values(text)

    def _values(self, text: bytes) -> NDArray[np.int64]:
        spaced = text.replace(self.separator, b" ")
        return np.fromstring(spaced, dtype=np.int64, sep=" ").reshape(-1, self.columns)

    def _parse_lines(self, block: LineBlock, damage: DamageLog) -> NDArray[np.int64]:
        values: list[list[int]] = []
        offset = block.offset
        for line in block.text.splitlines(keepends=True):
            if self._pattern.fullmatch(line):
                values.append([int(number) for number in line.split(self.separator)])
            elif line.strip():
                shown = line.strip()[:40].decode("ascii", "backslashreplace")
                wanted = f"{self.columns} whole number" + ("s" if self.columns > 1 else "")
                damage.add(offset, 1, f"not {wanted}: {shown!r}", length=len(line))
            offset += len(line)
        return np.array(values, dtype=np.int64).reshape(-1, self.columns)

    @property
    def _pattern(self) -> re.Pattern[bytes]:
        number = rb"[ \t]*-?[0-9]{1,18}[ \t]*"
        between = re.escape(self.separator)
        return re.compile(between.join([number] * self.columns) + rb"\r?\n")
