"""What instruments can do, as small protocols; a driver fulfils one or more of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock


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
    ``settle_s`` is how long the output still moves after that, s.
    """

    unit: str
    minimum: float
    maximum: float
    resolution: float
    write: Callable[[float], Awaitable[float]]
    read: Callable[[], Awaitable[float]]
    settle_s: float = 0.0


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
    """Turns the state of polarization by a few drives: volts for squeezers, degrees for paddles."""

    async def set_drives(self, values: Mapping[int, float]) -> dict[int, float]:
        """Set channels (numbered from 1), in the actuators' unit; return what was read back."""
        ...

    async def read_drives(self) -> dict[int, float]:
        """Read all channels, in the actuators' unit."""
        ...


@runtime_checkable
class Attenuator(Instrument, Protocol):
    """Attenuates light."""

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the attenuation, wait for it, return what was read back, dB."""
        ...

    async def read_attenuation(self) -> float:
        """Read the attenuation, dB."""
        ...


@runtime_checkable
class Shutter(Instrument, Protocol):
    """Lets light through, or none at all."""

    async def set_shutter(self, *, is_open: bool) -> bool:
        """Open or shut the light path, return what was read back."""
        ...

    async def read_shutter(self) -> bool:
        """Whether the shutter is open."""
        ...


@runtime_checkable
class LightValve(Attenuator, Shutter, Protocol):
    """Attenuates light and can shut it: what lets light onto a link."""


@runtime_checkable
class PowerMeter(Instrument, Protocol):
    """Measures optical power."""

    async def read_power(self) -> float:
        """Measure the power once, averaged as configured, W."""
        ...


@runtime_checkable
class OpticalSwitch(Instrument, Protocol):
    """Leads light along one of several paths."""

    def paths(self) -> Sequence[str]:
        """Names of the paths."""
        ...

    async def set_path(self, path: str) -> str:
        """Choose a path, wait until it is made, return what was read back."""
        ...

    async def read_path(self) -> str:
        """Read which path is made."""
        ...


@runtime_checkable
class BiasController(Instrument, Protocol):
    """Holds the bias of an electro-optic modulator, by itself or at a given voltage."""

    async def lock(self, point: str) -> None:
        """Lock to a point of the modulator's curve and wait until it is held."""
        ...

    async def is_locked(self) -> bool:
        """Whether the point is held."""
        ...

    async def hold(self, voltage_v: float) -> float:
        """End the lock and hold a voltage; return what was read back, V."""
        ...


@runtime_checkable
class TemperatureController(Instrument, Protocol):
    """Holds a temperature; its set point is an actuator."""

    async def read_temperature(self) -> float:
        """Measure the temperature, degrees Celsius."""
        ...

    async def is_stable(self) -> bool:
        """Whether the set point is reached and held."""
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
class TagStreamer(Instrument, Protocol):
    """Stamps detections on its own clock, without a START event."""

    def stream(self, duration_s: float, inputs: Sequence[int]) -> AsyncIterator[TagBlock]:
        """Record for ``duration_s``; blocks come in order of time, as they fill."""
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


ROLES: tuple[type, ...] = (
    PolarizationController,
    BiasController,
    Attenuator,
    Shutter,
    OpticalSwitch,
    PhotonCounter,
    TimeTagger,
    TagStreamer,
    PowerMeter,
    TemperatureController,
    StateSource,
)


def roles_of(driver: type) -> tuple[str, ...]:
    """Name the roles that a driver class fulfils, beside being an instrument."""
    return tuple(
        role.__name__ for role in ROLES if all(hasattr(driver, name) for name in _duties(role))
    )


def _duties(role: type) -> list[str]:
    """Names of the methods that a role adds to those of every instrument."""
    return [name for name, each in vars(role).items() if callable(each) and name[0] != "_"]
