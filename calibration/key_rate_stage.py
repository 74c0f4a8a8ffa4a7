"""The outer loop: the knobs that remain, tuned together for the secret key rate of the link.

Single stages bring each part of a link to its own best figure; the key rate of all together can
still be higher. A Gaussian process that knows the counting noise of every trial proposes settings
within a region about what is in force, and the setting of the best posterior mean is put in force.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import Trial, TrialState
from pydantic import Field

from calibration.account import Account, BudgetError, StageBudget
from calibration.bench import Bench, UnusableWindowError
from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.measured_key import KeyCounts, KeyRate, measured_key_rate
from calibration.noisy_sampler import VARIANCE_ATTRIBUTE, NoisySampler
from calibration.signal_run import Figure, PreconditionError

STAGE = "key-rate"

PHOTONS = "n_photons"

EMPTY_SHARE = 0.02
"""An intensity of less than this share of the signal is empty: its clicks tell the background."""

SEARCH_SHARE = 0.8
"""Share of the longest duration after which no further trial is begun."""

EDGE = 0.02
"""A setting is at the edge of its region within this share of the region's width."""


class KeyRateSettings(StageBudget):
    """What the stage needs to know, and what it may spend."""

    reach: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Farthest from what is in force, as a share of a knob's range.",
    )
    trials: int = Field(60, ge=10, le=300, description="Settings tried.")
    least_photons: int = Field(1000, ge=100, description="Fewest detections of a trial.")
    most_photons: int = Field(50_000, ge=200, description="Most detections of a trial.")
    setting_photons: int = Field(
        20_000, ge=0, description="Detections that changing the setting is worth."
    )
    figure_photons: int = Field(
        100_000, ge=1000, description="Detections for the key rate before and after."
    )
    seed: int = Field(0, ge=0, description="Of the sampler.")


@dataclass(frozen=True)
class PatternKey:
    """Reads the key rate off windows of Alice's pattern.

    Attributes:
        pattern: What Alice sends.
        mean_photons: Mean photon number of each intensity.
    """

    pattern: Pattern
    mean_photons: Mapping[str, float]

    def counts(self, windows: Sequence[Window]) -> KeyCounts:
        """Sum what tells the key rate."""
        names = list(self.pattern.intensity_names)
        slots = np.bincount(self.pattern.intensity_of_slot, minlength=len(names))
        duration_s = sum(window.duration_s for window in windows)
        pulses = duration_s * self.pattern.clock_hz * slots / slots.sum()
        clicks = np.sum([window.clicks.sum(axis=(1, 2)) for window in windows], axis=0)
        signal_photons = self.mean_photons[self.pattern.signal]
        empty = [
            number
            for number, name in enumerate(names)
            if self.mean_photons[name] < EMPTY_SHARE * signal_photons
        ]
        return KeyCounts(
            pulses=float(pulses[0]),
            clicks=int(clicks[0]),
            sifted=sum(window.signal.sifted for window in windows),
            errors=sum(window.signal.errors for window in windows),
            empty_pulses=float(pulses[empty].sum()),
            empty_clicks=int(clicks[empty].sum()),
        )

    def rate(self, windows: Sequence[Window]) -> KeyRate | None:
        """Return the key rate, or None where there is too little light to tell."""
        counts = self.counts(windows)
        if counts.sifted == 0 or any("dark" in window.flags for window in windows):
            return None
        return measured_key_rate(counts, self.mean_photons[self.pattern.signal])


