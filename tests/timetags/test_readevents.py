"""readevents7 files, from bytes made by hand."""

import struct
from pathlib import Path

import numpy as np
import pytest

from timetags.block import TagBlock
from timetags.errors import Damage, TagFileError
from timetags.files import open_tags, write_tags

# From the data sheet: 123456789/256 ns on input 3.
PLAIN = bytes.fromhex("04 54 34 6F 1D 00 00 00")
SWAPPED = bytes.fromhex("1D 00 00 00 04 54 34 6F")
EXAMPLE_PS = round(123_456_789 * 1000 / 256)


def read(path: Path, format_: str) -> tuple[list[int], list[int], list[Damage]]:
    with open_tags(path, format_) as file:
        blocks = list(file)
        channels = [int(each) for block in blocks for each in block.channel]
        times = [int(each) for block in blocks for each in block.time_ps]
        return channels, times, file.damage


def event(ticks: int, low_bits: int) -> bytes:
    return struct.pack("<Q", ticks << 10 | low_bits)


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        ("readevents-a1", PLAIN),
        ("readevents-a1x", SWAPPED),
        ("readevents-a2", b"0000001d6f345404\n"),
        ("readevents-a2", b"0000001D6F345404\r\n"),
        ("readevents-a0", b"6f345404\n0000001d\n"),
    ],
)
def test_the_example_of_the_data_sheet(format_: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(content)
    assert read(tmp_path / "tags", format_) == ([3], [EXAMPLE_PS], [])


def test_a_tick_is_rounded_to_the_nearest_picosecond(tmp_path: Path) -> None:
    ticks = [0, 1, 2, 3, 4, 16, 32, 10**15 + 7]
    (tmp_path / "tags").write_bytes(b"".join(event(tick, 1) for tick in ticks))
    exact = [(tick * 125 * 2 + 32) // 64 for tick in ticks]  # half a picosecond goes upward
    assert read(tmp_path / "tags", "readevents-a1")[1] == exact


def test_the_54_bit_counter_rolls_over(tmp_path: Path) -> None:
    last = (1 << 54) - 1
    words = [event(last - 256, 1), event(last, 2), event(255, 4), event(511, 8)]
    (tmp_path / "tags").write_bytes(b"".join(words))
    channels, times, damage = read(tmp_path / "tags", "readevents-a1")
    assert channels == [1, 2, 3, 4]
    assert np.diff(times).tolist() == [1000, 1000, 1000]
    assert damage == []


def test_a_pair_out_of_order_at_the_rollover_is_no_second_rollover(tmp_path: Path) -> None:
    last = (1 << 54) - 1
    words = [event(last - 256, 1), event(255, 2), event(last, 1), event(511, 2)]
    (tmp_path / "tags").write_bytes(b"".join(words))
    assert np.diff(read(tmp_path / "tags", "readevents-a1")[1]).tolist() == [2000, -1000, 2000]


def test_a_dummy_event_carries_the_time_over_a_rollover_and_is_no_hit(tmp_path: Path) -> None:
    range_ = 1 << 54
    dummies = [event(k * range_ // 4 % range_, 0x10) for k in range(1, 8)]
    words = [event(0, 1), *dummies, event(5, 0x1F), event(7 * range_ // 4 % range_, 2)]
    (tmp_path / "tags").write_bytes(b"".join([*words[:8], words[-1]]))
    channels, times, damage = read(tmp_path / "tags", "readevents-a1")
    assert channels == [1, 2]
    assert times == [0, 7 * range_ // 4 * 125 // 32]
    assert damage == []


def test_several_inputs_at_once_are_several_tags(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(event(256, 0b1011) + event(512, 0b0100))
    channels, times, _ = read(tmp_path / "tags", "readevents-a1")
    assert channels == [1, 2, 4, 3]
    assert times == [1000, 1000, 1000, 2000]


def test_an_event_of_no_input_is_damage(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(event(256, 1) + event(300, 0) + event(512, 2))
    channels, _, damage = read(tmp_path / "tags", "readevents-a1")
    assert channels == [1, 2]
    assert [(each.offset, each.count) for each in damage] == [(8, 1)]


def test_a_spoilt_line_loses_its_event_only(tmp_path: Path) -> None:
    good = [f"{(k * 256 << 10 | 1):016x}" for k in range(4)]
    good[2] = good[2][:7] + "?"
    (tmp_path / "tags").write_text("\n".join(good) + "\n")
    _, times, damage = read(tmp_path / "tags", "readevents-a2")
    assert times == [0, 1000, 3000]
    assert [(each.offset, each.count) for each in damage] == [(34, 1)]


def test_a_spoilt_half_loses_its_event_only(tmp_path: Path) -> None:
    words = [k * 256 << 10 | 1 for k in range(4)]
    halves = [half for word in words for half in (f"{word & 0xFFFFFFFF:08x}", f"{word >> 32:08x}")]
    halves[3] = "0"
    (tmp_path / "tags").write_text("\n".join(halves) + "\n")
    _, times, damage = read(tmp_path / "tags", "readevents-a0")
    assert times == [0, 2000, 3000]
    assert [(each.offset, each.count) for each in damage] == [(27, 1)]


def test_an_input_that_the_unit_has_not_is_refused(tmp_path: Path) -> None:
    tags = TagBlock(np.array([5], dtype=np.int16), np.array([0], dtype=np.int64))
    with pytest.raises(TagFileError, match="channel 5 does not fit"):
        write_tags(tmp_path / "tags", [tags], "readevents-a1")
    assert list(tmp_path.iterdir()) == []
