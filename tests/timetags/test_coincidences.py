import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetags import matching
from timetags.block import TagBlock
from timetags.coincidences import Coincidences, count_coincidences
from timetags.correlation import correlate
from timetags.matching import OneStream, OrderError, TwoStreams

Tags = list[tuple[int, int]]
TAGS = st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 300)), max_size=60).map(
    lambda tags: sorted(tags, key=lambda tag: tag[1])
)


def block(tags: Tags) -> TagBlock:
    channel, time_ps = zip(*tags, strict=True) if tags else ((), ())
    return TagBlock(np.array(channel, dtype=np.int16), np.array(time_ps, dtype=np.int64))


def in_blocks(tags: Tags, size: int) -> Iterator[TagBlock]:
    for first in range(0, len(tags), size):
        yield block(tags[first : first + size])


def common(tags_a: Tags, tags_b: Tags, delay_ps: int) -> tuple[list[int], list[int]]:
    """Times of channels 1 and 2 that lie where both streams are known, the delay taken off."""
    start = max(tags_a[0][1], tags_b[0][1] - delay_ps)
    end = min(tags_a[-1][1], tags_b[-1][1] - delay_ps)
    a = [t for c, t in tags_a if c == 1 and start <= t <= end]
    b = [t - delay_ps for c, t in tags_b if c == 2 and start <= t - delay_ps <= end]
    return a, b


