"""The only way to an instrument's output: limits, grid, slew, hysteresis, interlock."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

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
        approach: What is done about the play: nothing (``any``); ``from-below`` reaches every value
            from more than 2 h below it; ``play-inverse`` adds h on the way up and takes it off on
            the way down, so that values are those of the output and no detour is needed.
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
    approach: Literal["any", "from-below", "play-inverse"] = "any"
    period: float | None = None
    rest: float | None = None


class _Move(NamedTuple):
    """How a value is reached.

    Attributes:
        detour: Where to go first, or None.
        drive: What is written then.
        lag: By how much the output will lie below that, as far as the play is known; 0 without
            ``play-inverse``.
    """

    detour: float | None
    drive: float
    lag: float


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
        last: Drive confirmed by the instrument at the last write or read; None is unknown.
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
        self._lag: tuple[float, float] | None = None  # of the output, at what drive
        self._check_limits()

    @property
    def usable(self) -> tuple[float, float]:
        """Lowest and highest value that can be reached with the play taken care of."""
        low, high, play = self.limits.minimum, self.limits.maximum, self.limits.hysteresis
        if self.limits.approach == "any" or play == 0:
            return low, high
        if self.limits.approach == "from-below":
            return low + 2 * play + self._grid, high
        return low + play + self._grid, high - play

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
            return self.last - (self._known_lag() or 0.0)

    async def to_rest(self) -> float | None:
        """Go to the rest value whatever the interlock says; None where there is no rest value.

        The slew limit holds; the side of approach does not matter and is not waited for.
        """
        if self.limits.rest is None:
            return None
        async with self.lock:
            drive = self.check_drive(self.limits.rest)
            confirmed = await _move({self: drive}, heeds_interlock=False)
        return confirmed[self]

    def check(self, value: float) -> float:
        """Round ``value`` to what can be reached; raise SettingError if it must not be."""
        if self._inverts_play:
            self._check_within(value, *self.usable, " (the play taken off)")
            return value
        return self.check_drive(value)

    def check_drive(self, drive: float) -> float:
        """Tell what would be sent for a drive; raise SettingError if it must not be."""
        self._check_within(drive, self.limits.minimum, self.limits.maximum)
        return self.quantised(drive)

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

    def plan(self, target: float) -> _Move:
        """Tell how a checked value is reached from here.

        From below, the play ends on the rising side; near the lower limit there is less room, and
        some play may remain. Its inverse comes from below only where nobody knows the side.
        """
        if not self._inverts_play:
            is_detour = self.limits.approach == "from-below"
            return _Move(self._below(target) if is_detour else None, target, 0.0)
        lag = self._known_lag()
        if lag is None or self.last is None:
            drive = self.quantised(target + self.limits.hysteresis)
            return _Move(self._below(drive), drive, self.limits.hysteresis)
        way = target - (self.last - lag)
        if abs(way) <= self._grid * (0.5 + GRID_TOLERANCE):
            return _Move(None, self.last, lag)
        lag = math.copysign(self.limits.hysteresis, way)
        return _Move(None, self.quantised(target + lag), lag)

    def arrived(self, move: _Move, confirmed: float) -> float:
        """Take note of where a move has led, and return where the output is."""
        self._lag = (confirmed, move.lag) if self._inverts_play else None
        return confirmed - move.lag

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
        value = self.check_drive(value)
        before, self.last, self._lag = (self.last, self._lag), None, None
        try:
            self.last = confirmed = await self._actuator.write(value)
        except (SettingError, RejectedError):
            self.last, self._lag = before  # It did not move; after any other end nobody knows.
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
        low, high = self.usable
        if low > high or (low == high and self._inverts_play):
            self._refuse(
                f"hysteresis {limits.hysteresis:g} {limits.unit} leaves no room between the limits"
            )
        if limits.rest is not None:
            self.check_drive(limits.rest)

    @property
    def _inverts_play(self) -> bool:
        return self.limits.approach == "play-inverse" and self.limits.hysteresis > 0

    def _known_lag(self) -> float | None:
        """By how much the output lies below the drive; None if it was moved otherwise since."""
        if self._lag is None or self.last is None or self._lag[0] != self.last:
            return None
        return self._lag[1]

    def _below(self, target: float) -> float | None:
        overshoot = 2 * self.limits.hysteresis + self._grid
        return self.quantised(self._clamped(target - overshoot)) if overshoot > 0 else None

    def _check_within(self, value: float, low: float, high: float, why: str = "") -> None:
        if not low <= value <= high:  # NaN fails this too
            unit = self.limits.unit
            allowed = f"{low:g} to {high:g} {unit}{why}"
            raise SettingError(self.name, f"{value:g} {unit} is outside {allowed}")

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
        moves = {knob: knob.plan(target) for knob, target in targets.items()}
        detours = {knob: move.detour for knob, move in moves.items() if move.detour is not None}
        await _move(detours)
        await _settle(detours)
        confirmed = await _move({knob: move.drive for knob, move in moves.items()})
        await _settle(targets)
        return {knob.name: knob.arrived(moves[knob], value) for knob, value in confirmed.items()}


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
