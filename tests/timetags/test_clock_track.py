import numpy as np
import pytest
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.clock_track import follow_clock
from timetags.clocks import ClockOffset
from timetags.coincidences import count_coincidences
from timetags.matching import TwoStreams

Times = NDArray[np.int64]

OFFSET_S, DRIFT_PPM, JITTER_PS = 0.3, 1.0, 200.0
PAIRS_HZ, SINGLES_HZ, DURATION_S = 2000.0, 20_000.0, 30.0


def wander_ps(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A swing of 100 ns either way within the recording."""
    swing: NDArray[np.float64] = 1e5 * np.sin(2 * np.pi * time_s / 30)
    return swing


def streams(seed: int, dark_s: tuple[float, float] = (0, 0)) -> tuple[Times, Times]:
    """Two receivers with pairs, except while it is dark."""
    rng = np.random.default_rng(seed)
    pairs = rng.uniform(0, DURATION_S, rng.poisson(PAIRS_HZ * DURATION_S))
    pairs = pairs[(pairs < dark_s[0]) | (pairs > dark_s[1])]
    a_s, b_s = (
        np.concatenate(
            [
                pairs + rng.normal(0, JITTER_PS * 1e-12, len(pairs)),
                rng.uniform(0, DURATION_S, rng.poisson(SINGLES_HZ * DURATION_S)),
            ]
        )
        for _ in range(2)
    )
    b_s = OFFSET_S + b_s * (1 + DRIFT_PPM * 1e-6) + wander_ps(b_s) * 1e-12
    first, second = (np.sort(np.rint(t_s * 1e12).astype(np.int64)) for t_s in (a_s, b_s))
    return first, second


def stream(time_ps: Times) -> list[TagBlock]:
    return [TagBlock(np.ones(len(time_ps), dtype=np.int16), time_ps)]


BEGIN = ClockOffset(0, OFFSET_S * 1e12, drift_ppm=DRIFT_PPM + 0.0209, spread_ps=1.5 * JITTER_PS)
"""What is seen at the beginning, where the swing looks like so much more drift."""


@pytest.mark.parametrize("seed", range(2))
def test_a_wandering_clock_is_followed_where_a_straight_line_loses_it(seed: int) -> None:
    a_ps, b_ps = streams(seed)

    track = follow_clock(stream(a_ps), 1, stream(b_ps), 1, BEGIN)

    true_ps = (
        OFFSET_S * 1e12 + DRIFT_PPM * 1e-6 * track.times_ps + wander_ps(track.times_ps * 1e-12)
    )
    seen_ps = np.array([BEGIN.offset_at_ps(t) for t in track.times_ps]) + track.beside_ps
    pulls = (seen_ps - true_ps) / track.errors_ps
    assert len(track.times_ps) > 150
    assert np.sqrt(np.mean(pulls**2)) < 1.3
    straight, followed = (
        count_coincidences(TwoStreams(stream(a_ps), 1, stream(b_ps), 1, to_a), 2000)
        for to_a in (BEGIN.to_a, track.to_a)
    )
    assert straight.true_pairs < 0.5 * PAIRS_HZ * DURATION_S
    assert followed.true_pairs == pytest.approx(PAIRS_HZ * DURATION_S, rel=0.02)


def test_where_pairs_fail_the_track_has_no_more_points() -> None:
    a_ps, b_ps = streams(3, dark_s=(4.0, 40.0))

    track = follow_clock(stream(a_ps), 1, stream(b_ps), 1, BEGIN)

    assert 3.5e12 < track.times_ps[-1] < 4.5e12


def test_without_pairs_the_track_is_the_line_itself() -> None:
    line = ClockOffset(0, 1000.0, drift_ppm=1.0, spread_ps=100.0)

    track = follow_clock([], 1, [], 1, line)

    times = np.arange(0, 10**12, 10**11)
    assert np.array_equal(track.to_a(times), line.to_a(times))


def test_translating_keeps_the_order() -> None:
    a_ps, b_ps = streams(4)

    track = follow_clock(stream(a_ps), 1, stream(b_ps), 1, BEGIN)

    assert np.all(np.diff(track.to_a(np.arange(0, 31 * 10**12, 10**7))) >= 0)
