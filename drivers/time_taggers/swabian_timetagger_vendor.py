"""The vendor's objects of one Time Tagger. Everything here blocks: only the link calls it.

Each method is one job of the link, so that no object is lost when its caller is cancelled: what is
begun is noted here first, and ended here later.
"""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivers.errors import SettingError
from drivers.time_taggers.swabian_timetagger_tags import TagBatch

MODULES = ("Swabian.TimeTagger", "TimeTagger")  # the second with older installations
RESOURCES = "timetagger://any, timetagger://SERIAL or timetagger://HOST:PORT (a tagger's server)"


def import_vendor_library() -> Any:
    """Import the vendor's library.

    Raises:
        ImportError: It is not installed, or does not load.
    """
    for name in MODULES:
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise ImportError(
        "the vendor's library is not installed: install qkdctl[swabian], or the package "
        "Swabian-TimeTagger"
    )


@dataclass(frozen=True)
class Address:
    """Which tagger: one with a serial number, one behind a server, or any.

    Attributes:
        serial: Serial number, empty for any.
        server: ``HOST:PORT`` of a server, or None.
    """

    serial: str = ""
    server: str | None = None


def parse_address(instrument: str, resource: str) -> Address:
    """Read a resource; one in memory is any tagger.

    Raises:
        SettingError: It is malformed.
    """
    scheme, _, rest = resource.partition(":")
    if scheme == "memory":
        return Address()
    name = rest.removeprefix("//")
    if scheme != "timetagger" or name == rest or not name or not name.isprintable():
        raise SettingError(instrument, f"resource {resource!r} must read {RESOURCES}")
    host, colon, port = name.rpartition(":")
    if not colon:
        return Address() if name == "any" else Address(serial=name)
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SettingError(instrument, f"resource {resource!r} must read {RESOURCES}")
    return Address(server=name)


@dataclass(frozen=True)
class CountsSoFar:
    """What a counting measurement has so far.

    Attributes:
        is_running: Whether it goes on.
        captured_ps: Exposure, ps.
        counts: Events by channel, in the order in which the channels were named.
    """

    is_running: bool
    captured_ps: int
    counts: tuple[int, ...]


class VendorTagger:
    """A tagger in the vendor's library, and the measurements that run on it.

    Args:
        library: The vendor's module.
        address: Which tagger.

    Attributes:
        library: The vendor's module.
        handle: The vendor's tagger object, or None.
    """

    def __init__(self, library: Any, address: Address) -> None:
        self.library = library
        self.handle: Any = None
        self._address = address
        self._measurements: list[Any] = []
        self._abandoned: list[Any] = []

    def connect(self) -> None:
        """Take up the tagger, anew if it was held: the library takes up a free one only."""
        with suppress(RuntimeError):  # what is left of one that is gone
            self.disconnect()
        if self._address.server is None:
            self.handle = self.library.createTimeTagger(self._address.serial)
        else:
            self.handle = self.library.createTimeTaggerNetwork(self._address.server)

    def disconnect(self) -> None:
        """End all measurements and let the tagger go."""
        measurements, self._measurements = self._measurements, []
        self._abandoned.clear()
        handle, self.handle = self.handle, None
        try:
            for measurement in measurements:
                measurement.stop()
        finally:
            if handle is not None:
                self.library.freeTimeTagger(handle)

    def begin_count(self, channels: Sequence[int], duration_ps: int) -> Any:
        """Count events from now on for a time by the tagger's clock."""
        self._end_abandoned()
        return self._begin(self.library.Countrate(self.handle, list(channels)), duration_ps)

    def begin_stream(self, channels: Sequence[int], duration_ps: int, *, buffer_tags: int) -> Any:
        """Collect tags from now on for a time by the tagger's clock."""
        self._end_abandoned()
        stream = self.library.TimeTagStream(self.handle, buffer_tags, list(channels))
        return self._begin(stream, duration_ps)

    def read_counts(self, countrate: Any) -> CountsSoFar:
        """Look at a count."""
        is_running = bool(countrate.isRunning())
        counts = tuple(int(n) for n in countrate.getCountsTotal())
        return CountsSoFar(is_running, int(countrate.getCaptureDuration()), counts)

    def read_batch(self, stream: Any, *, buffer_tags: int) -> TagBatch:
        """Fetch the tags that a stream has collected since it was last asked."""
        is_running = bool(stream.isRunning())  # before the tags: none is left behind at the end
        data = stream.getData()
        return TagBatch(
            is_running=is_running,
            channel=np.asarray(data.getChannels(), dtype=np.int32),
            time_ps=np.asarray(data.getTimestamps(), dtype=np.int64),
            event_type=np.asarray(data.getEventTypes(), dtype=np.uint8),
            missed=np.asarray(data.getMissedEvents(), dtype=np.uint16),
            is_full=int(data.size) >= buffer_tags,
        )

    def end(self, measurement: Any) -> None:
        """End a measurement and forget it."""
        measurement.stop()
        self._measurements = [each for each in self._measurements if each is not measurement]

    def end_all(self) -> None:
        """End every measurement."""
        self._abandoned.clear()
        while self._measurements:
            self._measurements[-1].stop()
            self._measurements.pop()

    def abandon(self, measurement: Any) -> None:
        """Have a measurement ended before the next begins; calls nothing, so it does not block."""
        self._abandoned.append(measurement)

    def _begin(self, measurement: Any, duration_ps: int) -> Any:
        self._measurements.append(measurement)
        measurement.startFor(duration_ps, True)  # drops what came since it was made
        return measurement

    def _end_abandoned(self) -> None:
        while self._abandoned:
            self.end(self._abandoned.pop())
