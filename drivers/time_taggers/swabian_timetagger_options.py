"""What the testbed file says about a ``swabian-timetagger``."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from drivers.registry import Options

# The widest range of any model; the unit's own is narrower on some.
MAX_LEVEL_V = 2.5
# Delays beyond 2 us would be made in the vendor's software, not in the unit.
MAX_DELAY_PS = 2_000_000
MAX_CHANNEL = 9999

Channel = Annotated[int, Field(ge=1, le=MAX_CHANNEL)]
Volts = Annotated[float, Field(ge=-MAX_LEVEL_V, le=MAX_LEVEL_V)]
DelayPs = Annotated[int, Field(ge=-(10**12), le=10**12)]
DeadTimePs = Annotated[int, Field(ge=0, le=10**12)]
Edge = Literal["rising", "falling"]


class TimeTaggerOptions(Options):
    """Options of a ``swabian-timetagger``; inputs have the numbers on the unit, from 1."""

    inputs: tuple[Channel, ...] = Field((1, 2, 3, 4), description="Inputs of the detectors.")
    sync_channel: Channel | None = Field(
        None, description="Input of the START pulses, needed for times since START."
    )
    sync_divider: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="One START pulse in so many is let through, which keeps the tag rate low; "
        "default: as the unit has it.",
    )
    edges: dict[int, Edge] = Field({}, description="Edge that counts, by input; default: rising.")
    trigger_level_v: dict[int, Volts] = Field(
        {}, description="Trigger level by input, set whenever the unit is taken up, V."
    )
    min_trigger_level_v: Volts = Field(-MAX_LEVEL_V, description="Lowest trigger level set, V.")
    max_trigger_level_v: Volts = Field(MAX_LEVEL_V, description="Highest trigger level set, V.")
    input_delay_ps: dict[int, DelayPs] = Field(
        {}, description="Delay by input, set whenever the unit is taken up, ps."
    )
    min_delay_ps: DelayPs = Field(-MAX_DELAY_PS, description="Lowest delay set, ps.")
    max_delay_ps: DelayPs = Field(MAX_DELAY_PS, description="Highest delay set, ps.")
    dead_time_ps: dict[int, DeadTimePs] = Field(
        {}, description="Dead time by input, set whenever the unit is taken up, ps."
    )
    test_signal: tuple[Channel, ...] = Field(
        (), description="Inputs on the unit's own test signal, until it is made safe."
    )
    model: str = Field("Time Tagger", description="What the model's name must contain.")
    serial_number: str | None = Field(None, description="Serial number that it must have.")
    buffer_tags: int = Field(
        4_000_000,
        ge=10_000,
        le=200_000_000,
        description="Tags, START pulses included, that the library keeps until they are fetched, "
        "some 20 times a second.",
    )
    max_tags: int = Field(
        50_000_000, gt=0, description="Detections of one acquisition that are accepted."
    )
    timeout_s: float = Field(
        2.0, ge=0.2, le=60, description="Longest wait for one call of the library, s."
    )
    connect_timeout_s: float = Field(
        30.0, ge=0.2, le=600, description="Longest wait for the library to take up the unit, s."
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """All inputs in use, START last."""
        return (*self.inputs, self.sync_channel) if self.sync_channel else self.inputs

    def library_channel(self, number: int) -> int:
        """The library's name for the edge of an input that counts: negative where it falls."""
        return -number if self.edges.get(number) == "falling" else number

    @field_validator("inputs")
    @classmethod
    def _distinct_inputs(cls, inputs: tuple[int, ...]) -> tuple[int, ...]:
        if not inputs or len(set(inputs)) < len(inputs):
            raise ValueError(f"name each input in use once, not {inputs}")
        return inputs

    @model_validator(mode="after")
    def _known_channels(self) -> Self:
        if self.sync_channel in self.inputs:
            raise ValueError(f"sync_channel {self.sync_channel} is one of inputs, too")
        if self.sync_divider is not None and self.sync_channel is None:
            raise ValueError("sync_divider needs a sync_channel")
        named = {
            "edges": set(self.edges),
            "trigger_level_v": set(self.trigger_level_v),
            "input_delay_ps": set(self.input_delay_ps),
            "dead_time_ps": set(self.dead_time_ps),
            "test_signal": set(self.test_signal),
        }
        for name, numbers in named.items():
            if strangers := numbers - set(self.channels):
                raise ValueError(f"{name} names inputs {sorted(strangers)}, which are not in use")
        return self

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for problem in self._limit_problems():
            raise ValueError(problem)
        return self

    def _limit_problems(self) -> Iterator[str]:
        low_v, high_v = self.min_trigger_level_v, self.max_trigger_level_v
        if not low_v < high_v:
            yield f"min_trigger_level_v {low_v:g} must be below max_trigger_level_v {high_v:g}"
        for number, level_v in self.trigger_level_v.items():
            if not low_v <= level_v <= high_v:
                yield f"input {number}: {level_v:g} V is outside {low_v:g} to {high_v:g} V"
        low_ps, high_ps = self.min_delay_ps, self.max_delay_ps
        if not low_ps < high_ps:
            yield f"min_delay_ps {low_ps} must be below max_delay_ps {high_ps}"
        for number, delay_ps in self.input_delay_ps.items():
            if not low_ps <= delay_ps <= high_ps:
                yield f"input {number}: {delay_ps} ps is outside {low_ps} to {high_ps} ps"
