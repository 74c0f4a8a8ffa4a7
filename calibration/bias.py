"""The bias stage: bring the intensity modulator to its null, so that empty pulses are empty.

Either the bias is a voltage that we set: a sine fitted to a few settings tells where the null is.
Or a bias controller holds the null by itself: it is told to lock. Both are judged by the same
figure, the signal's light over that of the pulses which should be empty.
"""

import asyncio
from typing import Protocol

import numpy as np
from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.bench import Bench
from calibration.extinction import SineCurve, extinction_db, fit_sine
from calibration.folding import Pattern
from calibration.mean_photon import SlotCounts
from calibration.signal_run import Figure, PreconditionError

STAGE = "bias"

FIRST_SETTINGS = 5
FIRST_SPAN = 1.6
"""Bias voltages of the first look, and what they span, in half-wave voltages: most of a period, but
for what its two ends would tell twice."""

SIDE = 0.25
"""Where the second look is, either side of the null, in half-wave voltages: the slope is large, and
the floor small beside the rate."""


class BiasSettings(StageBudget):
    """What the stage needs to know, and what it may spend."""

    vacuum: str = Field("vacuum", description="The intensity whose pulses should be empty.")
    half_wave_v: float = Field(5.0, gt=0, description="Nominal half-wave voltage, V.")
    half_wave_sigma: float = Field(0.1, gt=0, description="Relative uncertainty of it.")
    good_extinction_db: float = Field(
        25.0, gt=0, description="Extinction at which the bias is left alone, dB."
    )
    photons_per_setting: int = Field(4000, ge=100, description="Detections of the first look.")
    side_photons: int = Field(20_000, ge=100, description="Detections of the second look.")
    figure_photons: int = Field(100_000, ge=1000, description="Detections for the extinction.")


