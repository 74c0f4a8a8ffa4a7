"""Tracking of what the stages before the alignment have set, in the testbed file."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from qkdctl.signal_config import Mistake

if TYPE_CHECKING:
    from qkdctl.config import Testbed


class BiasTrackingConfig(BaseModel):
    """How the null of the intensity modulator is held while key is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = Field(True, description="Whether it is, where stages.bias has a knob.")
    drift_v_per_sqrt_s: float = Field(
        0.002, gt=0, description="First guess of the null's random walk; the tracker learns it."
    )


class DelayTrackingConfig(BaseModel):
    """How the detectors' delays are held while key is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enabled: bool = Field(True, description="Whether they are, where there is a stages.delay.")
    drift_ps_per_sqrt_s: float = Field(
        1.0, gt=0, description="First guess of a delay's random walk; the tracker learns it."
    )
    dead_band_ps: float = Field(2.0, ge=0, description="How far off a delay is left as it is, ps.")


def why_bias_is_not_tracked(testbed: "Testbed") -> str | None:
    """Tell what keeps the modulator's null from being tracked, or None if nothing does."""
    bias, levels = testbed.stages.bias, testbed.link.intensities
    if testbed.receiver.source != "pattern":
        return f"receiver.source = {testbed.receiver.source!r} tells no slots apart"
    if bias is None:
        return "there is no stages.bias"
    if bias.knob is None:
        return "a bias controller holds the null by itself"
    signal = next(iter(levels))
    if not set(testbed.link.pattern.intensities) - {signal, bias.vacuum}:
        return "the pattern sends no decoy that tells how much light there is"
    return None


def why_delay_is_not_tracked(testbed: "Testbed") -> str | None:
    """Tell what keeps the delays from being tracked, or None if nothing does."""
    if testbed.receiver.source != "pattern":
        return f"receiver.source = {testbed.receiver.source!r} gives no arrival times"
    if testbed.stages.delay is None:
        return "there is no stages.delay"
    return None


REASONS: Mapping[str, Callable[["Testbed"], str | None]] = {
    "bias": why_bias_is_not_tracked,
    "delay": why_delay_is_not_tracked,
}


def side_mistakes(testbed: "Testbed") -> Iterator[Mistake]:
    """Find what the file wants tracked by name and what cannot be."""
    for name in sorted(REASONS.keys() & testbed.tracking.model_fields_set):
        reason = REASONS[name](testbed)
        if testbed.receiver.source != "pattern" and getattr(testbed.stages, name) is not None:
            continue  # the stage is a mistake itself, and says the same
        if getattr(testbed.tracking, name).enabled and reason is not None:
            yield f"tracking.{name}", f"cannot be tracked: {reason}", "mend that, or remove it"
