"""Time tags folded on a repeating pattern of slots, exactly and at the memory's pace.

The place of a tag in the pattern is a fraction of the period. Written in 64 bits, it needs neither
division nor remainder: a product that overflows drops whole periods by itself. The product is off
by a little that is known; the few tags that lie so close to an edge that this could matter are
decided again with whole numbers. So the counts are those of exact arithmetic, always.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock

MAX_SLOTS = 1 << 20
"""Longest pattern that is folded; it bounds the memory."""

CHUNK_TAGS = 1 << 16
"""Tags folded at a time, so that the intermediate arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Slots:
    """Equal slots that repeat, on the clock of the tags.

    Attributes:
        slot_ps: Duration of one slot, ps. Taken exactly: write ``Fraction(10**12, clock_hz)`` for
            a clock that whole picoseconds do not divide.
        period: Slots after which the pattern repeats.
        gate_ps: Full width of the gate about the slot's centre, both edges included, ps; None
            counts the whole slot.

    Raises:
        ValueError: The slot is shorter than 1 ps or not finite, the period is not 1 to MAX_SLOTS,
            or the gate is not within one slot.
    """

    slot_ps: Fraction | float
    period: int
    gate_ps: Fraction | float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.slot_ps < math.inf:
            raise ValueError(f"a slot of {self.slot_ps} ps cannot be told from its neighbours")
        if not 1 <= self.period <= MAX_SLOTS:
            raise ValueError(f"a period of {self.period} slots is not within 1 to {MAX_SLOTS}")
        if self.gate_ps is not None and not 0 < self.gate_ps <= self.slot_ps:
            raise ValueError(f"a gate of {self.gate_ps} ps is not within a slot")

    @property
    def edges(self) -> tuple[Fraction, Fraction]:
        """Where the gate begins and ends within a slot, as shares of the slot."""
        if self.gate_ps is None:
            return Fraction(0), Fraction(1)
        half = Fraction(self.gate_ps) / (2 * Fraction(self.slot_ps))
        return Fraction(1, 2) - half, Fraction(1, 2) + half


@dataclass(frozen=True)
class Folded:
    """Counts per slot and detector.

    Attributes:
        channels: Channel of each detector.
        counts: Tags in the gates, shape ``(period, n_detectors)``.
        outside: Tags between the gates, shape ``(n_detectors,)``.
        other: Tags of other channels.
        first_ps: Time of the earliest tag of any channel, ps; None if there was none.
        last_ps: Time of the latest, ps.
    """

    channels: tuple[int, ...]
    counts: NDArray[np.int64]
    outside: NDArray[np.int64]
    other: int
    first_ps: int | None
    last_ps: int | None


def fold(blocks: Iterable[TagBlock], slots: Slots, delays_ps: Mapping[int, int]) -> Folded:
    """Fold a stream of tags on a repeating pattern.

    A tag of a detector at ``t`` belongs to slot ``floor((t - delay) / slot) mod period`` and counts
    if it lies within half a gate of that slot's centre. The result is that of exact arithmetic.
    Tags need not be in order of time. The memory used does not grow with the stream.

    Args:
        blocks: The stream.
        slots: The pattern's slots.
        delays_ps: When slot 0 begins (any of its repetitions), by channel; these channels are
            the detectors, in this order, ps.

    Raises:
        ValueError: There is no detector, or one that cannot be a channel's number.
    """
    folder = _Folder(slots, delays_ps)
    for block in blocks:
        for first in range(0, len(block.time_ps), folder.chunk_tags):
            chunk = slice(first, first + folder.chunk_tags)
            folder.add(block.channel[chunk], block.time_ps[chunk])
    return folder.folded()


