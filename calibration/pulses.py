"""Counts of every kind of pulse: each intensity, each state, each detector.

What is not light from Alice is told by the clicks at the edge of a slot, further from its centre
than any pulse, the side peaks of an interferometer included.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calibration.account import MOST_WINDOWS, Account
from calibration.bench import UnusableWindowError, refuse_unusable
from calibration.clicks import STATES
from calibration.folding import Pattern, fold
from calibration.inversion import NOTHING, Inverted, exchanged
from calibration.slots import TagSource, clicks_at_edge, inside_per_edge
from drivers.roles import TimeTags

MOST_OCCUPIED = 0.1
"""Clicks per pulse above which a detector's count says too little about the light."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PulseCounts:
    """What was counted of the pattern. The expectation is ``exposure (light + background)``.

    Attributes:
        counts: Counts in the gate, shape ``(n_intensities, 4, 4)``: intensity, the signal first,
            sent state, detector.
        exposure: Pulses of a kind in a period, less those for which the detector was busy with
            another photon of the same pulse; same shape.
        background: Expected counts that are not light, per pulse of a period and detector, shape
            ``(4,)``.
    """

    counts: NDArray[np.int64]
    exposure: Floats
    background: Floats

    def light(self, intensity: int) -> Floats:
        """Return the expected light of an intensity's counts, shape ``(4, 4)``."""
        return np.asarray(self.counts[intensity] - self.exposure[intensity] * self.background)


@dataclass(frozen=True)
class PulseReader:
    """Counts the pulses of the pattern.

    Attributes:
        source: Where tags and delays come from.
        pattern: What Alice sends.
        inputs: Tagger input of each detector, by letter.
        gate_ps: Accepted width about a slot's centre, ps.
        inverted: Bases whose bits are inverted: their detectors are told as each other, as bits
            and not detectors have the order of the states around the circle.
    """

    source: TagSource
    pattern: Pattern
    inputs: Mapping[str, int]
    gate_ps: float
    inverted: Inverted = NOTHING

    async def read(
        self, account: Account, photons: int, params: Mapping[str, float]
    ) -> PulseCounts:
        """Count about so many detections, in as many acquisitions as that takes.

        Raises:
            BudgetError: They do not fit into the budget.
            UnusableWindowError: There is no light, or too much of it.
            InstrumentError: An instrument failed, also when tried again.
        """
        seen: list[TimeTags] = []
        left = photons
        while left > 0:
            asked = account.affordable(left)
            tags = await account.look(params, partial(self.source.acquire, asked))
            clicks = sum(map(len, tags.since_sync_ps.values()))
            account.spend(clicks)
            seen.append(tags)
            left -= max(clicks, photons // MOST_WINDOWS)
        return await asyncio.to_thread(self._count, seen)

    def _count(self, seen: Sequence[TimeTags]) -> PulseCounts:
        delays_ps = self.source.delays_ps()
        edge, windows = np.zeros(len(STATES)), []
        for tags in seen:
            windows.append(fold(tags, self.pattern, self.inputs, delays_ps, self.gate_ps, 0.0))
            refuse_unusable(windows[-1])
            edge += clicks_at_edge(tags, self.pattern, self.inputs, delays_ps)
        counts = np.sum([window.clicks for window in windows], axis=0)
        duration_s = sum(tags.duration_s for tags in seen)
        periods = duration_s * self.pattern.clock_hz / self.pattern.period
        inside = inside_per_edge(self.gate_ps / self.pattern.slot_ps)
        of_bits = partial(exchanged, inverted=self.inverted)
        return PulseCounts(
            of_bits(counts),
            of_bits(self._exposure(counts, periods)),
            of_bits(edge * inside / self.pattern.period),
        )

    def _exposure(self, counts: NDArray[np.int64], periods: float) -> Floats:
        """Return the pulses of each kind in a period, weighted for more photons than clicks.

        A detector that clicks at all clicks once: light ``m`` gives ``1 - exp(-m)`` clicks.
        """
        pulses = np.zeros(counts.shape[:2])
        places = self.pattern.intensity_of_slot, self.pattern.state_of_slot
        np.add.at(pulses, places, 1.0)
        occupied = counts / (pulses[:, :, None] * periods)
        if occupied.max() > MOST_OCCUPIED:
            raise UnusableWindowError(
                f"a detector clicks in {100 * occupied.max():.0f} % of its brightest pulses: it "
                "saturates, more attenuation is needed"
            )
        share = np.where(occupied > 0, occupied / -np.log1p(-np.maximum(occupied, 1e-12)), 1.0)
        return np.asarray(pulses[:, :, None] * share)
