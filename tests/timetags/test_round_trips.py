"""What is written in a format is read back the same, to the format's own resolution."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timetags.block import TagBlock
from timetags.files import FORMATS, open_tags, write_tags
from timetags.formats.format import Conventions

HOUR_PS = 3600 * 10**12


@dataclass(frozen=True)
class Case:
    """How a format is tried.

    Attributes:
        tick_ps: Times are read back to half of this, rounded up.
        channels: Channels that fit.
        longest_gap_ps: Longest wait between two tags that the format can tell.
        conventions: How it is written and read.
    """

    format: str
    tick_ps: float = 1
    channels: tuple[int, ...] = (1, 2, 3, 4)
    longest_gap_ps: int = HOUR_PS
    conventions: Conventions = field(default_factory=Conventions)


def ptu(
    record: str, *, tick_ps: int | None = None, reference_period_ps: int | None = None
) -> Conventions:
    return Conventions(ptu_record=record, tick_ps=tick_ps, reference_period_ps=reference_period_ps)


CASES = [
    Case("csv", channels=(-32768, -1, 0, 1, 32767)),
    Case("npz", channels=(-32768, -1, 0, 1, 32767)),
    Case("parquet", channels=(-32768, -1, 0, 1, 32767)),
    Case("id900", channels=(1,)),
    Case("id900", channels=(3,), conventions=Conventions(3, None, 12_500, has_index=True)),
    Case("id900-text", channels=(1,)),
    Case("id900-text", channels=(2,), conventions=Conventions(2, None, 10**9 + 7, has_index=True)),
    Case("tdc1", 4000),
    Case("readevents-a0", 125 / 32),
    Case("readevents-a1", 125 / 32),
    Case("readevents-a1x", 125 / 32),
    Case("readevents-a2", 125 / 32),
    Case("qutag", channels=(1, 2, 5, 8, 20, 100, 104, 203)),
    Case("qutag-raw", channels=(1, 2, 5, 8, 20, 100, 104, 203)),
    Case("qutag-text", channels=(1, 2, 5, 8, 104)),
    Case("qutau", 81, channels=tuple(range(1, 9)), longest_gap_ps=10 * 10**12),
    Case("ptu", channels=(0, 1, 2, 64, 101, 104)),
    Case("ptu", 5, (0, 1, 2, 64, 103), conventions=ptu("hydraharp2-t2", tick_ps=5)),
    Case("ptu", 1, (0, 1, 8), 10**9, ptu("hydraharp-t2")),
    Case("ptu", 4, (0, 1, 2, 4), 10**12, ptu("picoharp-t2", tick_ps=4)),
    Case("ptu", 2, (1, 2, 64), 10**12, ptu("multiharp-t3", reference_period_ps=12_500)),
    Case("ptu", 2, (1, 2, 8), 10**11, ptu("hydraharp-t3", reference_period_ps=20_000)),
    Case("ptu", 8, (1, 2, 4), 10**11, ptu("picoharp-t3", reference_period_ps=25_000)),
]


def tags_for(case: Case) -> st.SearchStrategy[tuple[list[int], list[int], list[int]]]:
    """Gaps, channels and where blocks end."""
    gap = st.one_of(st.integers(0, 100_000), st.integers(0, case.longest_gap_ps))
    size = st.shared(st.integers(1, 60), key="size")
    return size.flatmap(
        lambda n: st.tuples(
            st.lists(gap, min_size=n, max_size=n),
            st.lists(st.sampled_from(case.channels), min_size=n, max_size=n),
            st.lists(st.integers(0, n), max_size=3),
        )
    )


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.format}-{at}" for at, case in enumerate(CASES)]
)
@given(data=st.data())
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_is_written_is_read_back(case: Case, data: st.DataObject, tmp_path: Path) -> None:
    gaps, channels, ends = data.draw(tags_for(case))
    times = np.cumsum(np.array(gaps, dtype=np.int64))
    tags = TagBlock(np.array(channels, dtype=np.int16), times)
    path = tmp_path / "tags"

    edges = [0, *sorted(ends), len(gaps)]
    pieces = [
        TagBlock(tags.channel[start:end], tags.time_ps[start:end]) for start, end in pairwise(edges)
    ]
    assert write_tags(path, pieces, case.format, conventions=case.conventions) == len(gaps)

    with open_tags(path, case.format, case.conventions) as file:
        blocks = list(file)
        assert file.damage == []
    read = np.concatenate([block.time_ps for block in blocks])
    assert np.concatenate([block.channel for block in blocks]).tolist() == channels
    assert np.abs(read - times).max() <= case.tick_ps / 2 + (case.tick_ps % 1 != 0)


def test_every_format_is_tried() -> None:
    assert {case.format for case in CASES} == set(FORMATS)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("id900", "id900-text")])
def test_a_file_is_recognised_by_its_content(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.integers(100_000, 10_000_000, 3000))
    tags = TagBlock(rng.integers(1, 5, 3000).astype(np.int16), times)
    write_tags(tmp_path / "no-name", [tags], name)

    with open_tags(tmp_path / "no-name") as file:
        assert file.format == name
        assert sum(block.time_ps.size for block in file) == 3000


@pytest.mark.parametrize("name", ["id900", "id900-text"])
@pytest.mark.parametrize("has_index", [False, True])
def test_an_id900_file_is_recognised_by_its_content(
    name: str, has_index: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.integers(100_000, 10_000_000, 3000))
    tags = TagBlock(np.ones(3000, dtype=np.int16), times)
    conventions = Conventions(reference_period_ps=12_500, has_index=has_index)
    suffix = ".txt" if name.endswith("text") else ""
    write_tags(tmp_path / f"no-name{suffix}", [tags], name, conventions=conventions)

    with open_tags(tmp_path / f"no-name{suffix}") as file:
        assert file.format == name
        assert sum(block.time_ps.size for block in file) == 3000


def test_metadata_goes_with_the_tags(tmp_path: Path) -> None:
    tags = TagBlock(np.array([1], dtype=np.int16), np.array([5], dtype=np.int64))
    for name in ("csv", "npz", "parquet"):
        write_tags(tmp_path / name, [tags], name, {"instrument": "tagger 7", "source": "run.ptu"})
        with open_tags(tmp_path / name) as file:
            list(file)
            assert file.metadata["instrument"] == "tagger 7"
            assert file.metadata["source"] == "run.ptu"
