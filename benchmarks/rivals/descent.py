"""Going down one channel after the other, by sinusoid fits or by golden section."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.link import Link
from calibration.coordinate_descent import CoordinateDescent

Array = NDArray[np.float64]

SINUSOID_PHOTONS = 2000
"""The best of 300, 1000, 2000 and 4000 in the median of photons to 0.2 pp."""

SINUSOID_SETTINGS = 340

SETTLED_GAIN = 0.001
"""A sweep that gains less is the last one: with as few counts more of them only wander about."""

GOLDEN_PHOTONS = 4000
GOLDEN_SETTINGS = 360
GOLDEN = (math.sqrt(5) - 1) / 2
COARSE = 4
"""Readings over a whole period that show between which the minimum lies."""

FIRST_BRACKET, LEAST_BRACKET = 1 / 4, 1 / 16
"""Half width of the bracket in the first sweep, halved in every further one, in periods."""

FIRST_NARROWINGS, NARROWINGS = 5, 3
"""Golden sections of a bracket in the first sweep and in further ones."""


def sinusoid(link: Link, seed: int) -> None:
    """Fit a sinusoid to three readings of each channel in turn, with the nominal period."""
    descent = CoordinateDescent(
        link.middle.tolist(),
        list(zip(*link.limits.tolist(), strict=True)),
        (2 * link.half_turn).tolist(),
    )
    for _ in range(SINUSOID_SETTINGS):
        reading = link.count(descent.next_point(), SINUSOID_PHOTONS)
        descent.tell(reading.qber, reading.variance)
        link.recommend(descent.point)
        if descent.last_gain < SETTLED_GAIN:
            return


def golden_section(link: Link, seed: int) -> None:
    """Bracket the minimum of each channel in turn, then narrow the bracket by golden sections."""
    point = link.middle
    bracket = FIRST_BRACKET
    while link.settings < GOLDEN_SETTINGS:
        for channel in range(len(point)):
            point = _narrow(link, point, channel, bracket)
        bracket = max(bracket / 2, LEAST_BRACKET)


def _narrow(link: Link, point: Array, channel: int, bracket: float) -> Array:
    """Move one channel to its minimum."""
    low, high = link.limits[:, channel]
    period = 2 * link.half_turn[channel]
    is_first = bracket == FIRST_BRACKET

    def look(value: float) -> float:
        reading = link.count(_moved(point, channel, value), GOLDEN_PHOTONS)
        link.recommend(point)
        return reading.qber

    middle = _coarse_minimum(look, low, high, period) if is_first else point[channel]
    left, right = max(middle - bracket * period, low), min(middle + bracket * period, high)
    inner = [right - GOLDEN * (right - left), left + GOLDEN * (right - left)]
    seen = [look(inner[0]), look(inner[1])]
    for _ in range(FIRST_NARROWINGS if is_first else NARROWINGS):
        if seen[0] < seen[1]:
            right, inner[1], seen[1] = inner[1], inner[0], seen[0]
            inner[0] = right - GOLDEN * (right - left)
            seen[0] = look(inner[0])
        else:
            left, inner[0], seen[0] = inner[0], inner[1], seen[1]
            inner[1] = left + GOLDEN * (right - left)
            seen[1] = look(inner[1])
    found = _moved(point, channel, (left + right) / 2)
    link.recommend(found)
    return found


def _coarse_minimum(
    look: Callable[[float], float], low: float, high: float, period: float
) -> float:
    """Take a few readings over the period in the middle of a channel's range."""
    first = max((low + high - period) / 2, low)
    values = np.minimum(first + period * np.arange(COARSE) / COARSE, high)
    return float(values[np.argmin([look(value) for value in values])])


def _moved(point: Array, channel: int, value: float) -> Array:
    moved = point.copy()
    moved[channel] = value
    return moved
