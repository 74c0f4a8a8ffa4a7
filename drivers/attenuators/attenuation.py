"""What attenuators share: a range with a safe place in it, and a filter that takes its time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import ReplyError, SettingError, TransportError
from drivers.outputs import check_within, unknown_if_lost
from drivers.registry import Options
from drivers.scpi import query_float
from drivers.transport.transport import Dialogue

Send = Callable[[Dialogue, str], Awaitable[None]]
"""Sends one command and sees that the unit took it."""


class AttenuationOptions(Options):
    """Range and waits of an attenuator; each kind narrows them to what it can do.

    Attributes:
        resolution_db: Steps in which attenuations are sent, dB.
    """

    resolution_db: ClassVar[float] = 0.01

    min_attenuation_db: float = Field(0.0, ge=0, description="Smallest attenuation sent, dB.")
    max_attenuation_db: float = Field(ge=0, description="Largest attenuation sent, dB.")
    safe_attenuation_db: float | None = Field(
        None, ge=0, description="What make_safe sets, dB; default: the largest."
    )
    settle_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for the filter or shutter, s."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")

    @field_validator("min_attenuation_db", "max_attenuation_db", "safe_attenuation_db")
    @classmethod
    def _whole_steps(cls, attenuation_db: float | None) -> float | None:
        steps = (attenuation_db or 0.0) / cls.resolution_db
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"{attenuation_db} dB is no multiple of {cls.resolution_db} dB")
        return attenuation_db

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        if not self.min_attenuation_db < self.max_attenuation_db:
            raise ValueError(
                f"min_attenuation_db {self.min_attenuation_db:g} must be below "
                f"max_attenuation_db {self.max_attenuation_db:g}"
            )
        if not self.min_attenuation_db <= self.rest_db <= self.max_attenuation_db:
            raise ValueError(
                f"safe_attenuation_db {self.rest_db:g} lies outside min_attenuation_db "
                f"{self.min_attenuation_db:g} to max_attenuation_db {self.max_attenuation_db:g}"
            )
        return self

    @property
    def rest_db(self) -> float:
        """Attenuation of the safe state, dB."""
        if self.safe_attenuation_db is None:
            return self.max_attenuation_db
        return self.safe_attenuation_db


def check_attenuation(instrument: str, options: AttenuationOptions, attenuation_db: float) -> None:
    """Refuse an attenuation outside the configured limits.

    Raises:
        SettingError: Outside, or not a number; nothing was sent.
    """
    smallest_db, largest_db = options.min_attenuation_db, options.max_attenuation_db
    check_within(instrument, "attenuation", attenuation_db, smallest_db, largest_db, "dB")


def check_unit_range(
    instrument: str, options: AttenuationOptions, smallest_db: float, largest_db: float
) -> None:
    """Refuse options that reach beyond what the unit says it can do.

    Raises:
        SettingError: The configured range is wider than the unit's.
    """
    half_step_db = options.resolution_db / 2
    if options.min_attenuation_db < smallest_db - half_step_db:
        raise SettingError(
            instrument,
            f"min_attenuation_db {options.min_attenuation_db:g} is below the {smallest_db:g} dB "
            "that this unit can be set to: raise it",
        )
    if options.max_attenuation_db > largest_db + half_step_db:
        raise SettingError(
            instrument,
            f"max_attenuation_db {options.max_attenuation_db:g} exceeds the {largest_db:g} dB "
            "that this unit can be set to: lower it",
        )


def confirm_attenuation(
    instrument: str, set_db: float, read_db: float, tolerance_db: float
) -> float:
    """Return the attenuation read back, dB.

    Raises:
        ReplyError: It is not the one that was set.
    """
    if not abs(read_db - set_db) <= tolerance_db:
        raise ReplyError(
            instrument, f"attenuation was set to {set_db:.2f} dB and reads {read_db:.2f} dB"
        )
    return read_db


async def wait_until_settled(
    instrument: str,
    is_settled: Callable[[], Awaitable[bool]],
    *,
    timeout_s: float,
    poll_s: float,
    sent: str,
) -> None:
    """Ask again and again until a filter or shutter stands.

    Args:
        instrument: Name, for errors.
        is_settled: Asks the unit.
        timeout_s: Longest wait, s.
        poll_s: Time between two questions, s.
        sent: What set it in motion, for errors.

    Raises:
        TransportError: It did not settle in time.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while not await is_settled():
        if loop.time() >= deadline_s:
            raise TransportError(instrument, f"not settled within {timeout_s:g} s", sent=sent)
        await asyncio.sleep(poll_s)


async def ensure_value(
    link: Dialogue, header: str, text: str, value: float, send: Send, *, tolerance: float = 0.0
) -> bool:
    """Write a setting unless it has that value already, since some writes move the filter.

    Args:
        link: The dialogue.
        header: Asks with ``?`` after it, and sets with a value after it.
        text: The value as it is sent.
        value: The same as it is read.
        send: Sends the command.
        tolerance: How far off a value counts as the same, beside a relative 1e-5.

    Returns:
        Whether it was written.

    Raises:
        ReplyError: Another value is read than was set.
    """

    async def has_value() -> bool:
        read = await query_float(link, f"{header}?")
        return math.isclose(read, value, rel_tol=1e-5, abs_tol=max(tolerance, 1e-12))

    if await has_value():
        return False
    command = f"{header} {text}"
    with unknown_if_lost(link.instrument, header):
        await send(link, command)
        if not await has_value():
            raise ReplyError(link.instrument, "reads another value than was set", sent=command)
    return True
