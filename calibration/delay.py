"""The delay stage: put each detector's clicks into the middle of the slot they belong to."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.arrival import fit_peak
from calibration.clicks import CONFIDENCE, STATES
from calibration.crowds import Crowds, crowds_of
from calibration.folding import Pattern, find_delay
from calibration.signal_run import Figure, PreconditionError
from calibration.slots import LEAST_LIKENESS, TagSource, pattern_likeness
from drivers.roles import TimeTags

STAGE = "delay"

LEAST_TAGS = 200
"""Fewest clicks of a detector from which its delay is told."""

MOST_LOOKS = 4
"""Acquisitions that are put together at most until every detector has clicked as often."""

WORST_OF_ALL_SIGMAS = NormalDist().inv_cdf((1 + CONFIDENCE ** (1 / len(STATES))) / 2)
"""Half the width, in standard deviations, of intervals that hold for all detectors at once: the
worst of four measured errors is likelier than not a lucky draw upwards."""


class DelaySettings(StageBudget):
    """What the stage may spend, and what it leaves alone."""

    photons: int = Field(8000, ge=400, description="Detections of one look, all detectors.")
    tolerance_ps: float = Field(
        50.0, gt=0, description="Timing error of any detector that is left alone, ps."
    )
    interferometer_ps: float | None = Field(
        None,
        gt=0,
        description="Delay between the arms of the interferometers, ps.",
    )


class TaggingBench(TagSource, Protocol):
    """A receiver that hands out time tags, and folds them by delays that can be set."""

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        """Put delays into force."""
        ...


@dataclass(frozen=True)
class Arrival:
    """When slot 0 starts at one input: for all its crowds, at their centre.

    Attributes:
        delay_ps: After the START event, ps.
        sigma_ps: Its standard error, ps.
        jitter_ps: Standard deviation of single clicks, ps.
    """

    delay_ps: float
    sigma_ps: float
    jitter_ps: float


def find_arrival(
    since_sync_ps: NDArray[np.uint64],
    pattern: Pattern,
    levels: Mapping[str, float],
    expected_ps: float,
    crowds: Crowds,
) -> Arrival:
    """Find an input's delay: whole slots by the pattern, the rest by a fitted peak or comb.

    Args:
        since_sync_ps: Its clicks since the latest START event, ps, shape ``(n,)``.
        pattern: What Alice sends.
        levels: Mean photon number of each intensity.
        expected_ps: Of the delays that the pattern cannot tell apart, the one nearest to this, ps.
        crowds: How its light crowds within a slot.

    Raises:
        ValueError: The clicks are too few, show no rhythm, or do not follow the intensities.
    """
    if len(since_sync_ps) < LEAST_TAGS:
        raise ValueError(
            f"detector {crowds.name} clicked {len(since_sync_ps)} times only: is it connected, "
            "biased and lit?"
        )
    coarse_ps = find_delay(since_sync_ps, pattern, expected_ps, crowds.name)
    slot_ps = pattern.slot_ps
    phase = (since_sync_ps.astype(np.float64) - coarse_ps) / slot_ps % 1.0
    peak = fit_peak(phase, crowds.comb)
    fine_ps = coarse_ps + (peak.centre - 0.5) * slot_ps  # a crowd belongs at its slot's centre
    likeness = pattern_likeness(since_sync_ps, pattern, levels, fine_ps)
    if likeness < LEAST_LIKENESS:
        raise ValueError(
            f"the clicks of detector {crowds.name} follow the clock but not the intensity pattern "
            f"(correlation {likeness:.2f}): see to the intensity modulator's bias"
        )
    return Arrival(fine_ps, peak.centre_sigma * slot_ps, peak.width * slot_ps)


class DelayProcedure:
    """Finds the delay of every detector and has the receiver fold by it.

    Args:
        settings: What the stage may spend.
        bench: Where tags come from, and who folds them.
        pattern: What Alice sends.
        inputs: Tagger input of each detector, by letter.
        mean_photons: Mean photon number of each intensity.
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
        mean_photons: Mapping[str, float],
    ) -> None:
        self._settings = settings
        self._bench = bench
        self._pattern = pattern
        apart_ps = settings.interferometer_ps
        self._crowds = crowds_of(inputs, None if apart_ps is None else apart_ps / pattern.slot_ps)
        self._mean_photons = dict(mean_photons)
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
        half_ps = {d: WORST_OF_ALL_SIGMAS * a.sigma_ps for d, a in arrivals.items()}
        low_ps = max(errors_ps[d] - half_ps[d] for d in arrivals)
        high_ps = max(errors_ps[d] + half_ps[d] for d in arrivals)
        return Figure(errors_ps[worst], max(low_ps, 0.0), high_ps)

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
        expected_ps = self._bench.delays_ps()
        tags = await self._acquire(account, expected_ps)
        for _ in range(1, MOST_LOOKS):
            fewest = min(len(tags.since_sync_ps.get(n, ())) for n in self._crowds)
            if not 0 < fewest < LEAST_TAGS:  # all are seen well, or one not at all
                break
            tags = _together(tags, await self._acquire(account, expected_ps))
        try:
            return await asyncio.to_thread(self._find, tags, expected_ps)
        except ValueError as exc:
            raise PreconditionError(str(exc)) from None

    async def _acquire(self, account: Account, expected_ps: Mapping[str, float]) -> TimeTags:
        asked = account.affordable(self._settings.photons)
        tags = await account.look(expected_ps, lambda: self._bench.acquire(asked))
        account.spend(sum(len(each) for each in tags.since_sync_ps.values()))
        return tags

    def _find(self, tags: TimeTags, expected_ps: Mapping[str, float]) -> dict[str, Arrival]:
        """Find the arrival of each detector, by letter."""
        nothing, slot_ps = np.empty(0, dtype=np.uint64), self._pattern.slot_ps
        found = {}
        for number, crowds in self._crowds.items():
            away_ps = {letter: away * slot_ps for letter, away in crowds.gated.items()}
            centre = find_arrival(
                tags.since_sync_ps.get(number, nothing),
                self._pattern,
                self._mean_photons,
                fmean(expected_ps.get(letter, 0.0) - away_ps[letter] for letter in away_ps),
                crowds,
            )
            for letter, apart_ps in away_ps.items():
                found[letter] = replace(centre, delay_ps=centre.delay_ps + apart_ps)
        return {letter: found[letter] for letter in STATES}


def _together(first: TimeTags, second: TimeTags) -> TimeTags:
    """Put two acquisitions together."""
    nothing = np.empty(0, dtype=np.uint64)
    inputs = first.since_sync_ps.keys() | second.since_sync_ps.keys()
    stamps = {
        number: np.concatenate(
            [tags.since_sync_ps.get(number, nothing) for tags in (first, second)]
        )
        for number in inputs
    }
    return TimeTags(first.duration_s + second.duration_s, stamps)
