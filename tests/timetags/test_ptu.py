"""PTU files, from records made by hand and against another reader."""

import struct
from pathlib import Path

import numpy as np
import pytest

from timetags.block import TagBlock
from timetags.errors import TagFileError
from timetags.files import TagFile, open_tags, write_tags
from timetags.formats.format import Conventions

OVERFLOW = 0x3F
INT, FLOAT, EMPTY, ANSI = 0x10000008, 0x20000008, 0xFFFF0008, 0x4001FFFF


def entry(name: str, kind: int, value: int | float | bytes) -> bytes:
    head = name.encode().ljust(32, b"\0") + struct.pack("<iI", -1, kind)
    if isinstance(value, bytes):
        return head + struct.pack("<q", len(value)) + value
    return head + struct.pack("<d" if isinstance(value, float) else "<q", value)


def ptu(
    record_type: int,
    words: list[int],
    *,
    tick_s: float = 1e-12,
    since_sync_s: float = 1e-12,
    announced: int | None = None,
) -> bytes:
    header = b"PQTTTR\0\x001.0.00\0\0" + b"".join(
        (
            entry("File_Comment", ANSI, b"made by hand\0\0\0\0"),
            entry("TTResultFormat_TTTRRecType", INT, record_type),
            entry("TTResultFormat_BitsPerRecord", INT, 32),
            entry("MeasDesc_GlobalResolution", FLOAT, tick_s),
            entry("MeasDesc_Resolution", FLOAT, since_sync_s),
            entry("TTResult_NumberOfRecords", INT, len(words) if announced is None else announced),
            entry("Header_End", EMPTY, 0),
        )
    )
    return header + struct.pack(f"<{len(words)}I", *words)


def t2(channel: int, time: int, *, special: bool = False) -> int:
    return special << 31 | channel << 25 | time


def t3(channel: int, since_sync: int, sync: int, *, special: bool = False) -> int:
    return special << 31 | channel << 25 | since_sync << 10 | sync


def tags(file: TagFile) -> list[tuple[int, int]]:
    return [
        (int(channel), int(time))
        for block in file
        for channel, time in zip(block.channel, block.time_ps, strict=True)
    ]


def read(path: Path, content: bytes) -> list[tuple[int, int]]:
    path.write_bytes(content)
    with open_tags(path) as file:
        found = tags(file)
        assert file.damage == []
    return found


@pytest.mark.parametrize("code", [0x01010204, 0x00010205, 0x00010206, 0x00010207])
def test_t2_overflows_say_how_often_the_counter_started_again(code: int, tmp_path: Path) -> None:
    words = [
        t2(0, 100),
        t2(OVERFLOW, 3, special=True),
        t2(1, 7),
        t2(OVERFLOW, 0, special=True),  # old style: once
        t2(0, 9, special=True),  # the sync input
    ]
    wrap = 1 << 25
    assert read(tmp_path / "tags.ptu", ptu(code, words)) == [
        (1, 100),
        (2, 3 * wrap + 7),
        (0, 4 * wrap + 9),
    ]


def test_t2_of_the_first_hydraharp_wraps_earlier_and_counts_each_overflow(tmp_path: Path) -> None:
    words = [t2(OVERFLOW, 5, special=True), t2(OVERFLOW, 0, special=True), t2(0, 1)]
    content = ptu(0x00010204, words)
    assert read(tmp_path / "tags.ptu", content) == [(1, 2 * 33_552_000 + 1)]


def test_t2_markers_are_channels_from_101(tmp_path: Path) -> None:
    words = [t2(0, 10), t2(0b0101, 20, special=True), t2(3, 30)]
    content = ptu(0x00010207, words, tick_s=5e-12)
    expected = [(1, 50), (101, 100), (103, 100), (4, 150)]
    assert read(tmp_path / "tags.ptu", content) == expected


def test_t2_of_the_picoharp(tmp_path: Path) -> None:
    words = [1 << 28 | 5, 15 << 28 | 7 << 4, 4 << 28 | 6, 15 << 28 | 3 << 4 | 0b0010]
    content = ptu(0x00010203, words, tick_s=4e-12)
    wrap = 210_698_240
    assert read(tmp_path / "tags.ptu", content) == [
        (1, 20),
        (4, (wrap + 6) * 4),
        (102, (wrap + 48) * 4),  # the low bits of its time are the markers
    ]


def test_t3_times_are_sync_periods_and_the_time_since_sync(tmp_path: Path) -> None:
    words = [
        t3(0, 100, 3),
        t3(OVERFLOW, 0, 2, special=True),
        t3(5, 32_767, 0),
        t3(0b1000, 0, 4, special=True),
    ]
    content = ptu(0x01010304, words, tick_s=12.5e-9, since_sync_s=4e-12)
    assert read(tmp_path / "tags.ptu", content) == [
        (1, 3 * 12_500 + 400),
        (6, 2048 * 12_500 + 32_767 * 4),
        (104, 2052 * 12_500),
    ]


