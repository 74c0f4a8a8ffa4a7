"""Everything readable is read, the rest is told, and nothing is invented."""

import os
from pathlib import Path

import numpy as np
import pytest

from timetags.block import TagBlock
from timetags.errors import MOST_PLACES, DamageLog, TagFileError
from timetags.files import FORMATS, TagWriter, open_tags, write_tags

RECORD_BYTES = {
    "id900": 8,
    "readevents-a1": 8,
    "readevents-a1x": 8,
    "tdc1": 4,
    "qutag": 10,
    "qutag-raw": 10,
    "qutau": 5,
    "ptu": 4,
}
PICTURE = b"\x89PNG\r\n\x1a\n" + np.random.default_rng(1).bytes(10_000)
TEXTS = ["csv", "id900-text", "qutag-text", "readevents-a0", "readevents-a2"]


def tags(count: int, step_ps: int = 20_000_000) -> TagBlock:
    """Tags of one input; half a tick of any format is far less than a step."""
    times = np.arange(1, count + 1, dtype=np.int64) * step_ps
    return TagBlock(np.ones(count, dtype=np.int16), times)


def read(path: Path, format_: str) -> tuple[list[int], list[tuple[int, int, str]]]:
    with open_tags(path, format_) as file:
        times = [int(time) for block in file for time in block.time_ps]
        return times, [(each.offset, each.count, each.problem) for each in file.damage]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_file_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / "tags").touch()
    with pytest.raises(TagFileError, match=r"tags: at byte 0: the file is empty"):
        open_tags(tmp_path / "tags", name)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(TagFileError, match="No such file"):
        open_tags(tmp_path / "tags")


@pytest.mark.parametrize(
    "content",
    [PICTURE, b"Dear diary,\ntoday I aligned.\n" * 100],
    ids=["picture", "prose"],
)
def test_a_file_of_another_kind_is_not_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(content)
    with pytest.raises(TagFileError, match="at byte 0: it is no file of time tags") as caught:
        open_tags(tmp_path / "tags")
    assert caught.value.remedy


def test_a_name_that_promises_another_content_is_told(tmp_path: Path) -> None:
    (tmp_path / "tags.ptu").write_bytes(PICTURE)
    with pytest.raises(TagFileError, match="its name suggests PicoQuant PTU"):
        open_tags(tmp_path / "tags.ptu")


