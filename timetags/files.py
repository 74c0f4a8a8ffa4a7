"""Files of time tags from anyone: one face for reading and writing them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from timetags.block import TagBlock
from timetags.errors import Damage, DamageLog, TagFileError
from timetags.formats import csv, id900, npz, parquet, ptu, qutag, qutau, readevents, tdc1
from timetags.formats.format import (
    PROBE_BYTES,
    Conventions,
    Likeness,
    Metadata,
    Source,
    TagFormat,
    Target,
    Value,
)
from timetags.records import PAGE_BYTES

# Of two that look alike, the one that demands more comes first.
FORMATS: Mapping[str, TagFormat] = {
    each.name: each
    for module in (parquet, ptu, npz, csv, readevents, tdc1, qutag, qutau, id900)
    for each in module.FORMATS
}

USUAL = Conventions()


class TagFile:
    """A file of time tags, open for reading; use it in a ``with`` statement and iterate over it.

    Each iteration reads the file from its start, in blocks of at most about a million tags.
    Everything readable is read; what is not is found in ``damage`` afterwards, and nothing is
    invented for it. An iteration that ends early leaves ``damage`` incomplete.

    Attributes:
        path: The file.
        format: Name of the format.
        title: What the format is, for people.
        size: Size of the file, bytes.
    """

    def __init__(
        self, path: Path, file: BinaryIO, format_: TagFormat, conventions: Conventions
    ) -> None:
        self.path = path
        self.format = format_.name
        self.title = format_.title
        self.size = os.fstat(file.fileno()).st_size
        self._file = file
        self._format = format_
        self._conventions = conventions
        self._damage = DamageLog()
        self._metadata: Metadata = {}

    @property
    def metadata(self) -> Mapping[str, Value]:
        """What the file says about itself; complete once the first block was read."""
        return self._metadata

    @property
    def damage(self) -> list[Damage]:
        """What could not be read so far in this iteration."""
        return self._damage.found

    def __iter__(self) -> Iterator[TagBlock]:
        """Read the file from its start.

        Raises:
            TagFileError: Nothing can be read, or the file disappeared.
        """
        self._damage.clear()
        self._metadata.clear()
        source = Source(
            self.path, self._file, self.size, self._conventions, self._damage, self._metadata
        )
        try:
            yield from (block for block in self._format.read(source) if block.time_ps.size)
        except OSError as exc:
            raise TagFileError(self.path, f"it cannot be read: {exc}") from exc

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_tags(
    path: Path | str,
    format: str | None = None,  # noqa: A002 # what it is called everywhere
    conventions: Conventions = USUAL,
) -> TagFile:
    """Open a file of time tags.

    Args:
        path: The file.
        format: Name of its format; None recognises it, by content first and by name if the content
            leaves a choice.
        conventions: What the file does not say about itself.

    Raises:
        TagFileError: There is no such file, it is empty, or its format is unknown.
    """
    path = Path(path)
    if format is not None:
        _known_format(path, format)
    try:
        file = path.open("rb")
    except OSError as exc:
        raise TagFileError(path, exc.strerror or str(exc)) from exc
    with ExitStack() as unless_opened:
        unless_opened.enter_context(file)
        head = file.read(PROBE_BYTES)
        if not head:
            raise TagFileError(path, "the file is empty", offset=0)
        found = recognise(path, head) if format is None else FORMATS[format]
        unless_opened.pop_all()
    return TagFile(path, file, found, conventions)


def _known_format(path: Path, name: str) -> TagFormat:
    if name not in FORMATS:
        raise TagFileError(
            path, f"there is no format {name!r}", remedy="there are " + ", ".join(FORMATS)
        )
    return FORMATS[name]


def recognise(path: Path, head: bytes) -> TagFormat:
    """Tell the format of a file by its first bytes, and by its name where these leave a choice.

    Args:
        path: The file; only its name is looked at.
        head: Its first ``PROBE_BYTES``, or all of it; not empty.

    Raises:
        TagFileError: It is none of ours, or several fit equally well.
    """
    named = named_formats(path)
    if not any(head):
        if len(named) == 1:
            return named[0]
        problem = f"its first {len(head)} bytes are zeros, which no format begins with"
        raise TagFileError(path, problem, offset=0, remedy="name the format")
    head = head[: len(head) if len(head) < PROBE_BYTES else _before_zero_page(head)]
    likeness = {each.name: each.recognise(head) for each in FORMATS.values()}
    best = max(likeness.values())
    likely = [each for each in FORMATS.values() if likeness[each.name] is best]
    if best is Likeness.NO:
        raise _unknown(path, head, named)
    if best >= Likeness.LIKELY or len(likely) == 1:
        return likely[0]
    fitting = [each for each in likely if each in named]
    if len(fitting) != 1:
        choice = ", ".join(each.name for each in likely)
        raise TagFileError(path, f"it could be any of {choice}", remedy="name the format")
    return fitting[0]


def named_formats(path: Path) -> list[TagFormat]:
    """Formats that the file's name suggests: those of the longest suffix that fits."""
    suffixes = {
        suffix: each
        for each in FORMATS.values()
        for suffix in each.suffixes
        if path.name.lower().endswith(suffix.lower())
    }
    longest = max((len(suffix) for suffix in suffixes), default=0)
    return [each for suffix, each in suffixes.items() if len(suffix) == longest]


