"""What the testbed file says about an ``sfifteen-tdc1``."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from drivers.registry import Options

INPUTS = (1, 2, 3, 4)
MAX_THRESHOLD_V = 3.3
RESOLUTION_V = 0.01

ReferenceClock = Literal["auto", "external", "internal"]


class Tdc1Options(Options):
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
    longest_window_s: float = Field(
        1.0,
        ge=0.001,
        le=65.535,
        description="Longer counts are taken as several windows; a count that is cut short holds "
        "the unit up until its window has ended, s.",
    )
    reads_status: bool = Field(
        True, description="Ask after a tag stream whether tags were lost (`status?`)."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")

    @field_validator("inputs")
    @classmethod
    def _known_inputs(cls, inputs: tuple[int, ...]) -> tuple[int, ...]:
        if not inputs or len(set(inputs)) < len(inputs) or set(inputs) - set(INPUTS):
            raise ValueError(f"name each input in use once, out of 1, 2, 3, 4; not {inputs}")
        return inputs

    @field_validator("threshold_v", "min_threshold_v", "max_threshold_v")
    @classmethod
    def _whole_steps(cls, threshold_v: float | None) -> float | None:
        steps = (threshold_v or 0.0) / RESOLUTION_V
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"{threshold_v} V is no multiple of {RESOLUTION_V} V")
        return threshold_v

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        low_v, high_v = self.min_threshold_v, self.max_threshold_v
        if not low_v < high_v:
            raise ValueError(f"min_threshold_v {low_v:g} must be below max_threshold_v {high_v:g}")
        if self.threshold_v is not None and not low_v <= self.threshold_v <= high_v:
            raise ValueError(
                f"threshold_v {self.threshold_v:g} lies outside min_threshold_v {low_v:g} "
                f"to max_threshold_v {high_v:g}"
            )
        return self
