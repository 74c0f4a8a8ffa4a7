"""From a coarse idea of offset and drift down to the line on which the pairs lie."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.clocks import ClockOffset
from timetags.matching import Times, TwoStreams, close_pairs

ZOOM = 8
"""By how much bins are divided from one step to the next."""

FINEST_PS = 500.0
"""Bins are not divided further once this narrow; hardly two detectors are sharper together."""

MAX_PAIRS = 6_000_000
"""Pairs looked at on the way down, nearly all of them accidental; it bounds the memory."""

REACH = 2.5
"""How far pairs may lie from a line just found, in bins, the drift still unknown included."""

DRIFT_REACH = 2
"""How far the drift may be from that of a line just found, in steps.

A step moves the ends of the span by half a bin each, and two neighbouring bins are looked at
together: a drift that is wrong by two steps still catches most pairs.
"""

_FIT_STEPS = 40

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A line on which pairs crowd.

    Attributes:
        clock: The second clock against the first, by this line.
        bin_ps: How well its offset is known, ps.
        drift_step: Distance of the drifts that were compared.
        count: Pairs within two bins about it.
        expected: Pairs expected there by chance.
    """

    clock: ClockOffset
    bin_ps: float
    drift_step: float
    count: int = 0
    expected: float = 0.0

    @property
    def log_chance(self) -> float:
        """Logarithm of a bound on the chance of so many pairs on a line chosen beforehand."""
        return log_chance(self.count, self.expected)


def log_chance(count: float, expected: float) -> float:
    """Bound the logarithm of the chance that a Poisson count reaches ``count``.

    Chernoff's bound: it holds for every mean, and is close in the tail.
    """
    if count <= expected:
        return 0.0
    return count - expected - count * math.log(count / expected) if expected > 0 else -math.inf


def middle_part(a_ps: Times, b_ps: Times, reach_ps: float) -> Times:
    """Cut the first receiver's tags down about their middle to MAX_PAIRS pairs within reach."""
    rate = len(b_ps) / max(int(b_ps[-1] - b_ps[0]), 1)
    share = min(MAX_PAIRS / (len(a_ps) * rate * 2 * reach_ps + 1), 1.0)
    return _about_middle(a_ps, share * int(a_ps[-1] - a_ps[0]))


def _about_middle(a_ps: Times, span_ps: float) -> Times:
    middle_ps = (int(a_ps[0]) + int(a_ps[-1])) // 2
    ends_ps = [middle_ps - math.ceil(span_ps / 2), middle_ps + math.ceil(span_ps / 2) + 1]
    return a_ps[slice(*np.searchsorted(a_ps, ends_ps))]


def narrow(a_ps: Times, b_ps: Times, start: Line) -> Line:
    """Divide offset and drift further and further, as long as the pairs stay together.

    Args:
        a_ps: Times of the first receiver, in order, ps.
        b_ps: Times of the second, ps.
        start: The line to start from; the true one is within its bins.
    """
    line, reach_ps = start, REACH * start.bin_ps
    at_ps, later_ps = _pairs(a_ps, b_ps, start.clock, reach_ps)
    span_ps = float(a_ps[-1] - a_ps[0]) if len(a_ps) else 0.0
    offset_ps = drift = 0.0
    density = len(at_ps) / (2 * reach_ps)  # of nearly nothing but accidental pairs
    while line.bin_ps > FINEST_PS and len(at_ps) and span_ps > 0:
        bin_ps = max(line.bin_ps / ZOOM, FINEST_PS)
        step = bin_ps / span_ps
        steps = math.ceil(DRIFT_REACH * line.drift_step / step)
        counts = [
            _two_bins(later_ps - (drift + k * step) * at_ps, offset_ps - reach_ps, reach_ps, bin_ps)
            for k in range(-steps, steps + 1)
        ]
        best, place = np.unravel_index(np.argmax(counts), np.shape(counts))
        count = int(counts[best][place])
        expected = density * 2 * bin_ps
        if count - expected < (line.count - line.expected) / 2:
            break  # the bins have become narrower than the peak
        offset_ps += (int(place) + 1) * bin_ps - reach_ps
        drift += (int(best) - steps) * step
        clock = _moved(start.clock, offset_ps, drift)
        line, reach_ps = Line(clock, bin_ps, step, count, expected), REACH * bin_ps
        near = np.abs(later_ps - drift * at_ps - offset_ps) <= reach_ps
        at_ps, later_ps = at_ps[near], later_ps[near]
    return line


