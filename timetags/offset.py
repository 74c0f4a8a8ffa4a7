"""The unknown offset and drift between two receivers' clocks, found from the pairs they share.

Pairs stand out of the correlation of both streams where it is taken at the right offset *and* the
right drift: a drift of 1 ppm moves pairs by 1 µs each second. So the correlation is taken by FFT
in coarse bins over all offsets, for one drift after the other, as far apart as the bins bear; what
stands out is then followed down through finer bins, and at the end a line is fitted to the pairs.

What counts as found is decided at the end: how often would chance alone have put so many pairs on
one of all lines that could be told apart?
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.clocks import ClockOffset
from timetags.matching import Times, in_pieces, times_of
from timetags.pair_line import REACH, Line, fit, log_chance, middle_part, narrow

FALSE_ALARM = 1e-6
"""How often chance alone may look like an offset."""

FIRST_BINS = 1 << 20
"""Length of the first and shortest correlation."""

MAX_TAGS = 1 << 23
"""Tags of a receiver used for the correlation."""

_DETREND_LAGS = 1024


@dataclass(frozen=True)
class OffsetSearch:
    """What a search for the offset came to.

    Attributes:
        clock: The second clock against the first; None if nothing stands out of chance.
        false_alarm: How often chance alone would have made something stand out as much as the best
            that was seen, anywhere in the range, 0 to 1.
        max_offset_s: Offsets searched, either side of the expected one, s.
        max_drift_ppm: Drifts searched, either sign, parts per million.
        span_s: Time of the first receiver that was used, s.
    """

    clock: ClockOffset | None
    false_alarm: float
    max_offset_s: float
    max_drift_ppm: float
    span_s: float


def find_offset(
    a_ps: Times,
    b_ps: Times,
    *,
    max_offset_s: float = 2.0,
    max_drift_ppm: float = 5.0,
    expected_ps: int = 0,
    max_bins: int = 1 << 22,
) -> OffsetSearch:
    """Find offset and drift between the clocks of two receivers.

    With singles rates ``r`` and a share ``h`` of them that are pairs, the peak stands out of the
    accidental pairs by ``h sqrt(n)`` standard deviations, where ``n`` is about the number of bins:
    the default finds pairs down to ``h`` = 0.75 %, four times as many bins half of that. The
    rates themselves do not matter as long as there are tens of pairs.

    Limits: the clocks run evenly over the span to about the detectors' jitter; where they wander
    more, less is found of the pairs, and ``spread_ps`` shows it. Along a whole recording
    ``timetags.clock_track`` follows them. Where a pulsed source makes several peaks, the highest
    one is taken.

    Args:
        a_ps: Times of the first receiver, in order, ps. Some ``4 * max_offset_s`` are used.
        b_ps: Times of the second, in order, ps, over the same time and ``max_offset_s`` around.
        max_offset_s: Largest distance of the offset from the expected one, s.
        max_drift_ppm: Largest relative drift, parts per million.
        expected_ps: Offset to search around, ps.
        max_bins: Length of the longest correlation, a power of two; time grows with its square,
            memory in proportion.
    """
    a_ps = _first(a_ps, a_ps[0] + round(4e12 * max_offset_s) if len(a_ps) else 0)
    span_ps = int(a_ps[-1] - a_ps[0]) if len(a_ps) else 0
    search = OffsetSearch(None, 1.0, max_offset_s, max_drift_ppm, span_ps * 1e-12)
    if span_ps == 0 or len(b_ps) == 0:
        return search
    ground = _Ground(a_ps, b_ps, expected_ps, max_offset_s * 1e12, max_drift_ppm * 1e-6)
    bins = min(FIRST_BINS, max_bins)
    while bins <= max_bins:
        clock, chance = _follow_down(ground, _coarse_peak(ground, bins))
        search = replace(search, false_alarm=min(search.false_alarm, math.exp(chance)))
        if search.false_alarm < FALSE_ALARM:
            return replace(search, clock=clock)
        bins *= 4
    return search


def find_offset_of_streams(
    blocks_a: Iterable[TagBlock],
    channel_a: int,
    blocks_b: Iterable[TagBlock],
    channel_b: int,
    *,
    max_offset_s: float = 2.0,
    max_drift_ppm: float = 5.0,
    expected_ps: int = 0,
    max_bins: int = 1 << 22,
) -> OffsetSearch:
    """Find offset and drift from the beginning of two streams; see ``find_offset``.

    As much is read as the search needs, from where both streams may have begun.
    """
    source_a, source_b = in_pieces(blocks_a), in_pieces(blocks_b)
    begin_a, begin_b = next(source_a, None), next(source_b, None)
    if begin_a is None or begin_b is None:
        return OffsetSearch(None, 1.0, max_offset_s, max_drift_ppm, 0.0)
    margin_ps = round(max_offset_s * 1e12)
    start_ps = max(int(begin_a.time_ps[0]), int(begin_b.time_ps[0]) - expected_ps - margin_ps)
    end_ps = start_ps + 4 * margin_ps
    a_ps = _between(begin_a, source_a, channel_a, start_ps, end_ps)
    b_ps = _between(
        begin_b,
        source_b,
        channel_b,
        start_ps + expected_ps - margin_ps,
        min(end_ps, int(a_ps[-1]) if len(a_ps) else start_ps) + expected_ps + margin_ps,
    )
    return find_offset(
        a_ps,
        b_ps,
        max_offset_s=max_offset_s,
        max_drift_ppm=max_drift_ppm,
        expected_ps=expected_ps,
        max_bins=max_bins,
    )


def _between(
    begin: TagBlock, source: Iterator[TagBlock], channel: int, start_ps: int, end_ps: int
) -> Times:
    """Read the tags of a channel from a start to an end, MAX_TAGS at most."""
    parts, count = [], 0
    block: TagBlock | None = begin
    while block is not None and block.time_ps[0] <= end_ps and count < MAX_TAGS:
        times_ps = times_of(block, channel)
        parts.append(times_ps[slice(*np.searchsorted(times_ps, [start_ps, end_ps + 1]))])
        count += len(parts[-1])
        block = next(source, None)
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _first(times_ps: Times, end_ps: int) -> Times:
    return times_ps[: min(int(np.searchsorted(times_ps, end_ps, side="right")), MAX_TAGS)]


@dataclass(frozen=True)
class _Ground:
    """What is searched: both streams, and how far."""

    a_ps: Times
    b_ps: Times
    expected_ps: int
    max_offset_ps: float
    max_drift: float

    @property
    def span_ps(self) -> int:
        return int(self.a_ps[-1] - self.a_ps[0])

    @property
    def middle_ps(self) -> int:
        return (int(self.a_ps[0]) + int(self.a_ps[-1])) // 2

    def log_lines(self, bin_ps: float, span_ps: int) -> float:
        """Logarithm of how many offsets and drifts such bins can tell apart over a span."""
        drifts = max(2 * self.max_drift * span_ps / bin_ps, 1.0)
        return math.log(max(2 * self.max_offset_ps / bin_ps, 1.0)) + math.log(drifts)


@dataclass(frozen=True)
class _Peak:
    """A line that stands out: offset in the middle of the span, drift, and how far it is known."""

    offset_ps: float
    drift: float
    bin_ps: float
    log_chance: float


def _coarse_peak(ground: _Ground, bins: int) -> _Peak:
    """Correlate both streams in coarse bins for one drift after the other, from none outward."""
    bin_ps = (ground.span_ps + 2 * ground.max_offset_ps) / bins
    lags = max(int(2 * ground.max_offset_ps / bin_ps), 1)
    step = bin_ps / ground.span_ps
    steps = math.ceil(ground.max_drift / step)
    first = np.bincount(((ground.a_ps - ground.a_ps[0]) / bin_ps).astype(np.int64), minlength=bins)
    spectrum_a = np.conj(np.fft.rfft(_centred(first[:bins])))
    begin_ps = int(ground.a_ps[0]) + ground.expected_ps - round(ground.max_offset_ps)
    since_ps = (ground.b_ps - begin_ps).astype(np.float64)
    about_ps = ground.middle_ps - int(ground.a_ps[0]) + ground.max_offset_ps
    scale = len(ground.a_ps) * len(ground.b_ps) / bins  # pairs in a bin without any correlation
    log_trials = math.log(2 * lags * (2 * steps + 1))
    best = _Peak(0.0, 0.0, bin_ps, math.inf)
    for number in sorted(range(-steps, steps + 1), key=abs):
        drift = number * step
        second = _binned(since_ps - drift * (since_ps - about_ps), bin_ps, bins)
        products = np.fft.irfft(np.fft.rfft(second) * spectrum_a, bins)[: lags + 1]
        lag, chance = _highest(products, scale)
        if chance + log_trials < best.log_chance:
            offset_ps = ground.expected_ps - ground.max_offset_ps + (lag + 0.5) * bin_ps
            best = _Peak(offset_ps, drift, bin_ps, chance + log_trials)
        elif best.log_chance < math.log(FALSE_ALARM) and abs(drift) > abs(best.drift) + 2 * step:
            break  # found, and its neighbours on both sides are lower
    return best


def _centred(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = np.subtract(counts, counts.mean()).astype(np.float32)
    return centred


def _binned(since_ps: NDArray[np.float64], bin_ps: float, bins: int) -> NDArray[np.float32]:
    number = np.floor(since_ps / bin_ps)
    inside = number[(number >= 0) & (number < bins)].astype(np.int64)
    return _centred(np.bincount(inside, minlength=bins))


def _highest(products: NDArray[np.floating], scale: float) -> tuple[int, float]:
    """Find the highest two neighbouring lags together, and the logarithm of their chance.

    Slow changes of both rates at once make hills in the correlation; they are taken off. Where it
    fluctuates more than counting would, chance is judged by what it does.
    """
    two = (products[1:] + products[:-1]).astype(np.float64)
    length = min(_DETREND_LAGS, len(two))
    whole = len(two) // length * length
    hills = np.repeat(two[:whole].reshape(-1, length).mean(axis=1), length)
    flat = two - np.concatenate([hills, np.full(len(two) - whole, hills[-1])])
    variance = float(np.median(flat[:whole].reshape(-1, length).var(axis=1)))
    excess = max(variance / (2 * scale), 1.0)
    lag = int(np.argmax(flat))
    return lag, log_chance((2 * scale + flat[lag]) / excess, 2 * scale / excess)


def _follow_down(ground: _Ground, peak: _Peak) -> tuple[ClockOffset, float]:
    """Follow a coarse peak down to its line; also return the logarithm of that line's chance."""
    start = Line(
        ClockOffset(ground.middle_ps, peak.offset_ps, drift_ppm=peak.drift * 1e6),
        bin_ps=peak.bin_ps,
        drift_step=peak.bin_ps / ground.span_ps,
    )
    part = middle_part(ground.a_ps, ground.b_ps, REACH * peak.bin_ps)
    line = narrow(part, ground.b_ps, start)
    span_ps = int(part[-1] - part[0]) if len(part) else 0
    chance = min(line.log_chance + ground.log_lines(line.bin_ps, span_ps), 0.0)
    if chance >= math.log(FALSE_ALARM):
        return line.clock, chance
    return fit(ground.a_ps, ground.b_ps, line, span_ps), chance
