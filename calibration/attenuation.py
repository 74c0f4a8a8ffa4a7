"""The attenuation stage: let out as many photons per pulse as the link is meant to send.

The signal's mean photon number comes from the power at a tap whose splitting is known, and from the
clock. The attenuator is opened in steps, and no step is made from which the level, as far as it is
known by then, might exceed the safe one.
"""

import math
from collections.abc import Mapping
from typing import Protocol

from pydantic import Field

from calibration.account import Account, StageBudget
from calibration.folding import Pattern
from calibration.mean_photon import (
    Level,
    Tap,
    relative_scale_sigma,
    signal_share,
)
from calibration.signal_run import INTERVAL_SIGMAS, Figure, PreconditionError
from calibration.slots import SlotReader

STAGE = "attenuation"

STEP_ERROR = 0.05
STEP_ERROR_DB = 0.1
"""How far a step of an attenuator may miss, as a share of it and beside that, dB."""

SAFE_OVER_SIGNAL = 1.2
"""Safe level over the signal where the testbed file gives none."""

SMALLEST_STEP_DB = 0.005
MOST_CORRECTIONS = 4
"""The search ends with a step as small, or after as many steps near its goal."""

LEVEL_DOUBT = 0.15
LEAST_DOUBT = 0.005
"""Deviation of a weaker intensity from the file of which the operator is told: this share of it,
and this share of the signal besides."""


class AttenuationSettings(StageBudget):
    """What the stage needs to know, and what it may spend."""

    tap_db: float = Field(
        description="How much brighter the tap is than what leaves Alice, dB: a fixed attenuator "
        "and the tap's splitting together."
    )
    tap_sigma_db: float = Field(0.05, ge=0, description="Uncertainty of that, dB.")
    meter_sigma: float = Field(0.03, ge=0, lt=1, description="Relative error of the meter.")
    wavelength_nm: float = Field(1550.0, gt=0, description="Of the light, nm.")
    safe_mean_photons: float | None = Field(
        None, gt=0, description="Level never exceeded on the way; default: 1.2 times the signal."
    )
    tolerance: float = Field(
        0.03, gt=0, lt=1, description="Relative deviation from the signal that is left alone."
    )
    step_db: float = Field(10.0, gt=0, description="Largest step towards more light, dB.")
    readings: int = Field(4, ge=2, le=100, description="Readings of the meter at each step.")
    check_photons: int = Field(
        20_000, ge=0, description="Detections that check the weaker intensities; 0: unchecked."
    )


class EmissionBench(Protocol):
    """Alice's attenuator, its shutter, and the meter at the tap."""

    @property
    def attenuation_db(self) -> float:
        """What is in force when light is let out, dB."""
        ...

    def attenuation_limits_db(self) -> tuple[float, float]:
        """Least and most attenuation that may be set, dB."""
        ...

    async def attenuate(self, attenuation_db: float) -> float:
        """Set the attenuation for now and from now on; return what was read back, dB."""
        ...

    async def let_light(self, *, is_on: bool) -> None:
        """Open or shut the shutter."""
        ...

    async def read_power(self) -> float:
        """Read the power at the tap, W."""
        ...


