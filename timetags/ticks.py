"""From a counter's ticks to picoseconds and back, in integers; and over a counter's end."""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

_LARGEST = 2**62
_FINEST_DENOMINATOR = 1_000_000


def tick_fraction(tick_ps: float | Fraction) -> Fraction:
    """Write a tick as a fraction whose products with its denominator fit 64 bits.

    Args:
        tick_ps: Length of a tick, ps.

    Returns:
        The same, off by less than 1e-12 ps for a tick below 4 us.

    Raises:
        ValueError: Not positive, or longer than a month.
    """
    exact = Fraction(tick_ps)
    if not 0 < exact < 2.6e18:
        raise ValueError(f"a tick of {float(tick_ps):g} ps is no tick")
    finest = min(_FINEST_DENOMINATOR, isqrt(int(_LARGEST / max(exact, Fraction(1)))))
    return exact.limit_denominator(max(finest, 1))


def to_picoseconds(ticks: NDArray[np.int64], tick_ps: Fraction) -> NDArray[np.int64]:
    """Convert ticks to picoseconds, rounded to the nearest (half a picosecond: upward).

    The arithmetic is exact for any count whose result fits 63 bits; no float is involved.

    Args:
        ticks: Counts, shape ``(n,)``.
        tick_ps: Length of a tick from ``tick_fraction``, ps.

    Returns:
        Times, shape ``(n,)``, ps.
    """
    numerator, denominator = tick_ps.numerator, tick_ps.denominator
    if denominator == 1:
        return ticks if numerator == 1 else np.multiply(ticks, numerator)
    if denominator & (denominator - 1) == 0:
        shift = denominator.bit_length() - 1
        rest = ticks & (denominator - 1)
        return (ticks >> shift) * numerator + ((rest * numerator + denominator // 2) >> shift)
    whole, rest = np.divmod(ticks, denominator)
    rounded: NDArray[np.int64] = (rest * numerator + denominator // 2) // denominator
    return whole * numerator + rounded


def to_ticks(time_ps: NDArray[np.int64], tick_ps: Fraction) -> NDArray[np.int64]:
    """Convert picoseconds to the nearest tick; the inverse of ``to_picoseconds`` for ticks >= 1 ps.

    Args:
        time_ps: Times, shape ``(n,)``, ps.
        tick_ps: Length of a tick from ``tick_fraction``, ps.

    Returns:
        Counts, shape ``(n,)``.
    """
    return to_picoseconds(time_ps, 1 / tick_ps)


@dataclass
class Unwrapper:
    """Continues the count of a counter that starts again from zero when it is full.

    A step back by more than ``backward_limit`` is taken for a start from zero; a smaller one for
    events that are slightly out of order. A gap longer than the counter's range must be bridged by
    the instrument (with events that carry only the time), or it cannot be seen.

    Attributes:
        period: Range of the counter, ticks.
        backward_limit: Largest step back that is no start from zero, ticks.
        forward_limit: A step forward by more than this is taken for an event from before a start
            from zero that was seen just now; None where such a step is a long wait.
    """

    period: int
    backward_limit: int
    forward_limit: int | None = None
    _last: int = -1
    _offset: int = 0

    def unwrap(self, count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Continue the count over one more block.

        Args:
            count: What the counter said, in the order of the file, shape ``(n,)``, ticks.

        Returns:
            Ticks since the counter's first zero, shape ``(n,)``.
        """
        if count.size == 0:
            return count
        before = int(count[0]) if self._last < 0 else self._last
        self._last = int(count[-1])
        step = np.empty_like(count)
        step[0] = count[0] - before
        np.subtract(count[1:], count[:-1], out=step[1:])
        starts = step < -self.backward_limit
        returns = None if self.forward_limit is None else step > self.forward_limit
        if not starts.any() and (returns is None or not returns.any()):
            return count + self._offset if self._offset else count
        wraps = np.cumsum(starts, dtype=np.int64)
        if returns is not None:
            wraps -= np.cumsum(returns, dtype=np.int64)
        offsets = self._offset + wraps * self.period
        self._offset = int(offsets[-1])
        return count + offsets
