"""The only way to an instrument's output: limits, grid, slew, one-sided approach, interlock."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, NoReturn

from drivers.errors import RejectedError, SettingError
from drivers.roles import Actuator

# Time between two steps of a slew-limited move, s, unless one step would be below the resolution.
SLEW_STEP_S = 0.05
# Share of a grid step that is rounding of binary fractions, not a distance.
GRID_TOLERANCE = 1e-6


@dataclass(frozen=True)
class KnobLimits:
    """What the testbed file allows for one output.

    Attributes:
        unit: Unit of everything below.
        minimum: Smallest value ever sent.
        maximum: Largest value ever sent.
        resolution: Grid of the values sent; 0 leaves it to the instrument.
        slew_per_s: Fastest change, unit/s; None is unlimited.
        settle_s: Wait after the last write before the value counts as reached, s.
        hysteresis: Play h: the output may lag behind the setting by so much, either way.
        approach: ``from-below`` reaches every value from more than 2 h below it.
        period: Values that differ by it act alike (a phase); told to optimisers, not applied here.
        rest: Value to leave the output at; None leaves it alone.
    """

    unit: str
    minimum: float
    maximum: float
    resolution: float = 0.0
    slew_per_s: float | None = None
    settle_s: float = 0.0
    hysteresis: float = 0.0
    approach: Literal["any", "from-below"] = "any"
    period: float | None = None
    rest: float | None = None


class Knob:
    """One scalar that an optimiser or an operator may set.

    A value in force is not remembered but for ``last``: a slew-limited move starts from there, and
    asks the instrument only where it is unknown.

    Args:
        name: Name in the testbed file.
        actuator: The instrument's output.
        limits: What is allowed; narrower than or equal to the instrument's own limits.
        interlock: Asked before each write; returns why writing is forbidden now, or None.

    Attributes:
        name: Name in the testbed file.
        limits: What is allowed.
        interlock: May be set later.
        last: Value confirmed by the instrument at the last write or read; None is unknown.
        lock: Held during a move.

    Raises:
        SettingError: The limits contradict themselves or exceed the instrument's.
    """

    def __init__(
        self,
        name: str,
        actuator: Actuator,
        limits: KnobLimits,
        interlock: Callable[[], str | None] | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.interlock = interlock
        self.last: float | None = None
        self.lock = asyncio.Lock()
        self._actuator = actuator
        self._grid = _grid(limits.resolution, actuator.resolution)
        self._check_limits()

    async def set(self, value: float) -> float:
        """Move to ``value`` and wait until it is reached.

        Returns:
            What the instrument confirmed, rounded to its resolution.

        Raises:
            SettingError: Outside the limits, not a number, or forbidden by the interlock.
            RejectedError: The instrument refused.
            TransportError: Link lost; the value is unknown (``last`` is None) until read again.
        """
        return (await set_together({self: value}))[self.name]

    async def read(self) -> float:
        """Ask the instrument for the value in force."""
        async with self.lock:
            self.last = await self._actuator.read()
            return self.last

    async def to_rest(self) -> float | None:
        """Go to the rest value whatever the interlock says; None where there is no rest value.

        The slew limit holds; the side of approach does not matter and is not waited for.
        """
        if self.limits.rest is None:
            return None
        async with self.lock:
            confirmed = await _move({self: self.check(self.limits.rest)}, heeds_interlock=False)
        return confirmed[self]

    def check(self, value: float) -> float:
        """Tell what would be sent for ``value``; raise SettingError if it must not be."""
        limits = self.limits
        if not limits.minimum <= value <= limits.maximum:  # NaN fails this too
            allowed = f"{limits.minimum:g} to {limits.maximum:g} {limits.unit}"
            raise SettingError(self.name, f"{value:g} {limits.unit} is outside {allowed}")
        return self.quantised(value)

    def check_interlock(self) -> None:
        """Raise SettingError while the interlock forbids writing."""
        reason = self.interlock() if self.interlock else None
        if reason:
            raise SettingError(self.name, f"may not be moved now: {reason}")

    def quantised(self, value: float) -> float:
        """Nearest value within the limits that is a whole number of grid steps."""
        if self._grid == 0:
            return value
        lowest, highest = self._grid_range()
        return self._clamped(min(max(round(value / self._grid), lowest), highest) * self._grid)

    def approach_point(self, target: float) -> float | None:
        """Where to come from so that the play ends on the rising side; None for any side.

        Near the lower limit there is less room, and some play may remain.
        """
        overshoot = 2 * self.limits.hysteresis + self._grid
        if self.limits.approach == "any" or overshoot == 0:
            return None
        return self.quantised(self._clamped(target - overshoot))

    async def waypoints(self, target: float) -> list[tuple[float, float]]:
        """Values to write on the way to ``target``, each with the time it takes, s."""
        slew_per_s = self.limits.slew_per_s
        if slew_per_s is None:
            return [(target, 0.0)]
        # An output found outside the limits enters them in one step: nothing outside is ever sent.
        here = self._clamped(self.last if self.last is not None else await self._actuator.read())
        step = slew_per_s * SLEW_STEP_S
        if self._grid > 0:
            step = max(1, math.floor(step / self._grid + GRID_TOLERANCE)) * self._grid
        n_steps = max(1, math.ceil(abs(target - here) / step - GRID_TOLERANCE))
        stride = math.copysign(step, target - here)
        values = [self._clamped(target - k * stride) for k in reversed(range(n_steps))]
        return [
            (value, abs(value - before) / slew_per_s)
            for before, value in itertools.pairwise([here, *values])
        ]

    async def step(self, value: float) -> float:
        """Write one value of a move. Nothing is repeated, whatever happens."""
        value = self.check(value)
        before, self.last = self.last, None
        try:
            self.last = confirmed = await self._actuator.write(value)
        except (SettingError, RejectedError):
            self.last = before  # The output did not move; after any other end nobody knows.
            raise
        return confirmed

    def _check_limits(self) -> None:
        limits, actuator = self.limits, self._actuator
        if limits.unit != actuator.unit:
            self._refuse(f"limits are in {limits.unit}, the instrument takes {actuator.unit}")
        if not (
            math.isfinite(limits.minimum)
            and math.isfinite(limits.maximum)
            and actuator.minimum <= limits.minimum <= limits.maximum <= actuator.maximum
        ):
            self._refuse(
                f"limits {limits.minimum:g} to {limits.maximum:g} {limits.unit} do not lie within "
                f"the instrument's {actuator.minimum:g} to {actuator.maximum:g} {actuator.unit}"
            )
        for what in ("resolution", "settle_s", "hysteresis"):
            if not 0 <= getattr(limits, what) < math.inf:
                self._refuse(f"{what} {getattr(limits, what):g} must be 0 or more")
        for what in ("slew_per_s", "period"):
            number = getattr(limits, what)
            if number is not None and not 0 < number < math.inf:
                self._refuse(f"{what} {number:g} must be more than 0")
        if self._grid > 0:
            lowest, highest = self._grid_range()
            if lowest > highest:
                self._refuse(f"no multiple of {self._grid:g} {limits.unit} lies within the limits")
        if limits.rest is not None:
            self.check(limits.rest)

    def _grid_range(self) -> tuple[int, int]:
        return (
            math.ceil(self.limits.minimum / self._grid - GRID_TOLERANCE),
            math.floor(self.limits.maximum / self._grid + GRID_TOLERANCE),
        )

    def _clamped(self, value: float) -> float:
        return min(max(value, self.limits.minimum), self.limits.maximum)

    def _refuse(self, problem: str) -> NoReturn:
        raise SettingError(self.name, problem)


async def set_together(settings: Mapping[Knob, float]) -> dict[str, float]:
    """Move several knobs as one setting, with one settle time per pass instead of one per knob.

    All values and interlocks are checked before anything is sent. Knobs that must be approached
    from below first go below together.

    Returns:
        What the instruments confirmed, by knob name.

    Raises:
        SettingError: A value or an interlock forbids the setting; nothing was sent, or the rest of
            the move was not.
        RejectedError: An instrument refused; knobs after it were not moved.
        TransportError: A link was lost; ``last`` tells which knobs are unknown.
    """
    targets = {knob: knob.check(value) for knob, value in settings.items()}
    async with AsyncExitStack() as stack:
        # One order for everybody, or two settings that share two knobs wait for each other.
        for knob in sorted(targets, key=lambda knob: knob.name):
            await stack.enter_async_context(knob.lock)
        for knob in targets:
            knob.check_interlock()
        points = {knob: knob.approach_point(target) for knob, target in targets.items()}
        overshoots = {knob: point for knob, point in points.items() if point is not None}
        await _move(overshoots)
        await _settle(overshoots)
        confirmed = await _move(targets)
        await _settle(targets)
        return {knob.name: value for knob, value in confirmed.items()}


async def _move(
    targets: Mapping[Knob, float], *, heeds_interlock: bool = True
) -> dict[Knob, float]:
    """Bring all knobs to their targets, ramps side by side; return what was confirmed last."""
    confirmed: dict[Knob, float] = {}
    paths = [await knob.waypoints(target) for knob, target in targets.items()]
    for waypoints in itertools.zip_longest(*paths):
        longest_s = 0.0
        for knob, waypoint in zip(targets, waypoints, strict=True):
            if waypoint is None:
                continue
            value, takes_s = waypoint
            if heeds_interlock:
                knob.check_interlock()
            confirmed[knob] = await knob.step(value)
            longest_s = max(longest_s, takes_s)
        if longest_s > 0:
            await asyncio.sleep(longest_s)
    return confirmed


async def _settle(knobs: Iterable[Knob]) -> None:
    settle_s = max((knob.limits.settle_s for knob in knobs), default=0.0)
    if settle_s > 0:
        await asyncio.sleep(settle_s)


def _grid(wanted: float, instrument: float) -> float:
    """The finest grid not finer than ``wanted`` that the instrument can follow exactly."""
    if instrument <= 0:
        return wanted
    return max(1, math.ceil(wanted / instrument - GRID_TOLERANCE)) * instrument