class AttenuationProcedure:
    """Sets the attenuator by the power at the tap.

    Args:
        settings: What the stage needs to know.
        bench: Attenuator, shutter, meter.
        pattern: What Alice sends.
        mean_photons: Mean photon number wanted of each intensity.
        slots: Counts the intensities at the receiver; None where it cannot tell them.
        doubt: How much brighter than the tap suggests pulses may become, because the bias of the
            modulator is not known to be right; the level is then held as much below the safe one.
    """

    name = STAGE
    figure_name = "mean photon number"
    unit = ""

    def __init__(
        self,
        settings: AttenuationSettings,
        bench: EmissionBench,
        pattern: Pattern,
        mean_photons: Mapping[str, float],
        slots: SlotReader | None,
        *,
        doubt: float = 1.0,
    ) -> None:
        self._settings = settings
        self._bench = bench
        self._pattern = pattern
        self._mean_photons = mean_photons
        self._slots = slots
        self._doubt = doubt
        self._tap = Tap(
            pattern.clock_hz,
            signal_share(pattern, mean_photons),
            settings.tap_db,
            settings.wavelength_nm,
            relative_scale_sigma(settings.meter_sigma, settings.tap_sigma_db),
        )
        wanted = mean_photons[pattern.signal]
        self._safe = (settings.safe_mean_photons or SAFE_OVER_SIGNAL * wanted) / doubt
        in_reach = self._safe / (1 + INTERVAL_SIGMAS * self._tap.scale_sigma)
        self.target = min(wanted, in_reach) if doubt > 1 else wanted
        self._start_db = self._wanted_db = bench.attenuation_db
        self._now_db: float | None = None
        self._level = Level(math.nan, math.nan)
        self._dark_w: list[float] = []

    async def measure(self, account: Account) -> Figure:
        """Read the level; at first open step by step to the attenuation that is in force.

        Where that is too bright to be set, the level is told from the last safe step.
        """
        if self._now_db is None:
            self._now_db = await self._begin(account)
            await self._go_to(account, self._wanted_db)
        else:
            await self._read(account, self._now_db)
        brighter = 10 ** ((self._now_db - self._wanted_db) / 10)
        level = Level(self._level.mean_photons * brighter, self._level.sigma * brighter)
        return level.figure(self._tap.scale_sigma)

    def is_good(self, figure: Figure) -> bool:
        """Whether the level is near the wanted one."""
        is_reached = abs((self._now_db or 0.0) - self._wanted_db) <= 2 * SMALLEST_STEP_DB
        return is_reached and self._miss(figure) <= self._settings.tolerance

    async def search(self, account: Account) -> str:
        """Correct the attenuation until the level is the wanted one.

        Raises:
            PreconditionError: The wanted level is out of reach, or not below the safe one.
        """
        if self.target * (1 + self._tap.scale_sigma) > self._safe:
            raise PreconditionError(
                f"the signal's {self.target:g} photons per pulse are not safely below the "
                f"{self._safe:g} that may leave Alice; raise safe_mean_photons or weaken the signal"
            )
        for _ in range(MOST_CORRECTIONS):
            now_db, goal_db = self._now_db or 0.0, self._goal_db()
            if abs(goal_db - now_db) <= SMALLEST_STEP_DB:
                break
            if not await self._go_to(account, goal_db):
                raise PreconditionError(
                    f"no step from {now_db:.2f} dB towards {goal_db:.2f} dB is sure to stay below "
                    f"the safe {self._safe:g} photons per pulse: the meter is too noisy"
                )
        self._wanted_db = self._now_db or 0.0
        if self._doubt > 1:
            return "held low until the bias of the intensity modulator is known to be right"
        return await self._check_levels(account)

    def is_worse(self, before: Figure, after: Figure) -> bool:
        """Whether the level lies further off than before, beyond the noise of the readings."""
        noise = 3 * self._level.sigma / self.target
        return self._miss(after) > max(self._miss(before), self._settings.tolerance) + noise

    async def restore(self) -> None:
        """Shut the light and go back to the attenuation of the start."""
        await self._bench.let_light(is_on=False)
        self._now_db, self._wanted_db = None, self._start_db
        await self._bench.attenuate(self._start_db)

    def in_force(self) -> dict[str, float]:
        """Return the attenuation, by its key in the testbed file."""
        return {"light.attenuation_db": self._wanted_db}

    def _miss(self, figure: Figure) -> float:
        return abs(figure.value / self.target - 1)

    def _goal_db(self) -> float:
        """Return the attenuation at which the level should be the wanted one."""
        least_db, most_db = self._bench.attenuation_limits_db()
        if self._now_db is None or self._level.mean_photons <= 3 * self._level.sigma:
            raise PreconditionError(
                "the meter sees no light at the attenuation in force: is the laser on, and does "
                "the tap lead to the meter?"
            )
        change_db = 10 * math.log10(self._level.mean_photons / self.target)
        goal_db = self._now_db + change_db
        if goal_db < least_db - SMALLEST_STEP_DB or goal_db > most_db + SMALLEST_STEP_DB:
            raise PreconditionError(
                f"{self.target:g} photons per pulse would take {goal_db:.2f} dB, which is outside "
                f"the {least_db:g} to {most_db:g} dB of the attenuator: see to the laser's power"
            )
        return min(max(goal_db, least_db), most_db)

    async def _begin(self, account: Account) -> float:
        """Read the meter in the dark, then let light through the closed attenuator."""
        await self._bench.let_light(is_on=False)
        self._dark_w = [
            await account.look({}, self._bench.read_power) for _ in range(self._settings.readings)
        ]
        _, most_db = self._bench.attenuation_limits_db()
        await self._bench.attenuate(most_db)
        await self._bench.let_light(is_on=True)
        await self._read(account, most_db)
        if self._level.upper > self._safe:
            raise PreconditionError(
                f"even behind {most_db:g} dB up to {self._level.upper:.3g} photons per pulse leave "
                f"Alice, more than the safe {self._safe:g}: the laser is too bright"
            )
        return most_db

    async def _go_to(self, account: Account, goal_db: float) -> bool:
        """Step to an attenuation; return whether no step might have been too bright."""
        while self._now_db is not None and self._now_db != goal_db:
            step_db = min(self._now_db - goal_db, self._longest_step_db())
            if 0 <= step_db < SMALLEST_STEP_DB:
                return False
            arrives = step_db == self._now_db - goal_db
            next_db = goal_db if arrives else self._now_db - step_db
            self._now_db = await self._bench.attenuate(next_db)
            await self._read(account, self._now_db)
            account.tell(
                f"{self._level.mean_photons:.3g} photons per pulse at {self._now_db:.2f} dB"
            )
            if arrives:
                return True
        return True

    def _longest_step_db(self) -> float:
        """Return the largest step towards more light after which the level is surely safe, dB."""
        if self._level.upper <= 0:
            return self._settings.step_db
        room_db = 10 * math.log10(self._safe / self._level.upper) - STEP_ERROR_DB
        return min(max(room_db, 0.0) / (1 + STEP_ERROR), self._settings.step_db)

    async def _read(self, account: Account, attenuation_db: float) -> None:
        at = {"attenuation_db": attenuation_db}
        power_w = [
            await account.look(at, self._bench.read_power) for _ in range(self._settings.readings)
        ]
        self._level = self._tap.level(power_w, self._dark_w)

    async def _check_levels(self, account: Account) -> str:
        """Compare the weaker intensities with the file, by the counts of the pattern."""
        photons = self._settings.check_photons
        if self._slots is None or photons == 0 or len(self._pattern.intensity_names) == 1:
            return ""
        counts = (await self._slots.read(account, photons)).counts
        if not counts.has_light:
            return "the weaker intensities were not checked: no light at the receiver"
        return "; ".join(
            self._compare_level(name, counts.ratio(number))
            for number, name in enumerate(self._pattern.intensity_names)
            if number > 0
        )

    def _compare_level(self, name: str, ratio: Figure) -> str:
        found = Figure(*(self.target * each for each in (ratio.value, ratio.low, ratio.high)))
        wanted = self._mean_photons[name]
        text = f"{name} {found.value:.2g} ({found.low:.2g} to {found.high:.2g})"
        doubtful = LEVEL_DOUBT * wanted + LEAST_DOUBT * self.target
        if found.low <= wanted <= found.high or abs(found.value - wanted) <= doubtful:
            return f"{text} as it should be"
        return f"{text} where {wanted:g} is wanted: see to the intensity modulator"
