"""What the testbed file says about a ``singlequantum-websq``."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from drivers.limits import check_order, check_whole_steps
from drivers.registry import Options

COUNTS_PORT = 12345
LARGEST_BIAS_UA = 90.9  # where the unit's own scan of the bias ends
LARGEST_TRIGGER_MV = 1000.0
RESOLUTION_UA = 0.01  # weak
RESOLUTION_MV = 0.1  # weak

Detector = Annotated[int, Field(ge=1, le=64)]
Microamperes = Annotated[float, Field(ge=-LARGEST_BIAS_UA, le=LARGEST_BIAS_UA)]
Millivolts = Annotated[float, Field(ge=-LARGEST_TRIGGER_MV, le=LARGEST_TRIGGER_MV)]


class WebSqOptions(Options):
    """Options of a ``singlequantum-websq``; detectors are numbered from 1."""

    inputs: tuple[Detector, ...] = Field((1, 2, 3, 4), description="Detectors in use.")
    counts_resource: str | None = Field(
        None, description=f"Where counts are pushed; default: the same host, port {COUNTS_PORT}."
    )
    min_bias_ua: Microamperes = Field(0.0, description="Lowest bias current sent, uA.")
    max_bias_ua: Microamperes = Field(30.0, description="Highest bias current sent, uA.")
    min_trigger_mv: Millivolts = Field(0.0, description="Lowest trigger level sent, mV.")
    max_trigger_mv: Millivolts = Field(250.0, description="Highest trigger level sent, mV.")
    bias_currents_ua: dict[Detector, float] = Field(
        {},
        description="Bias by detector, uA. With any of them the detectors are switched on when the "
        "link is opened.",
    )
    trigger_levels_mv: dict[Detector, float] = Field(
        {}, description="Trigger level by detector, mV."
    )
    is_off_when_safe: bool = Field(
        True,
        description="Whether make_safe switches the bias off. Say false where another instrument "
        "counts the clicks: nothing else would switch it on again.",
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a label, s.")
    calibration_timeout_s: float = Field(
        600.0, gt=0, le=36000, description="Longest automatic bias calibration, s."
    )

    @field_validator("inputs")
    @classmethod
    def _distinct_inputs(cls, inputs: tuple[int, ...]) -> tuple[int, ...]:
        if not inputs or len(set(inputs)) < len(inputs):
            raise ValueError(f"name each detector in use once; not {inputs}")
        return inputs

    @field_validator("min_bias_ua", "max_bias_ua")
    @classmethod
    def _whole_bias_steps(cls, current_ua: float) -> float:
        check_whole_steps(current_ua, RESOLUTION_UA, "uA")
        return current_ua

    @field_validator("min_trigger_mv", "max_trigger_mv")
    @classmethod
    def _whole_trigger_steps(cls, level_mv: float) -> float:
        check_whole_steps(level_mv, RESOLUTION_MV, "mV")
        return level_mv

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for what, unit, values in (
            ("bias", "ua", self.bias_currents_ua),
            ("trigger", "mv", self.trigger_levels_mv),
        ):
            check_order(self, f"{what}_{unit}")
            low, high = getattr(self, f"min_{what}_{unit}"), getattr(self, f"max_{what}_{unit}")
            for detector, value in values.items():
                if detector not in self.inputs:
                    raise ValueError(f"a {what} is given for detector {detector}, not in inputs")
                if not low <= value <= high:
                    raise ValueError(
                        f"{what} {value:g} {unit} of detector {detector} lies outside {low:g} to "
                        f"{high:g}"
                    )
        return self

    def counts_at(self, resource: str) -> str | None:
        """Where counts are pushed by a unit at ``resource``; None if that cannot be told."""
        if self.counts_resource is not None:
            return self.counts_resource
        try:
            host = urlsplit(resource).hostname
        except ValueError:
            return None
        if not host:
            return None
        return f"tcp://{f'[{host}]' if ':' in host else host}:{COUNTS_PORT}"
