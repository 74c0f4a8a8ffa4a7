"""Count rates of all channels over time."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.matching import OrderError, in_pieces

MAX_BINS = 10_000_000
"""Most counts kept, bins times channels; it bounds the memory."""


@dataclass(frozen=True)
class Rates:
    """Counts of each channel in equal stretches of time.

    Attributes:
        channels: Every channel that was seen, in order.
        start_ps: Where the first bin begins: the time of the first tag, ps.
        end_ps: Time of the last tag, ps.
        bin_ps: Length of a bin, ps; the last one is cut short at ``end_ps``.
        counts: Tags, shape ``(n_bins, n_channels)``.
    """

    channels: tuple[int, ...]
    start_ps: int
    end_ps: int
    bin_ps: int
    counts: NDArray[np.int64]

    @property
    def duration_s(self) -> float:
        """Time from the first tag to the last, s."""
        return (self.end_ps - self.start_ps) * 1e-12

    @property
    def totals(self) -> dict[int, int]:
        """All tags of each channel."""
        return dict(zip(self.channels, self.counts.sum(axis=0).tolist(), strict=True))

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Where each bin begins, since the first tag, shape ``(n_bins,)``, s."""
        return np.arange(len(self.counts), dtype=np.float64) * (self.bin_ps * 1e-12)

    @property
    def rates_hz(self) -> NDArray[np.float64]:
        """Rate of each channel in each bin, shape ``(n_bins, n_channels)``, Hz.

        NaN in a last bin that has no length.
        """
        lengths_s = np.full((len(self.counts), 1), self.bin_ps * 1e-12)
        if len(lengths_s):
            lengths_s[-1] = self.duration_s - (len(lengths_s) - 1) * self.bin_ps * 1e-12
        lengths_s[lengths_s <= 0] = np.nan
        rates_hz: NDArray[np.float64] = self.counts / lengths_s
        return rates_hz


def count_rates(blocks: Iterable[TagBlock], bin_ps: int = 10**12) -> Rates:
    """Count the tags of every channel in equal stretches of time.

    Args:
        blocks: The stream, in order of time.
        bin_ps: Length of a bin, ps.

    Raises:
        ValueError: The bin is shorter than 1 ps, or so short that there are more than MAX_BINS.
        OrderError: Tags are not in order of time.
    """
    if bin_ps < 1:
        raise ValueError(f"a bin of {bin_ps} ps is not possible")
    start_ps = end_ps = 0
    columns: dict[int, int] = {}
    column_of_channel = np.zeros(1 << 16, dtype=np.intp)
    counts = np.zeros((0, 0), dtype=np.int64)
    for number, piece in enumerate(in_pieces(blocks)):
        if number == 0:
            start_ps = end_ps = int(piece.time_ps[0])
        if piece.time_ps[0] < end_ps or np.any(piece.time_ps[1:] < piece.time_ps[:-1]):
            raise OrderError(f"tags after {end_ps} ps are not in order of time: sort them first")
        end_ps = int(piece.time_ps[-1])
        channel = piece.channel.view(np.uint16)
        for new in np.flatnonzero(np.bincount(channel, minlength=1 << 16)).tolist():
            column_of_channel[new] = columns.setdefault(new, len(columns))
        bins = (end_ps - start_ps) // bin_ps + 1
        counts = _grown(counts, bins, len(columns))
        first = (int(piece.time_ps[0]) - start_ps) // bin_ps
        place = ((piece.time_ps - start_ps) // bin_ps - first) * len(columns)
        place += column_of_channel[channel]
        seen = np.bincount(place, minlength=(bins - first) * len(columns))
        counts[first:bins, : len(columns)] += seen.reshape(-1, len(columns))
    channels = np.array(list(columns), dtype=np.uint16).view(np.int16)
    order = np.argsort(channels)
    bins = (end_ps - start_ps) // bin_ps + 1 if columns else 0
    numbers = tuple(channels[order].tolist())
    return Rates(numbers, start_ps, end_ps, bin_ps, counts[:bins, order])


def _grown(counts: NDArray[np.int64], bins: int, columns: int) -> NDArray[np.int64]:
    """Return a table with room for so many bins and columns; its length grows by doubling."""
    if bins * columns > MAX_BINS:
        raise ValueError(f"{bins} bins of {columns} channels are too many: take longer bins")
    if counts.shape[0] >= bins and counts.shape[1] >= columns:
        return counts
    grown = np.zeros((max(bins, 2 * counts.shape[0]), columns), dtype=np.int64)
    grown[: counts.shape[0], : counts.shape[1]] = counts
    return grown
