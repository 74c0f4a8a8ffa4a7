"""When a calibration pauses by itself, in the testbed file."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qkdctl.names import Name


class PausingConfig(BaseModel):
    """How a calibration waits for what is not as it should be."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    look_every_s: float = Field(
        10.0, gt=0, le=3600, description="Time between two looks whether it can go on, s."
    )
    light_wait_s: float = Field(
        600.0, ge=0, description="How long missing light is waited for before the stage fails, s."
    )


class WatchConfig(BaseModel):
    """A quantity that must stay within a band while a calibration measures."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    quantity: Literal["temperature", "power", "detection-rate"] = Field(
        description="In degrees Celsius, W, or detections per second of all detectors together."
    )
    instrument: Name | None = Field(None, description="Who reads it; none for detection-rate.")
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _has_a_band(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("neither minimum nor maximum is given; give at least one")
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(
                f"minimum {self.minimum:g} is not below maximum {self.maximum:g}; swap them"
            )
        return self

    @model_validator(mode="after")
    def _has_its_instrument(self) -> Self:
        if self.quantity == "detection-rate" and self.instrument is not None:
            raise ValueError("detection-rate is told by the receiver; remove instrument")
        if self.quantity != "detection-rate" and self.instrument is None:
            raise ValueError(f"{self.quantity} needs an instrument; name the one that reads it")
        return self

    def contains(self, value: float) -> bool:
        """Whether a value is within the band; NaN is not."""
        low = float("-inf") if self.minimum is None else self.minimum
        high = float("inf") if self.maximum is None else self.maximum
        return low <= value <= high

    @property
    def band(self) -> str:
        """The band in words, without its unit."""
        if self.minimum is None:
            return f"above {self.maximum:g}"
        if self.maximum is None:
            return f"below {self.minimum:g}"
        return f"outside {self.minimum:g} to {self.maximum:g}"
