"""Everything that a driver sets and reads back: what a test of it goes through."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from drivers.roles import Instrument, OpticalSwitch, Shutter, StateSource

STATES = ("H", "V", "D", "A", "PATTERN")


@dataclass(frozen=True)
class Settable:
    """One output.

    Attributes:
        name: Channel of an actuator, or ``shutter``, ``path`` or ``state``.
        values: Lowest, middle and highest; or every word.
        impossible: Values that must be refused before anything is sent.
        set: Sets it and returns what the instrument confirms.
        read: Asks for it.
        tolerance: How far a confirmed number may lie off.
        between: A number that the instrument cannot hold exactly, or None.
    """

    name: str
    values: Sequence[Any]
    impossible: Sequence[Any]
    set: Callable[[Any], Awaitable[Any]]
    read: Callable[[], Awaitable[Any]]
    tolerance: float = 0.0
    between: float | None = None

    def agrees(self, read: Any, value: Any) -> bool:
        """Whether ``read`` confirms ``value``."""
        if isinstance(value, float):
            return bool(abs(read - value) <= self.tolerance)
        return bool(read == value)


def settables(driver: Instrument, *, is_state_source: bool = True) -> list[Settable]:
    """List what a driver sets.

    Args:
        driver: The driver; nothing is sent.
        is_state_source: Whether a driver that can be Alice's encoder is set up to be it.
    """
    found = [
        Settable(
            name,
            [each.minimum, (each.minimum + each.maximum) / 2, each.maximum],
            [each.minimum - each.resolution, each.maximum + each.resolution, nan, inf, -inf],
            each.write,
            each.read,
            max(each.resolution, 1e-9),
            (each.minimum + each.maximum) / 2 + 0.3 * each.resolution,
        )
        for name, each in driver.actuators().items()
    ]
    if isinstance(driver, Shutter):
        found.append(_shutter(driver))
    if isinstance(driver, OpticalSwitch):
        impossible = ["no such path", ""]
        found.append(
            Settable("path", list(driver.paths()), impossible, driver.set_path, driver.read_path)
        )
    if isinstance(driver, StateSource) and is_state_source:
        impossible = ["R", "", "H\nV"]
        found.append(Settable("state", STATES, impossible, driver.set_state, driver.read_state))
    return found


def _shutter(driver: Shutter) -> Settable:
    async def set_shutter(is_open: bool) -> bool:
        return await driver.set_shutter(is_open=is_open)

    return Settable("shutter", [True, False], [], set_shutter, driver.read_shutter)
