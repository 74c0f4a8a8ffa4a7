"""ID900 files, from bytes made by hand."""

import struct
from pathlib import Path

import numpy as np
import pytest

from timetags.block import TagBlock
from timetags.errors import TagFileError
from timetags.files import TagFile, open_tags, write_tags
from timetags.formats.format import Conventions
from timetags.formats.id900 import ReferencedBlock

PAIRS = [(500, 0), (12_000, 0), (30, 1), (40, 7)]


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def pairs(path: Path) -> Path:
    path.write_bytes(words(*(number for pair in PAIRS for number in pair)))
    return path


def times(file: TagFile) -> list[int]:
    return [int(time) for block in file for time in block.time_ps]


def test_plain_times_are_picoseconds(tmp_path: Path) -> None:
    (tmp_path / "tags.bin").write_bytes(words(5, 1000, 2**61))
    with open_tags(tmp_path / "tags.bin", conventions=Conventions(channel=3)) as file:
        blocks = list(file)
    assert blocks[0].time_ps.tolist() == [5, 1000, 2**61]
    assert blocks[0].channel.tolist() == [3, 3, 3]


def test_without_the_period_times_stay_as_they_are_and_the_index_is_kept(tmp_path: Path) -> None:
    with open_tags(pairs(tmp_path / "tags.bin"), "id900") as file:
        block = next(iter(file))
        assert "with index" in str(file.metadata["times"])
    assert isinstance(block, ReferencedBlock)
    assert block.time_ps.tolist() == [time for time, _ in PAIRS]
    assert block.reference_index.tolist() == [index for _, index in PAIRS]


def test_with_the_period_times_are_absolute(tmp_path: Path) -> None:
    conventions = Conventions(reference_period_ps=12_500)
    with open_tags(pairs(tmp_path / "tags.bin"), "id900", conventions) as file:
        assert times(file) == [500, 12_000, 12_530, 87_540]


def test_text_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("".join(f"{time};{index}\n" for time, index in PAIRS))
    conventions = Conventions(reference_period_ps=12_500)
    with open_tags(tmp_path / "tags.txt", conventions=conventions) as file:
        assert times(file) == [500, 12_000, 12_530, 87_540]


def test_a_period_without_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tags.bin").write_bytes(words(5, 1000, 2000))
    with (
        open_tags(tmp_path / "tags.bin", "id900", Conventions(reference_period_ps=100)) as file,
        pytest.raises(TagFileError, match="reference period"),
    ):
        list(file)


def test_what_was_read_with_its_index_is_written_with_it(tmp_path: Path) -> None:
    source = pairs(tmp_path / "tags.bin")
    with open_tags(source, "id900") as file:
        write_tags(tmp_path / "copy.bin", file, "id900")
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    block = TagBlock(np.array([1, 2], np.int16), np.array([1, 2], np.int64))
    with pytest.raises(TagFileError, match="holds one input"):
        write_tags(tmp_path / "tags.bin", [block])


def test_a_time_beyond_62_bits_is_damage(tmp_path: Path) -> None:
    (tmp_path / "tags.bin").write_bytes(words(5, 2**63 + 1, 2000))
    with open_tags(tmp_path / "tags.bin", "id900") as file:
        assert times(file) == [5, 2000]
        assert [(each.offset, each.count) for each in file.damage] == [(8, 1)]
