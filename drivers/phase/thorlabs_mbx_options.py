"""Options of a Thorlabs MBX, checked before anything else."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.attenuators.attenuation import AttenuationOptions

SMALLEST_DB = 0.5
LARGEST_DB = 20.0
LARGEST_BIAS_V = 10.0


class MbxOptions(AttenuationOptions):
    """Options of a ``thorlabs-mbx``."""

    min_attenuation_db: float = Field(
        1.0, ge=SMALLEST_DB, le=LARGEST_DB, description="Smallest attenuation sent, dB."
    )
    max_attenuation_db: float = Field(
        LARGEST_DB, ge=SMALLEST_DB, le=LARGEST_DB, description="Largest attenuation sent, dB."
    )
    settle_timeout_s: float = Field(
        5.0, gt=0, le=600, description="Longest wait for attenuation or bias, s."
    )
    waits_for_set_point: bool = Field(
        default=True, description="Wait until the VOA has settled, which takes light."
    )
    min_bias_v: float = Field(
        -LARGEST_BIAS_V, ge=-LARGEST_BIAS_V, le=LARGEST_BIAS_V, description="Lowest bias sent, V."
    )
    max_bias_v: float = Field(
        LARGEST_BIAS_V, ge=-LARGEST_BIAS_V, le=LARGEST_BIAS_V, description="Highest bias sent, V."
    )
    rest_bias_v: float = Field(
        0.0, ge=-LARGEST_BIAS_V, le=LARGEST_BIAS_V, description="Bias of the safe state, V."
    )
    bias_tolerance_v: float = Field(
        0.2, gt=0, le=5, description="How far the measured bias may lie off, V."
    )
    lock_timeout_s: float = Field(
        120.0, gt=0, le=3600, description="Longest wait for a lock, calibration included, s."
    )
    baud_rate: int = Field(115200, gt=0, description="Of the serial line, baud.")

    @field_validator("min_bias_v", "max_bias_v", "rest_bias_v")
    @classmethod
    def _whole_millivolts(cls, voltage_v: float) -> float:
        if abs(voltage_v * 1000 - round(voltage_v * 1000)) > 1e-6:
            raise ValueError(f"the unit sets whole millivolts; {voltage_v} V is not one")
        return voltage_v

    @model_validator(mode="after")
    def _ordered_bias(self) -> Self:
        if not self.min_bias_v < self.max_bias_v:
            raise ValueError(
                f"min_bias_v {self.min_bias_v:g} must be below max_bias_v {self.max_bias_v:g}"
            )
        if not self.min_bias_v <= self.rest_bias_v <= self.max_bias_v:
            raise ValueError(
                f"rest_bias_v {self.rest_bias_v:g} lies outside min_bias_v {self.min_bias_v:g} "
                f"to max_bias_v {self.max_bias_v:g}; set it inside"
            )
        return self
