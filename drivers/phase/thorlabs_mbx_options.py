"""Options of a Thorlabs MBX, checked before anything else."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.attenuators.attenuation import AttenuationOptions
from drivers.limits import MILLIVOLT_V, check_order, check_whole_steps

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
        check_whole_steps(voltage_v, MILLIVOLT_V, "V")
        return voltage_v

    @model_validator(mode="after")
    def _ordered_bias(self) -> Self:
        check_order(self, "bias_v", inside="rest_bias_v")
        return self
