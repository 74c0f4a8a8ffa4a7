"""The vendor's Time Tagger library, as far as a driver needs it, on a simulated unit.

Names, arguments and results are those of Swabian-TimeTagger 2.22. Whoever calls from another time
than the last time of the unit moves its clock on first (``TimeTaggerUnit.now_s``).

Assumed, for want of a unit: an argument out of range is a ValueError, a number that the library
cannot hold an OverflowError; whatever is called on a unit that is gone is a RuntimeError; taking a
unit up on USB resets its settings, and only one client can; a server lets in any number, and keeps
the settings.
"""

# ruff: noqa: N802  # the vendor's names

from sim.instruments.timetagger_handle import TimeTagger, TimeTaggerUnit
from sim.instruments.timetagger_measurements import Countrate, TimeTagStream


class TimeTaggerLibrary:
    """The library's module, with one unit on the computer and the same one behind a server."""

    Countrate = Countrate
    TimeTagStream = TimeTagStream

    def __init__(self, unit: TimeTaggerUnit) -> None:
        self._unit = unit

    def createTimeTagger(self, serial: str = "") -> TimeTagger:
        """Take up the unit on USB."""
        unit = self._unit
        if serial not in ("", unit.serial):
            raise RuntimeError(f"The serial number argument '{serial}' is not valid.")
        if unit.owner is not None:
            raise RuntimeError("No Time Tagger attached or already in use.")
        unit.restore_defaults()
        unit.owner = TimeTagger(unit)
        return unit.owner

    def createTimeTaggerNetwork(self, address: str) -> TimeTagger:
        """Take up the unit through its server."""
        if ":" not in address:
            raise RuntimeError("Name or service not known")
        return TimeTagger(self._unit)

    def freeTimeTagger(self, tagger: TimeTagger) -> None:
        """Let a unit go; measurements on it end."""
        if self._unit.owner is tagger:
            self._unit.owner = None
            self._unit.listeners.clear()
        tagger.let_go()

    def getVersion(self) -> str:
        """Version of the library."""
        return self._unit.version
