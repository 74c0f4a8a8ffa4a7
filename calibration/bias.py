"""The bias stage: bring the intensity modulator to its null, so that empty pulses are empty.

Either the bias is a voltage that we set: a sine fitted to a few settings tells where the null is.
Or a bias controller holds the null by itself: it is told to lock. Both are judged by the same
figure, the signal's light over that of the pulses which should be empty.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.bench import Bench
from calibration.extinction import SineCurve, extinction_db, fit_sine, pattern_lead
from calibration.signal_run import Figure, PreconditionError
from calibration.slots import LEAST_LIKENESS, SlotReader, SlotReading

STAGE = "bias"

FIRST_SETTINGS = 5
FIRST_SPAN = 1.6
"""Bias voltages of the first look, and what they span, in half-wave voltages: most of a period, but
for what its two ends would tell twice."""

SIDES = (-0.15, 0.0, 0.15)
"""Where the second look is, from the null of the first one, in half-wave voltages: far enough for
counts in the empty pulses, near enough for the pattern to be told without doubt."""

UNRECOGNISED_DB = -60.0, 10.0
"""Where the extinction is if the pattern is not recognised: maybe inverted, good in no case."""

SECOND_SIGMA = 0.03
"""Relative uncertainty of the half-wave voltage after the first look."""


class BiasSettings(StageBudget):
    """What the stage needs to know, and what it may spend."""

    vacuum: str = Field("vacuum", description="The intensity whose pulses should be empty.")
    half_wave_v: float = Field(5.0, gt=0, description="Nominal half-wave voltage, V.")
    half_wave_sigma: float = Field(0.1, gt=0, description="Relative uncertainty of it.")
    good_extinction_db: float = Field(
        25.0, gt=0, description="Extinction at which the bias is left alone, dB."
    )
    photons_per_setting: int = Field(2000, ge=100, description="Detections of the first look.")
    side_photons: int = Field(8000, ge=100, description="Detections of the second look.")
    figure_photons: int = Field(30_000, ge=1000, description="Detections for the extinction.")


class EmptyPulses:
    """Measures how empty the pulses are that should be.

    Args:
        settings: What the stage needs to know.
        slots: Counts the intensities.
    """

    name = STAGE
    figure_name = "extinction"
    unit = "dB"
    target = None

    def __init__(self, settings: BiasSettings, slots: SlotReader) -> None:
        self._settings = settings
        self._slots = slots
        self._number = slots.pattern.intensity_names.index(settings.vacuum)

    async def measure(self, account: Account) -> Figure:
        """Measure the extinction at the bias in force; 0 where the pattern is not recognised.

        Raises:
            PreconditionError: There is no light.
        """
        reading = await self._slots.read(account, self._settings.figure_photons)
        if not reading.counts.has_light:
            raise PreconditionError(
                "no light at the receiver: the clicks do not follow the clock (shutter, fibre?)"
            )
        if reading.likeness < LEAST_LIKENESS:  # no slot is known to be one of the empty ones
            return Figure(0.0, *UNRECOGNISED_DB)
        return extinction_db(reading.counts, self._number)

    def is_good(self, figure: Figure) -> bool:
        """Whether the pulses are empty enough."""
        return figure.value >= self._settings.good_extinction_db

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the extinction has fallen beyond the intervals."""
        return after.high < before.low


class NullProcedure(EmptyPulses):
    """Finds the null of a bias voltage that is a knob.

    The first look counts all clicks and needs no slots: at a bias that is far off the pattern is
    not to be recognised. The second look counts the pulses that should be empty.

    Args:
        settings: What the stage needs to know.
        slots: Counts the intensities.
        bench: Knobs.
        knob: Name of the bias voltage.
        start_v: Bias in force, V.
    """

    def __init__(
        self,
        settings: BiasSettings,
        slots: SlotReader,
        bench: Bench,
        knob: str,
        start_v: float,
    ) -> None:
        super().__init__(settings, slots)
        self._bench = bench
        self._knob = knob
        self._start_v = self._bias_v = start_v
        levels = [slots.mean_photons[name] for name in slots.pattern.intensities]
        self._lead = pattern_lead(levels)

    async def search(self, account: Account) -> str:
        """Look at a few voltages, fit the sine, look beside its null, go there.

        Raises:
            PreconditionError: No null lies within the limits of the knob.
        """
        settings, (low_v, high_v) = self._settings, self._bench.limits(self._knob)
        span_v = min(FIRST_SPAN * settings.half_wave_v, high_v - low_v)
        first_v = min(max(self._start_v - span_v / 2, low_v), high_v - span_v)
        looks = []
        for bias_v in np.linspace(first_v, first_v + span_v, FIRST_SETTINGS):
            set_v, reading = await self._look(account, bias_v, settings.photons_per_setting)
            looks.append((set_v, reading.clicks, reading.duration_s))
        rough = await self._fit(looks, settings.half_wave_v, settings.half_wave_sigma)
        rough = replace(rough, null_v=rough.null_v + self._lead * rough.half_wave_v)
        account.tell(f"null near {rough.null_v:.2f} V")
        null_v, looks = self._null_v(rough, self._start_v), []
        for side in SIDES:
            bias_v = min(max(null_v + side * rough.half_wave_v, low_v), high_v)
            set_v, reading = await self._look(account, bias_v, settings.side_photons)
            looks.append((set_v, int(reading.counts.counts[self._number]), reading.duration_s))
        fine = await self._fit(looks, rough.half_wave_v, SECOND_SIGMA)
        self._bias_v = await self._set(account, self._null_v(fine, null_v))
        return (
            f"null at {self._bias_v:.3f} V (error {fine.null_sigma_v:.3f} V), half-wave voltage "
            f"{fine.half_wave_v:.2f} V"
        )

    async def restore(self) -> None:
        """Put the bias of the start back."""
        await self._bench.apply({self._knob: self._start_v})
        self._bias_v = self._start_v

    def in_force(self) -> dict[str, float]:
        """Return the bias by the name of its knob."""
        return {self._knob: self._bias_v}

    async def _look(
        self, account: Account, bias_v: float, photons: int
    ) -> tuple[float, SlotReading]:
        set_v = await self._set(account, bias_v)
        return set_v, await self._slots.read(account, photons, {self._knob: set_v})

    async def _set(self, account: Account, bias_v: float) -> float:
        setting = {self._knob: float(bias_v)}
        return (await account.patiently(lambda: self._bench.apply(setting)))[self._knob]

    async def _fit(
        self,
        looks: Sequence[tuple[float, int, float]],
        half_wave_v: float,
        half_wave_sigma: float,
    ) -> SineCurve:
        bias_v, counts, exposure_s = zip(*looks, strict=True)
        try:
            return await asyncio.to_thread(
                fit_sine, bias_v, counts, exposure_s, half_wave_v, half_wave_sigma
            )
        except ValueError as exc:
            raise PreconditionError(f"no curve of the modulator: {exc}") from None

    def _null_v(self, curve: SineCurve, near_v: float) -> float:
        limits = self._bench.limits(self._knob)
        null_v = curve.nearest_null_v(near_v, *limits)
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
        slots: Counts the intensities.
        lock: The controller.
    """

    def __init__(self, settings: BiasSettings, slots: SlotReader, lock: BiasLock) -> None:
        super().__init__(settings, slots)
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
