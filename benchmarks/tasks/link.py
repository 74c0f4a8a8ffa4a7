"""What a method sees of a task: drives to set and counts to take, every one of them paid for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.clicks import Clicks

Array = NDArray[np.float64]
Counts = Literal["all", "matched", "pooled"]
Actuator = Literal["squeezers", "retarders", "paddles", "wave-plates"]


class BudgetSpentError(Exception):
    """There are no photons or settings left; a method need not catch it."""


@dataclass(frozen=True)
class Told:
    """What the laboratory knows beforehand and tells every method.

    Attributes:
        actuator: What the drives drive: squeezers by voltage, liquid-crystal cells by nominal
            retardance, or wave plates by angle: fibre paddles, or bulk plates that were homed.
        cheap_photons: Detections that cost no more than changing the setting does.
        is_characterised: Whether half-wave voltages are known to 10 % and axes to a few degrees.
        drift_rad: Drift of the fibre per axis in one second, rad.
    """

    actuator: Actuator = "squeezers"
    cheap_photons: int = 100
    is_characterised: bool = True
    drift_rad: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What one exposure showed.

    Attributes:
        errors: Sifted counts of opposite sign.
        sifted: Sifted counts.
        table: Counts, sent state by detector, shape ``(4, 4)``; zero where bases differ if these
            are not told; None where the receiver tells no more than one QBER.
        time_s: When it ended, s since the start.
    """

    errors: int
    sifted: int
    table: NDArray[np.int64] | None
    time_s: float

    @property
    def qber(self) -> float:
        """QBER, both bases taken together; 0.5 where nothing was sifted."""
        return self.errors / self.sifted if self.sifted else 0.5

    @property
    def variance(self) -> float:
        """Variance of the QBER, from a share that is never quite 0 or 1."""
        share = (self.errors + 0.5) / (self.sifted + 1)
        return share * (1 - share) / max(self.sifted, 1)


@dataclass(frozen=True)
class Step:
    """Where a run stands after a recommendation.

    Attributes:
        photons: Detections so far.
        settings: Exposures so far.
        seconds: Time that settling and counting took so far; without computing.
        excess: True QBER at the recommended setting, above the best reachable one.
        excess_q90: Bound on the excess that is claimed with a probability of 90 %, or NaN.
    """

    photons: int
    settings: int
    seconds: float
    excess: float
    excess_q90: float


@dataclass(frozen=True)
class Earlier:
    """The same bench some time ago, where a method may have learnt something.

    Attributes:
        link: The bench as it was; what is looked at there costs nothing.
        elapsed_s: Time between then and now, s.
        drift_rad: Drift of the fibre meanwhile, per axis in one second, rad.
        let_pass: Lets the time pass; called before the first count of now.
    """

    link: Link
    elapsed_s: float
    drift_rad: float
    let_pass: Callable[[], None]


class LinkTwin(Protocol):
    """What a link is made of."""

    elapsed_s: float

    @property
    def limits(self) -> Array:
        """Lowest and highest drives, shape ``(2, K)``."""
        ...

    def measure(self, drives: Array, photons: float) -> NDArray[np.int64]:
        """Set the drives and count, sent state by detector, shape ``(4, 4)``."""
        ...

    def excess_over_best(self, drives: Array) -> float:
        """Tell the true QBER at drives, shape ``(K,)``, above the best reachable one."""
        ...


