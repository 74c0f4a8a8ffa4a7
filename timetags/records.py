"""Records of fixed size from a binary file, in blocks, with lost stretches left out and noted."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from timetags.errors import DamageLog

BLOCK_RECORDS = 1 << 18
PAGE_BYTES = 4096
LOST = "zeros: whole pages of the file were never written, or are lost"
LOST_WITH_TIME = f"{LOST}; times after them lack the counter's overflows that were in them"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class RecordBlock:
    """Some records in a row.

    Attributes:
        offset: Where the first one starts in the file, bytes.
        data: Their bytes, shape ``(n, record_bytes)``.
    """

    offset: int
    data: Bytes


@dataclass(frozen=True)
class RecordStream:
    """The records of a file between two places.

    No instrument writes a page (4096 bytes) of zeros. A crash, a full disk or an interrupted copy
    leaves them, as a hole of a sparse file or as real zeros; both are skipped, noted as damage, and
    the hole costs no time. A record that reaches into such a page is lost with it.

    Attributes:
        file: The open file; its position is neither used nor changed.
        start: Where the first record starts, bytes.
        end: Where the records end, bytes.
        record_bytes: Size of a record.
        damage: Takes what was left out.
        block_records: Largest number of records in a block.
        counted_bytes: Size of what is counted where bytes are lost: None is a record, 0 nothing.
        lost: What to say of lost pages.
    """

    file: BinaryIO
    start: int
    end: int
    record_bytes: int
    damage: DamageLog
    block_records: int = BLOCK_RECORDS
    counted_bytes: int | None = None
    lost: str = LOST

    def __iter__(self) -> Iterator[RecordBlock]:
        """Read block after block."""
        position = self.start
        whole_end = self.end - (self.end - self.start) % self.record_bytes
        while position < whole_end:
            data_at = _next_data(self.file, position, whole_end)
            if data_at - position >= PAGE_BYTES:
                position = self._note_lost(position, data_at)
                continue
            wanted = min(self.block_records * self.record_bytes, whole_end - position)
            view = _View.around(self.file, position, wanted)
            data = view.data[position - view.offset :][:wanted]
            if data.size < wanted:  # the file became shorter while it was read
                whole_end = position + data.size // self.record_bytes * self.record_bytes
                data = data[: whole_end - position]
            yield from self._present(position, data, view)
            position += data.size
        if whole_end < self.end:
            left = self.end - whole_end
            problem = f"the last record is incomplete: {left} of {self.record_bytes} bytes"
            self.damage.add(whole_end, 1, problem, length=left)

    def _present(self, position: int, data: Bytes, view: "_View") -> Iterator[RecordBlock]:
        """Yield the records that are there, and note those between them that are not."""
        begin, end = position, position + data.size
        for pages, zeros in view.zero_runs():
            # records that touch the pages, and those of zeros beside them
            first = min(self._floor(pages.start), self._ceil(zeros.start))
            after = max(self._ceil(pages.stop), self._floor(zeros.stop))
            first, after = max(first, begin), min(after, end)
            if first >= after:
                continue
            if first > begin:
                yield self._block(begin, data[begin - position : first - position])
            begin = self._note_lost(first, after)
        if begin < end:
            yield self._block(begin, data[begin - position :])

    def _block(self, offset: int, data: Bytes) -> RecordBlock:
        return RecordBlock(offset, data.reshape(-1, self.record_bytes))

    def _note_lost(self, first: int, last: int) -> int:
        """Note the records that reach into these bytes; return where the next one starts."""
        begin, after = self._floor(first), self._ceil(last)
        counted = self.record_bytes if self.counted_bytes is None else self.counted_bytes
        count = (after - begin) // counted if counted else 0
        self.damage.add(begin, count, self.lost, length=after - begin)
        return after

    def _floor(self, position: int) -> int:
        return position - (position - self.start) % self.record_bytes

    def _ceil(self, position: int) -> int:
        return position + (self.start - position) % self.record_bytes


@dataclass(frozen=True)
class _View:
    """Some bytes of a file, from page to page, with a page more on both sides where there is one.

    Attributes:
        offset: Where they are in the file.
        data: The bytes, shape ``(n,)``.
    """

    offset: int
    data: Bytes

    @classmethod
    def around(cls, file: BinaryIO, position: int, size: int) -> "_View":
        first = max(0, position // PAGE_BYTES - 1) * PAGE_BYTES
        last = (-(-(position + size) // PAGE_BYTES) + 1) * PAGE_BYTES
        return cls(first, np.frombuffer(os.pread(file.fileno(), last - first, first), np.uint8))

    def zero_runs(self) -> Iterator[tuple[range, range]]:
        """Find runs of pages of zeros; tell their place in the file, with and without zeros beside.

        Yields:
            The pages of a run, and the same with the zeros before and after them.
        """
        pages = self.data.size // PAGE_BYTES
        paged = self.data[: pages * PAGE_BYTES].reshape(pages, PAGE_BYTES)
        suspects = np.flatnonzero(~paged[:, : PAGE_BYTES // 64].any(axis=1))
        zero = suspects[~paged[suspects].any(axis=1)]
        if zero.size == 0:
            return
        for run in np.split(zero, np.flatnonzero(np.diff(zero) > 1) + 1):
            start, stop = int(run[0]) * PAGE_BYTES, (int(run[-1]) + 1) * PAGE_BYTES
            before = np.flatnonzero(self.data[max(0, start - PAGE_BYTES) : start])
            after = np.flatnonzero(self.data[stop : stop + PAGE_BYTES])
            first = max(0, start - PAGE_BYTES) + (int(before[-1]) + 1 if before.size else 0)
            last = stop + (int(after[0]) if after.size else self.data[stop:][:PAGE_BYTES].size)
            at = self.offset
            yield range(at + start, at + stop), range(at + first, at + last)


def _next_data(file: BinaryIO, position: int, end: int) -> int:
    """Where the file has data next: ``position`` itself unless it lies in a hole."""
    if not hasattr(os, "SEEK_DATA"):
        return position
    descriptor = file.fileno()
    before = os.lseek(descriptor, 0, os.SEEK_CUR)  # a buffer above relies on it
    try:
        return min(os.lseek(descriptor, position, os.SEEK_DATA), end)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # only a hole up to the end of the file
            return end
        return position  # this file system does not tell
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
