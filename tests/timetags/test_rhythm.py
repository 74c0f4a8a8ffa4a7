import numpy as np
import pytest
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.fold import Slots, fold
from timetags.rhythm import find_rhythm, find_shift
from timetags.sifting import sift

SLOT_PS = 1000.02
"""20 ppm longer than nominal."""

STATES = np.arange(12) % 4
INTENSITIES = np.arange(12) % 3
BRIGHTNESS = np.array([1.0, 0.3, 0.05])[INTENSITIES]
STARTS_PS = {1: 420.0, 2: 5130.0, 3: 77_000.0, 4: -12_340.0}
"""When slot 0 begins in each channel; the tags come much later."""


def light(seed: int, tags: int = 40_000, duration_s: float = 0.05) -> dict[int, NDArray[np.int64]]:
    """Four detectors that see their own state twice as bright as the others."""
    rng = np.random.default_rng(seed)
    times = {}
    for detector, (channel, start_ps) in enumerate(STARTS_PS.items()):
        weight = BRIGHTNESS * np.where(detector == STATES, 2.0, 1.0)
        slot = rng.choice(12, tags, p=weight / weight.sum())
        slot += 12 * rng.integers(0, round(duration_s * 1e12 / SLOT_PS / 12), tags)
        place = (slot + 0.5) * SLOT_PS + start_ps + 10**15 + rng.normal(0, 120, tags)
        times[channel] = np.sort(np.rint(place).astype(np.int64))
    return times


@pytest.mark.parametrize("seed", range(3))
def test_slot_and_phase_are_found_so_that_tags_can_be_folded(seed: int) -> None:
    times = light(seed)

    rhythm = find_rhythm(times, 1000.0)

    assert rhythm is not None
    assert rhythm.slot_ps == pytest.approx(SLOT_PS, abs=5 * rhythm.slot_error_ps)
    assert rhythm.slot_error_ps < 1e-6
    assert rhythm.strength[1] == pytest.approx(np.exp(-2 * (np.pi * 0.12) ** 2), abs=0.02)
    blocks = [TagBlock(np.full(len(t), n, dtype=np.int16), t) for n, t in times.items()]
    slots = Slots(rhythm.slot_ps, 12, 600)
    folded = fold(blocks, slots, rhythm.delays_ps)
    assert folded.counts.sum() > 0.97 * 160_000
    delays_ps = dict(rhythm.delays_ps)
    for column, channel in enumerate(folded.channels):
        shift = find_shift(folded.counts[:, column], BRIGHTNESS)
        assert shift is not None
        delays_ps[channel] += round(shift * rhythm.slot_ps)
    table = sift(fold(blocks, slots, delays_ps), STATES, INTENSITIES)
    assert np.all(table[0].sum() > 2 * table[1].sum())
    assert np.all(table[1].sum() > 2 * table[2].sum())


def test_light_without_rhythm_has_none() -> None:
    rng = np.random.default_rng(1)
    times = {n: np.sort(rng.integers(0, 10**11, 5000)) for n in (1, 2)}

    assert find_rhythm(times, 1000.0) is None


@pytest.mark.parametrize("times", [{}, {1: []}, {1: [5]}, {1: [5, 5]}])
def test_hardly_any_tags_have_no_rhythm(times: dict[int, list[int]]) -> None:
    assert find_rhythm({n: np.array(t, dtype=np.int64) for n, t in times.items()}, 1000.0) is None


def test_too_long_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        find_rhythm({1: np.array([0, 10**15])}, 1000.0)


@pytest.mark.parametrize("late", range(3))
def test_counts_that_lag_the_pattern_say_by_how_much(late: int) -> None:
    counts = np.roll(np.rint(1000 * BRIGHTNESS).astype(np.int64), late)

    assert find_shift(counts, BRIGHTNESS) == late


@pytest.mark.parametrize("counts", [np.zeros(12, dtype=np.int64), np.full(12, 100)])
def test_counts_that_follow_no_pattern_have_no_shift(counts: NDArray[np.int64]) -> None:
    assert find_shift(counts, BRIGHTNESS) is None
