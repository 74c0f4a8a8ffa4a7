"""The counters of the ID900: windows on the unit's own clock, and running totals."""

from collections.abc import Callable, Mapping
from math import floor
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.instruments.id900_blocks import Input

TOTALS_S: Final = 30.0
"""How often running totals are brought up to date."""


class Counts(Protocol):
    """Where the counts come from."""

    @property
    def sync_period_ps(self) -> float:
        """Time between two START events, ps."""
        ...

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Events per input, shape ``(4,)``, for a time that is over."""
        ...


class Counters:
    """Counts of the inputs.

    Args:
        source: Where the counts come from.
        inputs: Inputs by number, 0 is START.
        can_see: Whether an input sees the pulses that reach it.
        window_phase: Where the windows lie on the host's clock, in windows, 0 to 1.
    """

    def __init__(
        self,
        source: Counts,
        inputs: Mapping[int, Input],
        can_see: Callable[[Input], bool],
        window_phase: float,
    ) -> None:
        self._counts = source
        self._inputs = inputs
        self._can_see = can_see
        self._window_phase = window_phase
        self._windows: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def read(self, each: Input, now_s: float) -> int:
        """Return what an input's counter shows."""
        if each.mode == "CYCLE":
            return self._last_window(each, now_s)
        self._add_up(each, now_s)
        return each.total

    def due_s(self) -> float | None:
        """Return when a running total is next brought up to date, or None."""
        return min((each.total_until_s + TOTALS_S for each in self._totals()), default=None)

    def advance(self, now_s: float) -> None:
        """Bring running totals up to date where that is due by a time."""
        for each in self._totals():
            if each.total_until_s + TOTALS_S <= now_s:
                self._add_up(each, now_s)

    def _totals(self) -> list[Input]:
        return [each for each in self._inputs.values() if each.enabled and each.mode == "ACCUM"]

    def _last_window(self, each: Input, now_s: float) -> int:
        """Return the count of the last window that is over, 0 before the first whole one."""
        window_s = each.integration_ms / 1000
        first_s = self._window_phase * window_s
        index = floor((now_s - first_s) / window_s) - 1
        begin_s = first_s + index * window_s
        if begin_s < each.since_s or not self._can_see(each):
            return 0
        if each.number == 0:
            return self._sync_events(window_s)
        drawn_index, counts = self._windows.get(each.integration_ms, (None, np.zeros(4, np.int64)))
        if drawn_index != index:  # the four inputs share a window, however often they are read
            counts = self._counts.counts(begin_s, window_s)
            self._windows[each.integration_ms] = index, counts
        return int(counts[each.number - 1])

    def _add_up(self, each: Input, now_s: float) -> None:
        begin_s, each.total_until_s = each.total_until_s, now_s
        if not self._can_see(each) or now_s <= begin_s:
            return
        if each.number == 0:
            each.total += self._sync_events(now_s - begin_s)
        else:
            each.total += int(self._counts.counts(begin_s, now_s - begin_s)[each.number - 1])

    def _sync_events(self, duration_s: float) -> int:
        return round(duration_s * 1e12 / self._counts.sync_period_ps)
