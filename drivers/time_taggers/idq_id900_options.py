"""What the testbed file says about an ``idq-id900``."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from drivers.limits import check_each_once
from drivers.registry import Options

INPUTS = (1, 2, 3, 4)
MAX_DELAY_PS = 10**12
# The vendor's examples offer the stream of input n at this plus n.
FIRST_STREAM_PORT = 4241

Volts = Annotated[float, Field(ge=-5.0, le=5.0, allow_inf_nan=False)]
Edge = Literal["RISING", "FALLING"]
Port = Annotated[int, Field(ge=1, le=65535)]
DelayPs = Annotated[int, Field(ge=0, le=MAX_DELAY_PS)]


class Id900Options(Options):
    """Options of an ``idq-id900``; inputs are numbered 1 to 4."""

    inputs: tuple[int, ...] = Field(INPUTS, description="Inputs to enable, out of 1 to 4.")
    input_thresholds_v: dict[int, Volts] = Field({}, description="Discriminator by input, V.")
    start_threshold_v: Volts | None = Field(None, description="Discriminator of START, V.")
    input_edges: dict[int, Edge] = Field({}, description="Edge by input.")
    start_edge: Edge | None = Field(None, description="Edge of START.")
    input_delays_ps: dict[int, DelayPs] = Field({}, description="Delay by input, ps.")
    data_link: str | None = Field(
        None, description="Resource of the DataLinkTargetService, needed for time stamps."
    )
    controller_address: str | None = Field(
        None, description="Host of the unit as that service reaches it; default: as we reach it."
    )
    stream_host: str | None = Field(
        None, description="Host of the tag streams; default: that of data_link."
    )
    stream_ports: dict[int, Port] = Field(
        {}, description=f"Port of the tag stream by input; default: {FIRST_STREAM_PORT} + input."
    )
    stream_resources: dict[int, str] = Field(
        {}, description="Resource of the tag stream by input, instead of host and port."
    )
    end_mark: Literal["acquisition", "stream"] = Field(
        "acquisition",
        description="An empty message comes after each acquisition, or when the stream is stopped.",
    )
    max_tags: int = Field(
        50_000_000, gt=0, description="Time stamps per input and acquisition accepted."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")
    transfer_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest wait for stamps after the acquisition, s."
    )

    @field_validator("inputs")
    @classmethod
    def _known_inputs(cls, inputs: tuple[int, ...]) -> tuple[int, ...]:
        check_each_once("input", inputs, INPUTS)
        return inputs

    @model_validator(mode="after")
    def _keys_are_inputs(self) -> Self:
        for name in (
            "input_thresholds_v",
            "input_edges",
            "input_delays_ps",
            "stream_ports",
            "stream_resources",
        ):
            if strangers := set(getattr(self, name)) - set(self.inputs):
                raise ValueError(f"{name} names inputs {sorted(strangers)}, which are not in use")
        return self

    @model_validator(mode="after")
    def _streams_have_addresses(self) -> Self:
        ports = [self.stream_port(number) for number in self.inputs]
        if len(set(ports)) < len(ports) and not self.stream_resources:
            raise ValueError(f"two inputs share one of the stream ports {ports}")
        if self.data_link is None or self.stream_host or host_in(self.data_link):
            return self
        if missing := set(self.inputs) - set(self.stream_resources):
            raise ValueError(
                f"data_link {self.data_link!r} names no host: set stream_host, or stream_resources "
                f"for inputs {sorted(missing)}"
            )
        return self

    def stream_resource(self, number: int) -> str:
        """Resource of the tag stream of one input."""
        if number in self.stream_resources:
            return self.stream_resources[number]
        host = self.stream_host or host_in(self.data_link or "")
        return f"zmq-pair://{host}:{self.stream_port(number)}"

    def stream_port(self, number: int) -> int:
        """Port that the data link service is told to offer the stream at."""
        in_resource = _port(self.stream_resources.get(number, ""))
        return in_resource or self.stream_ports.get(number, FIRST_STREAM_PORT + number)


def host_in(resource: str) -> str | None:
    """The host that a resource names, if it names one."""
    try:
        return urlsplit(resource).hostname
    except ValueError:
        return None


def _port(resource: str) -> int | None:
    try:
        return urlsplit(resource).port
    except ValueError:
        return None
