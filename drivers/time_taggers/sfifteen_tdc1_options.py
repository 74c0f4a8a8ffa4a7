"""What the testbed file says about an ``sfifteen-tdc1``."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from drivers.limits import check_each_once, check_order, check_whole_steps
from drivers.sfifteen_counter import CountingOptions

INPUTS = (1, 2, 3, 4)
MAX_THRESHOLD_V = 3.3
RESOLUTION_V = 0.01

ReferenceClock = Literal["auto", "external", "internal"]


class Tdc1Options(CountingOptions):
    """Options of an ``sfifteen-tdc1``; one threshold serves all four inputs."""

    inputs: tuple[int, ...] = Field(INPUTS, description="Inputs in use, out of 1 to 4.")
    threshold_v: float | None = Field(
        None, description="Threshold of the inputs, set whenever the link is opened, V."
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
    reference_clock: ReferenceClock | None = Field(
        None, description="Which clock it runs on; default: as the unit has it."
    )
    reads_status: bool = Field(
        True, description="Ask after a tag stream whether tags were lost (`status?`)."
    )

    @field_validator("inputs")
    @classmethod
    def _known_inputs(cls, inputs: tuple[int, ...]) -> tuple[int, ...]:
        check_each_once("input", inputs, INPUTS)
        return inputs

    @field_validator("threshold_v", "min_threshold_v", "max_threshold_v")
    @classmethod
    def _whole_steps(cls, threshold_v: float | None) -> float | None:
        check_whole_steps(threshold_v, RESOLUTION_V, "V")
        return threshold_v

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        check_order(self, "threshold_v", inside="threshold_v")
        return self