def _before_zero_page(head: bytes) -> int:
    """How many of the first bytes come before a page that was never written."""
    for page in range(PAGE_BYTES, len(head), PAGE_BYTES):
        if not any(head[page : page + PAGE_BYTES]):
            return page
    return len(head)


def _unknown(path: Path, head: bytes, named: list[TagFormat]) -> TagFileError:
    begins = head[:16].hex(" ")
    if named:
        title = " or ".join(each.title for each in named)
        problem = (
            f"its name suggests {title}, but its content is no such thing (it begins {begins})"
        )
    else:
        problem = f"it is no file of time tags that is known here (it begins {begins})"
    return TagFileError(path, problem, offset=0, remedy="if you know better, name the format")


class TagWriter:
    """A file of time tags being written.

    The tags go into ``<name>.part`` beside the file; ``close`` completes it and gives it its name,
    so that a file of that name is always whole. ``discard`` leaves nothing.
    """

    def __init__(
        self,
        path: Path | str,
        format: str | None = None,  # noqa: A002
        metadata: Mapping[str, Value] | None = None,
        conventions: Conventions = USUAL,
    ) -> None:
        self.path = Path(path)
        self._format = self._chosen(format)
        self._part = self.path.with_name(self.path.name + ".part")
        self.tags = 0
        try:
            self._file = self._part.open("w+b")
        except OSError as exc:
            raise TagFileError(self.path, f"it cannot be written: {exc.strerror}") from exc
        target = Target(self.path, self._file, conventions, dict(metadata or {}))
        try:
            self._sink = self._format.create(target)
        except TagFileError:
            self.discard()
            raise

    @property
    def format(self) -> str:
        """Name of the format."""
        return self._format.name

    def write(self, block: TagBlock) -> None:
        """Append a block.

        Raises:
            TagFileError: The format cannot hold it, or the disk does not take it.
        """
        try:
            self._sink.write(block)
        except OSError as exc:
            raise TagFileError(self.path, f"it cannot be written: {exc}") from exc
        self.tags += block.time_ps.size

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            TagFileError: The disk does not take it; what was written is in ``<name>.part``.
        """
        try:
            self._sink.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self.path)
        except OSError as exc:
            self._file.close()
            raise TagFileError(self.path, f"it cannot be written: {exc}") from exc

    def discard(self) -> None:
        """Drop what was written."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _chosen(self, name: str | None) -> TagFormat:
        if name is not None:
            return _known_format(self.path, name)
        named = named_formats(self.path)
        if len(named) != 1:
            problem = f"the name ends in no suffix of a format ({self.path.suffix or 'none'})"
            raise TagFileError(self.path, problem, remedy="name the format")
        return named[0]


def write_tags(
    path: Path | str,
    blocks: Iterable[TagBlock],
    format: str | None = None,  # noqa: A002
    metadata: Mapping[str, Value] | None = None,
    conventions: Conventions = USUAL,
) -> int:
    """Write a file of time tags; it appears under its name once it is whole.

    Args:
        path: The file.
        blocks: The tags.
        format: Name of the format; None goes by the file's name.
        metadata: What the file shall say about itself, where the format can.
        conventions: How it is written.

    Returns:
        Number of tags written.

    Raises:
        TagFileError: The format is unknown or cannot hold the tags, or the disk does not take them.
    """
    writer = TagWriter(path, format, metadata, conventions)
    try:
        for block in blocks:
            writer.write(block)
    except BaseException:
        writer.discard()
        raise
    writer.close()
    return writer.tags