@pytest.fixture(params=[1, 7, 1 << 16])
def chunk_tags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tags handled at a time: their number must not matter."""
    monkeypatch.setattr(matching, "CHUNK_TAGS", request.param)
    return int(request.param)


@given(TAGS, st.integers(1, 20), st.integers(0, 40), st.integers(-50, 50))
def test_pairs_in_one_stream_are_those_that_a_plain_loop_finds(
    tags: Tags, size: int, window_ps: int, delay_ps: int
) -> None:
    found = count_coincidences(OneStream(in_blocks(tags, size), 1, 2), window_ps, delay_ps)

    a, b = common(tags, tags, delay_ps) if tags else ([], [])
    assert found.pairs == sum(abs(y - x) <= window_ps / 2 for x in a for y in b)
    assert (found.singles_a, found.singles_b) == (len(a), len(b))
    spacing_ps = 10 * max(window_ps, 1)
    assert found.side.tolist() == [
        sum(abs(y - x - k * spacing_ps) <= window_ps / 2 for x in a for y in b)
        for k in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)
    ]


@given(TAGS, TAGS, st.integers(1, 20), st.integers(1, 20), st.integers(-50, 50))
def test_pairs_in_two_streams_are_those_that_a_plain_loop_finds(
    tags_a: Tags, tags_b: Tags, size_a: int, size_b: int, delay_ps: int
) -> None:
    channels = TwoStreams(in_blocks(tags_a, size_a), 1, in_blocks(tags_b, size_b), 2)

    found = count_coincidences(channels, 20, delay_ps)

    a, b = common(tags_a, tags_b, delay_ps) if tags_a and tags_b else ([], [])
    assert found.pairs == sum(abs(y - x) <= 10 for x in a for y in b)
    assert (found.singles_a, found.singles_b) == (len(a), len(b))


def test_how_many_tags_are_handled_at_a_time_does_not_matter(chunk_tags: int) -> None:
    rng = np.random.default_rng(2)
    tags = sorted(
        zip(rng.integers(1, 3, 400).tolist(), rng.integers(0, 4000, 400).tolist(), strict=True),
        key=lambda tag: tag[1],
    )

    found = count_coincidences(OneStream([block(tags)], 1, 2), 30, 17)

    a, b = common(tags, tags, 17)
    assert found.pairs == sum(abs(y - x) <= 15 for x in a for y in b)


def test_visibility_and_efficiency_are_those_of_the_source() -> None:
    channels = OneStream([pairs(rate_hz=2e5, share=0.1, duration_s=2.0)], 1, 2)

    found = count_coincidences(channels, 2000, 5000)

    accidentals = 2e5**2 * 2000e-12 * 2.0
    expected = 0.1 * 2e5 * 2.0 / (0.1 * 2e5 * 2.0 + 2 * accidentals)
    assert found.accidentals == pytest.approx(accidentals, abs=4 * found.accidentals_error)
    assert found.visibility == pytest.approx(expected, abs=4 * found.visibility_error)
    assert list(found.efficiencies) == pytest.approx([0.1, 0.1], abs=0.003)
    assert found.duration_s == pytest.approx(2.0, rel=1e-4)


def pairs(rate_hz: float, share: float, duration_s: float, seed: int = 1) -> TagBlock:
    """Two channels with some pairs, the second 5 ns late, with 200 ps of jitter."""
    rng = np.random.default_rng(seed)
    count = round(rate_hz * duration_s)
    a, b = rng.uniform(0, duration_s * 1e12, (2, count))
    true = round(share * count)
    b[:true] = a[:true] + 5000 + rng.normal(0, 200, true)
    time_ps = np.rint(np.concatenate([a, b])).astype(np.int64)
    order = np.argsort(time_ps)
    return TagBlock(np.repeat(np.array([1, 2], dtype=np.int16), count)[order], time_ps[order])


def test_without_side_windows_accidentals_are_unknown() -> None:
    found = count_coincidences(OneStream([pairs(1e4, 0.1, 0.1)], 1, 2), 2000, side_windows=0)

    assert math.isnan(found.accidentals)
    assert math.isnan(found.visibility)


def test_nothing_seen_is_no_visibility() -> None:
    found = Coincidences(100, 0, 0, np.zeros(10, dtype=np.int64), 0, 0, 0.0)

    assert math.isnan(found.visibility)
    assert math.isnan(found.coincidence_to_accidental)
    assert math.isnan(found.efficiencies[0])


def test_peak_without_accidentals_has_full_visibility_with_an_error() -> None:
    found = Coincidences(100, 0, 50, np.zeros(10, dtype=np.int64), 100, 100, 1.0)

    assert found.visibility == 1
    assert 0 < found.visibility_error < 0.02
    assert found.coincidence_to_accidental == math.inf


@pytest.mark.parametrize(
    "stream",
    [
        [block([(1, 5), (2, 3)])],
        [block([(1, 5), (1, 4), (2, 9)])],
        [block([(1, 5)]), block([(2, 4)])],
        [block([(3, 5), (1, 9), (3, 8)])],
    ],
)
def test_tags_out_of_order_are_refused(stream: list[TagBlock]) -> None:
    with pytest.raises(OrderError, match="not in order of time"):
        count_coincidences(OneStream(stream, 1, 2), 10)


@pytest.mark.parametrize("arguments", [(-1,), (100, 0, 100), (100, 0, 20)])
def test_impossible_windows_are_refused(arguments: tuple[int, ...]) -> None:
    window_ps, delay_ps, spacing_ps = (*arguments, 0, 5)[:3]

    with pytest.raises(ValueError, match="window"):
        count_coincidences(OneStream([], 1, 2), window_ps, delay_ps, side_spacing_ps=spacing_ps)


@pytest.mark.parametrize("silent", [1, 2])
def test_memory_does_not_grow_even_where_a_channel_is_silent(silent: int) -> None:
    def stream(blocks: int) -> Iterator[TagBlock]:
        channel = np.full(1 << 14, 3 - silent, dtype=np.int16)
        for number in range(blocks):
            yield TagBlock(channel, np.arange(1 << 14) * 1000 + number * 10**9)

    def peak(blocks: int) -> int:
        tracemalloc.start()
        count_coincidences(OneStream(stream(blocks), 1, 2), 100)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(100) < peak(20) * 1.2


@given(TAGS, st.integers(1, 20), st.integers(1, 12), st.integers(0, 60))
def test_correlation_counts_each_tag_with_all_others(
    tags: Tags, size: int, bin_ps: int, reach_ps: int
) -> None:
    found = correlate(OneStream(in_blocks(tags, size), 1, 1), bin_ps, reach_ps)

    times = [t for c, t in tags if c == 1]
    for lag_ps, count in zip(found.lags_ps.tolist(), found.counts.tolist(), strict=True):
        first = lag_ps - bin_ps // 2
        assert count == sum(
            first <= y - x < first + bin_ps
            for i, x in enumerate(times)
            for j, y in enumerate(times)
            if i != j
        )


def test_independent_light_has_g2_of_one_within_its_errors() -> None:
    found = correlate(OneStream([pairs(1e6, 0.0, 0.5)], 1, 2), 1000, 50_000)

    pulls = (found.g2 - 1) / found.g2_error
    assert np.std(pulls) == pytest.approx(1, abs=0.25)
    assert abs(pulls.mean()) < 0.4


def test_pairs_stand_out_of_g2_at_the_delay() -> None:
    rate_hz, share = 1e5, 0.1

    found = correlate(OneStream([pairs(rate_hz, share, 1.0)], 1, 2), 2000, 20_000, 5000)

    assert found.g2[len(found.g2) // 2] == pytest.approx(1 + share / (rate_hz * 2e-9), rel=0.05)


def test_photons_that_never_come_together_have_no_g2_at_zero() -> None:
    times = np.cumsum(20_000 + np.random.default_rng(1).exponential(1e6, 20_000)).astype(np.int64)
    stream = [TagBlock(np.ones(len(times), dtype=np.int16), times)]

    found = correlate(OneStream(stream, 1, 1), 1000, 10_000)

    assert not found.counts.any()
    assert np.all(found.g2 == 0)


@pytest.mark.parametrize(("bin_ps", "reach_ps", "delay_ps"), [(0, 10, 0), (5, -10, 0), (5, 10, 3)])
def test_impossible_correlations_are_refused(bin_ps: int, reach_ps: int, delay_ps: int) -> None:
    with pytest.raises(ValueError, match=r"possible|lag"):
        correlate(OneStream([], 1, 1), bin_ps, reach_ps, delay_ps)
