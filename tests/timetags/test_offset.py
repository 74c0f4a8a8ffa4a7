import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.clocks import ClockOffset
from timetags.coincidences import count_coincidences
from timetags.matching import TwoStreams
from timetags.offset import OffsetSearch, find_offset, find_offset_of_streams

Times = NDArray[np.int64]

RATE_HZ = 1e5
EFFICIENCY = 0.01
JITTER_PS = 200.0
"""Of each detector."""


def receivers(
    seed: int,
    offset_s: float = 0.7,
    drift_ppm: float = 1.0,
    efficiency: float = EFFICIENCY,
    duration_s: float = 5.0,
    rate_hz: float = RATE_HZ,
) -> tuple[Times, Times]:
    """Two receivers, a share of whose tags are pairs; the second one's clock is off and drifts."""
    rng = np.random.default_rng(seed)
    pairs = rng.uniform(0, duration_s, rng.poisson(efficiency * rate_hz * duration_s))
    singles = (1 - efficiency) * rate_hz * duration_s
    a_s, b_s = (
        np.concatenate(
            [
                pairs + rng.normal(0, JITTER_PS * 1e-12, len(pairs)),
                rng.uniform(0, duration_s, rng.poisson(singles)),
            ]
        )
        for _ in range(2)
    )
    b_s = offset_s + b_s * (1 + drift_ppm * 1e-6)
    first, second = (np.sort(np.rint(t_s * 1e12).astype(np.int64)) for t_s in (a_s, b_s))
    return first, second


def stream(time_ps: Times, channel: int, size: int = 1 << 16) -> list[TagBlock]:
    return [
        TagBlock(np.full(len(part), channel, dtype=np.int16), part)
        for part in (time_ps[first : first + size] for first in range(0, len(time_ps), size))
    ]


def check(search: OffsetSearch, offset_s: float, drift_ppm: float) -> ClockOffset:
    """Assert that the clock was found within its errors, and the offset to 1 ns."""
    clock = search.clock
    assert clock is not None
    true_ps = offset_s * 1e12 + drift_ppm * 1e-6 * clock.reference_ps
    assert abs(clock.offset_ps - true_ps) < 1000
    assert clock.offset_ps == pytest.approx(true_ps, abs=5 * clock.offset_error_ps + 1)
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=5 * clock.drift_error_ppm)
    assert search.false_alarm < 1e-6
    return clock


@pytest.mark.parametrize("seed", range(3))
def test_two_receivers_find_each_other_and_the_peak_has_its_visibility(seed: int) -> None:
    a_ps, b_ps = receivers(seed)

    search = find_offset_of_streams(
        stream(a_ps, 1), 1, stream(b_ps, 2), 2, max_offset_s=1.0, max_drift_ppm=3.0
    )

    clock = check(search, 0.7, 1.0)
    assert clock.spread_ps == pytest.approx(math.hypot(JITTER_PS, JITTER_PS), rel=0.1)
    channels = TwoStreams(stream(a_ps, 1), 1, stream(b_ps, 2), 2, clock.to_a)
    found = count_coincidences(channels, 2000)
    pairs, accidentals = EFFICIENCY * RATE_HZ, RATE_HZ**2 * 2e-9  # a second; all within 3.5 sigma
    expected = pairs / (pairs + 2 * accidentals)
    assert found.visibility == pytest.approx(expected, abs=5 * found.visibility_error)
    assert found.efficiencies[0] == pytest.approx(EFFICIENCY, rel=0.1)
    assert found.duration_s == pytest.approx(5.0, rel=0.001)


@pytest.mark.parametrize(
    ("offset_s", "drift_ppm"), [(-0.35, -2.6), (0.0, 0.0), (0.4999, 2.9), (1e-6, 0.01)]
)
def test_every_offset_and_drift_in_range_is_found(offset_s: float, drift_ppm: float) -> None:
    a_ps, b_ps = receivers(7, offset_s, drift_ppm, efficiency=0.03, duration_s=3.0)

    check(find_offset(a_ps, b_ps, max_offset_s=0.5, max_drift_ppm=3.0), offset_s, drift_ppm)


def test_an_offset_is_found_around_what_is_expected() -> None:
    a_ps, b_ps = receivers(3, 86_400.3, 1.0, efficiency=0.1, duration_s=3.0)

    search = find_offset_of_streams(
        stream(a_ps, 1), 1, stream(b_ps, 1), 1, max_offset_s=0.5, expected_ps=86_400 * 10**12
    )

    check(search, 86_400.3, 1.0)


def test_a_few_pairs_of_dark_receivers_are_enough() -> None:
    a_ps, b_ps = receivers(4, 0.2, 1.0, efficiency=0.3, duration_s=4.0, rate_hz=100.0)

    check(find_offset(a_ps, b_ps, max_offset_s=0.5), 0.2, 1.0)


@pytest.mark.parametrize("seed", range(12))
def test_receivers_without_pairs_find_nothing(seed: int) -> None:
    a_ps, b_ps = receivers(seed, efficiency=0.0, duration_s=1.0)

    search = find_offset(a_ps, b_ps, max_offset_s=0.2, max_drift_ppm=3.0, max_bins=1 << 18)

    assert search.clock is None
    assert search.false_alarm > 1e-4


def test_an_offset_out_of_range_is_not_found() -> None:
    a_ps, b_ps = receivers(1, 0.7, efficiency=0.1, duration_s=2.0)

    assert find_offset(a_ps, b_ps, max_offset_s=0.3, max_bins=1 << 20).clock is None


@pytest.mark.parametrize("count", [0, 1])
def test_receivers_without_tags_find_nothing(count: int) -> None:
    nothing = np.arange(count, dtype=np.int64)

    search = find_offset_of_streams(stream(nothing, 1), 1, stream(nothing, 1), 1)

    assert (search.clock, search.false_alarm) == (None, 1.0)


def test_light_that_flickers_for_both_is_no_offset() -> None:
    rng = np.random.default_rng(5)
    a_ps, b_ps = (
        np.sort(np.rint(t_s[rng.random(len(t_s)) < 0.5 + 0.4 * np.sin(628 * t_s)] * 1e12))
        for t_s in rng.uniform(0, 2.0, (2, 400_000))
    )

    search = find_offset(
        a_ps.astype(np.int64), b_ps.astype(np.int64), max_offset_s=0.3, max_bins=1 << 18
    )

    assert search.clock is None


@given(
    st.lists(st.integers(-(10**15), 10**15), min_size=2, max_size=20),
    st.floats(-1e13, 1e13),
    st.floats(-5, 5),
)
def test_translating_keeps_the_order_and_undoes_the_offset(
    times: list[int], offset_ps: float, drift_ppm: float
) -> None:
    clock = ClockOffset(10**12, offset_ps, drift_ppm=drift_ppm)
    seen_ps = np.sort(np.array(times, dtype=np.int64))

    translated = clock.to_a(seen_ps)

    assert np.all(np.diff(translated) >= 0)
    back = [t + clock.offset_at_ps(t) for t in translated.tolist()]
    assert back == pytest.approx(seen_ps.tolist(), abs=1.5)