class KeyRateProcedure:
    """Tunes knobs together for the key rate.

    Args:
        settings: What the stage needs to know.
        bench: Knobs and receiver.
        knobs: Names of the knobs.
        start: What is in force, by knob.
        key: Reads the key rate.
    """

    name = STAGE
    figure_name = "key rate"
    unit = "bit/pulse"
    target = None

    def __init__(
        self,
        settings: KeyRateSettings,
        bench: Bench,
        knobs: Sequence[str],
        start: Mapping[str, float],
        key: PatternKey,
    ) -> None:
        self._settings = settings
        self._bench = bench
        self._start = {knob: start[knob] for knob in knobs}
        self._in_force = dict(self._start)
        self._key = key

    async def measure(self, account: Account) -> Figure:
        """Measure the key rate at what is in force.

        Raises:
            PreconditionError: There is no light to measure it with.
        """
        windows = await account.windows(self._bench, self._settings.figure_photons, self._in_force)
        rate = self._key.rate(windows)
        if rate is None:
            raise PreconditionError(
                "no light at the receiver (shutter shut, fibre pulled, or delays wrong?)"
            )
        return Figure.normal(rate.value, float(np.sqrt(rate.variance)))

    def is_good(self, figure: Figure) -> bool:
        """Never: nobody knows beforehand what all knobs together can reach."""
        return False

    async def search(self, account: Account) -> str:
        """Try settings within the region, put the one of the best posterior mean in force.

        Raises:
            PreconditionError: No setting tried gave a key rate.
            BudgetError: There are not photons enough for a single trial.
        """
        region = self._region()
        space: dict[str, BaseDistribution] = {
            **{knob: FloatDistribution(low, high) for knob, (low, high) in region.items()},
            PHOTONS: IntDistribution(
                self._settings.least_photons, self._settings.most_photons, log=True
            ),
        }
        sampler = NoisySampler(
            space,
            start=self._start,
            setting_photons=self._settings.setting_photons,
            seed=self._settings.seed,
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        failed = 0
        for _ in range(self._settings.trials):
            if not self._can_go_on(account):
                break
            trial = await asyncio.to_thread(study.ask, space)
            failed += not await self._try(account, study, trial)
        if not study.trials:
            raise BudgetError(
                f"no photons are left for a trial: {account.total} of "
                f"{account.budget.max_photons} are spent (max_photons)"
            )
        if failed == len(study.trials):
            raise PreconditionError("no setting tried gave a key rate: all were dark or saturated")
        found = await asyncio.to_thread(sampler.recommendation, study)
        self._in_force = await account.patiently(partial(self._bench.apply, found.setting))
        account.tell(f"{found.value:.3g} bit/pulse expected", self._in_force)
        remarks = [f"{len(study.trials)} settings tried"]
        if failed:
            remarks.append(f"{failed} of them dark or saturated")
        edge = [k for k, v in found.setting.items() if _is_at_edge(v, region[k], self._limits(k))]
        if edge:
            remarks.append(f"{', '.join(edge)} at the edge of what was tried: run it once more")
        return ", ".join(remarks)

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether there is less key than before."""
        return after.high < before.low

    async def restore(self) -> None:
        """Put back what was in force at the start."""
        await self._bench.apply(self._start)
        self._in_force = dict(self._start)

    def in_force(self) -> dict[str, float]:
        """Return the knobs."""
        return dict(self._in_force)

    def _limits(self, knob: str) -> tuple[float, float]:
        return self._bench.limits(knob)

    def _region(self) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest value tried of each knob, within its limits."""
        region = {}
        for knob, value in self._start.items():
            low, high = self._limits(knob)
            reach = self._settings.reach * (high - low)
            region[knob] = max(low, value - reach), min(high, value + reach)
        return region

    def _can_go_on(self, account: Account) -> bool:
        """Whether photons and time are left for one more trial and the last measurement."""
        needed = self._settings.most_photons + self._settings.figure_photons
        has_time = account.elapsed_s < SEARCH_SHARE * account.budget.max_s
        return has_time and account.total + needed <= account.budget.max_photons

    async def _try(self, account: Account, study: Study, trial: Trial) -> bool:
        """Measure a trial and tell the study, whatever happens; return whether it says something.

        Raises:
            InstrumentError: An instrument failed, also when tried again.
        """
        rate: KeyRate | None = None
        setting = {knob: float(trial.params[knob]) for knob in self._start}
        try:
            await account.patiently(partial(self._bench.apply, setting))
            windows = await account.windows(self._bench, trial.params[PHOTONS], setting)
            rate = self._key.rate(windows)
        except UnusableWindowError as exc:
            account.tell(str(exc), setting)
        finally:
            if rate is None:
                study.tell(trial, state=TrialState.FAIL)
            else:
                trial.set_user_attr(VARIANCE_ATTRIBUTE, rate.variance)
                study.tell(trial, rate.value)
        if rate is not None:
            account.tell(f"{rate.value:.3g} bit/pulse", setting)
        return rate is not None


def _is_at_edge(value: float, region: tuple[float, float], limits: tuple[float, float]) -> bool:
    """Whether a value is at an end of its region where the knob itself could go on."""
    (low, high), margin = region, EDGE * (region[1] - region[0])
    is_low = value < low + margin and low > limits[0]
    return is_low or (value > high - margin and high < limits[1])
