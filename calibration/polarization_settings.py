"""What the polarization stage turns, how it searches, and what it may spend."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calibration.chain import Chain
from calibration.metering import Rules
from calibration.retarders import DEFAULT_AZIMUTH_DEG, RetarderChain, prior_of_widths
from calibration.variable_retarders import HALF_WAVE_WAVES, VariableRetarderChain
from calibration.wave_plate_stack import WavePlateStack
from calibration.wave_plates import DEFAULT_RETARDANCE_WAVES, WavePlateChain

Actuator = Literal["squeezers", "retarders", "paddles", "wave-plates"]

OWN_SETTINGS: Mapping[Actuator, tuple[str, ...]] = {
    "squeezers": ("azimuth_deg", "half_wave_v", "scale_sigma", "azimuth_sigma_deg"),
    "retarders": ("azimuth_deg", "scale_sigma", "azimuth_sigma_deg", "offset_sigma_waves"),
    "paddles": ("retardance_waves", "retardance_sigma_waves", "twist", "twist_sigma"),
    "wave-plates": ("retardance_waves", "retardance_sigma_waves", "zero_deg", "homing_sigma_deg"),
}
"""Settings that mean something to some kinds of controller only; the first tells how many parts a
controller has."""

PARTS: Mapping[Actuator, str] = {
    "squeezers": "retarders",
    "retarders": "retarders",
    "paddles": "paddles",
    "wave-plates": "wave plates",
}
"""What a controller's parts are called."""


