"""What the stages before the alignment share: look, search, look again, go back if worse.

Such a stage has one figure that says how good its setting is (a mean photon number, an extinction
ratio, a timing error, a key rate). How it is measured and improved is its procedure; when to stop,
what to keep and what to say is decided here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol

from calibration.account import Account, BudgetError
from calibration.bench import UnusableWindowError
from calibration.clicks import CONFIDENCE
from calibration.metering import RESTORE_TIMEOUT_S, Phase
from calibration.trials import carry_through
from drivers.errors import InstrumentError

SignalOutcome = Literal["accepted", "skipped", "rolled-back", "failed"]

INTERVAL_SIGMAS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Half the width of an interval in standard deviations, about 1.645."""


class PreconditionError(Exception):
    """What a stage builds on does not hold; the text says what to see to first."""


@dataclass(frozen=True)
class Figure:
    """What a stage measures, with the interval that holds it with 90 % probability."""

    value: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, sigma: float) -> "Figure":
        """Take the interval of a normal error."""
        return cls(value, value - INTERVAL_SIGMAS * sigma, value + INTERVAL_SIGMAS * sigma)


class Procedure(Protocol):
    """What is particular to one stage. Every method leaves a setting in force that may stay."""

    @property
    def name(self) -> str:
        """Name of the stage."""
        ...

    @property
    def figure_name(self) -> str:
        """What its figure is."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the figure; empty for a number."""
        ...

    @property
    def target(self) -> float | None:
        """Value of the figure that is wanted, where there is one."""
        ...

    async def measure(self, account: Account) -> Figure:
        """Measure the figure at what is in force.

        Raises:
            PreconditionError: It cannot be measured before something else is seen to.
        """
        ...

    def is_good(self, figure: Figure) -> bool:
        """Whether nothing needs to be done."""
        ...

    async def search(self, account: Account) -> str:
        """Bring the best setting into force; return what the operator should know, or nothing."""
        ...

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the figure has got worse beyond its uncertainty."""
        ...

    async def restore(self) -> None:
        """Put back what was in force at the start."""
        ...

    def in_force(self) -> dict[str, float]:
        """Return what the stage has set, by knob or by key of the testbed file."""
        ...


@dataclass(frozen=True)
class SignalResult:
    """How such a stage ended.

    Attributes:
        stage: Name of the stage.
        outcome: ``accepted``, ``skipped`` (still good), ``rolled-back`` or ``failed``.
        reason: Why, for the operator.
        figure_name: What was measured.
        unit: Its unit; empty for a number.
        target: Value wanted, or None.
        before: Figure at the start, or None if it could not be measured.
        after: Figure at the end by a fresh measurement, or None.
        photons: Detections looked at, by phase.
        settings: Looks.
        duration_s: Time taken, s.
        setting: What is in force, by knob or key of the testbed file; empty if not known.
    """

    stage: str
    outcome: SignalOutcome
    reason: str
    figure_name: str
    unit: str
    target: float | None
    before: Figure | None
    after: Figure | None
    photons: Mapping[Phase, int]
    settings: int
    duration_s: float
    setting: Mapping[str, float]


class SignalRun:
    """One run of one procedure.

    Args:
        procedure: What is done.
        account: What it spends.

    Attributes:
        result: How it ended, also if ``run`` raised; None before.
    """

    def __init__(self, procedure: Procedure, account: Account) -> None:
        self._procedure = procedure
        self._account = account
        self._before: Figure | None = None
        self._after: Figure | None = None
        self.result: SignalResult | None = None

    async def run(self, *, only_if_needed: bool = False) -> SignalResult:
        """Measure, search, measure afresh, compare.

        Whatever ends the run early, the start setting is put back, within a bounded time and also
        against a cancellation, and ``result`` says so.

        Args:
            only_if_needed: Leave alone what the first measurement shows to be good.

        Raises:
            asyncio.CancelledError: The run was cancelled.
            Exception: Whatever was raised that is not a failure of an instrument, a window, a
                precondition or the budget.
        """
        longest_s = self._account.budget.max_s
        clock = self._account.deadline = asyncio.timeout(longest_s)
        try:
            async with clock:
                return await self._run(only_if_needed=only_if_needed)
        except (InstrumentError, UnusableWindowError, PreconditionError, BudgetError) as exc:
            return await carry_through(self._go_back("failed", str(exc)))
        except asyncio.CancelledError:
            await carry_through(self._go_back("rolled-back", "cancelled"))
            raise
        except BaseException as exc:
            late = isinstance(exc, TimeoutError) and clock.expired()
            reason = f"not done within {longest_s:g} s (max_s)" if late else str(exc)
            result = await carry_through(self._go_back("failed", reason or type(exc).__name__))
            if late:
                return result
            raise

    async def _run(self, *, only_if_needed: bool) -> SignalResult:
        procedure, account = self._procedure, self._account
        self._before = await procedure.measure(account)
        account.tell(self._shown(self._before))
        if only_if_needed and procedure.is_good(self._before):
            return self._end("skipped", f"still good: {self._shown(self._before)}")
        account.phase = "search"
        remark = await procedure.search(account)
        account.phase = "verify"
        self._after = await procedure.measure(account)
        account.tell(self._shown(self._after))
        start = self._shown(self._before, bare=True)
        compared = f"{self._shown(self._after)} after, {start} before"
        reason = f"{compared}; {remark}" if remark else compared
        if procedure.is_worse(self._before, self._after):
            return await carry_through(self._go_back("rolled-back", f"worse: {reason}"))
        return self._end("accepted", reason)

    async def _go_back(self, outcome: SignalOutcome, reason: str) -> SignalResult:
        problem = None
        try:
            async with asyncio.timeout(RESTORE_TIMEOUT_S):
                await self._procedure.restore()
        except (InstrumentError, TimeoutError) as exc:
            problem = str(exc) or f"no answer within {RESTORE_TIMEOUT_S:g} s"
        if problem is None:
            return self._end(outcome, f"{reason}; what was in force before is so again")
        reason = f"{reason}; what was in force before could not be put back: {problem}"
        return self._end("failed", reason, is_known=False)

    def _end(self, outcome: SignalOutcome, reason: str, *, is_known: bool = True) -> SignalResult:
        procedure, account = self._procedure, self._account
        self.result = SignalResult(
            stage=procedure.name,
            outcome=outcome,
            reason=reason,
            figure_name=procedure.figure_name,
            unit=procedure.unit,
            target=procedure.target,
            before=self._before,
            after=self._after,
            photons=dict(account.photons),
            settings=account.settings,
            duration_s=account.elapsed_s,
            setting=procedure.in_force() if is_known else {},
        )
        return self.result

    def _shown(self, figure: Figure, *, bare: bool = False) -> str:
        unit = f" {self._procedure.unit}" if self._procedure.unit else ""
        text = f"{figure.value:.4g}{unit} ({figure.low:.4g} to {figure.high:.4g})"
        return text if bare else f"{self._procedure.figure_name} {text}"
