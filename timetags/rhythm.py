"""Find the rhythm of light that comes in slots: the exact slot, and where slots begin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.matching import Times

FALSE_ALARM = 1e-6
"""How often chance alone may look like a rhythm."""

MAX_BINS = 1 << 22
"""Length of the longest Fourier transform; it bounds the memory."""

_REFINEMENTS = 3


@dataclass(frozen=True)
class Rhythm:
    """Slots as the tags' own clock sees them. All errors are one standard deviation.

    Attributes:
        slot_ps: Duration of a slot, ps.
        slot_error_ps: Its error, ps.
        delays_ps: Where a slot begins, by channel, 0 up to one slot, whole ps: light comes in the
            middle of its slot.
        strength: Length of the mean phasor, by channel: 1 for light in one place of its slot, 0
            for light without rhythm.
        false_alarm: How often chance alone would have looked as rhythmic, 0 to 1.
    """

    slot_ps: float
    slot_error_ps: float
    delays_ps: dict[int, int]
    strength: dict[int, float]
    false_alarm: float


def find_rhythm(
    times_ps: Mapping[int, Times], slot_ps: float, max_error_ppm: float = 50.0
) -> Rhythm | None:
    """Find how long a slot is on the tags' clock and where slots begin in each channel.

    Each tag is a phasor that turns once in a nominal slot. Where the true slot differs, their sum
    turns slowly, which a Fourier transform over time shows; what it finds is then made exact by
    the turn from the first half of the tags to the second.

    Limits: the clocks run evenly to a fraction of a slot over the tags that are used. Give a part
    of the stream that is so short: a tenth of a second does for most.

    Args:
        times_ps: Times of each channel in order, ps, from the same part of the stream.
        slot_ps: Nominal slot, ps.
        max_error_ppm: Largest error of it, parts per million.

    Returns:
        The rhythm, or None if nothing stands out of chance.

    Raises:
        ValueError: Tags over so long a time that more than MAX_BINS slots of error are possible.
    """
    tags = np.concatenate(list(times_ps.values())) if times_ps else np.empty(0, dtype=np.int64)
    if len(tags) < 2 or tags.min() == tags.max():
        return None
    start_ps, span_ps = int(tags.min()), float(tags.max() - tags.min())
    # A bin is so short that no phasor turns by more than a quarter within it.
    bins = 1 << max(math.ceil(math.log2(4e-6 * max_error_ppm * span_ps / slot_ps + 4)), 4)
    if bins > MAX_BINS:
        raise ValueError(f"{span_ps * 1e-12:.3g} s are too long to look for {max_error_ppm:g} ppm")
    since = {number: (t - start_ps).astype(np.float64) for number, t in times_ps.items() if len(t)}
    turns_hz, power = _best_turn(since, slot_ps, span_ps, bins)
    # Every channel's power over its number of tags is exponential with mean 1 without a rhythm.
    log_chance = math.log(2 * bins) + _log_gamma_tail(power, len(since))
    if log_chance >= math.log(FALSE_ALARM):
        return None
    frequency = 1 / slot_ps + turns_hz
    for _ in range(_REFINEMENTS):
        frequency += _turn_between_halves(since, frequency)
    sums = {number: _phasors(t, frequency).sum() for number, t in since.items()}
    strength = {n: min(float(abs(sums[n])) / len(t), 1.0) for n, t in since.items()}
    return Rhythm(
        slot_ps=1 / frequency,
        slot_error_ps=_frequency_error(since, strength) / frequency**2,
        delays_ps={n: _delay(float(np.angle(s)), frequency, start_ps) for n, s in sums.items()},
        strength=strength,
        false_alarm=math.exp(log_chance),
    )