class Link:
    """A link, as a method of the benchmark sees it.

    Args:
        twin: The link itself; a method must not look at it.
        half_turn: Nominal change of each drive that turns its retarder by pi, shape ``(K,)``.
        counts: What the receiver tells.
        told: What the laboratory knows.
        budget_photons: Detections that may be looked at.
        most_settings: Exposures that may be taken, or None for any number.
        earlier: The same bench some time ago, or None.

    Attributes:
        limits: Lowest and highest drives, shape ``(2, K)``.
        half_turn: As above.
        told: As above.
        earlier: As above.
        photons: Detections so far.
        settings: Exposures so far.
        steps: What was recommended.
        suggestion_s: Processor time before each exposure, this class's own not counted.
    """

    def __init__(
        self,
        twin: LinkTwin,
        half_turn: ArrayLike,
        *,
        counts: Counts = "all",
        told: Told | None = None,
        budget_photons: int,
        most_settings: int | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._twin = twin
        self.earlier = earlier
        self._counts = counts
        self._budget_photons = budget_photons
        self._most_settings = most_settings
        self.limits = twin.limits
        self.half_turn = np.broadcast_to(np.asarray(half_turn, dtype=float), self.limits[0].shape)
        self.told = told if told is not None else Told()
        self.photons = 0
        self.settings = 0
        self.steps: list[Step] = []
        self.suggestion_s: list[float] = []
        self._resumed_s = time.process_time()
        self._thinking_s = 0.0

    @property
    def middle(self) -> Array:
        """The middle of all ranges, where a controller starts, shape ``(K,)``."""
        middle: Array = self.limits.mean(axis=0)
        return middle

    @property
    def photons_left(self) -> int:
        """Detections that may still be looked at."""
        return max(self._budget_photons - self.photons, 0)

    def count(self, setting: ArrayLike, photons: float) -> Reading:
        """Set the drives and count for as long as so many detections are expected to take.

        Args:
            setting: Drives, shape ``(K,)``; brought within the limits.
            photons: Detections wanted, of all detectors, whatever they tell.

        Raises:
            BudgetSpentError: Nothing may be looked at any more.
        """
        self._pause()
        if self.photons_left == 0 or self.settings == self._most_settings:
            raise BudgetSpentError
        self.suggestion_s.append(self._thinking_s)
        self._thinking_s = 0.0
        if self.settings == 0 and self.earlier is not None:
            self.earlier.let_pass()
        drives = np.clip(np.asarray(setting, dtype=float), *self.limits)
        table = self._twin.measure(drives, max(min(photons, self.photons_left), 1))
        self.photons += int(table.sum())
        self.settings += 1
        reading = self._reading(table)
        self._resumed_s = time.process_time()
        return reading

    def recommend(self, setting: ArrayLike, *, excess_q90: float = np.nan) -> None:
        """Say which setting would be used if the search ended here.

        Args:
            setting: Drives, shape ``(K,)``.
            excess_q90: Excess that is not exceeded with a probability of 90 %, if that is claimed;
                a method that verifies its claims makes none before.
        """
        self._pause()
        drives = np.clip(np.asarray(setting, dtype=float), *self.limits)
        self.steps.append(
            Step(
                photons=self.photons,
                settings=self.settings,
                seconds=self._twin.elapsed_s,
                excess=self._twin.excess_over_best(drives),
                excess_q90=excess_q90,
            )
        )
        self._resumed_s = time.process_time()

    def _pause(self) -> None:
        self._thinking_s += time.process_time() - self._resumed_s

    def _reading(self, table: NDArray[np.int64]) -> Reading:
        clicks = Clicks(table)
        shown: NDArray[np.int64] | None = table
        if self._counts == "matched":
            shown = table * np.kron(np.eye(2, dtype=np.int64), np.ones((2, 2), dtype=np.int64))
        elif self._counts == "pooled":
            shown = None
        return Reading(clicks.errors, clicks.sifted, shown, self._twin.elapsed_s)


Run = Callable[[Link, int], None]
"""A method: counts on a link and recommends, until it has enough or the budget is spent; its seed
is for its own chances, the link has another."""


def follow(run: Run, link: Link, seed: int) -> list[Step]:
    """Run a method to its end and tell what it recommended.

    A method that never recommends anything is taken to leave the drives where they started.
    """
    with contextlib.suppress(BudgetSpentError):
        run(link, seed)
    if not link.steps:
        link.recommend(link.middle)
    return link.steps
