"""Limits that a testbed file sets: in order, in steps that the instrument can take."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.registry import Options

MILLIVOLT_V = 0.001


def check_whole_steps(value: float | None, step: float, unit: str) -> None:
    """Refuse a limit that rounding would step over; None is no limit.

    Raises:
        ValueError: Not a multiple of ``step``.
    """
    steps = (value or 0.0) / step
    if abs(steps - round(steps)) > 1e-6:
        raise ValueError(f"{value} {unit} is no multiple of {step} {unit}")


def check_each_once(what: str, chosen: Sequence[object], known: Sequence[object]) -> None:
    """Refuse a choice of nothing, of one thing twice, or of something that is not there.

    Raises:
        ValueError: It is such a choice; the text says from what to choose.
    """
    if not chosen or len(set(chosen)) < len(chosen) or set(chosen) - set(known):
        offered = ", ".join(map(str, known))
        raise ValueError(f"name each {what} in use once, out of {offered}; not {tuple(chosen)}")


def check_order(options: Options, quantity: str, *, inside: str | None = None) -> None:
    """Refuse limits that are not in order, or do not hold a value that is set.

    Args:
        options: They have ``min_`` and ``max_`` with the quantity's name after it.
        quantity: Its name with its unit, such as ``voltage_v``.
        inside: The option that must lie between them, such as ``rest_voltage_v``; it may be None.

    Raises:
        ValueError: They are not; the text names the options.
    """
    lowest, highest = f"min_{quantity}", f"max_{quantity}"
    low, high = getattr(options, lowest), getattr(options, highest)
    if not low < high:
        raise ValueError(f"{lowest} {low:g} must be below {highest} {high:g}")
    value = getattr(options, inside) if inside else None
    if value is not None and not low <= value <= high:
        raise ValueError(
            f"{inside} {value:g} lies outside {lowest} {low:g} to {highest} {high:g}; set it inside"
        )


class VoltageLimits(Options):
    """Which voltages are sent, and where they rest."""

    min_voltage_v: float = Field(0.0, description="Lowest voltage sent, V.")
    max_voltage_v: float = Field(1.0, description="Highest voltage sent, V.")
    rest_voltage_v: float = Field(0.0, description="Voltage of the safe state, V.")

    @model_validator(mode="after")
    def _ordered_voltages(self) -> Self:
        check_order(self, "voltage_v", inside="rest_voltage_v")
        return self


class MillivoltLimits(VoltageLimits):
    """The same for a unit that takes whole millivolts."""

    @field_validator("min_voltage_v", "max_voltage_v", "rest_voltage_v")
    @classmethod
    def _whole_millivolts(cls, voltage_v: float) -> float:
        check_whole_steps(voltage_v, MILLIVOLT_V, "V")
        return voltage_v
