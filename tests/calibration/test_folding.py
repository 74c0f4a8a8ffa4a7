import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.clicks import STATES
from calibration.folding import Pattern, find_delays, fold
from drivers.roles import TimeTags

DECOY = ("signal", "signal", "signal", "decoy", "vacuum")
PATTERN = Pattern("HVDA", DECOY, 1e8)
INPUTS = {"H": 1, "V": 2, "D": 3, "A": 4}
NO_DELAY = dict.fromkeys(STATES, 0.0)


def tags_of(
    table: NDArray[np.int64],
    pattern: Pattern,
    delays_ps: dict[str, float],
    rng: np.random.Generator,
    jitter_ps: float = 0.0,
) -> TimeTags:
    """Stamp a table of counts (intensity, state, detector) as a tagger would, in any order."""
    since_sync = {}
    for column, detector in enumerate(STATES):
        slots = []
        for intensity in range(len(pattern.intensity_names)):
            for state in range(len(STATES)):
                places = np.flatnonzero(
                    (pattern.intensity_of_slot == intensity) & (pattern.state_of_slot == state)
                )
                slots.append(rng.choice(places, table[intensity, state, column]))
        slot = np.concatenate(slots)
        offset_ps = np.clip(rng.normal(0, jitter_ps, len(slot)), -4000, 4000)
        time_ps = (slot + 0.5) * pattern.slot_ps + delays_ps[detector] + offset_ps
        time_ps %= pattern.period * pattern.slot_ps
        since_sync[INPUTS[detector]] = rng.permutation(np.floor(time_ps).astype(np.uint64))
    return TimeTags(0.01, since_sync)


def evenly_spread(count: int, rng: np.random.Generator) -> TimeTags:
    period_ps = int(PATTERN.period * PATTERN.slot_ps)
    return TimeTags(
        0.01, {n: rng.integers(0, period_ps, count).astype(np.uint64) for n in INPUTS.values()}
    )