def test_too_few_records_to_tell_ask_for_the_format(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes((5 << 10 | 1).to_bytes(8, "little") * 2)
    with pytest.raises(TagFileError, match=r"could be any of .*readevents-a1.*; name the format"):
        open_tags(tmp_path / "tags")


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(b"1")
    with pytest.raises(TagFileError, match="there is no format 'spc'; there are parquet, ptu"):
        open_tags(tmp_path / "tags", "spc")


@pytest.mark.parametrize("name", RECORD_BYTES)
def test_a_binary_file_cut_within_a_record_loses_that_record(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    write_tags(path, [tags(1000)], name)
    whole, _ = read(path, name)
    size = path.stat().st_size
    os.truncate(path, size - 1)

    times, damage = read(path, name)
    assert times == whole[:-1]
    assert damage[0][:2] == (size - RECORD_BYTES[name], 1)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_cut_within_a_line_loses_that_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    write_tags(path, [tags(1000)], name)
    whole, _ = read(path, name)
    os.truncate(path, path.stat().st_size - 2)

    times, damage = read(path, name)
    assert times == whole[:-1]
    assert damage[0][1] == 1


@pytest.mark.parametrize("name", ["npz", "parquet"])
def test_a_file_whose_directory_is_cut_off_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    write_tags(path, [tags(1000)], name)
    os.truncate(path, path.stat().st_size - 30)
    with pytest.raises(TagFileError, match="cut short"):
        read(path, name)


def lose(path: Path, begin: int, end: int, *, as_hole: bool) -> None:
    """Make some bytes of a file zeros: written ones, or a hole."""
    content = path.read_bytes()
    with path.open("wb") as file:
        file.write(content[:begin] + (b"" if as_hole else bytes(end - begin)))
        file.seek(end)
        file.write(content[end:])


@pytest.mark.parametrize("name", ["id900", "readevents-a1", "readevents-a1x", "qutag", "qutag-raw"])
@pytest.mark.parametrize("as_hole", [False, True], ids=["zeros", "hole"])
def test_lost_pages_are_left_out_and_counted(name: str, as_hole: bool, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    write_tags(path, [tags(600_000)], name)
    whole, _ = read(path, name)
    begin, end = 100 * 4096, 500 * 4096
    lose(path, begin, end, as_hole=as_hole)

    times, [damage] = read(path, name)
    kept_before = (begin - (40 if name == "qutag" else 0)) // RECORD_BYTES[name]
    assert damage[:2] == (begin - (begin - 40 * (name == "qutag")) % RECORD_BYTES[name], damage[1])
    assert times == whole[:kept_before] + whole[kept_before + damage[1] :]
    assert damage[1] - (end - begin) / RECORD_BYTES[name] < 2


@pytest.mark.parametrize("name", ["tdc1", "qutau", "ptu"])
@pytest.mark.parametrize("as_hole", [False, True], ids=["zeros", "hole"])
def test_times_after_lost_pages_may_lack_overflows(
    name: str, as_hole: bool, tmp_path: Path
) -> None:
    path = tmp_path / "tags"
    write_tags(path, [tags(600_000)], name)
    whole, _ = read(path, name)
    lose(path, 100 * 4096, 500 * 4096, as_hole=as_hole)

    times, [damage] = read(path, name)
    before = times.index(whole[60_000])
    assert times[:before] == whole[:before]
    assert times == sorted(times)
    assert len(times) + damage[1] >= 600_000
    assert "lack the counter's overflows" in damage[2]


@pytest.mark.parametrize("name", ["id900", "readevents-a1", "qutag", "qutau", "tdc1"])
def test_five_gigabytes_of_nothing_are_seen_at_a_glance(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    path.touch()
    os.truncate(path, 5 * 10**9)
    times, damage = read(path, name)
    assert times == []
    assert sum(count for _, count, _ in damage) >= 5 * 10**9 // RECORD_BYTES[name] - 10


@pytest.mark.parametrize("name", TEXTS[1:])
def test_a_text_of_five_gigabytes_of_nothing_is_seen_at_a_glance(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tags"
    path.touch()
    os.truncate(path, 5 * 10**9)
    assert read(path, name)[0] == []


def test_a_hole_in_a_text_loses_the_lines_that_reach_into_it(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    write_tags(path, [tags(2000)])
    whole, _ = read(path, "csv")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    times, damage = read(path, "csv")
    before = content[:4096].count(b"\n") - 1
    after = content[8192:].count(b"\n") - 1
    assert times == whole[:before] + whole[-after:]
    assert [problem[:5] for _, _, problem in damage] == ["zeros", "the l", "rest "]


def test_a_file_of_zeros_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "tags").write_bytes(bytes(100_000))
    with pytest.raises(TagFileError, match="zeros"):
        open_tags(tmp_path / "tags")


def test_lines_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    lines = ["channel,time_ps", "1,10", "1,x", "1,20,30", "-2,-30", "1,--5", "2,1e3", "", "3, 40"]
    (tmp_path / "tags.csv").write_text("\n".join(lines) + "\n")
    with open_tags(tmp_path / "tags.csv") as file:
        found = [
            tuple(map(int, row))
            for each in file
            for row in zip(each.channel, each.time_ps, strict=True)
        ]
        offsets = [each.offset for each in file.damage]
    assert found == [(1, 10), (-2, -30), (3, 40)]
    text = (tmp_path / "tags.csv").read_text()
    assert offsets == [text.index(bad) for bad in ("1,x", "1,20,30", "1,--5", "2,1e3")]


def test_columns_are_told_by_their_names(tmp_path: Path) -> None:
    text = "# instrument: tagger 7\n# a remark\nrun;time_ps;channel\r\n1;10;4\r\n1;20;5\r\n"
    (tmp_path / "tags.csv").write_text(text, newline="")
    with open_tags(tmp_path / "tags.csv") as file:
        block = next(iter(file))
        assert file.metadata["instrument"] == "tagger 7"
    assert block.channel.tolist() == [4, 5]
    assert block.time_ps.tolist() == [10, 20]


def test_a_csv_in_other_units_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("channel,time_ns\n1,10\n")
    with open_tags(tmp_path / "tags.csv") as file, pytest.raises(TagFileError, match="time_ps"):
        list(file)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_bytes(b"channel,time_ps\n1,10\n" + b"7" * 3_000_000 + b"\n1,20\n")
    times, damage = read(tmp_path / "tags.csv", "csv")
    assert times == [10, 20]
    assert damage[0][0] == 21


def test_a_damaged_row_group_loses_its_tags_only(tmp_path: Path) -> None:
    path = tmp_path / "tags.parquet"
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(1, 10**6, 3 << 20))
    write_tags(path, [TagBlock(np.ones(1 << 20, np.int16), part) for part in np.split(times, 3)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)
    path.write_bytes(content)

    with open_tags(path) as file:
        read_back = np.concatenate([block.time_ps for block in file])
        [damage] = file.damage
    assert damage.count + read_back.size == times.size
    assert np.array_equal(read_back[: 1 << 20], times[: 1 << 20])
    assert np.array_equal(read_back[-(1 << 20) :], times[-(1 << 20) :])
    assert "row group 1" in damage.problem


def test_a_damaged_archive_says_how_many_tags_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "tags.npz"
    write_tags(path, [tags(600_000)])
    content = bytearray(path.read_bytes())
    content[2_000_000] ^= 0xFF
    path.write_bytes(content)
    with open_tags(path) as file:
        count = sum(block.time_ps.size for block in file)
        [damage] = file.damage
    assert count + damage.count == 600_000


def test_an_archive_of_other_arrays_says_what_it_needs(tmp_path: Path) -> None:
    np.savez(tmp_path / "tags.npz", channel=[1], t=[1])
    with open_tags(tmp_path / "tags.npz") as file, pytest.raises(TagFileError, match="time_ps"):
        list(file)


def test_an_archive_saved_by_numpy_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "tags.npz", channel=[1, 2], time_ps=[5, 6])
    assert read(tmp_path / "tags.npz", "npz") == ([5, 6], [])


def test_complaints_do_not_fill_the_memory() -> None:
    log = DamageLog()
    for place in range(10 * MOST_PLACES):
        log.add(20 * place, 1, "wrong", length=10)
    assert len(log.found) == MOST_PLACES
    assert sum(each.count for each in log.found) == 10 * MOST_PLACES


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "npz"])
def test_blocks_hang_together(name: str, tmp_path: Path) -> None:
    write_tags(tmp_path / "tags", [tags(150_000)] if name in TEXTS else [tags(600_000)], name)
    with open_tags(tmp_path / "tags", name) as file:
        blocks = list(file)
    steps = np.diff(np.concatenate([block.time_ps for block in blocks]))
    assert len(blocks) > 1
    assert max(block.time_ps.size for block in blocks) <= 1_000_000
    assert set(np.abs(steps - 20_000_000) <= 81) == {True}


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    writer = TagWriter(tmp_path / "tags.csv")
    writer.write(tags(3))
    assert not (tmp_path / "tags.csv").exists()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tags.csv"]


def test_a_file_can_be_read_again(tmp_path: Path) -> None:
    write_tags(tmp_path / "tags.csv", [tags(3)])
    with (tmp_path / "tags.csv").open("a") as text:
        text.write("nonsense\n")
    with open_tags(tmp_path / "tags.csv") as file:
        assert [block.time_ps.size for block in file] == [3]
        assert [block.time_ps.size for block in file] == [3]
        assert len(file.damage) == 1
