"""Coincidences of two channels, the accidental ones among them, and the visibility of the peak."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.matching import ChannelPair, close_pairs

SIDE_WINDOWS = 5
"""Windows on each side of the peak that tell how many pairs in it are accidental."""

SIDE_SPACING = 10
"""Distance of these windows, in widths of the window."""


@dataclass(frozen=True)
class Coincidences:
    """Pairs of two channels about one delay. All errors are one standard deviation.

    Attributes:
        window_ps: Full width of the window, edges included, ps.
        delay_ps: What the second channel lags, ps.
        pairs: Pairs in the window.
        side: Pairs in each of the windows beside the peak, shape ``(n_side,)``.
        singles_a: Tags of the first channel, in the time that both cover.
        singles_b: Tags of the second.
        duration_s: That time, s.
    """

    window_ps: int
    delay_ps: int
    pairs: int
    side: NDArray[np.int64]
    singles_a: int
    singles_b: int
    duration_s: float

    @property
    def accidentals(self) -> float:
        """Accidental pairs in the window, by what was seen beside it; NaN without such windows."""
        return float(self.side.mean()) if len(self.side) else math.nan

    @property
    def accidentals_error(self) -> float:
        """Error of ``accidentals``; it allows for one more pair, so that none is not certainty."""
        return math.sqrt(self.side.sum() + 1) / len(self.side) if len(self.side) else math.nan

    @property
    def true_pairs(self) -> float:
        """Pairs less accidental ones."""
        return self.pairs - self.accidentals

    @property
    def true_pairs_error(self) -> float:
        """Error of ``true_pairs``."""
        return math.hypot(math.sqrt(self.pairs), self.accidentals_error)

    @property
    def visibility(self) -> float:
        """Peak against its foot, ``(pairs - accidentals) / (pairs + accidentals)``."""
        total = self.pairs + self.accidentals
        return (self.pairs - self.accidentals) / total if total else math.nan

    @property
    def visibility_error(self) -> float:
        """Error of ``visibility``, to first order."""
        total = self.pairs + self.accidentals
        if not total:
            return math.nan
        by_pairs = self.accidentals * math.sqrt(self.pairs)
        return 2 * math.hypot(by_pairs, self.pairs * self.accidentals_error) / total**2

    @property
    def coincidence_to_accidental(self) -> float:
        """CAR, pairs over accidental pairs; infinite where none was accidental."""
        if self.accidentals == 0:
            return math.inf if self.pairs else math.nan
        return self.pairs / self.accidentals

    @property
    def efficiencies(self) -> tuple[float, float]:
        """Share of the first channel's tags, and of the second's, that have their partner.

        Source: D. N. Klyshko, Sov. J. Quantum Electron. 10, 1112 (1980), losses and dark counts
        included.
        """
        singles = self.singles_a, self.singles_b
        first, second = (self.true_pairs / n if n else math.nan for n in singles)
        return first, second


def count_coincidences(
    channels: ChannelPair,
    window_ps: int,
    delay_ps: int = 0,
    *,
    side_spacing_ps: int | None = None,
    side_windows: int = SIDE_WINDOWS,
) -> Coincidences:
    """Count the pairs of two channels in a window, and beside it.

    A pair is counted if ``|b - a - delay| <= window / 2``; a tag with several partners is in
    several pairs. The memory used does not grow with the streams.

    Args:
        channels: Two channels.
        window_ps: Full width of the window, edges included, ps.
        delay_ps: What the second channel lags, ps.
        side_spacing_ps: Distance of the windows beside the peak, ps. Give the repetition period
            (or a multiple) of a pulsed source; None for SIDE_SPACING widths.
        side_windows: How many of them on each side; 0 to leave accidentals unknown.

    Raises:
        ValueError: The window is negative, or the windows overlap.
        OrderError: Tags are not in order of time.
    """
    half_ps = window_ps // 2  # times are whole, so that a half picosecond decides nothing
    if window_ps < 0 or side_windows < 0:
        raise ValueError(f"a window of {window_ps} ps or {side_windows} of them is not possible")
    spacing_ps = SIDE_SPACING * max(window_ps, 1) if side_spacing_ps is None else side_spacing_ps
    if spacing_ps <= 2 * half_ps:
        raise ValueError(f"windows of {window_ps} ps overlap at a spacing of {spacing_ps} ps")
    reach_ps = side_windows * spacing_ps + half_ps
    matches = channels.match(reach_ps, delay_ps)
    counts = np.zeros(2 * side_windows + 1, dtype=np.int64)
    for stretch in matches:
        _, later_ps = close_pairs(stretch, reach_ps)
        later_ps += reach_ps  # from 0 on: the first window begins here
        number, within_ps = np.divmod(later_ps, spacing_ps)
        counts += np.bincount(number[within_ps <= 2 * half_ps], minlength=len(counts))
    return Coincidences(
        window_ps=window_ps,
        delay_ps=delay_ps,
        pairs=int(counts[side_windows]),
        side=np.delete(counts, side_windows),
        singles_a=matches.singles_a,
        singles_b=matches.singles_b,
        duration_s=matches.duration_s,
    )