def test_t3_of_the_first_hydraharp_counts_each_overflow(tmp_path: Path) -> None:
    words = [t3(OVERFLOW, 0, 9, special=True), t3(0, 0, 1)]
    content = ptu(0x00010304, words, tick_s=1e-8)
    assert read(tmp_path / "tags.ptu", content) == [(1, 1025 * 10_000)]


def test_t3_of_the_picoharp(tmp_path: Path) -> None:
    words = [1 << 28 | 100 << 16 | 2, 15 << 28, 15 << 28 | 0b0001 << 16 | 8, 2 << 28 | 4095 << 16]
    content = ptu(0x00010303, words, tick_s=25e-9, since_sync_s=8e-12)
    assert read(tmp_path / "tags.ptu", content) == [
        (1, 2 * 25_000 + 800),
        (101, (65_536 + 8) * 25_000),
        (2, 65_536 * 25_000 + 4095 * 8),
    ]


def test_a_record_of_no_known_meaning_is_damage(tmp_path: Path) -> None:
    content = ptu(0x00010207, [t2(0, 1), t2(40, 2, special=True), t2(0, 3)])
    (tmp_path / "tags.ptu").write_bytes(content)
    with open_tags(tmp_path / "tags.ptu") as file:
        assert tags(file) == [(1, 1), (1, 3)]
        assert [(each.offset, each.count) for each in file.damage] == [(len(content) - 8, 1)]


def test_a_file_that_ends_early_says_how_many_records_are_missing(tmp_path: Path) -> None:
    content = ptu(0x00010207, [t2(0, k) for k in range(10)])
    (tmp_path / "tags.ptu").write_bytes(content[:-14])
    with open_tags(tmp_path / "tags.ptu") as file:
        assert len(tags(file)) == 6
        assert sum(each.count for each in file.damage) == 4
        assert file.damage[0].offset == len(content) - 16


def test_a_recording_that_was_not_ended_is_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "tags.ptu").write_bytes(ptu(0x00010207, [t2(0, 1), t2(1, 2)], announced=0))
    with open_tags(tmp_path / "tags.ptu") as file:
        assert tags(file) == [(1, 1), (2, 2)]
        assert "not ended" in file.damage[0].problem


@pytest.mark.parametrize("length", [10, 40, 70, 200, 360])
def test_a_header_cut_short_says_where(length: int, tmp_path: Path) -> None:
    (tmp_path / "tags.ptu").write_bytes(ptu(0x00010207, [t2(0, 1)])[:length])
    with open_tags(tmp_path / "tags.ptu") as file, pytest.raises(TagFileError) as caught:
        list(file)
    assert caught.value.offset is not None
    assert "header" in caught.value.problem


def test_an_unknown_kind_of_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "tags.ptu").write_bytes(ptu(0x00990207, [t2(0, 1)]))
    with open_tags(tmp_path / "tags.ptu") as file, pytest.raises(TagFileError, match="0x00990207"):
        list(file)


def test_times_out_of_order_are_refused(tmp_path: Path) -> None:
    block = TagBlock(np.array([1, 1], dtype=np.int16), np.array([5, 4], dtype=np.int64))
    with pytest.raises(TagFileError, match="not in order"):
        write_tags(tmp_path / "tags.ptu", [block])


@pytest.mark.parametrize(
    "conventions",
    [
        Conventions(ptu_record="multiharp-t2"),
        Conventions(ptu_record="hydraharp-t2"),
        Conventions(ptu_record="picoharp-t2", tick_ps=4),
        Conventions(ptu_record="hydraharp2-t3", reference_period_ps=20_000),
        Conventions(ptu_record="picoharp-t3", reference_period_ps=20_000),
    ],
    ids=lambda conventions: conventions.ptu_record,
)
def test_another_reader_finds_the_same(conventions: Conventions, tmp_path: Path) -> None:
    ptufile = pytest.importorskip("ptufile")
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.integers(1, 3_000_000, 5000)) * 20
    block = TagBlock(rng.integers(1, 5, 5000).astype(np.int16), times)
    write_tags(tmp_path / "tags.ptu", [block], conventions=conventions)

    with open_tags(tmp_path / "tags.ptu") as file:
        ours = tags(file)
    with ptufile.PtuFile(tmp_path / "tags.ptu") as other:
        records = other.decode_records()
        records = records[records["channel"] >= 0]
        time_ps = records["time"] * round(other.global_resolution * 1e12)
        if "dtime" in records.dtype.names:
            time_ps = time_ps + records["dtime"] * round(other.tcspc_resolution * 1e12)
    assert [time for _, time in ours] == time_ps.tolist()
    first_input = min(channel for channel, _ in ours) - int(records["channel"].min())
    assert [channel for channel, _ in ours] == (records["channel"] + first_input).tolist()
