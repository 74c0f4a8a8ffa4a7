"""Several streams of tags with one clock, as one stream in order of time, in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from timetags.block import TagBlock


def merge(streams: Sequence[Iterable[TagBlock]]) -> Iterator[TagBlock]:
    """Merge streams that are each in order of time.

    Tags of the same time come in any order. Streams that are not in order give a stream that is
    not, and lose no tag. No more is held than two blocks of each.

    Args:
        streams: The streams; one is passed on as it is.

    Yields:
        Blocks, in order of time.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    sources = [iter(stream) for stream in streams]
    waiting: list[TagBlock | None] = [_next(source) for source in sources]
    while held := [(at, block) for at, block in enumerate(waiting) if block is not None]:
        until_ps = min(int(block.time_ps[-1]) for _, block in held)
        ready: list[TagBlock] = []
        for at, block in held:
            count = int(np.searchsorted(block.time_ps, until_ps, side="right"))
            if block.time_ps[-1] <= until_ps:  # all of it, in whatever order it is
                count = block.time_ps.size
            ready.append(TagBlock(block.channel[:count], block.time_ps[:count]))
            left = TagBlock(block.channel[count:], block.time_ps[count:])
            waiting[at] = left if left.time_ps.size else _next(sources[at])
        channel = np.concatenate([block.channel for block in ready])
        time_ps = np.concatenate([block.time_ps for block in ready])
        order = np.argsort(time_ps, kind="stable")
        yield TagBlock(channel[order], time_ps[order])


def select_channels(blocks: Iterable[TagBlock], channels: Sequence[int]) -> Iterator[TagBlock]:
    """Leave out all other channels."""
    wanted = np.array(channels, dtype=np.int16)
    for block in blocks:
        is_wanted = np.isin(block.channel, wanted)
        if is_wanted.all():
            yield block
        elif is_wanted.any():
            yield TagBlock(block.channel[is_wanted], block.time_ps[is_wanted])


def _next(source: Iterator[TagBlock]) -> TagBlock | None:
    return next((block for block in source if block.time_ps.size), None)
