"""What a stage may spend, what it has spent, and the record of what it looked at."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from calibration.bench import Bench, refuse_unusable
from calibration.clicks import Window
from calibration.metering import RETRY_DELAYS_S, Phase, Progress
from calibration.pauses import NoPauses, Pauses, Stopwatch
from calibration.trials import TrialLog, carry_through
from drivers.errors import InstrumentError, SettingError

T = TypeVar("T")

MOST_WINDOWS = 20
"""Windows that one measurement is made of at most."""


class BudgetError(Exception):
    """The next measurement would cost more photons than the stage may spend."""


class StageBudget(BaseModel):
    """What a stage may spend; the settings of every stage have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_photons: int = Field(2_000_000, ge=1, description="Detections, everything counted.")
    max_s: float = Field(300.0, gt=0, description="Longest duration, s.")


@dataclass
class Account:
    """What a run spends, told and recorded while it does.

    Attributes:
        stage: Name of the stage.
        study: Name of the study in the record.
        budget: What may be spent.
        log: The record of settings looked at.
        on_progress: Told after every look.
        pauses: What may hold the run up between two looks.
        phase: What is being done.
        photons: Detections looked at, by phase.
        settings: Looks so far.
        deadline: When the run must be done; stands still during pauses, as does its time. None
            without a limit.
    """

    stage: str
    study: str
    budget: StageBudget
    log: TrialLog
    on_progress: Callable[[Progress], None]
    pauses: Pauses = field(default_factory=NoPauses)
    phase: Phase = "before"
    photons: dict[Phase, int] = field(default_factory=dict)
    settings: int = 0
    deadline: asyncio.Timeout | None = None

    def __post_init__(self) -> None:
        """Start the stopwatch."""
        self._stopwatch = Stopwatch(self.pauses)

    @property
    def total(self) -> int:
        """Photons of all phases."""
        return sum(self.photons.values())

    @property
    def elapsed_s(self) -> float:
        """Time since the start but for pauses, s."""
        return self._stopwatch.elapsed_s

    def affordable(self, photons: int) -> int:
        """Return a wanted number of photons, to be asked for now.

        Raises:
            BudgetError: It would exceed the budget.
        """
        if self.total + photons > self.budget.max_photons:
            raise BudgetError(
                f"{photons} more photons do not fit into the budget: {self.total} of "
                f"{self.budget.max_photons} are spent (max_photons)"
            )
        return photons

    def spend(self, photons: int) -> None:
        """Count detections."""
        self.photons[self.phase] = self.photons.get(self.phase, 0) + photons

    def tell(self, note: str, setting: Mapping[str, float] | None = None) -> None:
        """Tell how far the stage is."""
        self.on_progress(
            Progress(
                stage=self.stage,
                phase=self.phase,
                settings=self.settings,
                photons=self.total,
                qber=None,
                excess_mean=None,
                excess_q90=None,
                elapsed_s=self.elapsed_s,
                setting=dict(setting or {}),
                note=note,
            )
        )

    async def look(self, params: Mapping[str, float], work: Callable[[], Awaitable[T]]) -> T:
        """Measure at one setting, each try on the record; again after an instrument failed.

        Pauses take effect before a try is recorded.

        Args:
            params: The setting, for the record.
            work: Measures; it can be repeated.

        Raises:
            SettingError: The setting is impossible; nothing was sent.
            InstrumentError: An instrument failed, also when tried again.
        """
        return await self.patiently(lambda: self._recorded(params, work))

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what can be repeated; raises as ``look`` does."""
        for delay_s in RETRY_DELAYS_S:
            try:
                return await work()
            except SettingError:
                raise  # the next try would be just as impossible
            except InstrumentError as exc:
                self.tell(f"{exc}; trying again")
            await asyncio.sleep(delay_s)
        return await work()

    async def windows(
        self, bench: Bench, photons: int, params: Mapping[str, float] | None = None
    ) -> list[Window]:
        """Measure about so many detections, in as many windows as that takes.

        Windows without light are for the caller to judge.

        Raises:
            BudgetError: They do not fit into the budget.
            UnusableWindowError: There is too much light.
            InstrumentError: An instrument failed, also when tried again.
        """
        seen: list[Window] = []
        left = photons
        while left > 0:
            asked = self.affordable(left)
            window = await self.look(params or {}, partial(bench.measure, asked))
            self.spend(window.photons)
            if "saturated" in window.flags:
                refuse_unusable(window)
            seen.append(window)
            left -= max(window.photons, photons // MOST_WINDOWS)
        return seen

    async def _recorded(self, params: Mapping[str, float], work: Callable[[], Awaitable[T]]) -> T:
        await self._wait_for_pauses()
        number = self.settings
        self.settings += 1
        await carry_through(self.log.begin(self.study, number, dict(params)))
        seen: T | None = None
        try:
            seen = await work()
        finally:
            window = seen if isinstance(seen, Window) else None
            await carry_through(
                self.log.finish(
                    self.study,
                    number,
                    "failed" if seen is None else "complete",
                    seen if isinstance(seen, float) else None,
                    None if window is None else window.signal.table,
                )
            )
        return seen

    async def _wait_for_pauses(self) -> None:
        """Wait while the run is held up, which does not count against its time."""
        clock, due_s = self.deadline, None if self.deadline is None else self.deadline.when()
        if clock is None or due_s is None:
            await self.pauses.before_window()
            return
        paused_s = self.pauses.paused_s
        clock.reschedule(None)
        try:
            await self.pauses.before_window()
        finally:
            clock.reschedule(due_s + self.pauses.paused_s - paused_s)
