"""What instruments can do, as small protocols; a driver fulfils one or more of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Identity:
    """Who an instrument says it is."""

    manufacturer: str
    model: str
    serial: str
    firmware: str

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.model}, serial {self.serial}, firmware {self.firmware}"


@dataclass(frozen=True)
class Health:
    """How the link to an instrument has fared since it was opened."""

    exchanges: int
    errors: int
    reconnects: int
    last_round_trip_s: float | None
    last_error: str | None


@dataclass(frozen=True)
class Actuator:
    """One scalar output of an instrument, with the instrument's own limits.

    ``write`` sends one value and returns what the instrument confirms; ``read`` asks for it.
    """

    unit: str
    minimum: float
    maximum: float
    resolution: float
    write: Callable[[float], Awaitable[float]]
    read: Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Counts:
    """Counts of one window.

    Attributes:
        duration_s: Exposure, the same for all inputs, s.
        by_input: Detections per input.
    """

    duration_s: float
    by_input: Mapping[int, int]


@dataclass(frozen=True)
class TimeTags:
    """Time stamps of one acquisition.

    Attributes:
        duration_s: Exposure, set by the tagger's own clock, s.
        since_sync_ps: Per input, picoseconds since the latest START event, shape ``(n_tags,)``.
    """

    duration_s: float
    since_sync_ps: Mapping[int, NDArray[np.uint64]]


@runtime_checkable
class Instrument(Protocol):
    """One physical unit behind one transport."""

    name: str

    async def open(self) -> Identity:
        """Open the link, check that this is the configured model, and read its state."""
        ...

    async def identify(self) -> Identity:
        """Ask the instrument who it is; raise ReplyError if it is another model."""
        ...

    async def make_safe(self) -> None:
        """Shut light and take voltages to rest, from any state; try everything before raising."""
        ...

    async def close(self) -> None:
        """Close the link; leaves the instrument's settings as they are."""
        ...

    def health(self) -> Health:
        """Tell how the link has fared."""
        ...

    def actuators(self) -> Mapping[str, Actuator]:
        """Outputs that a knob may drive, by channel name; may be empty."""
        ...


@runtime_checkable
class PolarizationController(Instrument, Protocol):
    """Turns the state of polarization by a few drive voltages."""

    async def set_voltages(self, voltages_v: Mapping[int, float]) -> dict[int, float]:
        """Set channels (numbered from 1) in one dialogue; return what was read back, V."""
        ...

    async def read_voltages(self) -> dict[int, float]:
        """Read all channels, V."""
        ...


@runtime_checkable
class Attenuator(Instrument, Protocol):
    """Attenuates light and can shut it."""

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the attenuation, wait for it, return what was read back, dB."""
        ...

    async def read_attenuation(self) -> float:
        """Read the attenuation, dB."""
        ...

    async def set_shutter(self, *, is_open: bool) -> bool:
        """Open or shut the light path, return what was read back."""
        ...

    async def read_shutter(self) -> bool:
        """Whether the shutter is open."""
        ...


@runtime_checkable
class PhotonCounter(Instrument, Protocol):
    """Counts detections per input."""

    async def count(self, duration_s: float, inputs: Sequence[int]) -> Counts:
        """Count fresh detections for at least ``duration_s`` on the given inputs."""
        ...


@runtime_checkable
class TimeTagger(Instrument, Protocol):
    """Stamps each detection with its time since the latest START event."""

    async def acquire(self, duration_s: float, inputs: Sequence[int]) -> TimeTags:
        """Record for ``duration_s`` by the tagger's own clock."""
        ...


@runtime_checkable
class StateSource(Instrument, Protocol):
    """Alice's encoder: sends one state for good, or repeats the known pattern."""

    async def set_state(self, state: str) -> str:
        """Select ``H``, ``V``, ``D``, ``A`` or ``PATTERN``; return what was read back."""
        ...

    async def read_state(self) -> str:
        """Read the selected state."""
        ...
