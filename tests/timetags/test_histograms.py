import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.dead_time import TooFewTagsError, estimate_dead_time
from timetags.histograms import Histogram, inter_arrival_histogram, start_stop_histogram
from timetags.matching import OrderError
from timetags.rates import count_rates

Tags = list[tuple[int, int]]
TAGS = st.lists(
    st.tuples(st.sampled_from([1, 2, -1]), st.integers(-200, 300)), min_size=1, max_size=60
).map(lambda tags: sorted(tags, key=lambda tag: tag[1]))


def in_blocks(tags: Tags, size: int) -> list[TagBlock]:
    return [
        TagBlock(np.array(channel, dtype=np.int16), np.array(time_ps, dtype=np.int64))
        for channel, time_ps in (
            zip(*tags[first : first + size], strict=True) for first in range(0, len(tags), size)
        )
    ]


@given(TAGS, st.integers(1, 20), st.integers(1, 30))
def test_rates_count_every_channel_in_every_bin(tags: Tags, size: int, bin_ps: int) -> None:
    rates = count_rates(in_blocks(tags, size), bin_ps)

    start = tags[0][1]
    assert rates.channels == tuple(sorted({c for c, _ in tags}))
    assert len(rates.counts) == (tags[-1][1] - start) // bin_ps + 1
    for number, row in enumerate(rates.counts.tolist()):
        for channel, count in zip(rates.channels, row, strict=True):
            assert count == sum(c == channel and (t - start) // bin_ps == number for c, t in tags)


def test_the_last_bin_is_as_long_as_it_was_measured() -> None:
    rates = count_rates(in_blocks([(1, 0), (1, 5 * 10**11), (1, 15 * 10**11)], 2))

    assert rates.duration_s == 1.5
    assert rates.rates_hz[:, 0].tolist() == [2.0, 2.0]
    assert rates.times_s.tolist() == [0.0, 1.0]
    assert rates.totals == {1: 3}


def test_a_stream_without_tags_has_no_rates() -> None:
    rates = count_rates([])

    assert rates.counts.shape == (0, 0)
    assert rates.rates_hz.shape == (0, 0)
    assert rates.totals == {}


def test_so_many_bins_that_memory_would_not_do_are_refused() -> None:
    with pytest.raises(ValueError, match="longer bins"):
        count_rates(in_blocks([(1, 0), (1, 10**15)], 2), 1000)


@given(TAGS, st.integers(1, 20), st.integers(1, 9))
def test_inter_arrival_times_go_from_each_tag_to_the_next(
    tags: Tags, size: int, bin_ps: int
) -> None:
    found = inter_arrival_histogram(in_blocks(tags, size), 1, bin_ps, 10)

    gaps = np.diff([t for c, t in tags if c == 1]).tolist()
    assert found.counts.tolist() == [sum(g // bin_ps == k for g in gaps) for k in range(10)]
    assert found.longer == sum(g >= 10 * bin_ps for g in gaps)
    assert found.longer_by_ps == sum(max(g - 10 * bin_ps, 0) for g in gaps)
    assert found.total == len(gaps)


@given(TAGS, st.integers(1, 20))
def test_a_stop_counts_from_the_latest_start(tags: Tags, size: int) -> None:
    found = start_stop_histogram(in_blocks(tags, size), 1, 2, 5, 20)

    starts = [t for c, t in tags if c == 1]
    since = [
        t - max(s for s in starts if s <= t)
        for c, t in tags
        if c == 2 and t >= min(starts, default=301)
    ]
    assert found.counts.tolist() == [sum(x // 5 == k for x in since) for k in range(20)]
    assert found.total == len(since)


def test_a_channel_does_not_stop_itself() -> None:
    with pytest.raises(ValueError, match="inter-arrival"):
        start_stop_histogram([], 1, 1, 10, 10)


@pytest.mark.parametrize(("bin_ps", "bins"), [(0, 10), (10, 0), (1, 10**9)])
def test_impossible_bins_are_refused(bin_ps: int, bins: int) -> None:
    with pytest.raises(ValueError, match="possible"):
        inter_arrival_histogram([], 1, bin_ps, bins)


@pytest.mark.parametrize("size", [1, 2])
def test_tags_out_of_order_are_refused(size: int) -> None:
    tags = [(1, 10), (1, 5)]

    with pytest.raises(OrderError):
        inter_arrival_histogram(in_blocks(tags, size), 1, 1, 10)
    with pytest.raises(OrderError):
        count_rates(in_blocks(tags, size))


def detector(
    tags: int, rate_hz: float, dead_time_ps: float, afterpulse: float, seed: int
) -> NDArray[np.int64]:
    """Tags of a detector whose afterpulses decay within 100 ns."""
    rng = np.random.default_rng(seed)
    wait = rng.exponential(1e12 / rate_hz, tags)
    release = np.where(rng.random(tags) < afterpulse, rng.exponential(1e5, tags), np.inf)
    return np.cumsum(dead_time_ps + np.minimum(wait, release)).astype(np.int64)


def intervals(time_ps: NDArray[np.int64]) -> Histogram:
    stream = [TagBlock(np.ones(len(time_ps), dtype=np.int16), time_ps)]
    return inter_arrival_histogram(stream, 1, 1000, 2000)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("afterpulse", [0.0, 0.03])
def test_dead_time_rate_and_afterpulsing_come_back_within_their_errors(
    seed: int, afterpulse: float
) -> None:
    found = estimate_dead_time(intervals(detector(200_000, 2e5, 45_300, afterpulse, seed)))

    assert found.dead_time_ps == pytest.approx(45_300, abs=4 * found.dead_time_error_ps)
    assert found.rate_hz == pytest.approx(2e5, abs=4 * found.rate_error_hz)
    assert found.afterpulse == pytest.approx(afterpulse, abs=4 * found.afterpulse_error)
    assert found.afterpulse_error < 0.003


def test_without_a_dead_time_none_is_found() -> None:
    found = estimate_dead_time(intervals(detector(200_000, 2e5, 0, 0, 1)))

    assert found.dead_time_ps == pytest.approx(0, abs=2 * found.dead_time_error_ps)


@pytest.mark.parametrize("tags", [0, 20, 300])
def test_too_few_tags_give_no_dead_time(tags: int) -> None:
    with pytest.raises(TooFewTagsError):
        estimate_dead_time(intervals(detector(tags, 2e5, 45_000, 0, 1)))
