"""Second-order correlation of two channels, or of one with itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.matching import ChannelPair, OneStream, close_pairs

MAX_BINS = 1_000_000
"""Most bins of a correlation; it bounds the memory."""


@dataclass(frozen=True)
class Correlation:
    """Pairs by how much later the second channel's tag is.

    Attributes:
        bin_ps: Width of a bin, ps.
        delay_ps: What the second channel lags, taken off before, ps.
        counts: Pairs in each bin, shape ``(2 * k + 1,)``; the middle one is centred on the delay.
        singles_a: Tags of the first channel, in the time that both cover.
        singles_b: Tags of the second.
        duration_s: That time, s.
    """

    bin_ps: int
    delay_ps: int
    counts: NDArray[np.int64]
    singles_a: int
    singles_b: int
    duration_s: float

    @property
    def lags_ps(self) -> NDArray[np.int64]:
        """Middle of each bin, with the delay taken off, ps."""
        return (np.arange(len(self.counts)) - len(self.counts) // 2) * self.bin_ps

    @property
    def expected(self) -> NDArray[np.float64]:
        """Pairs in each bin if the channels knew nothing of each other.

        Towards the ends of the measurement a tag's partner may lie outside, which is allowed for.
        """
        if self.duration_s <= 0:
            return np.zeros(len(self.counts))
        covered = 1 - np.abs(self.lags_ps) * 1e-12 / self.duration_s
        scale = self.singles_a * self.singles_b * (self.bin_ps * 1e-12 / self.duration_s)
        return np.maximum(scale * covered, 0)

    @property
    def g2(self) -> NDArray[np.float64]:
        """Normalised second-order correlation; 1 without correlation, NaN where nothing is due."""
        expected = self.expected
        return self.counts / np.where(expected > 0, expected, np.nan)

    @property
    def g2_error(self) -> NDArray[np.float64]:
        """One standard deviation of ``g2`` by counting; an empty bin counts as one pair."""
        expected = self.expected
        return np.sqrt(np.maximum(self.counts, 1)) / np.where(expected > 0, expected, np.nan)


def correlate(channels: ChannelPair, bin_ps: int, reach_ps: int, delay_ps: int = 0) -> Correlation:
    """Count the pairs of two channels by their distance in time, each tag with all others.

    A tag is no partner of its own. The memory used does not grow with the streams; the time grows
    with the pairs within reach.

    Args:
        channels: Two channels, or twice the same of one stream.
        bin_ps: Width of a bin, ps; an even one is closed below and open above.
        reach_ps: Lags up to this one are covered, to whole bins, ps.
        delay_ps: What the second channel lags, ps.

    Raises:
        ValueError: The bins are not possible, or one channel is to lag itself.
        OrderError: Tags are not in order of time.
    """
    if bin_ps < 1 or not 0 <= reach_ps // bin_ps <= MAX_BINS // 2:
        raise ValueError(f"bins of {bin_ps} ps up to {reach_ps} ps are not possible")
    is_itself = isinstance(channels, OneStream) and channels.channel_a == channels.channel_b
    if is_itself and delay_ps:
        raise ValueError("a channel does not lag itself")
    middle = reach_ps // bin_ps
    first_ps = middle * bin_ps + bin_ps // 2
    matches = channels.match(first_ps, delay_ps)
    counts = np.zeros(2 * middle + 1, dtype=np.int64)
    for stretch in matches:
        _, later_ps = close_pairs(stretch, first_ps)
        number = (later_ps + first_ps) // bin_ps
        counts += np.bincount(number, minlength=len(counts) + 1)[: len(counts)]
    if is_itself:
        counts[middle] -= matches.singles_a
    return Correlation(
        bin_ps=bin_ps,
        delay_ps=delay_ps,
        counts=counts,
        singles_a=matches.singles_a,
        singles_b=matches.singles_b,
        duration_s=matches.duration_s,
    )
