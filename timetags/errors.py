"""What is wrong with a file of time tags: fatally, or here and there."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

# A file in which everything is wrong must not fill the memory with complaints.
MOST_PLACES = 1000


class TagFileError(Exception):
    """A file of time tags cannot be read or written at all.

    Attributes:
        path: The file.
        problem: What is wrong.
        offset: Where, in bytes from the start of the file, or None if it is not about one place.
        remedy: How to mend it, or None.
    """

    def __init__(
        self,
        path: Path | str,
        problem: str,
        *,
        offset: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.problem = problem
        self.offset = offset
        self.remedy = remedy
        place = "" if offset is None else f"at byte {offset}: "
        super().__init__(f"{path}: {place}{problem}" + (f"; {remedy}" if remedy else ""))


@dataclass(frozen=True)
class Damage:
    """One stretch of a file that could not be read.

    Attributes:
        offset: First byte of it, from the start of the file.
        count: How many records (in a text file: lines) are missing because of it; 0 where that
            cannot be known, or where nothing is missing.
        problem: What is wrong there.
    """

    offset: int
    count: int
    problem: str


class DamageLog:
    """Collects damage in order of place; neighbours with the same problem become one entry.

    Attributes:
        found: What was found so far. After ``MOST_PLACES`` entries the last one sums up the rest.
    """

    def __init__(self) -> None:
        self.found: list[Damage] = []
        self._end = -1

    def add(self, offset: int, count: int, problem: str, *, length: int) -> None:
        """Note that ``length`` bytes from ``offset``, holding ``count`` records, are lost."""
        last = self.found[-1] if self.found else None
        if last is not None and last.problem == problem and offset == self._end:
            self.found[-1] = replace(last, count=last.count + count)
        elif last is not None and len(self.found) >= MOST_PLACES:
            self.found[-1] = replace(
                last, count=last.count + count, problem="this and more places after it"
            )
        else:
            self.found.append(Damage(offset, count, problem))
        self._end = offset + length

    def add_records(self, offsets: Iterable[int], problem: str, *, record_bytes: int) -> None:
        """Note single records at these places, in ascending order."""
        for offset in offsets:
            self.add(offset, 1, problem, length=record_bytes)

    def clear(self) -> None:
        """Forget everything, before the file is read again."""
        self.found.clear()
        self._end = -1
