"""What a file format is: how it is recognised, read and written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

from timetags.block import TagBlock
from timetags.errors import DamageLog, TagFileError

PROBE_BYTES = 65_536

Value = str | int | float
Metadata = dict[str, Value]


class Likeness(IntEnum):
    """How much the first bytes of a file look like a format."""

    NO = 0
    POSSIBLE = 1  # nothing speaks against it, but there is too little to tell
    LIKELY = 2  # dozens of records make sense
    CERTAIN = 3  # it says so itself


@dataclass(frozen=True)
class Conventions:
    """What a file does not say about itself, and how one is to be written.

    Attributes:
        channel: Number of the input, for formats whose file holds one input and does not name it.
        tick_ps: Length of the counter's tick, ps; None is the format's usual one.
        reference_period_ps: Period of the START or sync events, ps, for formats that count from the
            latest of them; None leaves times as the file has them.
        has_index: Whether an ID900 file has a reference index beside each time; None looks.
        ptu_record: Kind of record of a PTU file to be written, see ``timetags.formats.ptu``.
    """

    channel: int = 1
    tick_ps: float | Fraction | None = None
    reference_period_ps: int | None = None
    has_index: bool | None = None
    ptu_record: str = "multiharp-t2"


@dataclass
class Source:
    """An open file to read tags from.

    Attributes:
        path: Its name.
        file: The file, opened for reading in binary.
        size: Its size, bytes.
        conventions: What the file does not say.
        damage: Takes what cannot be read.
        metadata: Takes what the file says about itself.
    """

    path: Path
    file: BinaryIO
    size: int
    conventions: Conventions
    damage: DamageLog
    metadata: Metadata = field(default_factory=dict)

    def error(
        self, problem: str, *, offset: int | None = None, remedy: str | None = None
    ) -> TagFileError:
        """Make the error that ends reading this file."""
        return TagFileError(self.path, problem, offset=offset, remedy=remedy)


@dataclass
class Target:
    """An open file to write tags to.

    Attributes:
        path: The name it will have.
        file: The file, opened for writing in binary, seekable.
        conventions: How it is to be written.
        metadata: What the file shall say about itself, where the format can.
    """

    path: Path
    file: BinaryIO
    conventions: Conventions
    metadata: Metadata

    def error(self, problem: str, remedy: str | None = None) -> TagFileError:
        """Make the error that ends writing this file."""
        return TagFileError(self.path, problem, remedy=remedy)


class Sink(Protocol):
    """Writes tags in one format."""

    def write(self, block: TagBlock) -> None:
        """Append a block.

        Raises:
            TagFileError: The format cannot hold it.
        """
        ...

    def finish(self) -> None:
        """Write what the format has at its end; the file is complete then."""
        ...


@dataclass(frozen=True)
class TagFormat:
    """One file format.

    Attributes:
        name: How it is called on the command line.
        title: What it is, for people.
        suffixes: Ends of file names that suggest it.
        recognise: Looks at the first ``PROBE_BYTES`` of a file and tells how likely it is this one.
        read: Reads blocks; metadata and damage go into the source. What is wrong with the whole
            file is raised before the first block.
        create: Starts writing.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    recognise: Callable[[bytes], Likeness]
    read: Callable[[Source], Iterator[TagBlock]]
    create: Callable[[Target], Sink]
