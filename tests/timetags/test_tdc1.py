"""The TDC1's stream, against words made from the format description and not by our own encoder."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.tdc1 import Tdc1Decoder, Tdc1Encoder

ROLLOVER_NS = 2**28


def word(time_ns: int, pattern: int) -> bytes:
    """One event as the format description has it."""
    return (((time_ns // 2) % 2**27) << 5 | pattern).to_bytes(4, "little")


def stream(events: list[tuple[int, int]]) -> bytes:
    return b"".join(word(time_ns, pattern) for time_ns, pattern in events)


def decode(data: bytes, *cuts: int) -> list[tuple[int, int]]:
    decoder = Tdc1Decoder()
    bounds = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    blocks = [*(decoder.feed(piece) for piece in pieces), decoder.finish()]
    return [tag for block in blocks for tag in tags(block)]


def tags(block: TagBlock) -> list[tuple[int, int]]:
    assert block.channel.dtype == np.int16
    assert block.time_ps.dtype == np.int64
    return list(zip(block.channel.tolist(), block.time_ps.tolist(), strict=True))


def with_dummies(times_ns: NDArray[np.int64], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Events on one random input each, and a dummy event every half rollover."""
    events = [(t, 1 << int(rng.integers(4))) for t in times_ns.tolist()]
    dummies = range(ROLLOVER_NS // 2, int(times_ns[-1]), ROLLOVER_NS // 2)
    return sorted([*events, *((t, 0x10) for t in dummies)])


def steady(rate_hz: float, n: int, seed: int) -> list[tuple[int, int]]:
    """A Poisson stream of one rate."""
    rng = np.random.default_rng(seed)
    gaps_ns = rng.exponential(1e9 / rate_hz, n).astype(np.int64) // 2 * 2 + 2
    return with_dummies(np.cumsum(gaps_ns) + int(rng.integers(ROLLOVER_NS)) // 2 * 2, rng)


def expected(events: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (n, 1000 * t)
        for t, pattern in events
        if not pattern & 0x10
        for n in (1, 2, 3, 4)
        if pattern >> (n - 1) & 1
    ]


def test_the_worked_example_is_input_2_after_1000_ns() -> None:
    assert decode(bytes.fromhex("82 3E 00 00")) == [(2, 1_000_000)]


def test_several_bits_of_a_pattern_are_as_many_tags_of_one_time() -> None:
    assert decode(word(10, 0b1011) + word(20, 0b0100)) == [
        (1, 10_000),
        (2, 10_000),
        (4, 10_000),
        (3, 20_000),
    ]


def test_a_dummy_event_is_no_tag() -> None:
    assert decode(word(10, 0x1F) + word(20, 0x10) + word(30, 1)) == [(1, 30_000)]


def test_a_dummy_event_carries_the_time_over_a_rollover() -> None:
    data = word(ROLLOVER_NS - 2, 1) + word(ROLLOVER_NS * 3 // 2, 0x10) + word(2 * ROLLOVER_NS, 1)
    assert decode(data) == [(1, 1000 * (ROLLOVER_NS - 2)), (1, 1000 * 2 * ROLLOVER_NS)]


def test_a_small_step_back_is_no_rollover() -> None:
    assert decode(word(1_000_000, 1) + word(999_996, 2)) == [(1, 10**9), (2, 999_996_000)]


def test_words_out_of_order_around_a_rollover_do_not_count_it_twice() -> None:
    events = [
        (ROLLOVER_NS - 8, 1),
        (ROLLOVER_NS + 2, 1),
        (ROLLOVER_NS - 2, 1),
        (ROLLOVER_NS + 6, 1),
    ]
    assert decode(stream(events)) == expected(events)


def test_half_a_word_at_the_end_is_left_over() -> None:
    decoder = Tdc1Decoder()
    decoder.feed(word(10, 1) + b"\x01\x02\x03")
    decoder.finish()
    assert decoder.held_bytes == 3


def test_an_empty_stream_has_no_tags() -> None:
    assert decode(b"") == []


@pytest.mark.parametrize("rate_hz", [0.5, 5.0, 50.0, 500.0, 1e4, 1e6, 2e7])
def test_a_whole_stream_shows_no_slip_at_any_rate(rate_hz: float) -> None:
    events = steady(rate_hz, 3000, seed=1)
    decoder = Tdc1Decoder()
    first, last = decoder.feed(stream(events)), decoder.finish()
    first_rollover_ns = events[0][0] // ROLLOVER_NS * ROLLOVER_NS
    assert decoder.slip_total == 0
    assert [*tags(first), *tags(last)] == [
        (n, t - 1000 * first_rollover_ns) for n, t in expected(events)
    ]


@pytest.mark.parametrize("period_ns", [8192, 8192 * 500, 2**27, 2**28 - 8192])
def test_a_pulse_train_with_the_period_of_half_a_word_shows_no_slip(period_ns: int) -> None:
    decoder = Tdc1Decoder()
    decoder.feed(stream([(period_ns * k, 1) for k in range(1, 3000)]))
    decoder.finish()
    assert decoder.slip_total == 0


@pytest.mark.parametrize("rate_hz", [300.0, 1e4, 3e5, 1e6, 5e6, 2e7])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_missing", [True, False])
def test_a_slip_costs_a_few_words_and_nothing_is_invented(
    rate_hz: float, seed: int, is_missing: bool
) -> None:
    events = steady(rate_hz, 6000, seed=seed)
    whole = stream(events)
    at = 4 * (1500 + 701 * seed) + (2 if seed % 2 else 0)
    data = whole[:at] + (whole[at + 2 :] if is_missing else b"\xa5\x5a" + whole[at:])
    decoder = Tdc1Decoder()
    got = [*tags(decoder.feed(data)), *tags(decoder.finish())]

    zero_ns = events[0][0] // ROLLOVER_NS * ROLLOVER_NS
    right = [(n, t - 1000 * zero_ns) for n, t in expected(events)]
    assert decoder.slip_total == 1
    slip = decoder.slips[0]
    assert slip.offset_bytes <= at < slip.offset_bytes + slip.skipped_bytes
    assert set(got) <= set(right)
    assert len(got) >= len(right) - 5


def test_slip_after_slip_is_found() -> None:
    events = steady(1e6, 20_000, seed=2)
    data = bytearray(stream(events))
    for at in (60_000, 40_002, 20_000):
        del data[at : at + 2]
    decoder = Tdc1Decoder()
    got = [*tags(decoder.feed(bytes(data))), *tags(decoder.finish())]
    assert decoder.slip_total == 3
    assert len(got) >= len(events) - 12


EVENTS = st.lists(
    st.tuples(st.integers(0, 2**27), st.integers(0, 15)), min_size=1, max_size=60
).map(lambda gaps: _summed(gaps))


def _summed(gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Events from gaps of less than a rollover, so that none is ambiguous."""
    time_ns, events = 0, []
    for gap, pattern in gaps:
        time_ns += gap // 2 * 2
        events.append((time_ns, pattern))
    return events


@given(EVENTS)
def test_any_events_come_back(events: list[tuple[int, int]]) -> None:
    assert decode(stream(events)) == expected(events)


@given(EVENTS, st.data())
def test_any_cut_into_pieces_gives_the_same_tags(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    whole = stream(events)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8))
    assert decode(whole, *cuts) == decode(whole)


@given(st.integers(0, 200), st.lists(st.integers(0, 8000), max_size=40), st.booleans())
def test_any_cut_gives_the_same_tags_where_bytes_are_missing(
    seed: int, cuts: list[int], is_busy: bool
) -> None:
    whole = stream(steady(2e6 if is_busy else 2e3, 2000, seed=seed))
    damaged = whole[:3000] + whole[3002:5000] + whole[5002:]
    assert decode(damaged, *cuts) == decode(damaged)


@given(st.binary(max_size=4000), st.lists(st.integers(0, 4000), max_size=10))
def test_any_bytes_at_all_give_the_same_tags_however_cut(data: bytes, cuts: list[int]) -> None:
    assert decode(data, *(min(cut, len(data)) for cut in cuts)) == decode(data)


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 4)), max_size=50),
    st.integers(0, 50),
)
def test_what_is_encoded_comes_back(gaps: list[tuple[int, int]], cut: int) -> None:
    times = np.cumsum([gap // 2000 * 2000 for gap, _ in gaps], dtype=np.int64)
    channels = np.array([n for _, n in gaps], dtype=np.int16)
    encoder = Tdc1Encoder()
    data = encoder.feed(TagBlock(channels[:cut], times[:cut]))
    data += encoder.feed(TagBlock(channels[cut:], times[cut:]))
    assert decode(data) == list(zip(channels.tolist(), times.tolist(), strict=True))


@pytest.mark.parametrize(
    ("channel", "time_ps"), [([5], [0]), ([0], [0]), ([1, 1], [4000, 2000]), ([1], [-2000])]
)
def test_what_no_stream_can_hold_is_refused(channel: list[int], time_ps: list[int]) -> None:
    block = TagBlock(np.array(channel, np.int16), np.array(time_ps, np.int64))
    with pytest.raises(ValueError, match=r"TDC1|order"):
        Tdc1Encoder().feed(block)
