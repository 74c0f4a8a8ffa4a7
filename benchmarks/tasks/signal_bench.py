"""What a method sees of a stage: settings to look at, every look paid for, and a figure to find."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.tasks.link import BudgetSpentError, Step

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What one look showed; each stage has more to tell in a class of its own.

    Attributes:
        paid: What it cost, in the currency of the stage: detections, or readings of a meter.
        costs: What is to be small, knob by knob where it can be told so, shape ``(K,)``.
        cost: What is to be small, all together.
    """

    paid: int
    costs: Array
    cost: float


R = TypeVar("R", bound=Reading)
R_co = TypeVar("R_co", bound=Reading, covariant=True)


class SignalTwin(Protocol[R_co]):
    """What a bench is made of.

    Attributes:
        elapsed_s: Time that settling and looking took so far.
        limits: Lowest and highest setting, shape ``(2, K)``.
        start: Setting in force at the start, shape ``(K,)``.
    """

    elapsed_s: float
    limits: Array
    start: Array

    def look(self, setting: Array, amount: float, **how: Any) -> R_co:
        """Set and look, for as long as about ``amount`` detections are expected to take."""
        ...

    def excess(self, setting: Array) -> float:
        """Tell how far a setting is from the best one, in what the stage is judged by."""
        ...

    def truth(self, setting: Array) -> float:
        """Tell the true value of what the stage calls its figure, at a setting, now."""
        ...

    def remarks(self, setting: Array) -> Mapping[str, float]:
        """Tell what else is to be known of a run that ends with a setting, as shares."""
        ...


class SignalBench(Generic[R]):
    """A bench, as a method of the benchmark sees it.

    Args:
        twin: The bench itself; a method must not look at it.
        stage: Which stage it is a bench of.
        told: What the laboratory knows beforehand.
        budget: What may be spent, in the currency of the stage.

    Attributes:
        stage: As above.
        told: As above.
        limits: Lowest and highest setting, shape ``(2, K)``.
        start: Setting in force at the start, shape ``(K,)``.
        spent: Detections, or readings of a meter, so far.
        settings: Settings so far.
        steps: What was recommended.
        held: Whether the truth was within each interval that was claimed.
        stopped: Why the method gave up, if it did.
        suggestion_s: Processor time before each look, the twin's own not counted.
    """

    def __init__(
        self, twin: SignalTwin[R], *, stage: str, told: Mapping[str, float], budget: int
    ) -> None:
        self._twin = twin
        self._budget = budget
        self._latest: Array | None = None
        self._final = twin.start
        self.stage = stage
        self.told = told
        self.limits = twin.limits
        self.start = twin.start
        self.spent = 0
        self.settings = 0
        self.steps: list[Step] = []
        self.held: list[bool] = []
        self.stopped = ""
        self.suggestion_s: list[float] = []
        self._resumed_s = time.process_time()
        self._thinking_s = 0.0

    @property
    def left(self) -> int:
        """What may still be spent."""
        return max(self._budget - self.spent, 0)

    def look(self, setting: ArrayLike, amount: float = 1, **how: Any) -> R:
        """Set, and look for as long as so many detections are expected to take.

        Args:
            setting: Shape ``(K,)``; brought within the limits.
            amount: Detections wanted; of no meaning where a meter is read.
            how: What else a stage's twin takes.

        Raises:
            BudgetSpentError: Nothing may be looked at any more.
        """
        self._pause()
        if self.left == 0:
            raise BudgetSpentError
        self.suggestion_s.append(self._thinking_s)
        self._thinking_s = 0.0
        wanted = self._within(setting)
        if self._latest is None or not np.array_equal(wanted, self._latest):
            self.settings += 1
        self._latest = wanted
        reading = self._twin.look(wanted, min(amount, self.left), **how)
        self.spent += reading.paid
        self._resumed_s = time.process_time()
        return reading

    def recommend(self, setting: ArrayLike) -> None:
        """Say which setting would be used if the search ended here."""
        self._pause()
        self._final = self._within(setting)
        excess = self._twin.excess(self._final)
        self.steps.append(Step(self.spent, self.settings, self._twin.elapsed_s, excess, np.nan))
        self._resumed_s = time.process_time()

    def claim(self, setting: ArrayLike, low: float, high: float) -> None:
        """Say that the stage's figure at a setting is now within an interval, with 90 %."""
        self.held.append(low <= self._twin.truth(self._within(setting)) <= high)

    def remarks(self) -> Mapping[str, float]:
        """Tell what else is to be known of the run, now that it has ended."""
        return self._twin.remarks(self._final)

    def _within(self, setting: ArrayLike) -> Array:
        within: Array = np.clip(np.asarray(setting, dtype=float), *self.limits)
        return within

    def _pause(self) -> None:
        self._thinking_s += time.process_time() - self._resumed_s


Run = Callable[[SignalBench[Any], int], None]
"""A method: looks and recommends, until it has enough or the budget is spent."""


def follow(run: Run, bench: SignalBench[Any], seed: int) -> None:
    """Run a method to its end; one that recommends nothing leaves the start in force."""
    with contextlib.suppress(BudgetSpentError):
        run(bench, seed)
    if not bench.steps:
        bench.recommend(bench.start)
