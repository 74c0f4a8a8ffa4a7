"""Files of time tags as commands take them: opened together, merged, and their damage told."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import qkdctl
from timetags.block import TagBlock
from timetags.errors import Damage
from timetags.files import TagFile, open_tags, write_tags
from timetags.formats.format import Conventions, Value
from timetags.merge import merge, select_channels


@dataclass(frozen=True)
class Input:
    """What is to be read, and how.

    Attributes:
        paths: The files.
        format: Their format; None recognises it.
        conventions: What the files do not say; the channel is that of the first file, and the
            others count on, for formats that do not name the input.
    """

    paths: tuple[Path, ...]
    format: str | None
    conventions: Conventions

    @contextmanager
    def opened(self) -> Iterator[list[TagFile]]:
        """Open all files.

        Raises:
            TagFileError: One of them cannot be read.
        """
        with ExitStack() as stack:
            yield [stack.enter_context(self._open(at)) for at in range(len(self.paths))]

    def one_by_one(self) -> Iterator["Input"]:
        """Each file by itself."""
        for at, path in enumerate(self.paths):
            channel = self.conventions.channel + at
            yield Input((path,), self.format, replace(self.conventions, channel=channel))

    def _open(self, at: int) -> TagFile:
        channel = self.conventions.channel + at
        return open_tags(self.paths[at], self.format, replace(self.conventions, channel=channel))


@dataclass(frozen=True)
class Merged:
    """Several files of one clock as one stream that can be read again and again."""

    files: Sequence[TagFile]

    def __iter__(self) -> Iterator[TagBlock]:
        """Read all from their start, in order of time."""
        return merge(self.files)


class Census:
    """What is counted while a stream passes."""

    def __init__(self) -> None:
        self._by_channel = np.zeros(1 << 16, dtype=np.int64)
        self._latest_ps: int | None = None
        self.first_ps: int | None = None
        self.last_ps: int | None = None
        self.is_in_order = True

    def count(self, block: TagBlock) -> None:
        """Count one more block, which is not empty."""
        self._by_channel += np.bincount(block.channel.view(np.uint16), minlength=1 << 16)
        times = block.time_ps
        steps_back = bool((times[1:] < times[:-1]).any())
        before = self._latest_ps is not None and int(times[0]) < self._latest_ps
        self.is_in_order &= not (steps_back or before)
        self._latest_ps = int(times[-1])
        first, last = (
            (int(times.min()), int(times.max())) if steps_back else times[[0, -1]].tolist()
        )
        self.first_ps = first if self.first_ps is None else min(self.first_ps, first)
        self.last_ps = last if self.last_ps is None else max(self.last_ps, last)

    @property
    def channels(self) -> dict[int, int]:
        """Tags of each channel that was seen."""
        seen = np.flatnonzero(self._by_channel)
        numbers = seen.astype(np.uint16).view(np.int16)
        return {
            int(numbers[at]): int(self._by_channel[seen[at]]) for at in np.argsort(numbers).tolist()
        }

    @property
    def duration_s(self) -> float:
        """Time from the earliest tag to the latest, s; 0 without tags."""
        if self.first_ps is None or self.last_ps is None:
            return 0.0
        return (self.last_ps - self.first_ps) * 1e-12


def write_merged(
    files: Sequence[TagFile],
    target: Path,
    format_: str | None,
    conventions: Conventions,
    channels: Sequence[int] | None,
) -> int:
    """Write files of one clock to one, with where the tags come from.

    Args:
        files: The files.
        target: The file to be written.
        format_: Its format; None goes by its name.
        conventions: How it is written.
        channels: Channels that are kept; None keeps all.

    Returns:
        Number of tags written.

    Raises:
        TagFileError: A file cannot be read, or the format cannot hold the tags.
    """
    blocks: Iterator[TagBlock] = iter(Merged(files))
    if channels is not None:
        blocks = select_channels(blocks, channels)
    first = next(blocks, None)  # the files have told their metadata then
    metadata: dict[str, Value] = {
        "written_by": f"qkdctl {qkdctl.__version__}",
        "source": ", ".join(file.path.name for file in files),
        "source_format": ", ".join(file.format for file in files),
    }
    if len(files) == 1:
        metadata |= {f"source_{name}": value for name, value in files[0].metadata.items()}
    return write_tags(
        target,
        chain([] if first is None else [first], blocks),
        format_,
        metadata,
        conventions,
    )


def describe(file: TagFile) -> dict[str, Any]:
    """Read a file from start to end and tell what is in it.

    Raises:
        TagFileError: Nothing can be read.
    """
    census = Census()
    for block in file:
        census.count(block)
    return {
        "file": str(file.path),
        "format": file.format,
        "title": file.title,
        "bytes": file.size,
        "tags": sum(census.channels.values()),
        "channels": census.channels,
        "first_ps": census.first_ps,
        "last_ps": census.last_ps,
        "duration_s": census.duration_s,
        "is_in_order": census.is_in_order,
        "metadata": dict(file.metadata),
        "damage": damage_of(file),
    }


def damage_of(file: TagFile) -> list[dict[str, Any]]:
    """What could not be read of a file, for a report."""
    return [vars(place) for place in file.damage]


def damage_lines(damage: Sequence[Damage]) -> Iterator[str]:
    """What could not be read, a line each, for people."""
    for place in damage:
        lost = f" ({place.count} lost)" if place.count else ""
        yield f"at byte {place.offset}: {place.problem}{lost}"
