"""S-Fifteen TDC1 tag streams, as the unit sends them: see ``timetags.tdc1``."""

from collections.abc import Iterator

import numpy as np

from timetags.block import TagBlock
from timetags.formats.format import Likeness, Source, TagFormat, Target
from timetags.records import LOST_WITH_TIME, RecordStream
from timetags.tdc1 import (
    DUMMY,
    PATTERN,
    ROLLOVER,
    SLIP_BYTES,
    STEP_BACK,
    TIME_SHIFT,
    UNIT_PS,
    WORD_BYTES,
    Tdc1Decoder,
    Tdc1Encoder,
)

BLOCK_BYTES = 1 << 20
SLIP = "two bytes are missing or too many: one record is lost"

_ENOUGH = 32
_SHARE = 0.98


def _recognise(head: bytes) -> Likeness:
    words = np.frombuffer(head[: len(head) // WORD_BYTES * WORD_BYTES], dtype="<u4")
    if words.size < 2:
        return Likeness.NO
    is_dummy = (words & DUMMY) != 0
    has_meaning = is_dummy | ((words & PATTERN) != 0)
    time = (words >> TIME_SHIFT).astype(np.int64)
    step = np.diff(time, prepend=time[0])
    goes_on = (step >= 0) | (step < -STEP_BACK)
    starts = int((step < 0).sum())
    if (has_meaning & goes_on).mean() < _SHARE or starts > 1 + (1 - _SHARE) * words.size:
        return Likeness.NO
    return Likeness.LIKELY if words.size >= _ENOUGH else Likeness.POSSIBLE


def _read(source: Source) -> Iterator[TagBlock]:
    source.metadata |= {"instrument": "S-Fifteen TDC1", "tick_ps": UNIT_PS}
    stream = RecordStream(
        source.file,
        0,
        source.size,
        1,  # slips move the words by two bytes
        source.damage,
        block_records=BLOCK_BYTES,
        counted_bytes=WORD_BYTES,
        lost=LOST_WITH_TIME,
    )
    stretch = _Stretch(0, 0)
    for block in stream:
        if block.offset != stretch.end:
            yield stretch.finish(source)
            stretch = _Stretch(block.offset, stretch.latest_ps)
        yield stretch.feed(block.data.tobytes(), source)
    yield stretch.finish(source)


class _Stretch:
    """Bytes of a stream that hang together; after lost ones the next stretch begins.

    Attributes:
        end: Where in the file the bytes end that were fed so far.
        latest_ps: Time of the latest word, ps.
    """

    def __init__(self, offset: int, latest_ps: int) -> None:
        self._decoder = Tdc1Decoder()
        self._offset = offset
        self._told_slips = 0
        self._before_ps = latest_ps
        self._zero_ps: int | None = None if offset else 0
        self.end = offset
        self.latest_ps = latest_ps

    def feed(self, data: bytes, source: Source) -> TagBlock:
        self.end += len(data)
        return self._told(self._decoder.feed(data), source)

    def finish(self, source: Source) -> TagBlock:
        block = self._told(self._decoder.finish(), source)
        left = self._decoder.held_bytes
        if left:
            problem = f"the last record is incomplete: {left} of {WORD_BYTES} bytes"
            source.damage.add(self.end - left, 1, problem, length=left)
        return block

    def _told(self, block: TagBlock, source: Source) -> TagBlock:
        for slip in self._decoder.slips[self._told_slips :]:
            source.damage.add(self._offset + slip.offset_bytes, 1, SLIP, length=SLIP_BYTES)
        self._told_slips = len(self._decoder.slips)
        if block.time_ps.size == 0:
            return block
        if self._zero_ps is None:  # the count goes on, as if no rollover were lost
            rollover_ps = ROLLOVER * UNIT_PS
            self._zero_ps = (
                -(-(self._before_ps - int(block.time_ps[0])) // rollover_ps) * rollover_ps
            )
        time_ps = block.time_ps + self._zero_ps if self._zero_ps else block.time_ps
        self.latest_ps = int(time_ps[-1])
        return TagBlock(block.channel, time_ps)


class _Sink:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._encoder = Tdc1Encoder()

    def write(self, block: TagBlock) -> None:
        try:
            self._target.file.write(self._encoder.feed(block))
        except ValueError as exc:
            raise self._target.error(f"it does not fit a TDC1 stream: {exc}") from exc

    def finish(self) -> None:
        """There is nothing at the end."""


FORMATS = (TagFormat("tdc1", "S-Fifteen TDC1 tag stream", (".tdc1",), _recognise, _read, _Sink),)
