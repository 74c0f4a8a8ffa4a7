"""Golden section along a single drive, as a laboratory's script would have it."""

import math

from benchmarks.tasks.link import Link

PHOTONS = 4000
"""Of 4000, 20 000 and 60 000 the one with the lowest median to 0.2 pp.

One start in ten misses that; 20 000 avoid it at five times the price.
"""

COARSE = 4
"""Readings over a whole period that show between which the minimum lies."""

NARROWINGS = 7
GOLDEN = (math.sqrt(5) - 1) / 2


def golden_section(link: Link, seed: int) -> None:
    """Bracket the minimum nearest to mid-range, narrow the bracket, and stop."""
    period = 2 * float(link.half_turn[0])
    start = float(link.middle[0]) - period / 2
    coarse = [start + period * number / COARSE for number in range(COARSE)]
    middle = min(coarse, key=lambda value: _look(link, value, float(link.middle[0])))
    left, right = middle - period / COARSE, middle + period / COARSE
    inner = [right - GOLDEN * (right - left), left + GOLDEN * (right - left)]
    seen = [_look(link, value, middle) for value in inner]
    for _ in range(NARROWINGS):
        is_left = seen[0] < seen[1]
        left, right = (left, inner[1]) if is_left else (inner[0], right)
        kept, told = (inner[0], seen[0]) if is_left else (inner[1], seen[1])
        new = right - GOLDEN * (right - left) if is_left else left + GOLDEN * (right - left)
        fresh = _look(link, new, (left + right) / 2)
        inner, seen = ([new, kept], [fresh, told]) if is_left else ([kept, new], [told, fresh])
    link.recommend([(left + right) / 2])


def _look(link: Link, value: float, best: float) -> float:
    qber = link.count([value], PHOTONS).qber
    link.recommend([best])
    return qber
