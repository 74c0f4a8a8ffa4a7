import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetags.block import TagBlock
from timetags.fold import Slots, fold
from timetags.sifting import sift

DELAYS_PS = {1: 0, 2: 333, -3: -70_000, 4: 10**13 + 1}


def block(tags: list[tuple[int, int]]) -> TagBlock:
    channel, time_ps = zip(*tags, strict=True) if tags else ((), ())
    return TagBlock(np.array(channel, dtype=np.int16), np.array(time_ps, dtype=np.int64))


def folded_plainly(
    tags: list[tuple[int, int]], slots: Slots, delays_ps: dict[int, int]
) -> tuple[list[list[int]], list[int], int]:
    """Fold one tag after the other with exact fractions."""
    counts = [[0] * len(delays_ps) for _ in range(slots.period)]
    outside, other = [0] * len(delays_ps), 0
    for channel, time_ps in tags:
        if channel not in delays_ps:
            other += 1
            continue
        detector = list(delays_ps).index(channel)
        place = (time_ps - delays_ps[channel]) / Fraction(slots.slot_ps)
        slot = place.__floor__()
        from_centre_ps = abs(place - slot - Fraction(1, 2)) * Fraction(slots.slot_ps)
        if slots.gate_ps is None or from_centre_ps <= Fraction(slots.gate_ps) / 2:
            counts[slot % slots.period][detector] += 1
        else:
            outside[detector] += 1
    return counts, outside, other


SLOT_PS: st.SearchStrategy[Fraction | float] = st.one_of(
    st.sampled_from([1, 2, 800, 1000, Fraction(10**12, 300_000_000), 999.9993217, 1e9, 3.7]),
    st.fractions(1, 10**6, max_denominator=10**9),
    st.floats(1, 1e12),
)


@st.composite
def slots(draw: st.DrawFn) -> Slots:
    slot_ps = draw(SLOT_PS)
    shares = [None, Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(1e-9)]
    share = draw(st.sampled_from(shares))
    gate_ps = None if share is None else Fraction(slot_ps) * share
    return Slots(slot_ps, draw(st.sampled_from([1, 2, 12, 1000, 4097])), gate_ps)


@st.composite
def tags_near_edges(draw: st.DrawFn, pattern: Slots) -> list[tuple[int, int]]:
    slot_ps = Fraction(pattern.slot_ps)
    edge = st.sampled_from([Fraction(0), Fraction(1, 2), *pattern.edges])
    number = st.integers(-(10**15), 10**15).map(lambda n: int(n / slot_ps))
    times = st.builds(
        lambda n, e, by, delay: int((n + e) * slot_ps) + by + delay,
        number,
        edge,
        st.integers(-2, 2),
        st.sampled_from(list(DELAYS_PS.values())),
    )
    return draw(st.lists(st.tuples(st.sampled_from([1, 2, -3, 4, 5]), times), max_size=30))


@given(data=st.data(), pattern=slots())
def test_counts_are_those_of_exact_arithmetic(data: st.DataObject, pattern: Slots) -> None:
    tags = data.draw(tags_near_edges(pattern))

    folded = fold([block(tags)], pattern, DELAYS_PS)

    counts, outside, other = folded_plainly(tags, pattern, DELAYS_PS)
    assert folded.counts.tolist() == counts
    assert folded.outside.tolist() == outside
    assert folded.other == other


@pytest.mark.parametrize("slot_ps", [1000, 999.9993217, Fraction(10_000, 3)])
def test_a_long_stream_is_folded_exactly(slot_ps: float) -> None:
    rng = np.random.default_rng(5)
    time_ps = np.sort(rng.integers(0, 10**12, 3000))
    channel = rng.integers(1, 6, 3000).astype(np.int16)
    pattern = Slots(slot_ps, 12, 600)
    tags = list(zip(channel.tolist(), time_ps.tolist(), strict=True))

    folded = fold([TagBlock(channel, time_ps)], pattern, DELAYS_PS)

    assert folded.counts.tolist() == folded_plainly(tags, pattern, DELAYS_PS)[0]


@given(cuts=st.lists(st.integers(0, 200), max_size=4), seed=st.integers(0, 9))
def test_how_a_stream_is_cut_into_blocks_does_not_matter(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    channel = rng.integers(1, 5, 200).astype(np.int16)
    time_ps = rng.integers(-(10**9), 10**14, 200)
    edges = [0, *sorted(cuts), 200]
    parts = [TagBlock(channel[a:b], time_ps[a:b]) for a, b in pairwise(edges)]

    whole, cut = (
        fold(blocks, Slots(777.7, 12, 300), {1: 0, 2: 5, 3: 7})
        for blocks in ([TagBlock(channel, time_ps)], parts)
    )

    assert np.array_equal(whole.counts, cut.counts)
    assert (whole.first_ps, whole.last_ps) == (cut.first_ps, cut.last_ps)


def test_an_empty_stream_has_no_counts_and_no_times() -> None:
    folded = fold([], Slots(1000, 4), {1: 0})

    assert folded.counts.sum() == folded.other == 0
    assert folded.first_ps is folded.last_ps is None


def test_memory_does_not_grow_with_the_stream() -> None:
    channel = np.ones(1 << 16, dtype=np.int16)

    def stream(blocks: int) -> Iterator[TagBlock]:
        for number in range(blocks):
            yield TagBlock(channel, np.arange(1 << 16) + number * 10**9)

    def peak(blocks: int) -> int:
        tracemalloc.start()
        fold(stream(blocks), Slots(1000, 12, 500), {1: 0})
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(40) < peak(4) * 1.1


@pytest.mark.parametrize(
    ("slot_ps", "period", "gate_ps"),
    [(0.5, 4, None), (float("nan"), 4, None), (1000, 0, None), (1000, 4, 1001), (1000, 4, 0)],
)
def test_impossible_slots_are_refused(slot_ps: float, period: int, gate_ps: float | None) -> None:
    with pytest.raises(ValueError, match="slot"):
        Slots(slot_ps, period, gate_ps)


@pytest.mark.parametrize("delays_ps", [{}, {40_000: 0}])
def test_what_cannot_be_a_detector_is_refused(delays_ps: dict[int, int]) -> None:
    with pytest.raises(ValueError, match=r"detector|channel"):
        fold([], Slots(1000, 4), delays_ps)


def test_slots_are_added_up_by_what_was_sent_in_them() -> None:
    tags = [(channel, 1000 * slot + 500) for channel in (1, 2) for slot in range(6)]
    folded = fold([block([*tags, (2, 500)])], Slots(1000, 6), {1: 0, 2: 0})

    table = sift(folded, [0, 1, 2, 3, 0, 0], [0, 0, 0, 0, 1, 1])

    assert table.shape == (2, 4, 2)
    assert table[0].tolist() == [[1, 2], [1, 1], [1, 1], [1, 1]]
    assert table[1].tolist() == [[2, 2], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("states", "intensities"),
    [([0, 1], None), ([0, 4, 0], None), ([0, -1, 0], None), ([0, 1, 2], [0, 1])],
)
def test_a_pattern_that_does_not_fit_is_refused(
    states: list[int], intensities: list[int] | None
) -> None:
    with pytest.raises(ValueError, match=r"states|intensities"):
        sift(fold([], Slots(1000, 3), {1: 0}), states, intensities)
