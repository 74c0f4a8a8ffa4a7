"""What the polarization stage turns, how it searches, and what it may spend."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calibration.chain import Chain
from calibration.metering import Rules
from calibration.retarders import DEFAULT_AZIMUTH_DEG, RetarderChain, prior_of_widths
from calibration.wave_plates import DEFAULT_RETARDANCE_WAVES, WavePlateChain

OWN_SETTINGS = {
    "squeezers": ("half_wave_v", "azimuth_deg", "scale_sigma", "azimuth_sigma_deg"),
    "paddles": ("retardance_waves", "retardance_sigma_waves", "twist", "twist_sigma"),
}
"""Settings that mean something to one kind of controller only."""


class PolarizationSettings(BaseModel):
    """What the stage turns, how it searches, and what it may spend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knobs: tuple[str, ...] = Field(
        min_length=1, description="Retarders, in the order in which light passes them."
    )
    actuator: Literal["squeezers", "paddles"] = Field(
        "squeezers",
        description="What the knobs drive: retardances by voltage, or wave plates by angle.",
    )
    sampler: Literal["model", "tpe", "cma-es"] = "model"
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
        0.06, gt=0, description="Relative uncertainty of the half-wave voltages."
    )
    azimuth_sigma_deg: float = Field(6.0, gt=0, description="Uncertainty of the azimuths, degrees.")
    retardance_waves: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        DEFAULT_RETARDANCE_WAVES, description="Nominal retardances of the paddles, in waves."
    )
    retardance_sigma_waves: float = Field(
        0.02, gt=0, description="Uncertainty of the retardances, in waves."
    )
    twist: float = Field(
        0.04, ge=0, lt=1, description="Share of a turn that the axis lags behind its paddle."
    )
    twist_sigma: float = Field(0.04, gt=0, description="Uncertainty of the twist.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for kind, names in OWN_SETTINGS.items():
            foreign = [name for name in names if name in self.model_fields_set]
            if kind != self.actuator and foreign:
                raise ValueError(
                    f"{', '.join(foreign)} belongs to actuator {kind!r}, but the actuator is "
                    f"{self.actuator!r}; leave it out or change the actuator"
                )
        if self.sampler == "model" and not self.channels == len(self.knobs) >= 3:
            what, key = (
                ("retarders", "azimuth_deg")
                if self.actuator == "squeezers"
                else ("paddles", "retardance_waves")
            )
            raise ValueError(
                f"sampler 'model' knows {self.channels} {what} ({key}) but {len(self.knobs)} "
                "knobs are named; name one knob per retarder, three or more, in the order of the "
                "light, or choose sampler 'cma-es'"
            )
        return self

    @property
    def channels(self) -> int:
        """Number of retarders that the model describes."""
        own = self.azimuth_deg if self.actuator == "squeezers" else self.retardance_waves
        return len(own)

    def chain(self, centre: Sequence[float]) -> Chain:
        """Describe the controller before anything is measured.

        Args:
            centre: Middle of each knob's range, V or degrees.
        """
        if self.actuator == "paddles":
            return WavePlateChain.nominal(
                self.retardance_waves,
                centre_deg=centre,
                retardance_sigma_waves=self.retardance_sigma_waves,
                twist=self.twist,
                twist_sigma=self.twist_sigma,
            )
        return RetarderChain.nominal(
            self.half_wave_v,
            azimuth_deg=self.azimuth_deg,
            centre_v=centre,
            prior=prior_of_widths(
                self.channels, scale=self.scale_sigma, azimuth_deg=self.azimuth_sigma_deg
            ),
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
