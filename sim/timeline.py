"""Settings that move at finite speed, and the memory of what was set when."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 1024
"""Changes remembered at least; older ones are forgotten so that memory stays bounded."""


@dataclass(frozen=True)
class Ramp:
    """A quantity on its way from one value to another at constant speed.

    Attributes:
        start_s: When it set off.
        start: Value then.
        target: Value where it stops.
        speed_per_s: Size of its rate of change; infinite for a jump.
    """

    start_s: float
    start: float
    target: float
    speed_per_s: float

    @property
    def end_s(self) -> float:
        """When it arrives."""
        return self.start_s + abs(self.target - self.start) / self.speed_per_s

    def at(self, now_s: float) -> float:
        """Return the value at a time; before the start it is the start value."""
        if now_s >= self.end_s:
            return self.target
        travelled = self.speed_per_s * max(0.0, now_s - self.start_s)
        return self.start + (travelled if self.target > self.start else -travelled)

    def turned(self, target: float, now_s: float, speed_per_s: float | None = None) -> "Ramp":
        """Return the ramp that leaves for another target, from where this one is now."""
        return Ramp(now_s, self.at(now_s), target, speed_per_s or self.speed_per_s)


class Timeline(Generic[T]):
    """A setting and its recent past, so that a window may be asked for after it is over.

    Times before the oldest remembered change see the oldest remembered value.
    """

    def __init__(self, value: T) -> None:
        self._times_s = [-float("inf")]
        self._values = [value]

    @property
    def latest(self) -> T:
        """What was set last."""
        return self._values[-1]

    def at(self, now_s: float) -> T:
        """Return what was in force at a time; a change counts from its own instant on."""
        return self._values[max(0, bisect_right(self._times_s, now_s) - 1)]

    def set(self, value: T, now_s: float) -> None:
        """Note a change; one that comes late counts from the last change's time."""
        self._times_s.append(max(now_s, self._times_s[-1]))
        self._values.append(value)
        if len(self._times_s) > 2 * DEPTH:
            del self._times_s[:-DEPTH], self._values[:-DEPTH]

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times of the changes strictly between two times."""
        first, last = bisect_right(self._times_s, start_s), bisect_left(self._times_s, end_s)
        return self._times_s[first:last]
