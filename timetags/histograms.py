"""Histograms of time differences: from tag to tag, and from start to stop."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.matching import OrderError, Times, in_pieces, times_of

MAX_BINS = 10_000_000
"""Most bins of a histogram; it bounds the memory."""


@dataclass(frozen=True)
class Histogram:
    """Counts of time differences in equal bins.

    Bin ``k`` counts differences from ``k * bin_ps`` up to, not including, ``(k + 1) * bin_ps``.

    Attributes:
        bin_ps: Width of a bin, ps.
        counts: Differences in each bin, shape ``(n_bins,)``.
        longer: Differences beyond the last bin.
        longer_by_ps: How far these lie beyond it, all together, ps.
    """

    bin_ps: int
    counts: NDArray[np.int64]
    longer: int
    longer_by_ps: int

    @property
    def starts_ps(self) -> NDArray[np.int64]:
        """Where each bin begins, ps."""
        return np.arange(len(self.counts)) * self.bin_ps

    @property
    def total(self) -> int:
        """All differences."""
        return int(self.counts.sum()) + self.longer


def inter_arrival_histogram(
    blocks: Iterable[TagBlock], channel: int, bin_ps: int, bins: int
) -> Histogram:
    """Count the times from each tag of a channel to its next one.

    Args:
        blocks: The stream, in order of time.
        channel: The channel.
        bin_ps: Width of a bin, ps.
        bins: Number of bins.

    Raises:
        ValueError: The bins are not possible.
        OrderError: Tags are not in order of time.
    """
    return _histogram(_intervals(blocks, channel), bin_ps, bins)


def start_stop_histogram(
    blocks: Iterable[TagBlock], start: int, stop: int, bin_ps: int, bins: int
) -> Histogram:
    """Count the times from the latest start to each stop.

    A start and a stop at the same time are 0 apart; stops before the first start are left out.

    Args:
        blocks: The stream, in order of time.
        start: Channel of the starts, such as a laser's trigger.
        stop: Channel of the stops.
        bin_ps: Width of a bin, ps.
        bins: Number of bins.

    Raises:
        ValueError: The bins are not possible, or the channels are the same.
        OrderError: Tags are not in order of time.
    """
    if start == stop:
        raise ValueError(f"channel {start} cannot start and stop: take its inter-arrival times")
    return _histogram(_since_start(blocks, start, stop), bin_ps, bins)


def _intervals(blocks: Iterable[TagBlock], channel: int) -> Iterator[Times]:
    last = np.empty(0, dtype=np.int64)
    for piece in in_pieces(blocks):
        times_ps = np.concatenate([last, times_of(piece, channel)])
        yield np.diff(times_ps)
        last = times_ps[-1:]


def _since_start(blocks: Iterable[TagBlock], start: int, stop: int) -> Iterator[Times]:
    waiting = np.empty(0, dtype=np.int64)  # a start that comes later may be as early as these
    last_start = np.empty(0, dtype=np.int64)
    for piece in in_pieces(blocks):
        starts = np.concatenate([last_start, times_of(piece, start)])
        stops = np.concatenate([waiting, times_of(piece, stop)])
        decided = int(np.searchsorted(stops, piece.time_ps[-1]))
        yield _after_latest(starts, stops[:decided])
        last_start, waiting = starts[-1:], stops[decided:]
    yield _after_latest(last_start, waiting)


def _after_latest(starts: Times, stops: Times) -> Times:
    if np.any(stops[1:] < stops[:-1]) or np.any(starts[1:] < starts[:-1]):
        raise OrderError("tags are not in order of time: sort them first")
    latest = np.searchsorted(starts, stops, side="right") - 1
    return stops[latest >= 0] - starts[latest[latest >= 0]]


def _histogram(differences: Iterator[Times], bin_ps: int, bins: int) -> Histogram:
    if bin_ps < 1 or not 1 <= bins <= MAX_BINS:
        raise ValueError(f"{bins} bins of {bin_ps} ps are not possible")
    counts = np.zeros(bins, dtype=np.int64)
    longer = longer_by_ps = 0
    for difference_ps in differences:
        if np.any(difference_ps < 0):
            raise OrderError("tags are not in order of time: sort them first")
        number = difference_ps // bin_ps
        is_longer = number >= bins
        counts += np.bincount(number[~is_longer], minlength=bins)
        longer += int(np.count_nonzero(is_longer))
        longer_by_ps += int((difference_ps[is_longer] - bins * bin_ps).sum())
    return Histogram(bin_ps, counts, longer, longer_by_ps)
