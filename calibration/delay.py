"""The delay stage: put each detector's clicks into the middle of the slot they belong to."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.arrival import fit_peak
from calibration.folding import Pattern, find_delay
from calibration.signal_run import INTERVAL_SIGMAS, Figure, PreconditionError
from drivers.roles import TimeTags

STAGE = "delay"

LEAST_TAGS = 50
"""Fewest clicks of a detector from which its delay is told."""


class DelaySettings(StageBudget):
    """What the stage may spend, and what it leaves alone."""

    photons: int = Field(8000, ge=400, description="Detections of one look, all detectors.")
    tolerance_ps: float = Field(
        50.0, gt=0, description="Timing error of any detector that is left alone, ps."
    )


class TaggingBench(Protocol):
    """A receiver that hands out time tags, and folds by delays that can be set."""

    async def acquire(self, photons: int) -> TimeTags:
        """Record about so many detections."""
        ...

    def delays_ps(self) -> dict[str, float]:
        """Delays in force, by detector letter, ps."""
        ...

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        """Put delays into force."""
        ...


@dataclass(frozen=True)
class Arrival:
    """When slot 0 starts at one detector.

    Attributes:
        delay_ps: After the START event, ps.
        sigma_ps: Its standard error, ps.
        jitter_ps: Standard deviation of single clicks, ps.
    """

    delay_ps: float
    sigma_ps: float
    jitter_ps: float


def find_arrival(
    tags: TimeTags, pattern: Pattern, tagger_input: int, expected_ps: float, detector: str
) -> Arrival:
    """Find a detector's delay: whole slots by the pattern, the rest by a fitted peak.

    Args:
        tags: Time stamps.
        pattern: What Alice sends.
        tagger_input: The detector's input.
        expected_ps: Of the delays that the pattern cannot tell apart, the one nearest to this, ps.
        detector: The detector's letter, for errors.

    Raises:
        ValueError: The clicks are too few, or show no rhythm.
    """
    since_sync_ps = tags.since_sync_ps.get(tagger_input, np.empty(0, dtype=np.uint64))
    if len(since_sync_ps) < LEAST_TAGS:
        raise ValueError(
            f"detector {detector} (input {tagger_input}) clicked {len(since_sync_ps)} times only: "
            "is it connected, biased and lit?"
        )
    coarse_ps = find_delay(since_sync_ps, pattern, expected_ps, detector)
    slot_ps = pattern.slot_ps
    peak = fit_peak((since_sync_ps.astype(np.float64) - coarse_ps) / slot_ps % 1.0)
    fine_ps = coarse_ps + (peak.centre - 0.5) * slot_ps  # a crowd belongs at its slot's centre
    return Arrival(fine_ps, peak.centre_sigma * slot_ps, peak.width * slot_ps)


class DelayProcedure:
    """Finds the delay of every detector and has the receiver fold by it.

    Args:
        settings: What the stage may spend.
        bench: Where tags come from, and who folds them.
        pattern: What Alice sends.
        inputs: Tagger input of each detector, by letter.
    """

    name = STAGE
    figure_name = "timing error"
    unit = "ps"
    target = 0.0

    def __init__(
        self,
        settings: DelaySettings,
        bench: TaggingBench,
        pattern: Pattern,
        inputs: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._bench = bench
        self._pattern = pattern
        self._inputs = dict(inputs)
        self._start_ps = bench.delays_ps()

    async def measure(self, account: Account) -> Figure:
        """Measure how far the worst detector's clicks lie from where they are expected.

        Raises:
            PreconditionError: A detector's clicks do not follow the clock.
        """
        arrivals = await self._arrivals(account)
        in_force_ps = self._bench.delays_ps()
        errors_ps = {d: abs(a.delay_ps - in_force_ps[d]) for d, a in arrivals.items()}
        worst = max(errors_ps, key=lambda detector: errors_ps[detector])
        half_ps = INTERVAL_SIGMAS * max(arrival.sigma_ps for arrival in arrivals.values())
        return Figure(
            errors_ps[worst], max(errors_ps[worst] - half_ps, 0.0), errors_ps[worst] + half_ps
        )

    def is_good(self, figure: Figure) -> bool:
        """Whether every detector is as near as is wanted."""
        return figure.value <= self._settings.tolerance_ps

    async def search(self, account: Account) -> str:
        """Find the delays from fresh tags and put them into force."""
        arrivals = await self._arrivals(account)
        self._bench.set_delays({d: round(a.delay_ps, 1) for d, a in arrivals.items()})
        shown = ", ".join(f"{d} {a.delay_ps:.0f} ps" for d, a in arrivals.items())
        jitter_ps = math.sqrt(sum(a.jitter_ps**2 for a in arrivals.values()) / len(arrivals))
        return f"{shown}; jitter {jitter_ps:.0f} ps"

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether clicks lie further off than before."""
        return after.low > before.high

    async def restore(self) -> None:
        """Fold by the delays of the start again."""
        self._bench.set_delays(self._start_ps)

    def in_force(self) -> dict[str, float]:
        """Return the delays, by their keys in the testbed file."""
        return {f"receiver.delays_ps.{d}": ps for d, ps in self._bench.delays_ps().items()}

    async def _arrivals(self, account: Account) -> dict[str, Arrival]:
        asked = account.affordable(self._settings.photons)
        expected_ps = self._bench.delays_ps()
        tags = await account.look(expected_ps, lambda: self._bench.acquire(asked))
        account.spend(sum(len(each) for each in tags.since_sync_ps.values()))
        try:
            return await asyncio.to_thread(self._find, tags, expected_ps)
        except ValueError as exc:
            raise PreconditionError(str(exc)) from None

    def _find(self, tags: TimeTags, expected_ps: Mapping[str, float]) -> dict[str, Arrival]:
        return {
            detector: find_arrival(
                tags, self._pattern, number, expected_ps.get(detector, 0.0), detector
            )
            for detector, number in self._inputs.items()
        }
