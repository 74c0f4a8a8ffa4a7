from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.receiver import Receiver, ReceiverSettings, Recovery, after_dead_time
from sim.stokes import Floats, haar_rotation, rotation

SLOT_PS = 10_000.0
ALIGNED = np.eye(3)
ALL_STATES = np.arange(4)

QUIET = ReceiverSettings(dark_hz=(0, 0, 0, 0), dead_time_s=1e-9, jitter_ps=0)
"""Nothing but light."""


def receiver(settings: ReceiverSettings = QUIET) -> Receiver:
    return Receiver(settings, SLOT_PS)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def steady(per_slot: float, slots: int = 20) -> Floats:
    """The same mean number of photoelectrons in every slot of every detector."""
    return np.full((slots, 4), per_slot)


def drawn(
    settings: ReceiverSettings, light: Floats, periods: int, seed: int = 0
) -> tuple[list[Floats], float]:
    """Tags of one call, and its length in ps."""
    tags = receiver(settings).tags(light, periods, generator(seed), [Recovery() for _ in range(4)])
    return tags, periods * len(light) * SLOT_PS


# --- click probabilities


def test_malus_law_shares_the_light_between_the_two_ends_of_a_basis() -> None:
    angle = 0.7
    turned = rotation(np.array([0, 0, angle]))  # H becomes linear at 0.35 rad
    lossless = replace(QUIET, efficiencies=(1, 1, 1, 1), visibility=1.0)

    light = receiver(lossless).light(turned, np.array([1.0]), np.array([0]))[0]

    in_z = np.array([np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2]) / 2
    in_x = np.array([1 + np.sin(angle), 1 - np.sin(angle)]) / 4
    np.testing.assert_allclose(light, [*in_z, *in_x])


@given(st.integers(0, 1000))
def test_the_detectors_together_see_all_the_light(seed: int) -> None:
    turned = haar_rotation(generator(seed))

    light = receiver().light(turned, np.full(4, 0.5), ALL_STATES)

    np.testing.assert_allclose(light.sum(axis=1), 0.5 * 0.2)


def test_a_click_is_a_photoelectron_or_a_dark_count() -> None:
    settings = ReceiverSettings(efficiencies=(0.2, 0.1, 0.3, 0.2), dark_hz=(100, 200, 300, 400))

    click = receiver(settings).probabilities(ALIGNED, np.array([0.05]), np.array([0]))[0]

    for j, overlap in enumerate((1, -1, 0, 0)):
        light = 0.05 * settings.efficiencies[j] / 2 * (1 + 0.99 * overlap) / 2
        dark = 1 - exp(-settings.dark_hz[j] * 1e-8)
        assert click[j] == pytest.approx(1 - (1 - dark) * exp(-light), rel=1e-12)


def test_gain_and_error_rate_are_those_of_the_gys_link_over_50_km() -> None:
    # link of C. Gobby, Z. L. Yuan, A. J. Shields, APL 84, 3762 (2004), at mu = 0.48; formulas of
    # X. Ma et al., PRA 72, 012326 (2005)
    dark_hz = -log(1 - 1.7e-6 / 2) / (SLOT_PS * 1e-12)
    link = ReceiverSettings(
        efficiencies=(0.045,) * 4, dark_hz=(dark_hz,) * 4, visibility=1 - 2 * 0.033, z_share=1.0
    )
    mean_photons = np.array([0.48 * 10 ** (-0.21 * 50 / 10)])

    right, wrong = receiver(link).probabilities(ALIGNED, mean_photons, np.array([0]))[0, :2]

    gain = right + wrong - right * wrong
    errors = wrong - right * wrong / 2  # a double click is a random bit
    assert gain == pytest.approx(1.92495e-3, rel=1e-4)
    assert errors / gain == pytest.approx(3.34124e-2, rel=1e-4)


def test_the_z_share_splits_the_light_between_the_bases() -> None:
    biased = receiver(replace(QUIET, z_share=0.9))

    light = biased.light(ALIGNED, np.array([1.0]), np.array([0]))[0]

    assert light[:2].sum() == pytest.approx(0.2 * 0.9)
    assert light[2:].sum() == pytest.approx(0.2 * 0.1)