class EmptyPulses:
    """Measures how empty the pulses are that should be.

    Args:
        settings: What the stage needs to know.
        bench: Where windows come from.
        pattern: What Alice sends.
        gate_share: Share of a slot within the gate.
    """

    name = STAGE
    figure_name = "extinction"
    unit = "dB"
    target = None

    def __init__(
        self, settings: BiasSettings, bench: Bench, pattern: Pattern, gate_share: float
    ) -> None:
        self._settings = settings
        self._pattern = pattern
        self._gate_share = gate_share
        self._windows = bench
        self._number = pattern.intensity_names.index(settings.vacuum)

    async def measure(self, account: Account) -> Figure:
        """Measure the extinction at the bias in force.

        Raises:
            PreconditionError: There is no light.
        """
        windows = await account.windows(self._windows, self._settings.figure_photons)
        counts = SlotCounts.of(windows, self._pattern, self._gate_share)
        if not counts.has_light:
            raise PreconditionError(
                "no light at the receiver: the clicks in the gates are no more than outside of "
                "them (shutter, fibre, receiver.delays_ps?)"
            )
        return extinction_db(counts, self._number)

    def is_good(self, figure: Figure) -> bool:
        """Whether the pulses are empty enough."""
        return figure.value >= self._settings.good_extinction_db

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the extinction has fallen beyond the intervals."""
        return after.high < before.low


class NullProcedure(EmptyPulses):
    """Finds the null of a bias voltage that is a knob.

    Args:
        settings: What the stage needs to know.
        bench: Knobs and receiver.
        knob: Name of the bias voltage.
        start_v: Bias in force, V.
        pattern: What Alice sends.
        gate_share: Share of a slot within the gate.
    """

    def __init__(
        self,
        settings: BiasSettings,
        bench: Bench,
        knob: str,
        start_v: float,
        pattern: Pattern,
        gate_share: float,
    ) -> None:
        super().__init__(settings, bench, pattern, gate_share)
        self._bench = bench
        self._knob = knob
        self._start_v = self._bias_v = start_v
        self._seen: list[tuple[float, int, float]] = []

    async def search(self, account: Account) -> str:
        """Look at a few voltages, fit the sine, look beside its null, go there.

        Raises:
            PreconditionError: No null lies within the limits of the knob.
        """
        low_v, high_v = self._bench.limits(self._knob)
        half_v = self._settings.half_wave_v
        span_v = min(FIRST_SPAN * half_v, high_v - low_v)
        first_v = min(max(self._start_v - span_v / 2, low_v), high_v - span_v)
        for bias_v in np.linspace(first_v, first_v + span_v, FIRST_SETTINGS):
            await self._look(account, float(bias_v), self._settings.photons_per_setting)
        curve = await self._fit(account)
        null_v = self._null_v(curve)
        side_v = SIDE * curve.half_wave_v
        for bias_v in (null_v - side_v, null_v + side_v):
            within_v = min(max(bias_v, low_v), high_v)
            await self._look(account, within_v, self._settings.side_photons)
        curve = await self._fit(account)
        self._bias_v = await self._set(account, self._null_v(curve))
        return (
            f"null at {self._bias_v:.3f} V (error {curve.null_sigma_v:.3f} V), half-wave voltage "
            f"{curve.half_wave_v:.2f} V"
        )

    async def restore(self) -> None:
        """Put the bias of the start back."""
        await self._bench.apply({self._knob: self._start_v})
        self._bias_v = self._start_v

    def in_force(self) -> dict[str, float]:
        """Return the bias by the name of its knob."""
        return {self._knob: self._bias_v}

    async def _look(self, account: Account, bias_v: float, photons: int) -> None:
        set_v = await self._set(account, bias_v)
        windows = await account.windows(self._bench, photons, {self._knob: set_v})
        counts = SlotCounts.of(windows, self._pattern, self._gate_share)
        duration_s = sum(window.duration_s for window in windows)
        self._seen.append((set_v, int(counts.counts[self._number]), duration_s))

    async def _set(self, account: Account, bias_v: float) -> float:
        setting = {self._knob: bias_v}
        return (await account.patiently(lambda: self._bench.apply(setting)))[self._knob]

    async def _fit(self, account: Account) -> SineCurve:
        bias_v, counts, exposure_s = zip(*self._seen, strict=True)
        settings = self._settings
        try:
            curve = await asyncio.to_thread(
                fit_sine, bias_v, counts, exposure_s, settings.half_wave_v, settings.half_wave_sigma
            )
        except ValueError as exc:
            raise PreconditionError(f"no curve of the modulator: {exc}") from None
        account.tell(f"null at {curve.null_v:.3f} V, error {curve.null_sigma_v:.3f} V")
        return curve

    def _null_v(self, curve: SineCurve) -> float:
        limits = self._bench.limits(self._knob)
        null_v = curve.nearest_null_v(self._start_v, *limits)
        if null_v is None:
            raise PreconditionError(
                f"the modulator's null at {curve.null_v:.2f} V, and every "
                f"{2 * curve.half_wave_v:.2f} V from there, lies outside the {limits[0]:g} to "
                f"{limits[1]:g} V of knob {self._knob!r}: widen its limits"
            )
        return null_v


class BiasLock(Protocol):
    """A bias controller."""

    async def lock(self) -> None:
        """Lock to the null and wait until it is held."""
        ...

    async def is_locked(self) -> bool:
        """Whether a point is held."""
        ...

    async def read_bias(self) -> float:
        """Read the bias, V."""
        ...

    async def hold(self, voltage_v: float) -> float:
        """End a lock and hold a voltage; return what was read back, V."""
        ...


class LockProcedure(EmptyPulses):
    """Has a bias controller lock to the null.

    Args:
        settings: What the stage needs to know.
        bench: Where windows come from.
        lock: The controller.
        pattern: What Alice sends.
        gate_share: Share of a slot within the gate.
    """

    def __init__(
        self,
        settings: BiasSettings,
        bench: Bench,
        lock: BiasLock,
        pattern: Pattern,
        gate_share: float,
    ) -> None:
        super().__init__(settings, bench, pattern, gate_share)
        self._lock = lock
        self._is_locked = False
        self._start: tuple[bool, float] | None = None

    async def measure(self, account: Account) -> Figure:
        """Measure the extinction; at first note what the controller does."""
        if self._start is None:
            is_locked = await account.patiently(self._lock.is_locked)
            self._start = is_locked, await account.patiently(self._lock.read_bias)
            self._is_locked = is_locked
        return await super().measure(account)

    async def search(self, account: Account) -> str:
        """Lock, and wait until the null is held."""
        await self._lock.lock()
        self._is_locked = True
        return f"locked at {await account.patiently(self._lock.read_bias):.3f} V"

    async def restore(self) -> None:
        """Hold the voltage that was held; a lock of the start is taken up again."""
        if self._start is None:
            return
        was_locked, bias_v = self._start
        self._is_locked = was_locked
        if was_locked:
            await self._lock.lock()
        else:
            await self._lock.hold(bias_v)

    def in_force(self) -> dict[str, float]:
        """Return that the controller is locked, if it is."""
        return {"stages.bias.locked": 1.0} if self._is_locked else {}
