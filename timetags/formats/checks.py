"""What a format refuses to write, because reading it back would give something else."""

import numpy as np

from timetags.block import TagBlock
from timetags.formats.format import Target


def check_channels(target: Target, block: TagBlock, allowed: range, format_title: str) -> None:
    """Refuse channels that the format has no room for.

    Raises:
        TagFileError: A channel is outside ``allowed``.
    """
    low, high = int(block.channel.min()), int(block.channel.max())
    if low < allowed.start or high >= allowed.stop:
        wrong = low if low < allowed.start else high
        raise target.error(
            f"channel {wrong} does not fit: {format_title} has {allowed[0]} to {allowed[-1]}",
            "choose channels, or another format",
        )


def check_one_channel(target: Target, block: TagBlock, format_title: str) -> None:
    """Refuse a second channel in a file that holds one and does not name it.

    Raises:
        TagFileError: Some tag is of another channel than the conventions name.
    """
    others = np.unique(block.channel[block.channel != target.conventions.channel])
    if others.size:
        raise target.error(
            f"{format_title} holds one input, here {target.conventions.channel}, "
            f"and there are tags of {', '.join(str(other) for other in others)}",
            "choose one channel, or another format",
        )


def check_times(target: Target, block: TagBlock, format_title: str, most_ps: int) -> None:
    """Refuse times before zero or beyond the counter.

    Raises:
        TagFileError: A time is outside 0 to ``most_ps``.
    """
    low, high = int(block.time_ps.min()), int(block.time_ps.max())
    if low < 0 or high > most_ps:
        wrong = low if low < 0 else high
        raise target.error(
            f"time {wrong} ps does not fit: {format_title} has 0 to {most_ps} ps",
            "shift the times, or choose another format",
        )


class OrderGuard:
    """Sees that times come in order, for formats that only hold differences."""

    def __init__(self, target: Target, format_title: str) -> None:
        self._target = target
        self._title = format_title
        self._last_ps = 0

    def check(self, block: TagBlock) -> None:
        """Look at one more block.

        Raises:
            TagFileError: A time is before its predecessor, or before zero.
        """
        times = block.time_ps
        if int(times[0]) < self._last_ps or (times[1:] < times[:-1]).any():
            raise self._target.error(
                f"times are not in order (or below 0), and {self._title} cannot say that",
                "sort the tags, or choose another format",
            )
        self._last_ps = int(times[-1])