def bright_table(rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw counts of a link with a mean photon number of 0.5, 0.1 and nothing."""
    share = rng.dirichlet([2, 2, 2, 2], size=4)
    mean = 4000 * share * np.array([0.5 * 3, 0.1, 0.0])[:, None, None]
    counts: NDArray[np.int64] = rng.poisson(mean)
    return counts


@given(seed=st.integers(0, 2**32), delay_ps=st.floats(-1e6, 1e6))
@settings(max_examples=30)
def test_folding_recovers_the_table_that_was_sent_at_any_delay(seed: int, delay_ps: float) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 30, (3, 4, 4))
    delays_ps = {detector: delay_ps + 1000 * n for n, detector in enumerate(STATES)}
    tags = tags_of(table, PATTERN, delays_ps, rng, jitter_ps=300)

    window = fold(tags, PATTERN, INPUTS, delays_ps, PATTERN.slot_ps, start_s=7.0)

    assert window.clicks.tolist() == table.tolist()
    assert window.singles.tolist() == table.sum(axis=(0, 1)).tolist()


@given(
    st.permutations("HVDAHVDA"),
    st.lists(st.sampled_from(("signal", "decoy", "vacuum")), min_size=1, max_size=7),
    st.floats(1e6, 5e9),
)
def test_a_pattern_sends_every_state_with_every_intensity_or_is_refused(
    states: list[str], intensities: list[str], clock_hz: float
) -> None:
    try:
        pattern = Pattern("".join(states), tuple(intensities), clock_hz)
    except ValueError:
        return
    sent = set(zip(pattern.state_of_slot, pattern.intensity_of_slot, strict=True))

    assert len(sent) == 4 * len(set(intensities))
    assert pattern.intensity_names[0] == "signal"


def test_a_pattern_with_a_missing_combination_says_how_to_mend_it() -> None:
    with pytest.raises(
        ValueError, match=r"state V is never sent with intensity 'signal'.*common factor"
    ):
        Pattern("HVDA", ("signal", "decoy"), 1e8)


@pytest.mark.parametrize(
    ("states", "intensities", "clock_hz", "complaint"),
    [
        ("HVDX", DECOY, 1e8, "unknown state 'X'"),
        ("HVDA", ("decoy",), 1e8, "never sends the signal"),
        ("HVDA", DECOY, 0.0, "clock"),
        ("HVDA", DECOY, math.nan, "clock"),
        ("HVDA" * 101, ("signal",) * 997, 1e8, "shorten"),
    ],
)
def test_impossible_patterns_are_refused(
    states: str, intensities: tuple[str, ...], clock_hz: float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Pattern(states, intensities, clock_hz)


def test_a_signal_by_any_other_name_comes_first() -> None:
    pattern = Pattern("HVDA", ("weak", "bright", "bright"), 1e8, signal="bright")

    assert pattern.intensity_names == ("bright", "weak")


def test_clicks_outside_of_the_gate_count_as_singles_only() -> None:
    centre_ps = 5000
    early, inside, late = centre_ps - 501, centre_ps + 499, centre_ps + 501
    tags = TimeTags(1.0, dict.fromkeys(INPUTS.values(), np.array([early, inside, late], np.uint64)))

    window = fold(tags, PATTERN, INPUTS, NO_DELAY, gate_ps=1000, start_s=0.0)

    assert window.clicks.sum() == 4
    assert window.singles.tolist() == [3, 3, 3, 3]


def test_timing_moments_are_those_of_the_arrivals_about_the_slots_centre() -> None:
    rng = np.random.default_rng(3)
    late_ps = {"H": 0.0, "V": 200.0, "D": -300.0, "A": 50.0}
    tags = tags_of(bright_table(rng), PATTERN, late_ps, rng, jitter_ps=150)

    window = fold(tags, PATTERN, INPUTS, NO_DELAY, PATTERN.slot_ps, start_s=0.0)

    assert window.timing_mean_ps == pytest.approx(list(late_ps.values()), abs=15)
    assert window.timing_std_ps == pytest.approx([150] * 4, rel=0.1)


def test_light_is_not_dark() -> None:
    rng = np.random.default_rng(1)
    tags = tags_of(bright_table(rng) // 100, PATTERN, NO_DELAY, rng, jitter_ps=150)

    assert not fold(tags, PATTERN, INPUTS, NO_DELAY, 2000, start_s=0.0).flags


@pytest.mark.parametrize("count", [0, 1, 100, 20_000])
def test_dark_counts_are_dark(count: int) -> None:
    tags = evenly_spread(count, np.random.default_rng(2))

    assert fold(tags, PATTERN, INPUTS, NO_DELAY, 2000, start_s=0.0).flags == {"dark"}


def test_light_beside_the_gate_is_dark() -> None:
    rng = np.random.default_rng(4)
    tags = tags_of(bright_table(rng), PATTERN, NO_DELAY, rng, jitter_ps=100)

    window = fold(tags, PATTERN, INPUTS, dict.fromkeys(STATES, 5000.0), 2000, start_s=0.0)

    assert window.flags == {"dark"}


def test_a_detector_above_its_ceiling_is_saturated() -> None:
    rng = np.random.default_rng(5)
    tags = tags_of(bright_table(rng), PATTERN, NO_DELAY, rng)
    rate_hz = max(len(t) for t in tags.since_sync_ps.values()) / tags.duration_s

    at, above = (
        fold(tags, PATTERN, INPUTS, NO_DELAY, 2000, start_s=0.0, max_rate_hz=ceiling_hz).flags
        for ceiling_hz in (rate_hz, rate_hz - 1)
    )

    assert at == set()
    assert above == {"saturated"}


def test_double_clicks_are_unknown_since_times_do_not_tell_the_repetition() -> None:
    tags = evenly_spread(10, np.random.default_rng(0))

    assert fold(tags, PATTERN, INPUTS, NO_DELAY, 2000, start_s=0.0).double_clicks is None


@pytest.mark.parametrize(
    ("inputs", "delays_ps", "gate_ps", "complaint"),
    [
        ({"H": 1, "V": 2, "D": 3}, NO_DELAY, 2000, "detector A has no tagger input"),
        (INPUTS | {"D": 9}, NO_DELAY, 2000, r"no tags of detector D \(input 9\)"),
        (INPUTS, {"H": 0.0}, 2000, "detector V has no delay"),
        (INPUTS, NO_DELAY, 0, "gate"),
        (INPUTS, NO_DELAY, 10_001, "gate"),
    ],
)
def test_what_cannot_be_folded_is_refused(
    inputs: dict[str, int], delays_ps: dict[str, float], gate_ps: float, complaint: str
) -> None:
    tags = evenly_spread(10, np.random.default_rng(0))

    with pytest.raises(ValueError, match=complaint):
        fold(tags, PATTERN, inputs, delays_ps, gate_ps, start_s=0.0)


@given(seed=st.integers(0, 2**32), delay_ps=st.floats(-24_000, 24_000))
@settings(max_examples=30)
def test_delays_are_found_to_a_fraction_of_the_jitter(seed: int, delay_ps: float) -> None:
    rng = np.random.default_rng(seed)
    delays_ps = {d: delay_ps + skew for d, skew in zip(STATES, (0, 300, -400, 150), strict=True)}
    tags = tags_of(bright_table(rng), PATTERN, delays_ps, rng, jitter_ps=200)

    assert find_delays(tags, PATTERN, INPUTS) == pytest.approx(delays_ps, abs=60)


def test_a_long_delay_is_found_near_where_it_is_expected() -> None:
    rng = np.random.default_rng(8)
    delays_ps = dict.fromkeys(STATES, 245_678_901.0)
    tags = tags_of(bright_table(rng), PATTERN, delays_ps, rng, jitter_ps=200)

    found = find_delays(tags, PATTERN, INPUTS, expected_ps=245_690_000.0)

    assert found == pytest.approx(delays_ps, abs=60)


def test_one_intensity_alone_leaves_whole_slots_to_the_expectation() -> None:
    rng = np.random.default_rng(9)
    pattern = Pattern("HVDA", ("signal",), 1e8)
    tags = tags_of(bright_table(rng)[:1], pattern, dict.fromkeys(STATES, 12_000.0), rng, 200)

    assert find_delays(tags, pattern, INPUTS)["H"] == pytest.approx(2000, abs=60)


@pytest.mark.parametrize("count", [0, 5000])
def test_without_light_there_is_no_delay_to_find(count: int) -> None:
    with pytest.raises(ValueError, match=r"detector H do not follow a clock of 1e\+08 Hz"):
        find_delays(evenly_spread(count, np.random.default_rng(6)), PATTERN, INPUTS)


def early_and_late(rng: np.random.Generator) -> TimeTags:
    """300 early, 200 late and 50 stray clicks at input 1, 100 each at inputs 2 and 3."""
    slots = PATTERN.slot_ps * (rng.integers(0, PATTERN.period, 500) + 0.5)
    slots[:300] -= 2000
    stray = PATTERN.slot_ps * (rng.integers(0, PATTERN.period, 50) + 0.5) + 4000
    others = [PATTERN.slot_ps * (rng.integers(0, PATTERN.period, 100) + 0.5) for _ in range(2)]
    shared = np.concatenate([slots, stray])
    return TimeTags(0.01, {n: t.astype(np.uint64) for n, t in enumerate([shared, *others], 1)})


def test_early_and_late_pulses_at_one_input_are_told_apart_by_their_delays() -> None:
    window = fold(
        early_and_late(np.random.default_rng(0)),
        PATTERN,
        {"H": 1, "V": 1, "D": 2, "A": 3},
        {"H": -2000.0, "V": 0.0, "D": 0.0, "A": 0.0},
        1600,
        0.0,
    )
    assert window.clicks.sum(axis=(0, 1)).tolist() == [300, 200, 100, 100]


def test_clicks_of_a_shared_input_are_counted_once() -> None:
    window = fold(
        early_and_late(np.random.default_rng(0)),
        PATTERN,
        {"H": 1, "V": 1, "D": 2, "A": 3},
        {"H": -2000.0, "V": 0.0, "D": 0.0, "A": 0.0},
        1600,
        0.0,
    )
    assert window.singles.tolist() == [325, 225, 100, 100]
    assert window.photons == 750
