"""The feed of the QKD stack in the testbed file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class FeedConfig(BaseModel):
    """How windows that the QKD stack posts are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    socket: Path | None = Field(
        None, description="Where the stack posts; else beside the control socket, ending in .feed."
    )
    record: Path | None = Field(None, description="File to which every accepted message is added.")
    record_megabytes: float = Field(
        16.0, gt=0, le=10_000, description="Size at which a new file is begun, MB."
    )
    record_files: int = Field(4, ge=1, le=1000, description="Full files kept beside the newest.")
    clock_offset_s: float = Field(
        0.0,
        description="Added to the stack's times where messages have no posted_s, s.",
    )
    reorder_windows: int = Field(
        16, ge=0, le=1000, description="How many windows later than its turn one may come."
    )
    reorder_wait_s: float = Field(
        2.0, ge=0, le=3600, description="How long those after a missing one are held back, s."
    )
    queue_windows: int = Field(
        1000, ge=1, le=100_000, description="Windows kept until they are used; then the oldest go."
    )
    max_rate_hz: float = Field(
        1000.0, gt=0, le=1e5, description="Lines per second taken from one client, at most."
    )
    timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Without a window for so long the link counts as dark: tracking waits, s.",
    )
    dark_rate_hz: float = Field(
        0.0,
        ge=0,
        description="Counts per second of a message while no light arrives; no more is dark.",
    )
    pooled: bool = Field(
        False,
        description="Take errors of both bases together; the setting is then watched, not tracked.",
    )
    alice_state: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="State that Alice is told to send while key is made, where a calibration makes "
        "her send another.",
    )