class _Folder:
    """The running counts, what is known beforehand of every channel, and the work space."""

    def __init__(self, slots: Slots, delays_ps: Mapping[int, int]) -> None:
        if not delays_ps:
            raise ValueError("without a detector there is nothing to fold")
        if wrong := [number for number in delays_ps if not -(1 << 15) <= number < 1 << 15]:
            raise ValueError(f"{wrong[0]} is not the number of a channel")
        self._period = slots.period
        self._channels = tuple(delays_ps)
        self._delays = [int(delay) for delay in delays_ps.values()]
        self._columns = len(self._channels) + 1  # the last one is for other channels
        self._exact = _ExactSlots(slots)
        self._step = np.uint64(round(self._exact.turn) % 2**64)
        self._column_of_channel = np.full(1 << 16, len(self._channels), dtype=np.uint32)
        self._column_of_channel[np.array(self._channels) & 0xFFFF] = range(len(self._channels))
        self._offset_of_channel = np.zeros(1 << 16, dtype=np.uint64)
        self._counts = np.zeros((slots.period + 1) * self._columns, dtype=np.int64)
        self._first_ps: int | None = None
        self._last_ps: int | None = None
        # A chunk shorter than the table would spend its time on adding tables.
        self.chunk_tags = max(CHUNK_TAGS, len(self._counts))
        self._index = np.empty(self.chunk_tags, dtype=np.intp)
        self._long = np.empty((2, self.chunk_tags), dtype=np.uint64)
        self._short = np.empty((3, self.chunk_tags), dtype=np.uint32)
        self._flags = np.empty((2, self.chunk_tags), dtype=bool)

    def add(self, channel: NDArray[np.int16], time_ps: NDArray[np.int64]) -> None:
        n = len(time_ps)
        if n == 0:
            return
        base, last = int(time_ps.min()), int(time_ps.max())
        self._first_ps = base if self._first_ps is None else min(self._first_ps, base)
        self._last_ps = last if self._last_ps is None else max(self._last_ps, last)
        for number, delay in zip(self._channels, self._delays, strict=True):
            self._offset_of_channel[number & 0xFFFF] = self._exact.phase(base - delay)
        index, (phase, offset), (slot, within, column) = (
            self._index[:n],
            self._long[:, :n],
            self._short[:, :n],
        )
        np.copyto(index, channel.view(np.uint16))
        np.take(self._column_of_channel, index, out=column, mode="clip")
        np.take(self._offset_of_channel, index, out=offset, mode="clip")
        np.subtract(time_ps, base, out=phase.view(np.int64))
        np.multiply(phase, self._step, out=phase)  # overflows: whole periods drop out
        np.add(phase, offset, out=phase)
        np.right_shift(phase, np.uint64(32), out=phase)
        np.multiply(phase, np.uint64(self._period), out=phase)  # slot, then 32 bits within it
        np.copyto(within, phase, casting="unsafe")
        np.right_shift(phase, np.uint64(32), out=phase)
        np.copyto(slot, phase, casting="unsafe")
        outside = self._gate(within, slot, column, time_ps, last - base)
        np.multiply(outside, np.uint32(self._period), out=within)
        np.maximum(slot, within, out=slot)
        np.multiply(slot, np.uint32(self._columns), out=slot)
        np.add(slot, column, out=slot)
        self._counts += np.bincount(slot, minlength=len(self._counts))

    def _gate(
        self,
        within: NDArray[np.uint32],
        slot: NDArray[np.uint32],
        column: NDArray[np.uint32],
        time_ps: NDArray[np.int64],
        span_ps: int,
    ) -> NDArray[np.bool]:
        """Tell what lies outside of the gates; tags too close to an edge are decided exactly."""
        # Rounding of the step grows with the time since the base; cutting 32 bits off costs one
        # unit per slot; the offset's rounding and the edges' own make up the rest.
        error = (span_ps * self._period >> 33) + self._period + 3
        first, width = self._exact.gate_32bit
        outside: NDArray[np.bool] = self._flags[0, : len(within)]
        unsure = self._flags[1, : len(within)]
        np.subtract(within, np.uint32((first + error) % 2**32), out=within)
        np.greater_equal(within, max(width - 2 * error, 0), out=outside)
        possible = min(width + 2 * error, 2**32)
        np.add(within, np.uint32(2 * error % 2**32), out=within)
        np.less(within, possible, out=unsure)
        np.logical_and(unsure, outside, out=unsure)
        doubtful = np.flatnonzero(unsure)
        for i in doubtful[column[doubtful] < len(self._channels)]:
            since_ps = int(time_ps[i]) - self._delays[column[i]]
            slot[i], outside[i] = self._exact.place(since_ps)
        return outside

    def folded(self) -> Folded:
        table = self._counts.reshape(self._period + 1, self._columns)
        return Folded(
            channels=self._channels,
            counts=table[:-1, :-1].copy(),
            outside=table[-1, :-1].copy(),
            other=int(table[:, -1].sum()),
            first_ps=self._first_ps,
            last_ps=self._last_ps,
        )


class _ExactSlots:
    """The slots in whole numbers: times whole in ps fall on a grid of ``1 / grid`` of a slot.

    Attributes:
        turn: What a picosecond adds to the place in the pattern, in units of ``2**-64`` periods.
        gate_32bit: Start and width of the gate, in units of ``2**-32`` slots.
    """

    def __init__(self, slots: Slots) -> None:
        slot = Fraction(slots.slot_ps)
        self._grid, self._scale, self._period = slot.numerator, slot.denominator, slots.period
        first, last = slots.edges
        self._first = math.ceil(first * self._grid)
        self._end = min(math.floor(last * self._grid) + 1, self._grid)
        self.turn = Fraction(2**64) / (slot * slots.period)
        start = (self._first << 32) // self._grid
        self.gate_32bit = start, (self._end << 32) // self._grid - start

    def phase(self, since_ps: int) -> int:
        """Return a time's place in the pattern, in units of ``2**-64`` periods, to one unit.

        It is moved on by half a step of the grid: then no tag lies on an edge, and where the grid
        is wider than the rounding errors, none lies near one.
        """
        halves = 2 * since_ps * self._scale + 1
        return (halves << 63) // (self._grid * self._period) % 2**64

    def place(self, since_ps: int) -> tuple[int, bool]:
        """Return the slot of a tag, and whether it lies outside of the gate."""
        slot, within = divmod(since_ps * self._scale, self._grid)
        return slot % self._period, not self._first <= within < self._end
