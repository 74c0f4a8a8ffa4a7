"""What attenuators share: a range with a safe place in it, and a filter that takes its time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import ReplyError, SettingError, TransportError
from drivers.limits import check_order, check_whole_steps
from drivers.outputs import check_within
from drivers.registry import Options


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
        check_whole_steps(attenuation_db, cls.resolution_db, "dB")
        return attenuation_db

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        check_order(self, "attenuation_db", inside="safe_attenuation_db")
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
