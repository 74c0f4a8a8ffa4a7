"""What every calibration stage does: measure, search, verify, compare, and roll back if worse.

A stage owns neither the way of searching nor the bench: it is handed searches, to be tried one
after the other, and a bench. It counts every photon that is looked at.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import binom

from calibration.bench import Bench, UnusableWindowError
from calibration.clicks import Clicks, Estimate
from calibration.inversion import NOTHING, Inverted
from calibration.metering import MeteredBench, Phase, Progress, Rules
from calibration.pauses import NoPauses, Pauses
from calibration.searches import Finding, Search, SearchBuilder, Setting
from calibration.trials import TrialLog, Trials, carry_through
from drivers.errors import InstrumentError

Outcome = Literal["accepted", "rolled-back", "failed"]

KNOWN_ACTUATORS_BOUND = (2 + math.sqrt(2)) ** 2 / 8
"""Least mean excess times photons when the actuators are known (Gill-Massar), about 1.457."""

UNKNOWN_ACTUATORS_BOUND = 1.9
"""The same when four retarders must be learnt as well, by the best design found in simulation."""

LOOKS_AGAIN = 3
"""Times that a search goes on although a verification did not refute what it found."""

REFUTATION = 0.01
"""How improbable a fresh window must be under a prediction before that is called refuted."""


@dataclass(frozen=True)
class StageResult:
    """How a stage ended.

    Attributes:
        stage: Name of the stage.
        outcome: ``accepted`` (a fresh window confirms the new setting), ``rolled-back`` (the start
            setting is in force again) or ``failed`` (nothing was found, or the bench failed).
        reason: Why, for the operator.
        before: QBER at the start, or None if it could not be measured.
        after: QBER at the new setting, from windows that no choice rests on, or None; with the bits
            inverted that the search wants inverted there.
        predicted_qber: What was predicted for them, or None.
        excess_mean: Expected QBER above the best reachable one when the last window ended, from all
            counts, or None if nothing is claimed.
        excess_q90: Bound on that excess which holds with 90 % probability, or None.
        bound_known: Least mean excess possible with the photons that the search saw (those of
            verifications do not count: at an optimum they tell next to nothing) if the actuators
            were known.
        bound_unknown: The same if the actuators must be learnt as well.
        photons: Detections looked at, by phase.
        settings: Settings measured, the one in force at the start not counted.
        duration_s: Time taken, s.
        setting: Setting left in force; empty if that is not known.
        posterior: What the model knows, JSON-able, or None without a model; of the link with the
            bits of ``inverted`` bases inverted.
        seed: Seed of the searches.
        sampler: Name of the search that found the setting, or that was tried last.
        inverted: Bases whose bits are to be inverted from now on, beside what was inverted before;
            none unless accepted.
    """

    stage: str
    outcome: Outcome
    reason: str
    before: Estimate | None
    after: Estimate | None
    predicted_qber: float | None
    excess_mean: float | None
    excess_q90: float | None
    bound_known: float | None
    bound_unknown: float | None
    photons: Mapping[Phase, int]
    settings: int
    duration_s: float
    setting: Setting
    posterior: Mapping[str, Any] | None
    seed: int
    sampler: str
    inverted: Inverted = NOTHING


@dataclass(frozen=True)
class _Attempt:
    """A finding of a search, and the fresh counts that confirmed or refuted it, if any."""

    search: Search
    trials: Trials
    finding: Finding
    fresh: Clicks | None = None
    is_refuted: bool = False

    @property
    def qber(self) -> float:
        return math.inf if self.fresh is None else self.fresh.qber.value

    def convinces(self, acceptable_qber: float) -> bool:
        """Whether no other search need be tried."""
        if self.fresh is None or self.is_refuted:
            return False
        return self.finding.excess_q90 is not None or self.qber <= acceptable_qber

    @property
    def is_doubtful(self) -> bool:
        """Whether fresh counts leave a claim in doubt that they do not refute."""
        finding = self.finding
        return finding.excess_q90 is not None and not finding.is_final

    def judge(self, ended: str) -> str:
        """Say what the setting is worth, and why its search ended if it did not by itself."""
        finding = self.finding
        if finding.predicted_qber is None:
            return ""
        predicted = f"{100 * finding.predicted_qber:.2f} % predicted"
        if self.is_refuted:
            return f", {predicted}: refuted, so nothing is claimed of the excess"
        if finding.remark is not None:
            return f", {predicted}; {finding.remark}"
        if finding.excess_q90 is not None and not finding.is_final:
            return f", {predicted}; {ended} before the target was shown"
        return f", {predicted}"


class StageRun:
    """One run of a stage.

    Args:
        stage: Name of the stage.
        study: Name of its study in the record; searches after the first append their own.
        bench: Knobs and receiver.
        log: The record of trials.
        on_progress: Told after every window.
        start: Setting in force, of all knobs of the stage.
        rules: Budget and goal.
        seed: Seed of the searches, for the record.
        resume: Whether past trials of the study are fed to the searches.
        pauses: What may hold the run up between two windows, or have it end with what it has.

    Attributes:
        result: How it ended, also if ``run`` raised; None before.
    """

    def __init__(
        self,
        stage: str,
        study: str,
        bench: Bench,
        log: TrialLog,
        on_progress: Callable[[Progress], None],
        start: Setting,
        rules: Rules,
        *,
        seed: int,
        resume: bool = False,
        pauses: Pauses | None = None,
    ) -> None:
        self._stage = stage
        self._study = study
        self._bench = MeteredBench(stage, bench, on_progress, start, rules, pauses or NoPauses())
        self._ledger = self._bench.ledger
        self._log = log
        self._start = start
        self._rules = rules
        self._seed = seed
        self._resume = resume
        self._before: Estimate | None = None
        self._search_name = ""
        self.result: StageResult | None = None

    async def run(self, builders: Sequence[SearchBuilder]) -> StageResult:
        """Measure, search, verify, compare.

        Whatever ends the run early, the start setting is put back, within a bounded time and also
        against a cancellation, and ``result`` says so.

        Args:
            builders: Searches in order; the next one is built when the one before does not
                convince.

        Raises:
            asyncio.CancelledError: The run was cancelled.
            Exception: Whatever was raised that is not a failure of an instrument or a window.
        """
        try:
            return await self._run(builders)
        except (InstrumentError, UnusableWindowError) as exc:
            return await carry_through(self._go_back("failed", str(exc)))
        except asyncio.CancelledError:
            await carry_through(self._go_back("rolled-back", "cancelled"))
            raise
        except BaseException as exc:
            await carry_through(self._go_back("failed", str(exc) or type(exc).__name__))
            raise

    async def _run(self, builders: Sequence[SearchBuilder]) -> StageResult:
        *others, last = await self._search(builders)
        if last.fresh is None:  # a misfit, then out of budget: see what it is worth
            last = await self._verify(last)
        best = min((*others, last), key=lambda attempt: attempt.qber)
        if best is not last:  # chosen among several: fresh counts must speak for it
            best = await self._verify(best)
        return await self._conclude(best)

    async def _search(self, builders: Sequence[SearchBuilder]) -> list[_Attempt]:
        """Try search after search until one convinces or the budget is spent."""
        attempts: list[_Attempt] = []
        setting, past = self._start, list[FrozenTrial]()
        for builder in builders:
            search = builder(setting, past)
            trials = await self._open(search, is_first=not attempts)
            if self._before is None:
                await self._measure_before(search, trials)
            attempt = await self._pursue(search, trials, "fallback" if attempts else "search")
            attempts.append(attempt)
            if attempt.convinces(self._rules.acceptable_qber) or not self._bench.allows(1, 0):
                break
            setting, past = attempt.finding.setting, trials.complete()
        return attempts

    async def _open(self, search: Search, *, is_first: bool) -> Trials:
        self._search_name = search.name
        study = self._study if is_first else f"{self._study}.{search.name}"
        trials = Trials(study, search.sampler, search.space, self._log)
        await trials.resume(feed=self._resume)
        return trials

    async def _measure_before(self, search: Search, trials: Trials) -> None:
        photons = min(self._rules.before_photons, self._rules.max_photons // 10)
        window = await self._bench.measure("before", search, trials, (self._start, photons))
        self._before = window.signal.qber
        self._bench.report("before", self._before, None)

    async def _pursue(self, search: Search, trials: Trials, phase: Phase) -> _Attempt:
        """Search until a finding withstands fresh counts, or the search is not to be trusted."""
        refuted = doubted = 0
        while True:
            attempt = _Attempt(search, trials, await self._find(search, trials, phase))
            if attempt.finding.misfit is not None:
                self._bench.note(phase, attempt.finding.misfit)
                return attempt
            attempt = await self._verify(attempt)
            if attempt.is_refuted:
                refuted += 1
                self._bench.note(
                    "verify", f"QBER {_percent(attempt.qber)} measured{self._judge(attempt)}"
                )
                if refuted == search.patience or not self._bench.allows(1, 0):
                    return attempt
                continue
            doubt = self._doubt(attempt, doubted)
            if doubt is None:
                return attempt
            doubted += 1
            self._bench.note("verify", doubt)

    def _doubt(self, attempt: _Attempt, doubted: int) -> str | None:
        """Say why the search should go on although it is not refuted, if that can be afforded.

        Where a model is wrong, many counts near the optimum teach it most: a strained one goes on
        with them once, even if it claims enough.
        """
        photons = self._verification_photons(attempt.finding)
        if doubted == LOOKS_AGAIN or not self._bench.allows(2, photons):
            return None
        if attempt.is_doubtful:
            return "what was measured leaves the claim in doubt: the search goes on"
        if attempt.finding.is_strained and not doubted:
            return "the model is strained by what was measured: the search goes on"
        return None

    async def _find(self, search: Search, trials: Trials, phase: Phase) -> Finding:
        """Run trials, at least one, until the search has its finding or the budget is spent."""
        while True:
            window = await self._bench.measure(phase, search, trials)
            finding = await asyncio.to_thread(search.assess, trials.study)
            qber = window.signal.inverted(finding.inverted).qber
            self._bench.report(phase, qber, finding)
            if finding.is_final or finding.misfit is not None:
                return finding
            reserve = (1 + search.rivals) * self._verification_photons(finding)
            if not self._bench.allows(2 + search.rivals, reserve):
                return finding

    async def _verify(self, attempt: _Attempt) -> _Attempt:
        """Measure what was found by windows that the search did not use.

        Among rivals fresh windows choose first; those that follow measure the chosen setting
        without the luck of the choice. A finding that says how large the QBER is at most is
        refuted if so many errors are too improbable under that (exact binomial test). What it
        claims if it is not, it claims with the fresh counts in mind, and of the time of the last.
        """
        finding = attempt.finding
        if finding.rivals:
            finding = await self._choose(attempt)
        fresh = await self._count_afresh(attempt, finding)
        is_refuted = finding.ceiling is not None and bool(
            binom.sf(fresh.errors - 1, fresh.sifted, finding.ceiling) < REFUTATION
        )
        if finding.excess_q90 is not None and not is_refuted:
            study = attempt.trials.study
            finding = await asyncio.to_thread(attempt.search.review, study, finding)
        return replace(attempt, finding=finding, fresh=fresh, is_refuted=is_refuted)

    async def _choose(self, attempt: _Attempt) -> Finding:
        """Let fresh windows choose among a finding's setting and its rivals."""
        finding = attempt.finding
        settings = (finding.setting, *finding.rivals)
        qbers = []
        for number, setting in enumerate(settings):
            share = self._ledger.left // (len(settings) - number + 1)
            photons = min(self._verification_photons(finding), share)
            clicks = await self._look(attempt, finding, setting, photons)
            qbers.append(clicks.qber.value)
        best = int(np.argmin(qbers))
        return replace(finding, setting=settings[best], rivals=(), predicted_qber=qbers[best])

    async def _count_afresh(self, attempt: _Attempt, finding: Finding) -> Clicks:
        """Count at the finding's setting as long as the prediction wants, or less.

        Halfway the errors seen tell how many counts are needed in truth: a floor that was
        predicted too high would waste photons. No window is so small that it might miss its point.
        """
        wanted = min(self._verification_photons(finding), self._ledger.left)
        half, quarter = wanted // 2, wanted // 4
        first = await self._look(attempt, finding, finding.setting, half)
        seen = (first.errors + 1) / first.sifted
        rest = min(self._ledger.verification_photons(seen), wanted) - half
        if rest <= 0:
            return first
        return first + await self._look(attempt, finding, finding.setting, max(rest, quarter))

    async def _look(
        self, attempt: _Attempt, finding: Finding, setting: Setting, photons: int
    ) -> Clicks:
        at = (setting, max(min(photons, self._ledger.left), 1))
        window = await self._bench.measure("verify", attempt.search, attempt.trials, at)
        clicks = window.signal.inverted(finding.inverted)
        self._bench.report("verify", clicks.qber, finding)
        return clicks

    def _verification_photons(self, finding: Finding) -> int:
        qber = finding.predicted_qber
        return self._ledger.verification_photons(
            self._rules.acceptable_qber if qber is None else qber
        )

    async def _conclude(self, best: _Attempt) -> StageResult:
        """Compare with the QBER before: keep what was found, or go back."""
        before, fresh = self._before, best.fresh
        if before is None or fresh is None:
            raise RuntimeError("a stage ends well only after counts before and after")
        after = fresh.qber
        found = f"{_interval(after)} after{_inverting(best.finding.inverted)}"
        compared = f"QBER {found}, {_interval(before)} before{self._judge(best)}"
        if after.low > before.high:
            return await carry_through(self._go_back("rolled-back", f"worse: {compared}", best))
        if best.is_refuted and after.high >= before.low:
            return await carry_through(self._go_back("rolled-back", f"no gain: {compared}", best))
        if self._bench.is_finishing and after.value >= before.value:  # half a search proves little
            return await carry_through(self._go_back("rolled-back", f"no gain: {compared}", best))
        return self._end("accepted", compared, best.finding.setting, best)

    def _judge(self, attempt: _Attempt) -> str:
        if self._bench.is_finishing:
            return attempt.judge("the search was told to end")
        if self._bench.allows(2, self._verification_photons(attempt.finding)):
            return attempt.judge("the search was given up")
        return attempt.judge("the budget was spent")

    async def _go_back(
        self, outcome: Outcome, reason: str, attempt: _Attempt | None = None
    ) -> StageResult:
        """Put the start setting back and end."""
        problem = await self._bench.restore()
        if problem is None:
            reason = f"{reason}; the start setting is in force again"
            return self._end(outcome, reason, self._start, attempt)
        reason = f"{reason}; the start setting could not be put back: {problem}"
        return self._end("failed", reason, {}, attempt)

    def _end(
        self, outcome: Outcome, reason: str, setting: Setting, attempt: _Attempt | None
    ) -> StageResult:
        photons = self._ledger.total - self._ledger.photons.get("verify", 0)
        finding = attempt.finding if attempt is not None else None
        claim = finding if attempt is not None and not attempt.is_refuted else None
        fresh = attempt.fresh if attempt is not None else None
        own_bound = claim.excess_bound if claim is not None else None
        known = KNOWN_ACTUATORS_BOUND / photons if photons else None
        unknown = UNKNOWN_ACTUATORS_BOUND / photons if photons else None
        self.result = StageResult(
            stage=self._stage,
            outcome=outcome,
            reason=reason,
            before=self._before,
            after=fresh.qber if fresh is not None else None,
            predicted_qber=finding.predicted_qber if finding is not None else None,
            excess_mean=claim.excess_mean if claim is not None else None,
            excess_q90=claim.excess_q90 if claim is not None else None,
            bound_known=known if own_bound is None else own_bound,
            bound_unknown=unknown if own_bound is None else own_bound,
            photons=dict(self._ledger.photons),
            settings=self._ledger.settings,
            duration_s=self._bench.elapsed_s,
            setting=dict(setting),
            posterior=claim.posterior if claim is not None else None,
            seed=self._seed,
            sampler=attempt.search.name if attempt is not None else self._search_name,
            inverted=finding.inverted if finding is not None and outcome == "accepted" else NOTHING,
        )
        return self.result


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _inverting(inverted: Inverted) -> str:
    return f" with the bits of {' and '.join(inverted)} inverted" if inverted else ""


def _interval(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} ({_percent(estimate.low)} to {_percent(estimate.high)})"
