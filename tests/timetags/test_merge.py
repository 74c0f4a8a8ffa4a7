"""Streams with one clock become one stream in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from timetags.block import TagBlock
from timetags.merge import merge, select_channels

Tags = list[tuple[int, int]]


def blocks(times: list[list[int]], channel: int) -> list[TagBlock]:
    flat = iter(np.sort(np.array([time for part in times for time in part], dtype=np.int64)))
    parts = [np.array([next(flat) for _ in part], dtype=np.int64) for part in times]
    return [TagBlock(np.full(part.size, channel, dtype=np.int16), part) for part in parts]


def listed(stream: list[TagBlock]) -> Tags:
    return [
        (int(time), int(channel))
        for block in stream
        for time, channel in zip(block.time_ps, block.channel, strict=True)
    ]


@given(st.lists(st.lists(st.lists(st.integers(-50, 50), max_size=6), max_size=4), max_size=3))
def test_all_tags_come_in_order_of_time(times: list[list[list[int]]]) -> None:
    streams = [blocks(parts, channel) for channel, parts in enumerate(times)]
    expected = sorted(tag for stream in streams for tag in listed(stream))
    merged = listed(list(merge(streams)))
    assert [time for time, _ in merged] == [time for time, _ in expected]
    assert sorted(merged) == expected


def test_a_merged_stream_comes_in_blocks_as_small_as_its_parts() -> None:
    streams = [
        blocks([list(range(1000 * k, 1000 * k + 1000)) for k in range(20)], channel)
        for channel in (1, 2)
    ]
    merged = list(merge(streams))
    assert max(block.time_ps.size for block in merged) <= 2000
    assert sum(block.time_ps.size for block in merged) == 40_000


def test_other_channels_are_left_out() -> None:
    stream = [TagBlock(np.array([1, 2, 3], np.int16), np.array([10, 20, 30], np.int64))]
    assert listed(list(select_channels(stream, (1, 3)))) == [(10, 1), (30, 3)]
