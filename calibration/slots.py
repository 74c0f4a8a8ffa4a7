"""Counts of each intensity of Alice's pattern, told from the tags themselves.

The stages at the beginning of a calibration cannot rely on delays that a later stage finds. So the
place of the pattern is looked for in the same tags that are counted; the delays in force only help
where that finds nothing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.account import MOST_WINDOWS, Account
from calibration.clicks import STATES
from calibration.folding import Pattern, find_delay, fold
from calibration.mean_photon import SlotCounts
from drivers.roles import TimeTags

EDGE = 0.4
"""Distance from a slot's centre, in slots, beyond which no pulse reaches, the side peaks of an
interferometer included."""

LEAST_LIKENESS = 0.8
"""Correlation of clicks with the intensity pattern below which its place cannot be told."""


class TagSource(Protocol):
    """A receiver that hands out time tags."""

    async def acquire(self, photons: int) -> TimeTags:
        """Record about so many detections."""
        ...

    def delays_ps(self) -> dict[str, float]:
        """Delays in force, by detector letter, ps."""
        ...


@dataclass(frozen=True)
class SlotReading:
    """What one look at the pattern saw.

    Attributes:
        counts: Counts of each intensity.
        likeness: Correlation of the clicks with the intensity pattern, at most 1.
        clicks: All clicks, in or out of the gates.
        duration_s: Exposure, s.
    """

    counts: SlotCounts
    likeness: float
    clicks: int
    duration_s: float


@dataclass(frozen=True)
class SlotReader:
    """Counts the intensities of the pattern.

    Attributes:
        source: Where tags come from.
        pattern: What Alice sends.
        inputs: Tagger input of each detector, by letter.
        gate_ps: Accepted width about a slot's centre, ps.
        mean_photons: Mean photon number that each intensity should have.
        has_side_peaks: Whether light falls beside the gates too: then only the edges of the slots
            tell what is not light.
    """

    source: TagSource
    pattern: Pattern
    inputs: Mapping[str, int]
    gate_ps: float
    mean_photons: Mapping[str, float]
    has_side_peaks: bool = False

    async def read(
        self, account: Account, photons: int, params: Mapping[str, float] | None = None
    ) -> SlotReading:
        """Count about so many detections, in as many acquisitions as that takes.

        Raises:
            BudgetError: They do not fit into the budget.
            InstrumentError: An instrument failed, also when tried again.
        """
        seen: list[TimeTags] = []
        left = photons
        while left > 0:
            asked = account.affordable(left)
            tags = await account.look(params or {}, partial(self.source.acquire, asked))
            clicks = _clicks(tags)
            account.spend(clicks)
            seen.append(tags)
            left -= max(clicks, photons // MOST_WINDOWS)
        return await asyncio.to_thread(self._count, seen)

    def _count(self, seen: list[TimeTags]) -> SlotReading:
        most = max(seen, key=_clicks)
        delays_ps = self._delays_ps(most)
        windows = [
            fold(tags, self.pattern, self.inputs, delays_ps, self.gate_ps, 0.0) for tags in seen
        ]
        gate_share, background = self.gate_ps / self.pattern.slot_ps, None
        if self.has_side_peaks:
            edges = [clicks_at_edge(tags, self.pattern, self.inputs, delays_ps) for tags in seen]
            background = float(np.sum(edges)) * inside_per_edge(gate_share)
        return SlotReading(
            SlotCounts.of(windows, self.pattern, gate_share, background),
            self._likeness(most, delays_ps),
            sum(map(_clicks, seen)),
            sum(each.duration_s for each in seen),
        )

    def _likeness(self, tags: TimeTags, delays_ps: Mapping[str, float]) -> float:
        """Return the likeness of all detectors, weighted by their clicks."""
        stamps = {detector: tags.since_sync_ps[number] for detector, number in self.inputs.items()}
        likeness = sum(
            len(each) * pattern_likeness(each, self.pattern, self.mean_photons, delays_ps[detector])
            for detector, each in stamps.items()
        )
        return likeness / max(sum(map(len, stamps.values())), 1)

    def _delays_ps(self, tags: TimeTags) -> dict[str, float]:
        """Return delays found in the tags; those in force where nothing is found.

        Detectors that share an input have several crowds in each slot: theirs are taken as known.
        """
        delays_ps = self.source.delays_ps()
        if len(set(self.inputs.values())) < len(STATES):
            return delays_ps
        for detector, number in self.inputs.items():
            try:
                delays_ps[detector] = find_delay(
                    tags.since_sync_ps[number], self.pattern, delays_ps[detector], detector
                )
            except ValueError:  # no rhythm: the counts will say that there is no light
                continue
        return delays_ps


def clicks_at_edge(
    tags: TimeTags, pattern: Pattern, inputs: Mapping[str, int], delays_ps: Mapping[str, float]
) -> NDArray[np.int64]:
    """Count the clicks at the edges of the slots of each detector, shape ``(4,)``."""
    counts = []
    for detector in STATES:
        since_ps = tags.since_sync_ps[inputs[detector]].astype(np.float64)
        place = np.mod((since_ps - delays_ps[detector]) / pattern.slot_ps, 1.0)
        counts.append(int((np.abs(place - 0.5) > EDGE).sum()))
    return np.array(counts)


def inside_per_edge(gate_share: float) -> float:
    """Return how many clicks fall into the gates for each at the edges, if all come evenly.

    Where the gates reach the edges that is not known, and taken for none.
    """
    return gate_share / (1 - 2 * EDGE) if gate_share <= 2 * EDGE else 0.0


def pattern_likeness(
    since_sync_ps: NDArray[np.uint64],
    pattern: Pattern,
    levels: Mapping[str, float],
    delay_ps: float,
) -> float:
    """Return how the clicks correlate with the mean photon numbers, place by place; at most 1."""
    nominal = np.array([levels[name] for name in pattern.intensities])
    if np.ptp(nominal) == 0:
        return 1.0
    slots = np.floor((since_sync_ps.astype(np.float64) - delay_ps) / pattern.slot_ps)
    counts = np.bincount(slots.astype(np.int64) % len(nominal), minlength=len(nominal))
    if np.ptp(counts) == 0:
        return 0.0
    return float(np.corrcoef(nominal, counts)[0, 1])


def _clicks(tags: TimeTags) -> int:
    return sum(map(len, tags.since_sync_ps.values()))