def fit(a_ps: Times, b_ps: Times, line: Line, span_ps: float) -> ClockOffset:
    """Fit offset, drift and spread to the pairs about a line, over a span that grows to the whole.

    Maximum likelihood of a normal distribution on an even ground of accidental pairs.

    Args:
        a_ps: Times of the first receiver, in order, ps.
        b_ps: Times of the second, ps.
        line: The line to start from.
        span_ps: Time about the middle for which that line is known to hold, ps.
    """
    clock, reach_ps = line.clock, 2 * REACH * line.bin_ps
    whole_ps = float(a_ps[-1] - a_ps[0])
    while True:
        part = middle_part(_about_middle(a_ps, span_ps), b_ps, reach_ps)
        at_ps, later_ps = _pairs(part, b_ps, clock, reach_ps)
        clock = fit_normal(at_ps, later_ps, clock, reach_ps, line.bin_ps / 2)
        # Far enough out for the ground to be seen, but not for all accidental pairs.
        reach_ps = 10 * max(clock.spread_ps, 1.0)
        if span_ps >= whole_ps:
            return clock
        span_ps = min(4 * span_ps, whole_ps)


def _pairs(a_ps: Times, b_ps: Times, clock: ClockOffset, reach_ps: float) -> tuple[Floats, Floats]:
    """Return when pairs about a clock's line were, since its reference, and their distance, ps."""
    first, second = (
        [TagBlock(np.zeros(len(times_ps), dtype=np.int16), times_ps)] for times_ps in (a_ps, b_ps)
    )
    whole_ps = math.ceil(reach_ps)
    stretches = TwoStreams(first, 0, second, 0, clock.to_a).match(whole_ps)
    found = [close_pairs(stretch, whole_ps) for stretch in stretches]
    if not found:
        return np.empty(0), np.empty(0)
    at_ps, later_ps = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return (at_ps - clock.reference_ps).astype(np.float64), later_ps.astype(np.float64)


def _two_bins(
    later_ps: Floats, first_ps: float, reach_ps: float, bin_ps: float
) -> NDArray[np.int64]:
    """Count in all pairs of neighbouring bins over twice the reach."""
    bins = math.ceil(2 * reach_ps / bin_ps)
    number = np.floor((later_ps - first_ps) / bin_ps)
    inside = number[(number >= 0) & (number < bins)].astype(np.int64)
    counts = np.bincount(inside, minlength=bins)
    return counts[1:] + counts[:-1]


def _moved(clock: ClockOffset, later_ps: float, drift: float) -> ClockOffset:
    """Return the clock for which pairs seen ``later_ps + drift * time`` late come out on time."""
    rate = 1 + clock.drift_ppm * 1e-6
    return ClockOffset(
        reference_ps=clock.reference_ps,
        offset_ps=clock.offset_ps + rate * later_ps,
        drift_ppm=(rate * (1 + drift) - 1) * 1e6,
    )


def fit_normal(
    at_ps: Floats, later_ps: Floats, clock: ClockOffset, reach_ps: float, spread_ps: float
) -> ClockOffset:
    """Fit a line with normal spread on an even ground, by expectation maximisation.

    Args:
        at_ps: When the pairs were, since the clock's reference, shape ``(n,)``, ps.
        later_ps: How much later than by the clock the second tags are, same shape, ps.
        clock: The clock that the pairs were found with.
        reach_ps: Up to where pairs were looked for, ps.
        spread_ps: Where to start with their standard deviation, ps.

    Returns:
        The better clock; its errors are infinite where there are hardly any pairs.
    """
    scale_ps = max(float(np.abs(at_ps).max(initial=0.0)), 1.0)
    design: Floats = np.stack([np.ones(len(at_ps)), at_ps / scale_ps])
    line: Floats = np.zeros(2)
    information: Floats = np.eye(2)
    share, total = 0.5, 0.0
    for _ in range(_FIT_STEPS):
        residual = later_ps - line @ design
        peak = share * np.exp(-0.5 * (residual / spread_ps) ** 2) / (2.5066282746 * spread_ps)
        weight = peak / (peak + (1 - share) / (2 * reach_ps))
        total = float(weight.sum())
        if total < 3:
            break
        weighted: Floats = design * weight
        information = weighted @ design.T
        line = np.asarray(np.linalg.solve(information, weighted @ later_ps), dtype=np.float64)
        variance = float(weight @ (later_ps - line @ design) ** 2) / (total - 2)
        spread_ps, share = max(math.sqrt(variance), 0.3), min(total / len(at_ps), 1 - 1e-9)
    errors = spread_ps * np.sqrt(np.diag(np.linalg.inv(information)))
    moved = _moved(clock, float(line[0]), float(line[1]) / scale_ps)
    return ClockOffset(
        reference_ps=moved.reference_ps,
        offset_ps=moved.offset_ps,
        offset_error_ps=float(errors[0]),
        drift_ppm=moved.drift_ppm,
        drift_error_ppm=float(errors[1]) / scale_ps * 1e6,
        spread_ps=spread_ps,
        pairs=total,
    )
