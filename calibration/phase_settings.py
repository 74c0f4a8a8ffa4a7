"""What the phase stage turns, how it searches, and what it may spend."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from calibration.interferometer import Encoding, Interferometer
from calibration.metering import Rules


class PhaseSettings(BaseModel):
    """What the stage turns, how it searches, and what it may spend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knob: str = Field(description="What moves the phase: a piezo's or a modulator's voltage.")
    sampler: Literal["model", "descent", "tpe"] = "model"
    half_wave_v: float = Field(gt=0, description="Nominal change of the knob for a phase of pi, V.")
    scale_sigma: float = Field(
        0.1, gt=0, le=0.3, description="Relative uncertainty of the half-wave voltage."
    )
    floor: float = Field(
        0.01, gt=0, lt=0.5, description="Error probability to expect at phase zero, 0 to 1."
    )
    target_excess: float = Field(
        0.002, gt=0, lt=0.5, description="Wanted QBER above the best reachable one, 0 to 1."
    )
    acceptable_qber: float = Field(
        0.03,
        gt=0,
        lt=0.5,
        description="Without a model no excess is known; above this QBER the next search is tried.",
    )
    max_photons: int = Field(3_000_000, ge=100, description="Detections, everything counted.")
    max_settings: int = Field(200, ge=1, description="Settings measured.")
    before_photons: int = Field(500, ge=10, description="Detections at the setting in force.")
    first_dwell: int = Field(200, ge=10, description="Detections at each of the first settings.")
    most_dwell: int = Field(20_000, ge=10, description="Detections at any setting of the search.")
    photons_per_trial: int = Field(4000, ge=10, description="For samplers without a model.")

    @property
    def knobs(self) -> tuple[str, ...]:
        """The knob, as the stages with several name theirs."""
        return (self.knob,)

    def interferometer(self, encoding: Encoding, span: tuple[float, float]) -> Interferometer:
        """Describe the interferometer before anything is measured.

        Args:
            encoding: Which counts see the phase.
            span: Lowest and highest value of the knob.
        """
        return Interferometer(
            encoding=encoding,
            half_wave=self.half_wave_v,
            centre=sum(span) / 2,
            scale_sigma=self.scale_sigma,
            floor=self.floor,
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
