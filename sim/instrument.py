"""What a simulated instrument is: settings that know how to build their own command set."""

from typing import Protocol

from sim.record import Record
from sim.twin import Twin
from sim.wire import FrontEnd


class InstrumentSettings(Protocol):
    """One simulated unit."""

    @property
    def acts_on(self) -> str | None:
        """The part of the link that it moves; at most one instrument of a bench moves each."""
        ...

    @property
    def ports(self) -> tuple[str, ...]:
        """Its ports by name."""
        ...

    def front_end(self, name: str, twin: Twin, record: Record) -> FrontEnd:
        """Build the command set of the unit ``name`` in front of the twin's optics."""
        ...