class PolarizationSettings(BaseModel):
    """What the stage turns, how it searches, and what it may spend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knobs: tuple[str, ...] = Field(
        min_length=1, description="Retarders, in the order in which light passes them."
    )
    actuator: Actuator = Field(
        "squeezers",
        description="What the knobs drive: squeezers by voltage, liquid-crystal or other variable "
        "retarders by nominal retardance (knobs in waves), fibre paddles or bulk wave plates by "
        "angle.",
    )
    sampler: Literal["model", "tpe", "cma-es"] = "model"
    may_invert: bool = Field(
        False,
        description="Whether the bits of a basis may be inverted in software (its two detectors "
        "exchanged): four times as many settings align, so that drives travel less. Only if "
        "whoever makes key of the clicks follows.",
    )
    target_excess: float = Field(
        0.003, gt=0, lt=0.5, description="Wanted QBER above the best reachable one, 0 to 1."
    )
    acceptable_qber: float = Field(
        0.03,
        gt=0,
        lt=0.5,
        description="Without a model no excess is known; above this QBER the next search is tried.",
    )
    max_photons: int = Field(10_000_000, ge=100, description="Detections, everything counted.")
    max_settings: int = Field(400, ge=1, description="Settings measured.")
    before_photons: int = Field(500, ge=10, description="Detections at the setting in force.")
    first_dwell: int = Field(100, ge=10, description="Detections at each of the first settings.")
    most_dwell: int = Field(20_000, ge=10, description="Detections at any setting of the search.")
    photons_per_trial: int = Field(4000, ge=10, description="For samplers without a model.")
    half_wave_v: float = Field(2.5, gt=0, description="Nominal half-wave voltage of a retarder, V.")
    azimuth_deg: tuple[float, ...] = Field(
        DEFAULT_AZIMUTH_DEG, description="Nominal Stokes azimuths of the retarders, degrees."
    )
    scale_sigma: float = Field(
        0.06, gt=0, description="Relative uncertainty of half-wave voltages or retardances."
    )
    azimuth_sigma_deg: float = Field(6.0, gt=0, description="Uncertainty of the azimuths, degrees.")
    offset_sigma_waves: float = Field(
        0.03, gt=0, description="Uncertainty of a variable retarder's residual retardance, waves."
    )
    retardance_waves: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        DEFAULT_RETARDANCE_WAVES, description="Nominal retardances of the plates, in waves."
    )
    retardance_sigma_waves: float | None = Field(
        None,
        gt=0,
        description="Uncertainty of the retardances, in waves; by default 0.02 of paddles and 0.01 "
        "of wave plates.",
    )
    zero_deg: tuple[float, ...] | None = Field(
        None, description="Angles at which the plates' axes lie horizontally; by default 0."
    )
    homing_sigma_deg: float = Field(
        1.5, gt=0, le=10, description="Uncertainty of each plate's angle, degrees."
    )
    twist: float = Field(
        0.04, ge=0, lt=1, description="Share of a turn that the axis lags behind its paddle."
    )
    twist_sigma: float = Field(0.04, gt=0, description="Uncertainty of the twist.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        own = OWN_SETTINGS[self.actuator]
        others = {name for names in OWN_SETTINGS.values() for name in names}.difference(own)
        foreign = sorted(others & self.model_fields_set)
        if foreign:
            owners = [repr(k) for k, names in OWN_SETTINGS.items() if set(foreign) & set(names)]
            raise ValueError(
                f"{', '.join(foreign)} belongs to actuator {' or '.join(owners)}, but the actuator "
                f"is {self.actuator!r}; leave it out or change the actuator"
            )
        if self.sampler == "model" and not self.channels == len(self.knobs) >= 3:
            parts = PARTS[self.actuator]
            raise ValueError(
                f"sampler 'model' knows {self.channels} {parts} ({own[0]}) but {len(self.knobs)} "
                "knobs are named; name one knob per retarder, three or more, in the order of the "
                "light, or choose sampler 'cma-es'"
            )
        if self.may_invert and self.sampler != "model":
            raise ValueError(
                f"may_invert needs sampler 'model', but the sampler is {self.sampler!r}: leave one "
                "of them out"
            )
        if self.zero_deg is not None and len(self.zero_deg) != self.channels:
            raise ValueError(
                f"zero_deg names {len(self.zero_deg)} angles for {self.channels} wave plates; "
                "give one per plate, or leave it out if all are 0"
            )
        return self

    @property
    def channels(self) -> int:
        """Number of retarders that the model describes."""
        return len(getattr(self, OWN_SETTINGS[self.actuator][0]))

    @property
    def period(self) -> float | None:
        """Period of the QBER, a sinusoid, in each knob; None where it is none."""
        match self.actuator:
            case "squeezers":
                return 2 * self.half_wave_v
            case "retarders":
                return 2 * HALF_WAVE_WAVES
            case "paddles" | "wave-plates":
                return None

    def chain(self, centre: Sequence[float]) -> Chain:
        """Describe the controller before anything is measured.

        Args:
            centre: Middle of each knob's range, in the knob's unit.
        """
        match self.actuator:
            case "squeezers":
                return RetarderChain.nominal(
                    self.half_wave_v,
                    azimuth_deg=self.azimuth_deg,
                    centre_v=centre,
                    prior=prior_of_widths(
                        self.channels, scale=self.scale_sigma, azimuth_deg=self.azimuth_sigma_deg
                    ),
                )
            case "retarders":
                return VariableRetarderChain.of_cells(
                    self.azimuth_deg,
                    scale_sigma=self.scale_sigma,
                    azimuth_sigma_deg=self.azimuth_sigma_deg,
                    offset_sigma_waves=self.offset_sigma_waves,
                )
            case "paddles":
                return WavePlateChain.nominal(
                    self.retardance_waves,
                    centre_deg=centre,
                    retardance_sigma_waves=self.retardance_sigma_waves or 0.02,
                    twist=self.twist,
                    twist_sigma=self.twist_sigma,
                )
            case "wave-plates":
                return WavePlateStack.homed(
                    self.retardance_waves,
                    zero_deg=0.0 if self.zero_deg is None else self.zero_deg,
                    retardance_sigma_waves=self.retardance_sigma_waves or 0.01,
                    homing_sigma_deg=self.homing_sigma_deg,
                )

    def rules(self) -> Rules:
        """Give the part that concerns every stage."""
        return Rules(
            target_excess=self.target_excess,
            acceptable_qber=self.acceptable_qber,
            max_photons=self.max_photons,
            max_settings=self.max_settings,
            before_photons=self.before_photons,
        )
