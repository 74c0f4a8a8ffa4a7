"""Record kinds of PicoQuant PTU files: 32 bits an event, and what carries the time on.

T2: each event has its own time, in ticks of the global resolution. T3: each event has the number of
the latest sync event (its unit is the global resolution, the sync period) and the time since it.
Overflow records say that the counter of times or of sync events started again from zero.

HydraHarp, TimeHarp 260 and MultiHarp, T2: bit 31 special, 30..25 channel, 24..0 time. Special with
channel 0x3F is an overflow; its time is how often the counter started again (version 1: once, and
0 means once). Special with channel 1 to 15 is a marker (one bit for each of four inputs), with
channel 0 the sync input. T3: special, channel, 15 bits of time since sync, 10 bits of sync number.

PicoHarp 300, T2: 4 bits channel, 28 bits time. Channel 15 is special: the low four bits of the time
are markers, all zero means overflow after 210698240 ticks. T3: 4 bits channel, 12 bits of time
since sync, 16 bits of sync number; channel 15 with time 0 is an overflow, else the time is markers.

Channels are numbered as on the front panel: sync is 0, inputs are from 1, markers 101 to 104.

Source: PicoQuant/PicoQuant-Time-Tagged-File-Format-Demos, Read_PTU, ptudemo.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.uint32]
Ticks = NDArray[np.int64]

FIRST_MARKER = 101
MARKERS = 4


@dataclass(frozen=True)
class Fields:
    """What the bits of some records say.

    Attributes:
        channel: Input, shape ``(n,)``; only valid where a record is an event.
        ticks: Time (T2) or number of the sync event (T3) since the last overflow, shape ``(n,)``.
        since_sync: Time since the sync event (T3), else None, shape ``(n,)``.
        overflows: How often the counter started again at this record, shape ``(n,)``; None if it
            never did.
        markers: Marker bits, shape ``(n,)``; None if there are none.
        is_event: Whether a record is an event of an input, shape ``(n,)``; None if all are.
    """

    channel: NDArray[np.int16]
    ticks: Ticks
    since_sync: Ticks | None
    overflows: Ticks | None
    markers: NDArray[np.uint8] | None
    is_event: NDArray[np.bool_] | None


@dataclass(frozen=True)
class RecordKind:
    """One way to pack an event into 32 bits.

    Attributes:
        name: How it is called on the command line.
        code: Its number in the header, ``TTResultFormat_TTTRRecType``.
        is_t3: Whether times are sync number and time since sync.
        wrap: Ticks after which the counter starts again.
        channel_bits: Size of the channel field, below the special bit if there is one.
        since_sync_bits: Size of the field for the time since sync (T3), else 0.
        has_special_bit: Whether bit 31 tells events from the rest; else the highest channel does.
        counts_overflows: Whether an overflow record says how often.
    """

    name: str
    code: int
    is_t3: bool
    wrap: int
    channel_bits: int
    since_sync_bits: int
    has_special_bit: bool
    counts_overflows: bool

    @property
    def tick_bits(self) -> int:
        """Size of the field for the time (T2) or the sync number (T3)."""
        return 32 - self.has_special_bit - self.channel_bits - self.since_sync_bits

    @property
    def first_input(self) -> int:
        """What is added to the channel field to number inputs as on the front panel."""
        return 1 if self.has_special_bit else 0

    @property
    def channels(self) -> range:
        """Inputs that an event can be of."""
        if not self.has_special_bit:
            return range(0 if not self.is_t3 else 1, 5)
        return range(0 if not self.is_t3 else 1, (1 << self.channel_bits) + self.first_input)

    @property
    def most_since_sync(self) -> int:
        """Longest time since sync that fits, ticks."""
        return (1 << self.since_sync_bits) - 1

    def decode(self, records: Records) -> Fields:
        """Take records apart."""
        ticks = (records & _mask(self.tick_bits)).astype(np.int64)
        since = (records >> np.uint32(self.tick_bits)) & _mask(self.since_sync_bits)
        shift = np.uint32(self.tick_bits + self.since_sync_bits)
        field = (records >> shift) & _mask(self.channel_bits)
        channel = field.astype(np.int16) + np.int16(self.first_input)
        since_sync = since.astype(np.int64) if self.is_t3 else None
        top = _mask(self.channel_bits)
        special = records >> np.uint32(31) != 0 if self.has_special_bit else field == top
        if not special.any():
            return Fields(channel, ticks, since_sync, None, None, None)
        if self.has_special_bit:
            return self._decode_marked(special, field, channel, ticks, since_sync)
        return self._decode_picoharp(special, channel, ticks, since_sync)

    def _decode_marked(
        self,
        special: NDArray[np.bool_],
        field: Records,
        channel: NDArray[np.int16],
        ticks: Ticks,
        since_sync: Ticks | None,
    ) -> Fields:
        is_overflow = special & (field == _mask(self.channel_bits))
        counts = np.maximum(ticks, 1) if self.counts_overflows else np.int64(1)
        overflows = np.where(is_overflow, counts, 0)
        is_marker = special & (field >= 1) & (field < 1 << MARKERS)
        markers = np.where(is_marker, field, 0).astype(np.uint8) if is_marker.any() else None
        is_sync = special & (field == 0) if not self.is_t3 else np.zeros_like(special)
        channel = np.where(is_sync, np.int16(0), channel)
        return Fields(channel, ticks, since_sync, overflows, markers, ~special | is_sync)

    def _decode_picoharp(
        self,
        special: NDArray[np.bool_],
        channel: NDArray[np.int16],
        ticks: Ticks,
        since_sync: Ticks | None,
    ) -> Fields:
        carrier = ticks if since_sync is None else since_sync
        markers = np.where(special, carrier & 0xF, 0).astype(np.uint8)
        is_overflow = special & (markers == 0)
        if since_sync is None:  # the low bits of the time are the markers
            ticks = np.where(special, ticks & ~np.int64(0xF), ticks)
        overflows = is_overflow.astype(np.int64)
        return Fields(
            channel, ticks, since_sync, overflows, markers if markers.any() else None, ~special
        )

    def event(self, channel: NDArray[np.int16], ticks: Ticks, since_sync: Ticks | None) -> Records:
        """Make records of events or markers; ``ticks`` are below ``wrap``."""
        is_marker = channel >= FIRST_MARKER
        is_sync = (channel == 0) & self.has_special_bit
        marker = np.where(is_marker, 1 << np.clip(channel - FIRST_MARKER, 0, MARKERS - 1), 0)
        field = channel.astype(np.int64) - self.first_input
        field = np.where(is_sync, 0, field)
        if self.has_special_bit:
            field = np.where(is_marker, marker, field)
            special = (is_marker | is_sync).astype(np.int64) << 31
        else:
            field = np.where(is_marker, (1 << self.channel_bits) - 1, field)
            special = np.int64(0)
            if since_sync is not None:
                since_sync = np.where(is_marker, marker, since_sync)
            else:
                ticks = np.where(is_marker, (ticks & ~np.int64(0xF)) | marker, ticks)
        words = special | field << (self.tick_bits + self.since_sync_bits) | ticks
        if since_sync is not None:
            words |= since_sync << self.tick_bits
        return np.asarray(words, dtype=np.uint32)

    def overflows(self, steps: Ticks) -> tuple[Ticks, Records]:
        """Make the records that say that the counter started again.

        Args:
            steps: How often, each at least once, shape ``(n,)``.

        Returns:
            How many records each of them takes, shape ``(n,)``, and all those records.
        """
        field = ((1 << self.channel_bits) - 1) << (self.tick_bits + self.since_sync_bits)
        base = field | (1 << 31 if self.has_special_bit else 0)
        if not self.counts_overflows:
            return steps, np.full(int(steps.sum()), base, dtype=np.uint32)
        most = (1 << self.tick_bits) - 1
        copies = -(-steps // most)
        counts = np.full(int(copies.sum()), most, dtype=np.int64)
        counts[np.cumsum(copies) - 1] = steps - (copies - 1) * most
        return copies, (counts | base).astype(np.uint32)


def _mask(bits: int) -> np.uint32:
    return np.uint32((1 << bits) - 1)


def _t2(name: str, code: int, wrap: int = 1 << 25, *, counts_overflows: bool = True) -> RecordKind:
    return RecordKind(name, code, False, wrap, 6, 0, True, counts_overflows)


def _t3(name: str, code: int, *, counts_overflows: bool = True) -> RecordKind:
    return RecordKind(name, code, True, 1 << 10, 6, 15, True, counts_overflows)


KINDS = {
    kind.name: kind
    for kind in (
        RecordKind("picoharp-t2", 0x00010203, False, 210_698_240, 4, 0, False, False),
        RecordKind("picoharp-t3", 0x00010303, True, 1 << 16, 4, 12, False, False),
        _t2("hydraharp-t2", 0x00010204, 33_552_000, counts_overflows=False),
        _t3("hydraharp-t3", 0x00010304, counts_overflows=False),
        _t2("hydraharp2-t2", 0x01010204),
        _t3("hydraharp2-t3", 0x01010304),
        _t2("timeharp260n-t2", 0x00010205),
        _t3("timeharp260n-t3", 0x00010305),
        _t2("timeharp260p-t2", 0x00010206),
        _t3("timeharp260p-t3", 0x00010306),
        _t2("multiharp-t2", 0x00010207),
        _t3("multiharp-t3", 0x00010307),
    )
}
BY_CODE = {kind.code: kind for kind in KINDS.values()}