def test_the_gate_keeps_the_part_of_the_jitter_within_it() -> None:
    gated = replace(QUIET, jitter_ps=100.0, gate_width_ps=200.0, delay_ps=(0, 100, 0, 0))

    click = receiver(gated).probabilities(ALIGNED, np.array([1e-6]), np.array([2]))[0]

    open_click = receiver().probabilities(ALIGNED, np.array([1e-6]), np.array([2]))[0]
    np.testing.assert_allclose(click[:2] / open_click[:2], [0.682689, 0.477250], rtol=1e-5)


# --- expected clicks of busy detectors


def test_rested_detectors_are_expected_to_click_at_their_probability() -> None:
    dim = receiver().light(ALIGNED, np.full(4, 1e-6), ALL_STATES)

    np.testing.assert_allclose(
        receiver().clicks_per_slot(dim),
        receiver().probabilities(ALIGNED, np.full(4, 1e-6), ALL_STATES),
        rtol=1e-5,
    )


def test_dark_counts_follow_knolls_non_paralysable_dead_time() -> None:
    busy = replace(QUIET, dark_hz=(1e6,) * 4, dead_time_s=1e-6)

    seen_hz = receiver(busy).clicks_per_slot(steady(0.0)).mean(axis=0) / (SLOT_PS * 1e-12)

    np.testing.assert_allclose(seen_hz, 1e6 / (1 + 1e6 * 1e-6), rtol=0.005)


def test_afterpulses_of_afterpulses_are_expected_too() -> None:
    trapping = replace(QUIET, afterpulse_probability=0.2)

    ratio = receiver(trapping).clicks_per_slot(steady(1e-6)) / receiver().clicks_per_slot(
        steady(1e-6)
    )

    np.testing.assert_allclose(ratio, 1 / (1 - 0.2), rtol=1e-5)


AWKWARD = ReceiverSettings(
    efficiencies=(0.2, 0.16, 0.22, 0.14),
    dark_hz=(100, 2000, 300, 50),
    dead_time_s=80e-9,
    afterpulse_probability=0.03,
    afterpulse_tau_s=0.5e-6,
    jitter_ps=300,
    delay_ps=(0, 200, -150, 400),
)


@pytest.mark.parametrize(
    "settings",
    [
        AWKWARD,
        replace(AWKWARD, gate_width_ps=1000.0),
        replace(AWKWARD, afterpulse_probability=0.0, dead_time_s=5e-6),
        replace(AWKWARD, afterpulse_probability=0.0, saturation_hz=1e5),
    ],
    ids=["awkward", "gated", "long dead time", "saturated"],
)
def test_tags_come_at_the_expected_rate(settings: ReceiverSettings) -> None:
    periods = 2_000_000  # 0.08 s of four slots
    of = receiver(settings)
    light = of.light(haar_rotation(generator(5)), np.full(4, 0.02), ALL_STATES)

    tags, _ = drawn(settings, light, periods)

    expected = of.clicks_per_slot(light).sum(axis=0) * periods
    seen = np.array([t.size for t in tags])
    # 4 sigma of counting, and two parts in a thousand for what a mean-field formula may miss
    assert np.all(np.abs(seen - expected) < 4 * np.sqrt(expected) + 0.002 * expected)


def test_counts_are_poisson_about_the_expected_number() -> None:
    of = receiver(AWKWARD)
    light = of.light(haar_rotation(generator(5)), np.full(4, 0.02), ALL_STATES)
    expected = of.clicks_per_slot(light).sum(axis=0) * 10_000
    n = 2000

    random = generator(1)
    counts = np.array([of.counts(light, 10_000, random) for _ in range(n)])

    assert np.all(np.abs(counts.mean(axis=0) - expected) < 4.5 * np.sqrt(expected / n))
    assert np.all(np.abs(counts.var(axis=0) / expected - 1) < 4.5 * sqrt(2 / n))


# --- time tags


