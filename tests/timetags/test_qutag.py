"""quTAG and quTAU files, from bytes made by hand."""

import struct
from pathlib import Path

import numpy as np
import pytest

from timetags.block import TagBlock
from timetags.errors import Damage, TagFileError
from timetags.files import open_tags, write_tags
from timetags.formats.format import Conventions

HEADER = bytes(range(200, 240))


def read(
    path: Path, content: bytes, format_: str | None = None, tick_ps: float | None = None
) -> tuple[list[int], list[int], list[Damage]]:
    path.write_bytes(content)
    with open_tags(path, format_, Conventions(tick_ps=tick_ps)) as file:
        blocks = list(file)
        channels = [int(each) for block in blocks for each in block.channel]
        times = [int(each) for block in blocks for each in block.time_ps]
        return channels, times, file.damage


def record(time: int, channel: int) -> bytes:
    return struct.pack("<qH", time, channel)


def compressed(time: int, channel: int) -> bytes:
    return (channel << 37 | time % (1 << 37)).to_bytes(5, "little")


def test_binary_has_a_header_and_channels_from_0(tmp_path: Path) -> None:
    content = HEADER + record(1000, 0) + record(2**40, 3) + record(2**40 + 1, 104)
    found = read(tmp_path / "tags", content, "qutag")
    assert found == ([1, 4, 104], [1000, 2**40, 2**40 + 1], [])


def test_raw_is_binary_without_header(tmp_path: Path) -> None:
    content = record(1000, 0) + record(2000, 3)
    assert read(tmp_path / "tags", content, "qutag-raw") == ([1, 4], [1000, 2000], [])


def test_text_has_channels_from_1(tmp_path: Path) -> None:
    content = b"1000,1\n1099511627776,4\n"
    assert read(tmp_path / "tags", content, "qutag-text") == ([1, 4], [1000, 2**40], [])


@pytest.mark.parametrize("header", [HEADER, bytes(40), b""])
def test_a_header_is_told_from_records(header: bytes, tmp_path: Path) -> None:
    content = header + b"".join(record(1000 * k, k % 4) for k in range(1, 101))
    _, times, damage = read(tmp_path / "tags", content)
    assert times == [1000 * k for k in range(1, 101)]
    assert damage == []


def test_ticks_of_a_qutau_are_81_ps_unless_said_otherwise(tmp_path: Path) -> None:
    content = HEADER + b"".join(compressed(1000 * k, k % 8) for k in range(1, 101))
    assert read(tmp_path / "tags", content, "qutau")[1][:2] == [81_000, 162_000]
    times = read(tmp_path / "tags", content, "qutau", tick_ps=80.955)[1]
    assert times[:3] == [80_955, 161_910, 242_865]


@pytest.mark.parametrize("header", [HEADER, b""])
def test_the_37_bit_time_starts_again_from_zero(header: bytes, tmp_path: Path) -> None:
    times = [2**36 + 2**31 * k for k in range(300)]
    content = header + b"".join(compressed(time, k % 8) for k, time in enumerate(times))
    channels, read_ps, damage = read(tmp_path / "tags", content, "qutau", tick_ps=1)
    assert read_ps == times
    assert channels == [k % 8 + 1 for k in range(300)]
    assert damage == []


def test_the_channel_may_be_in_the_low_bits(tmp_path: Path) -> None:
    words = [(2**30 * k << 3 | k % 8).to_bytes(5, "little") for k in range(1, 101)]
    channels, times, _ = read(tmp_path / "tags", HEADER + b"".join(words), "qutau", tick_ps=1)
    assert times == [2**30 * k for k in range(1, 101)]
    assert channels[:3] == [2, 3, 4]


def test_a_channel_that_does_not_exist_is_damage(tmp_path: Path) -> None:
    content = record(1, 0) + record(2, 60_000) + record(3, 1)
    channels, _, damage = read(tmp_path / "tags", content, "qutag-raw")
    assert channels == [1, 2]
    assert [(each.offset, each.count) for each in damage] == [(10, 1)]


def test_a_wait_that_cannot_be_seen_is_refused(tmp_path: Path) -> None:
    block = TagBlock(np.array([1, 1], np.int16), np.array([0, 12 * 10**12], np.int64))
    with pytest.raises(TagFileError, match="11 s"):
        write_tags(tmp_path / "tags.qutau", [block])
