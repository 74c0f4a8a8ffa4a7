"""What the simulated attenuators share: the optics, in the link or beside it."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from sim.twin import Twin
from sim.voa import AttenuatorModel
from sim.wire import MAIN


class Filter(Protocol):
    """The optics of an attenuator: a filter, and what shuts it."""

    maximum_db: float

    def move_to(self, attenuation_db: float, now_s: float) -> None:
        """Send the filter towards an attenuation."""
        ...

    def set_speed(self, speed_db_per_s: float) -> None:
        """Set the speed of what begins to move from now on."""
        ...

    def set_shutter(self, is_open: bool, now_s: float) -> None:
        """Shut at once, or begin to open; what has no shutter is opened once."""
        ...

    def actual_db(self, now_s: float) -> float:
        """Where the filter is, dB."""
        ...


class ShutteredFilter(Filter, Protocol):
    """A filter with a shutter that can be asked."""

    def shutter_open(self, now_s: float) -> bool:
        """Whether the shutter is open or opening."""
        ...

    def time_left_s(self, now_s: float) -> float:
        """How long filter and shutter still move, s."""
        ...


@dataclass(frozen=True, kw_only=True)
class AttenuatorSettings:
    """A unit with an attenuator in it.

    Attributes:
        is_on_link: Whether the light of the link passes it; the optics are its own otherwise.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    is_on_link: bool = True

    @property
    def acts_on(self) -> str | None:
        """The attenuation of the link, if it is in it."""
        return "attenuation" if self.is_on_link else None

    def optics(self, twin: Twin, maximum_db: float) -> AttenuatorModel:
        """Return what it moves, with the unit's own range, from 0, dB."""
        optics = twin.attenuator if self.is_on_link else AttenuatorModel()
        optics.maximum_db = maximum_db
        return optics