def test_each_slot_gets_the_clicks_of_its_light() -> None:
    light = np.zeros((20, 4))
    light[[3, 7], 1] = [1e-4, 3e-4]
    periods = 100_000_000

    tags, _ = drawn(QUIET, light, periods)

    slots = np.bincount((tags[1] // SLOT_PS % 20).astype(int), minlength=20)
    assert abs(slots[3] - 1e4) < 4 * sqrt(1e4)
    assert abs(slots[7] - 3e4) < 4 * sqrt(3e4)
    assert slots.sum() == slots[3] + slots[7]
    assert [tags[j].size for j in (0, 2, 3)] == [0, 0, 0]


def test_numbers_of_clicks_are_poisson() -> None:
    n = 2000
    sizes = np.array([drawn(QUIET, steady(5e-5), 10_000, seed)[0][0].size for seed in range(n)])

    assert abs(sizes.mean() - 10) < 4 * sqrt(10 / n)
    assert abs(sizes.var() / 10 - 1) < 4 * sqrt((2 + 1 / 10) / n)


def test_waiting_times_are_exponential() -> None:
    dark = replace(QUIET, dark_hz=(1e5,) * 4, dead_time_s=0.0)
    tags, _ = drawn(dark, steady(0.0), 5_000_000)

    waits = np.diff(tags[0]) * 1e-12 * 1e5
    n = waits.size

    assert abs(waits.mean() - 1) < 4 / sqrt(n)
    assert abs((waits > 2).mean() - exp(-2)) < 4 * sqrt(exp(-2) / n)


def test_clicks_scatter_about_slot_centre_and_delay_with_the_jitter() -> None:
    settings = replace(QUIET, jitter_ps=120.0, delay_ps=(0, 350, -200, 40))
    tags, _ = drawn(settings, steady(1e-3), 100_000)

    for times, delay_ps in zip(tags, settings.delay_ps, strict=True):
        offsets = times % SLOT_PS - SLOT_PS / 2
        assert abs(offsets.mean() - delay_ps) < 4.5 * 120 / sqrt(times.size)
        assert abs(offsets.std() / 120 - 1) < 4.5 / sqrt(2 * times.size)


def test_dark_counts_are_spread_over_the_slot() -> None:
    tags, span_ps = drawn(replace(QUIET, dark_hz=(1e4,) * 4), steady(0.0), 10_000_000)

    eighths = np.bincount((tags[2] % SLOT_PS // (SLOT_PS / 8)).astype(int), minlength=8)

    expected = 1e4 * span_ps * 1e-12 / 8
    assert np.abs(eighths - expected).max() < 4.5 * sqrt(expected)


def test_nothing_clicks_outside_the_gate() -> None:
    settings = replace(AWKWARD, gate_width_ps=600.0, afterpulse_probability=0.3)
    tags, _ = drawn(settings, steady(1e-3), 100_000)

    for times in tags:
        assert times.size > 500
        assert np.abs(times % SLOT_PS - SLOT_PS / 2).max() <= 300


def test_no_two_clicks_of_a_detector_are_closer_than_its_dead_time() -> None:
    tags, _ = drawn(replace(AWKWARD, afterpulse_probability=0.3), steady(0.05), 10_000)

    for times in tags:
        assert times.size > 1000
        assert np.diff(times).min() >= 80_000


def test_the_share_of_live_time_is_that_of_a_non_paralysable_detector() -> None:
    busy = replace(QUIET, dark_hz=(5e5,) * 4, dead_time_s=1e-6)
    tags, span_ps = drawn(busy, steady(0.0), 5_000_000)

    seen = tags[0].size
    expected = 5e5 / (1 + 0.5) * span_ps * 1e-12
    # a renewal process: the variance shrinks by the square of the live share
    assert abs(seen - expected) < 4 * sqrt(expected) / 1.5


def test_afterpulses_follow_the_dead_time_exponentially() -> None:
    settings = replace(
        QUIET, afterpulse_probability=0.1, dead_time_s=100e-9, afterpulse_tau_s=200e-9
    )
    tags, _ = drawn(settings, steady(2e-6), 200_000_000)

    gaps_s = np.diff(tags[0]) * 1e-12
    soon = gaps_s[gaps_s < 2e-6]  # ten time constants; primaries are 5 ms apart
    n = tags[0].size

    assert abs(soon.size / n - 0.1) < 4 * sqrt(0.1 * 0.9 / n)
    assert abs((soon - 100e-9).mean() / 200e-9 - 1) < 4 / sqrt(soon.size)


def test_a_detector_never_clicks_twice_for_one_pulse() -> None:
    bright = replace(QUIET, jitter_ps=50.0)
    tags, _ = drawn(bright, steady(0.09), 20_000)

    slots = tags[0] // SLOT_PS

    assert np.unique(slots).size == slots.size
    expected = (1 - exp(-0.09)) * 400_000
    assert abs(slots.size - expected) < 4 * sqrt(expected)


def test_a_readout_saturates_at_its_rate() -> None:
    tags, span_ps = drawn(replace(QUIET, saturation_hz=1e6, dead_time_s=0.0), steady(50.0), 5000)

    expected = 1e6 * span_ps * 1e-12
    assert abs(tags[0].size - expected) < 4 * sqrt(expected)


def test_a_click_before_the_window_keeps_the_detector_dead_into_it() -> None:
    settings = replace(QUIET, dark_hz=(1e7,) * 4, dead_time_s=1e-6)
    recovery = [Recovery(last_click_ps=-100_000.0) for _ in range(4)]

    tags = receiver(settings).tags(steady(0.0), 100, generator(), recovery)

    assert min(times[0] for times in tags) >= 900_000


def test_a_window_hands_on_its_last_click() -> None:
    recovery = [Recovery() for _ in range(4)]
    tags = receiver().tags(steady(0.01), 100, generator(), recovery)

    assert recovery[0].last_click_ps == pytest.approx(tags[0][-1] - 100 * 20 * SLOT_PS)


def test_an_afterpulse_may_come_in_the_next_window() -> None:
    settings = replace(QUIET, afterpulse_probability=0.9, afterpulse_tau_s=1e-3)
    recovery = [Recovery() for _ in range(4)]
    of, random = receiver(settings), generator()
    of.tags(steady(1e-3), 10_000, random, recovery)  # 2 ms

    pending_ps = recovery[0].afterpulses_ps
    later = of.tags(steady(0.0), 1_000_000, random, recovery)

    assert pending_ps.size > 50
    assert pending_ps.min() < 0.1e-3 * 1e12
    assert later[0].size > 0.99 * pending_ps.size
    assert recovery[0].afterpulses_ps.size == 0


def test_the_same_seed_draws_the_same_tags() -> None:
    first, _ = drawn(AWKWARD, steady(1e-3), 1000, seed=3)
    second, _ = drawn(AWKWARD, steady(1e-3), 1000, seed=3)

    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tags_are_in_order_even_if_jitter_is_wider_than_a_slot() -> None:
    tags, span_ps = drawn(replace(QUIET, jitter_ps=2 * SLOT_PS), steady(0.5), 1000)

    for times in tags:
        assert np.all(np.diff(times) >= 0)
        assert times[0] >= 0
        assert times[-1] < span_ps


# --- dead time


@given(
    st.lists(st.integers(0, 200), max_size=60),
    st.integers(0, 20),
    st.integers(-30, 30),
)
def test_dead_time_drops_what_a_loop_over_all_events_drops(
    times: list[int], dead_time: int, last_click: int
) -> None:
    kept: list[int] = []
    last = last_click
    for time in sorted(times):
        if time - last >= dead_time:
            kept.append(time)
            last = time

    clicks = after_dead_time(np.array(sorted(times), dtype=float), dead_time, last_click)

    assert clicks.tolist() == kept


# --- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"efficiencies": (0.2, 0.2, 0.2, 1.2)},
        {"visibility": -0.1},
        {"afterpulse_probability": 1.0},
        {"dark_hz": (-1.0, 0, 0, 0)},
        {"dead_time_s": -1e-9},
        {"gate_width_ps": -5.0},
        {"saturation_hz": 0.0},
    ],
)
def test_a_receiver_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|between"):
        ReceiverSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose
