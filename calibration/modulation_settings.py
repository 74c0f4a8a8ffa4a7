"""What the modulation stage needs to know, and what it may spend."""

from pydantic import Field

from calibration.account import StageBudget


class ModulationSettings(StageBudget):
    """Of the drives of the four states, and of the intensities."""

    half_wave_v: float | None = Field(
        None, gt=0, description="Drive that turns a state by half the circle, nominal, V."
    )
    intensity_half_wave_v: float | None = Field(
        None, gt=0, description="Drive from null to peak of the intensity modulator, nominal, V."
    )
    half_wave_sigma: float = Field(0.1, gt=0, lt=1, description="Relative uncertainty of both.")
    target_deg: float = Field(
        1.0, gt=0, le=45, description="Wanted spacing: largest deviation from 90 degrees."
    )
    target_ratio_percent: float = Field(
        3.0, gt=0, le=100, description="Wanted intensities: largest relative error, per cent."
    )
    brightness_percent: float = Field(
        2.0, gt=0, le=100, description="Differences in brightness between states told about."
    )
    figure_photons: int = Field(2_000_000, ge=1000, description="Detections for the figure.")
    photons_per_setting: int = Field(500_000, ge=1000, description="Detections on the way.")
    max_photons: int = Field(10_000_000, ge=1, description="Detections, everything counted.")
