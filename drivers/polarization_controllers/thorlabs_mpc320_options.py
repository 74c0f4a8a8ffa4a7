"""What a testbed file may say about Thorlabs motorised paddles, and their angles in steps."""

import math
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from drivers.limits import check_each_once
from drivers.registry import Options

PADDLES: Final = (1, 2, 3)
FULL_TRAVEL_DEG: Final = 170.0
FULL_TRAVEL_STEPS: Final = 1370
RESOLUTION_DEG: Final = FULL_TRAVEL_DEG / FULL_TRAVEL_STEPS
FULL_SPEED_DEG_PER_S: Final = 400.0


def angle_deg(steps: int) -> float:
    """Return the angle of a position, degrees."""
    return steps * FULL_TRAVEL_DEG / FULL_TRAVEL_STEPS


class Mpc320Options(Options):
    """Options of a ``thorlabs-mpc320``."""

    paddles: tuple[int, ...] = Field(PADDLES, description="Paddles in use, out of 1, 2, 3.")
    min_angle_deg: float = Field(
        2.0, ge=0, le=FULL_TRAVEL_DEG, description="Smallest angle sent, degrees."
    )
    max_angle_deg: float = Field(
        158.0, ge=0, le=FULL_TRAVEL_DEG, description="Largest angle sent, degrees."
    )
    velocity_percent: int = Field(50, ge=10, le=100, description="Speed, % of 400 degrees/s.")
    home_angle_deg: float = Field(
        85.0, ge=0, le=FULL_TRAVEL_DEG, description="Where homing ends, degrees."
    )
    home_on_open: bool = Field(
        False, description="Home all paddles when the link is opened, although they are homed."
    )
    tolerance_deg: float = Field(
        0.5, gt=0, le=5, description="How far from its target a paddle may stop, degrees."
    )
    move_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for the paddles to stand still, s."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for an answer, s.")

    @field_validator("paddles")
    @classmethod
    def _known_paddles(cls, paddles: tuple[int, ...]) -> tuple[int, ...]:
        check_each_once("paddle", paddles, PADDLES)
        return paddles

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        lowest, highest = self.steps_within
        if not lowest < highest:
            raise ValueError(
                f"min_angle_deg {self.min_angle_deg:g} must be below "
                f"max_angle_deg {self.max_angle_deg:g}"
            )
        if not lowest <= self.home_steps <= highest:
            raise ValueError(
                f"home_angle_deg {self.home_angle_deg:g} lies outside min_angle_deg "
                f"{self.min_angle_deg:g} to max_angle_deg {self.max_angle_deg:g}; set it inside"
            )
        return self

    @model_validator(mode="after")
    def _time_for_a_full_move(self) -> Self:
        # Homing goes to the end of the travel and comes back.
        full_move_s = 2 * FULL_TRAVEL_DEG / self.speed_deg_per_s
        if full_move_s > self.move_timeout_s:
            raise ValueError(
                f"homing a paddle takes up to {full_move_s:.1f} s at velocity_percent "
                f"{self.velocity_percent}: raise move_timeout_s {self.move_timeout_s:g} above that"
            )
        return self

    @property
    def speed_deg_per_s(self) -> float:
        """Speed of a paddle, degrees/s."""
        return FULL_SPEED_DEG_PER_S * self.velocity_percent / 100

    @property
    def steps_within(self) -> tuple[int, int]:
        """Lowest and highest position inside the limits, steps."""
        slack = 1e-9  # the limits are decimal text
        lowest = math.ceil(self.min_angle_deg / RESOLUTION_DEG - slack)
        return lowest, math.floor(self.max_angle_deg / RESOLUTION_DEG + slack)

    @property
    def home_steps(self) -> int:
        """Where homing ends, steps."""
        return round(self.home_angle_deg / RESOLUTION_DEG)

    @property
    def tolerance_steps(self) -> int:
        """How far from its target a paddle may stop, steps; at least one."""
        return max(1, round(self.tolerance_deg / RESOLUTION_DEG))

    def steps(self, angle_deg: float) -> int:
        """Return the position nearest to an angle, inside the limits, steps."""
        lowest, highest = self.steps_within
        return min(max(round(angle_deg / RESOLUTION_DEG), lowest), highest)
