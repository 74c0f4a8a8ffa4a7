"""What the simulated bench was told, and where that left the configured limits."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

KEPT_ENTRIES = 100_000
"""Entries kept of each kind; the totals go on counting."""

REJECTED = "rejected"
"""What an entry is about that holds a command the instrument refused or made no sense of."""

LONGEST_TEXT = 200
"""Characters kept of a rejected command."""

_ROUNDING = 1e-9
"""Share of a limit by which a number may exceed it: decimal text is not exact in binary."""


@dataclass(frozen=True)
class Limits:
    """Closed interval that a quantity must stay in."""

    minimum: float
    maximum: float

    def allow(self, value: float) -> bool:
        """Whether ``value`` lies inside; NaN does not."""
        slack = _ROUNDING * max(abs(self.minimum), abs(self.maximum))
        return self.minimum - slack <= value <= self.maximum + slack


@dataclass(frozen=True)
class Told:
    """One thing that an instrument was told, whether it obeyed or not.

    Attributes:
        time_s: When, s since the bench started.
        instrument: Name of the instrument.
        what: The quantity (``voltage``, ``attenuation``, ``shutter``, ``state``, …) or REJECTED.
        value: A number in ``unit``, or a word.
        unit: Unit of a number, empty for a word.
        channel: Channel or slot of the instrument, 0 where it has only one.
    """

    time_s: float
    instrument: str
    what: str
    value: float | str
    unit: str = ""
    channel: int = 0


@dataclass(frozen=True)
class Violation:
    """Something that must never happen on this bench."""

    time_s: float
    instrument: str
    text: str


class Record:
    """Memory of the bench: bounded in size, exact in its totals.

    Every number that comes in is held against the limits of its instrument and quantity, before
    the instrument itself decides whether to accept it: the bytes were sent either way.
    """

    def __init__(
        self, limits: Mapping[tuple[str, str], Limits] | None = None, kept: int = KEPT_ENTRIES
    ) -> None:
        self._limits = dict(limits or {})
        self._told: deque[Told] = deque(maxlen=kept)
        self._violations: deque[Violation] = deque(maxlen=kept)
        self.total = 0
        self.violation_total = 0
        self.totals: Counter[tuple[str, str]] = Counter()

    def tell(
        self,
        time_s: float,
        instrument: str,
        what: str,
        value: float | str,
        unit: str = "",
        channel: int = 0,
    ) -> None:
        """Note what ``instrument`` was told, and a violation if it left its limits."""
        self._told.append(Told(time_s, instrument, what, value, unit, channel))
        self.total += 1
        self.totals[instrument, what] += 1
        limits = self._limits.get((instrument, what))
        if limits is None or isinstance(value, str) or limits.allow(value):
            return
        allowed = f"{limits.minimum:g} to {limits.maximum:g} {unit}"
        where = f" of channel {channel}" if channel else ""
        self.violate(time_s, instrument, f"{what}{where} {value:g} {unit} is outside {allowed}")

    def reject(self, time_s: float, instrument: str, text: str) -> None:
        """Note a command that the instrument refused or could not make sense of."""
        self.tell(time_s, instrument, REJECTED, text[:LONGEST_TEXT])

    def violate(self, time_s: float, instrument: str, text: str) -> None:
        """Note a violation."""
        self._violations.append(Violation(time_s, instrument, text))
        self.violation_total += 1

    @property
    def violations(self) -> list[Violation]:
        """The violations still kept, oldest first."""
        return list(self._violations)

    def since(self, index: int = 0, limit: int | None = None) -> tuple[int, list[Told]]:
        """Return entries from a running number on, oldest first.

        Args:
            index: Running number to begin with, from 0.
            limit: Most entries to return; None: all.

        Returns:
            The first entry's running number (more than ``index`` where those are forgotten), and
            the entries.
        """
        kept_from = self.total - len(self._told)
        first = min(max(index, kept_from), self.total)
        begin = first - kept_from
        return first, list(islice(self._told, begin, None if limit is None else begin + limit))
