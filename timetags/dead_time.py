"""Dead time and afterpulsing of a detector, from the times between its tags.

Light of constant power gives intervals that fall off exponentially once the detector is ready
again. Nothing comes before: that is the dead time. What comes more than the exponential, carried
back from the long intervals, are afterpulses.
"""

import math
from dataclasses import dataclass

import numpy as np

from timetags.histograms import Histogram

LEAST_IN_BIN = 30
"""Counts expected in a bin before its emptiness says anything."""


class TooFewTagsError(ValueError):
    """There are not enough tags to tell; the text says what would help."""


@dataclass(frozen=True)
class DeadTime:
    """What the intervals tell of a detector. All errors are one standard deviation.

    Attributes:
        dead_time_ps: Time after a tag without another, ps.
        dead_time_error_ps: Its error, from the width of the bins used, ps.
        rate_hz: Rate of tags from light and darkness while the detector is ready, Hz.
        rate_error_hz: Its error, Hz.
        afterpulse: Probability that a tag is followed by an afterpulse.
        afterpulse_error: Its error.
    """

    dead_time_ps: float
    dead_time_error_ps: float
    rate_hz: float
    rate_error_hz: float
    afterpulse: float
    afterpulse_error: float


def estimate_dead_time(intervals: Histogram) -> DeadTime:
    """Estimate dead time and afterpulse probability from inter-arrival times.

    After a tag, no other comes for the dead time ``t_d``; then one does with the rate ``r``, or an
    afterpulse with probability ``p``. Beyond a time ``t`` at which afterpulsing is over, a share
    ``(1 - p) exp(-r (t - t_d))`` of all intervals is left. ``r`` comes from those alone (maximum
    likelihood), ``t_d`` from where the histogram rises to half of their exponential.
    Source: G. F. Knoll, Radiation Detection and Measurement, ch. 3 (intervals between events).

    Limits: steady light; afterpulsing must be over within the histogram, and the histogram should
    not be much longer than the mean interval; a paralysable detector is not described.

    Args:
        intervals: Inter-arrival times of one channel, with bins finer than the dead time, that
            reach to where afterpulsing is over.

    Raises:
        TooFewTagsError: Hardly an interval is longer than the histogram, or too few are in it.
    """
    if intervals.longer < LEAST_IN_BIN or intervals.longer_by_ps == 0:
        raise TooFewTagsError("hardly an interval is longer than the histogram: shorten it")
    reach_ps = len(intervals.counts) * intervals.bin_ps
    rate = intervals.longer / intervals.longer_by_ps  # per ps
    coarse = _bins_to_join(intervals, rate, reach_ps)
    width_ps = coarse * intervals.bin_ps
    joined = intervals.counts[: len(intervals.counts) // coarse * coarse].reshape(-1, coarse)
    seen = joined.sum(axis=1)
    middle_ps = (np.arange(len(seen)) + 0.5) * width_ps
    level = intervals.longer * rate * width_ps * np.exp(rate * (reach_ps - middle_ps))
    risen = np.flatnonzero(seen >= level / 2)
    if not len(risen):
        raise TooFewTagsError("no interval within the histogram: lengthen it beyond the dead time")
    first = int(risen[0])
    # The bin in which the rise falls is filled in part, against the one that follows it.
    filled = min(seen[first] / max(seen[first + 1 : first + 2].sum(), level[first]), 1.0)
    dead_time_ps = (first + 1 - filled) * width_ps if first else 0.0
    left = intervals.longer / intervals.total * math.exp(rate * (reach_ps - dead_time_ps))
    by_count = (1 - min(intervals.longer / intervals.total, 1)) / intervals.longer
    by_rate = (rate * (reach_ps - dead_time_ps)) ** 2 / intervals.longer
    return DeadTime(
        dead_time_ps=dead_time_ps,
        dead_time_error_ps=width_ps / math.sqrt(12),
        rate_hz=rate * 1e12,
        rate_error_hz=rate * 1e12 / math.sqrt(intervals.longer),
        afterpulse=1 - left,
        afterpulse_error=left * math.sqrt(by_count + by_rate),
    )


def _bins_to_join(intervals: Histogram, rate: float, reach_ps: int) -> int:
    """How many bins to add up so that light alone fills each with LEAST_IN_BIN counts."""
    in_bin = intervals.longer * rate * intervals.bin_ps * math.exp(rate * reach_ps / 2)
    coarse = math.ceil(LEAST_IN_BIN / in_bin)
    if 4 * coarse > len(intervals.counts):
        raise TooFewTagsError("too few intervals in the histogram: record longer")
    return coarse
