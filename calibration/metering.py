"""The meter on the bench: every window is a trial, every photon is counted, progress is told."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.bench import Bench, LightLostError, UnusableWindowError
from calibration.clicks import STATES, Estimate, Window
from calibration.pauses import Pauses, Stopwatch
from calibration.searches import Finding, Search, Setting
from calibration.trials import Params, Trials
from drivers.errors import InstrumentError, SettingError

Phase = Literal["before", "search", "verify", "fallback"]

RETRY_DELAYS_S = (0.2, 1.0, 3.0)
"""Waits before a failed measurement is tried again; after as many failures the stage gives up."""

LOST_SHARE = 0.05
"""Share of the rate of the first window below which the light is taken for lost, or a detector for
dead: knobs change which state a detector sees, but hardly how much of all states together."""

LEAST_EXPECTED = 50
"""Detections that a window must lead one to expect before their lack says anything."""

RESTORE_TIMEOUT_S = 20.0
"""How long putting the start setting back may take."""

SIGMAS_IN_TARGET = 2.5
"""Standard deviations of a verification's QBER that fit into the target excess: a setting that
misses by twice the target is refuted in most cases, at two thirds of the price of three."""

LEAST_VERIFICATION = 200
"""Fewest detections of a verification, however coarse the target."""


@dataclass(frozen=True)
class Rules:
    """What a stage may spend, and what it asks for.

    Attributes:
        target_excess: Wanted QBER above the best reachable one; sets the size of verifications.
        acceptable_qber: Where nothing is claimed of the excess, further searches are tried above
            this QBER; nor is a verification finer than this QBER needs.
        max_photons: Detections that may be looked at, all phases together.
        max_settings: Settings that may be measured.
        before_photons: Detections at the setting in force.
    """

    target_excess: float
    acceptable_qber: float
    max_photons: int
    max_settings: int
    before_photons: int


@dataclass(frozen=True)
class Progress:
    """How far a stage is; reported after every window.

    Attributes:
        stage: Name of the stage.
        phase: What the window was measured for.
        settings: Settings measured so far, the one in force at the start not counted.
        photons: Detections looked at so far, everything counted.
        qber: QBER of the latest window, or None before there is one.
        excess_mean: Expected QBER above the best reachable one, or None without a model.
        excess_q90: Bound on that excess which holds with 90 % probability, or None.
        elapsed_s: Time since the start, s.
        setting: Setting of the latest window.
        note: What happened out of the ordinary, or None.
    """

    stage: str
    phase: Phase
    settings: int
    photons: int
    qber: Estimate | None
    excess_mean: float | None
    excess_q90: float | None
    elapsed_s: float
    setting: Setting
    note: str | None = None


@dataclass
class Ledger:
    """What was spent.

    Attributes:
        rules: What may be spent.
        photons: Detections looked at, by phase.
        sifted: Sifted counts of the signal among them.
        settings: Settings measured, the one in force at the start not counted.
    """

    rules: Rules
    photons: dict[Phase, int] = field(default_factory=dict)
    sifted: int = 0
    settings: int = 0

    def enter(self, phase: Phase, window: Window) -> None:
        """Count a window."""
        self.photons[phase] = self.photons.get(phase, 0) + window.photons
        self.sifted += window.signal.sifted

    @property
    def total(self) -> int:
        """Photons of all phases."""
        return sum(self.photons.values())

    @property
    def left(self) -> int:
        """Photons that may still be looked at; at least one, so that a window can be asked for."""
        return max(self.rules.max_photons - self.total, 1)

    def verification_photons(self, qber: float) -> int:
        """Photons after which a QBER is known to the target over SIGMAS_IN_TARGET.

        A QBER above the acceptable one is measured no more finely than that one would need; one
        below a third of the target no less finely.
        """
        target, acceptable = self.rules.target_excess, self.rules.acceptable_qber
        sized_for = max(min(qber, acceptable), target / SIGMAS_IN_TARGET)
        sifted = sized_for * (SIGMAS_IN_TARGET / target) ** 2
        share = self.sifted / self.total if self.sifted else 0.5
        return max(math.ceil(sifted / share), LEAST_VERIFICATION)

    def allows(self, settings: int, photons: int) -> bool:
        """Whether one more trial can be afforded beside what must follow it.

        Half of all photons is the most that is set aside, so that a search can begin at all.
        """
        reserve = min(photons, self.rules.max_photons // 2)
        return (
            self.settings + settings < self.rules.max_settings
            and self.total + reserve < self.rules.max_photons
        )


class MeteredBench:
    """A bench whose every window is a trial of some search, counted and reported.

    Args:
        stage: Name of the stage.
        bench: Knobs and receiver.
        on_progress: Told after every window.
        start: Setting in force, of all knobs of the stage.
        rules: What may be spent.
        pauses: What may hold the stage up between two windows.
    """

    def __init__(
        self,
        stage: str,
        bench: Bench,
        on_progress: Callable[[Progress], None],
        start: Setting,
        rules: Rules,
        pauses: Pauses,
    ) -> None:
        self._stage = stage
        self._bench = bench
        self._on_progress = on_progress
        self._start = start
        self._pauses = pauses
        self._stopwatch = Stopwatch(pauses)
        self._in_force: Setting | None = None
        self._usual_hz: NDArray[np.float64] | None = None
        self.ledger = Ledger(rules)

    @property
    def elapsed_s(self) -> float:
        """Time since the start but for pauses, s."""
        return self._stopwatch.elapsed_s

    @property
    def is_finishing(self) -> bool:
        """Whether the search shall end as if its budget were spent."""
        return self._pauses.is_finishing

    def allows(self, settings: int, photons: int) -> bool:
        """Whether one more trial can be afforded beside what must follow it, and is wanted."""
        return not self.is_finishing and self.ledger.allows(settings, photons)

    async def measure(
        self,
        phase: Phase,
        search: Search,
        trials: Trials,
        at: tuple[Setting, int] | None = None,
    ) -> Window:
        """Measure one window as a trial; again after a failure of an instrument or of the window.

        Pauses take effect before the trial is asked for. Where light stays away they say how long
        it is waited for.

        Args:
            phase: What the window is for.
            search: Whose trial it is.
            trials: The study.
            at: Setting and number of photons; by default the search's sampler proposes them.

        Raises:
            SettingError: A setting is impossible; nothing was sent.
            InstrumentError: An instrument failed, also when tried again.
            UnusableWindowError: There is no light, or too much, also when tried again.
        """

        async def measure(params: Params) -> Window:
            # A proposal leaves at least as much as it takes, so that it can be verified.
            photons = min(search.photons(params), self.ledger.left // 2) if at is None else at[1]
            await self._apply(phase, {name: params[name] for name in self._start})
            window = await self._bench.measure(max(min(photons, self.ledger.left), 1))
            self.ledger.enter(phase, window)
            self._heed_rates(window)
            return window

        async def work() -> Window:
            await self._pauses.before_window()
            return await trials.measure(measure, None if at is None else search.params(*at))

        while True:
            try:
                return await self._patiently(phase, work)
            except LightLostError as exc:
                await self._pauses.until_light(exc)

    async def _patiently(self, phase: Phase, work: Callable[[], Awaitable[Window]]) -> Window:
        for delay_s in RETRY_DELAYS_S:
            try:
                return await work()
            except SettingError:
                raise  # the next try would be just as impossible
            except (InstrumentError, UnusableWindowError) as exc:
                self._in_force = None
                self.note(phase, f"{exc}; trying again")
            await asyncio.sleep(delay_s)
        return await work()

    def _heed_rates(self, window: Window) -> None:
        """See whether about as much arrives as at first, all together and at each detector.

        A detector that dies would take its errors with it and make the QBER look better.
        """
        if window.flags or window.duration_s <= 0:
            return  # the trial fails for a flag; counts that took no time have no rate
        rates_hz = window.singles / window.duration_s
        if self._usual_hz is None:
            self._usual_hz = rates_hz
        total_hz, usual_hz = float(rates_hz.sum()), float(self._usual_hz.sum())
        least_hz = LOST_SHARE * usual_hz
        if total_hz < least_hz and usual_hz * window.duration_s >= LEAST_EXPECTED:
            raise LightLostError(
                f"hardly any light: {total_hz:.3g} detections/s, {usual_hz:.3g} at first "
                "(laser, shutter, fibre?)",
                least_hz,
            )
        is_telling = self._usual_hz * window.duration_s >= LEAST_EXPECTED
        is_silent = is_telling & (rates_hz < LOST_SHARE * self._usual_hz)
        if is_silent.any():
            silent = ", ".join(STATES[number] for number in np.flatnonzero(is_silent))
            raise UnusableWindowError(f"silent since the stage began: detector {silent}")
        self._pauses.heed(window)

    async def restore(self) -> str | None:
        """Put the start setting back, within RESTORE_TIMEOUT_S.

        Returns:
            None, or why it could not be done.
        """
        try:
            async with asyncio.timeout(RESTORE_TIMEOUT_S):
                await self._bench.apply(self._start)
        except (InstrumentError, TimeoutError) as exc:
            return str(exc) or f"no answer within {RESTORE_TIMEOUT_S:g} s"
        return None

    def report(
        self, phase: Phase, qber: Estimate | None, finding: Finding | None, note: str | None = None
    ) -> None:
        """Tell how far the stage is."""
        self._on_progress(
            Progress(
                stage=self._stage,
                phase=phase,
                settings=self.ledger.settings,
                photons=self.ledger.total,
                qber=qber,
                excess_mean=finding.excess_mean if finding is not None else None,
                excess_q90=finding.excess_q90 if finding is not None else None,
                elapsed_s=self.elapsed_s,
                setting=dict(self._in_force or {}),
                note=note,
            )
        )

    def note(self, phase: Phase, text: str) -> None:
        """Tell what happened out of the ordinary."""
        self.report(phase, None, None, text)

    async def _apply(self, phase: Phase, setting: Setting) -> None:
        """Bring a setting into force, unless it is."""
        if self._in_force == setting:
            return
        self._in_force = None
        await self._bench.apply(setting)
        self._in_force = setting
        self.ledger.settings += phase != "before"
