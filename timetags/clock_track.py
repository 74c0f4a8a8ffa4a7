"""A second clock followed along a whole recording, as it wanders beside any straight line."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.clocks import ClockOffset
from timetags.matching import Times, TwoStreams, close_pairs
from timetags.pair_line import fit_normal

SEGMENT_PAIRS = 100
"""True pairs that one point of the track rests on."""

PIECE_TAGS = 1 << 12
"""Tags looked at before the track may turn."""

REACH = 15.0
"""How far from where they are expected pairs are looked for, in their spread."""

MAX_WAITING = 1 << 16
"""Pairs kept while they do not make a point; it bounds the memory."""

DRIFT_GAIN = 0.5
"""How much a new point changes what is taken for the drift."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClockTrack:
    """A second clock against a first, point by point.

    Attributes:
        base: A straight line close to the track.
        times_ps: Times of the points, in order, by the first clock, shape ``(n,)``, ps.
        beside_ps: How much further ahead than the base the second clock is there, shape ``(n,)``,
            ps.
        errors_ps: One standard deviation of these, shape ``(n,)``, ps.
    """

    base: ClockOffset
    times_ps: Floats
    beside_ps: Floats
    errors_ps: Floats

    def to_a(self, times_ps: Times) -> Times:
        """Translate times of the second clock to the first, to whole ps.

        Between the points the track is straight, before the first and after the last it keeps its
        distance from the base. Order is kept as long as the clocks run within some per cent.
        """
        straight = self.base.to_a(times_ps)
        if len(self.times_ps) == 0:
            return straight
        beside = np.interp(straight, self.times_ps, self.beside_ps)
        translated: Times = straight - np.rint(beside).astype(np.int64)
        return translated


def follow_clock(
    blocks_a: Iterable[TagBlock],
    channel_a: int,
    blocks_b: Iterable[TagBlock],
    channel_b: int,
    clock: ClockOffset,
) -> ClockTrack:
    """Follow two receivers' clocks through both streams, from a line that was found before.

    Every SEGMENT_PAIRS pairs give a point. Where the pairs are looked for follows the points, so
    that the clocks may wander as far as they like as long as they stay within reach from one
    point to the next. Where they do not, or the light is off, the track just has no more points.

    Args:
        blocks_a: First stream, in order of time.
        channel_a: Its channel.
        blocks_b: Second stream, in order of time.
        channel_b: Its channel.
        clock: The line, such as ``find_offset`` finds it.

    Raises:
        OrderError: Tags are not in order of time.
    """
    steering = _Steering(clock)
    reach_ps = max(round(REACH * clock.spread_ps), 10)
    points: list[tuple[float, float, float]] = []
    at_ps, beside_ps = np.empty(0), np.empty(0)
    channels = TwoStreams(
        blocks_a, channel_a, blocks_b, channel_b, steering.to_a, piece_tags=PIECE_TAGS
    )
    for stretch in channels.match(reach_ps):
        at, later = close_pairs(stretch, reach_ps)
        at_ps = np.concatenate([at_ps, at])
        beside_ps = np.concatenate([beside_ps, later + steering.beside_ps(at)])
        late_ps = beside_ps - steering.ahead_ps(at_ps)
        middle_ps = float(np.median(late_ps)) if len(late_ps) else 0.0
        if _true_pairs(late_ps - middle_ps, clock.spread_ps, reach_ps) < SEGMENT_PAIRS:
            if len(at_ps) > MAX_WAITING:  # nothing but accidental pairs, for long
                at_ps, beside_ps = np.empty(0), np.empty(0)
            continue
        about_ps = float(at_ps.mean())
        start = ClockOffset(0, 0.0)
        found = fit_normal(at_ps - about_ps, late_ps - middle_ps, start, reach_ps, clock.spread_ps)
        ahead_ps = middle_ps + found.offset_ps + float(steering.ahead_ps(np.array([about_ps]))[0])
        points.append((about_ps, ahead_ps, found.offset_error_ps))
        at_ps, beside_ps = np.empty(0), np.empty(0)
        steering.aim(points)
    times, beside, errors = np.array(points).reshape(-1, 3).T
    return ClockTrack(clock, times, beside, errors)


def _true_pairs(late_ps: Floats, spread_ps: float, reach_ps: int) -> float:
    """Count the pairs in the middle that are more than the even ground beside them."""
    inner_ps = 3 * spread_ps
    inner = int(np.count_nonzero(np.abs(late_ps) <= inner_ps))
    return inner - (len(late_ps) - inner) * inner_ps / max(reach_ps - inner_ps, 1.0)


class _Steering:
    """Translates the second clock's times along lines that join where one takes over."""

    def __init__(self, clock: ClockOffset) -> None:
        self._base = clock
        self._lines = [clock]
        self._since_ps = -(1 << 62)
        self._last_ps: int | None = None
        self._drift = 0.0

    def to_a(self, times_ps: Times) -> Times:
        if len(times_ps):
            self._last_ps = int(times_ps[-1])
        return self._lines[-1].to_a(times_ps)

    def beside_ps(self, at_ps: Times) -> Floats:
        """How far the lines in force at some times are beside the base, ps."""
        is_latest = at_ps >= self._since_ps
        beside: Floats = np.where(is_latest, *(self._beside(n, at_ps) for n in (-1, 0)))
        return beside

    def ahead_ps(self, at_ps: Floats) -> Floats:
        """How far the latest line, drawn through all times, is beside the base, ps."""
        return self._beside(-1, at_ps)

    def _beside(self, number: int, at_ps: Floats | Times) -> Floats:
        line, base = self._lines[number], self._base
        on_line = line.drift_ppm * (at_ps - line.reference_ps)
        on_base = base.drift_ppm * (at_ps - base.reference_ps)
        beside: Floats = line.offset_ps - base.offset_ps + 1e-6 * (on_line - on_base)
        return beside

    def aim(self, points: list[tuple[float, float, float]]) -> None:
        """Take a new line, from where the last one has come to, to where the track will be."""
        if self._last_ps is None:
            return
        time_ps, beside_ps, _ = points[-1]
        length_ps = 1e12
        if len(points) > 1:
            length_ps = time_ps - points[-2][0]
            self._drift += DRIFT_GAIN * ((beside_ps - points[-2][1]) / length_ps - self._drift)
        here_ps = int(self._lines[-1].to_a(np.array([self._last_ps]))[0])
        goal_ps = beside_ps + self._drift * (here_ps + length_ps - time_ps)
        now_ps = float(self.beside_ps(np.array([here_ps]))[0])
        drift = self._base.drift_ppm * 1e-6 + (goal_ps - now_ps) / length_ps
        self._lines = [
            self._lines[-1],
            ClockOffset(here_ps, self._last_ps - here_ps, drift_ppm=drift * 1e6),
        ]
        self._since_ps = here_ps
