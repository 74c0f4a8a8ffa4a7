"""What the testbed file says about an ``sfifteen-spd``, and what is set on one."""

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from drivers.sfifteen_counter import CountingOptions

MAX_BIAS_V = 300.0
MAX_THRESHOLD_V = 2.0


@dataclass(frozen=True)
class Quantity:
    """Something that is set with one command and read with the same and a question mark.

    Attributes:
        what: In errors.
        command: The command.
        unit: Its unit.
        decimals: Digits sent; weak.
        tolerance: How far what is read back may be off; weak.
    """

    what: str
    command: str
    unit: str
    decimals: int
    tolerance: float


BIAS = Quantity("bias", "hvolt", "V", 1, 1.0)
THRESHOLD = Quantity("threshold", "threshvolt", "V", 3, 0.005)
TEMPERATURE = Quantity("temperature set point", "settemp", "degC", 1, 0.2)


class SpdOptions(CountingOptions):
    """Options of an ``sfifteen-spd``."""

    max_bias_v: float = Field(
        gt=0, le=MAX_BIAS_V, description="Highest bias sent, V: what this diode bears."
    )
    min_bias_v: float = Field(0.0, ge=0, le=MAX_BIAS_V, description="Lowest bias sent, V.")
    rest_bias_v: float = Field(
        0.0, ge=0, le=MAX_BIAS_V, description="Bias of the safe state, V; it may be below the rest."
    )
    min_threshold_v: float = Field(
        -MAX_THRESHOLD_V,
        ge=-MAX_THRESHOLD_V,
        le=MAX_THRESHOLD_V,
        description="Lowest threshold sent, V.",
    )
    max_threshold_v: float = Field(
        MAX_THRESHOLD_V,
        ge=-MAX_THRESHOLD_V,
        le=MAX_THRESHOLD_V,
        description="Highest threshold sent, V.",
    )
    min_temperature_degc: float = Field(
        -40.0, ge=-100, le=50, description="Lowest temperature set, degrees Celsius."
    )
    max_temperature_degc: float = Field(
        30.0, ge=-100, le=50, description="Highest temperature set, degrees Celsius."
    )
    stable_within_degc: float = Field(
        0.5, gt=0, description="Counts as the set temperature, degrees Celsius."
    )
    is_cooled: bool | None = Field(
        None, description="Whether the temperature is regulated; default: as the unit has it."
    )
    input: int = Field(1, ge=1, le=4, description="The number that its counts are asked for by.")

    @model_validator(mode="after")
    def _whole_steps_in_order(self) -> Self:
        for quantity, low, high in (
            (BIAS, self.min_bias_v, self.max_bias_v),
            (THRESHOLD, self.min_threshold_v, self.max_threshold_v),
            (TEMPERATURE, self.min_temperature_degc, self.max_temperature_degc),
        ):
            if not low < high:
                raise ValueError(f"lowest {quantity.what} {low:g} must be below highest {high:g}")
            for value in (low, high):
                if round(value, quantity.decimals) != value:
                    raise ValueError(
                        f"{quantity.what} {value} has more than {quantity.decimals} decimals"
                    )
        if not self.rest_bias_v <= self.max_bias_v:
            raise ValueError(
                f"rest_bias_v {self.rest_bias_v:g} exceeds max_bias_v {self.max_bias_v:g}"
            )
        return self

    @property
    def inputs(self) -> tuple[int, ...]:
        """The one input."""
        return (self.input,)
