import math

import numpy as np
import pytest

from calibration.extinction import (
    SineCurve,
    brightness_in_doubt,
    extinction_db,
    fit_sine,
    pattern_lead,
)
from calibration.mean_photon import SlotCounts


def look(
    curve: SineCurve, bias_v: list[float], exposure_s: float, generator: np.random.Generator
) -> tuple[list[float], list[int], list[float]]:
    counts = generator.poisson(curve.rate_hz(np.array(bias_v)) * exposure_s)
    return bias_v, counts.tolist(), [exposure_s] * len(bias_v)


def wrapped(error_v: float, half_wave_v: float) -> float:
    return (error_v + half_wave_v) % (2 * half_wave_v) - half_wave_v


def test_five_settings_find_null_and_half_wave_voltage() -> None:
    generator = np.random.default_rng(3)
    pulls = []
    for _ in range(20):
        half_v = 5 * math.exp(0.1 * generator.standard_normal())
        truth = SineCurve(80, 40_000, generator.uniform(-5, 5), half_v, 0)

        found = fit_sine(*look(truth, [-4, -2, 0, 2, 4], 0.05, generator), 5, 0.1)

        error_v = wrapped(found.null_v - truth.null_v, half_v)
        pulls.append(error_v / found.null_sigma_v)
        assert abs(error_v) < 0.3
        assert found.half_wave_v == pytest.approx(half_v, rel=0.1)
    assert 0.5 < np.std(pulls) < 1.5


def test_the_fit_is_that_of_least_cost_among_all_nulls() -> None:
    generator = np.random.default_rng(4)
    truth = SineCurve(0.0, 1e5, 1.0, 5.0, 0)
    bias_v, counts, exposure_s = look(truth, [-4, -2, 0, 2, 4], 1.0, generator)

    found = fit_sine(bias_v, counts, exposure_s, 5.0, 0.1)

    expected = found.rate_hz(np.array(bias_v)) * 1.0
    assert np.abs((np.array(counts) - expected) / np.sqrt(expected + 1)).max() < 4


@pytest.mark.parametrize(
    ("bias_v", "counts"), [([0.0, 1.0], [5, 7]), ([0.0, 1.0, 1.0], [5, 7, 7]), ([0, 1, 2], [0] * 3)]
)
def test_what_says_nothing_of_a_sine_is_refused(bias_v: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match="sine"):
        fit_sine(bias_v, counts, [1.0] * len(counts), 5.0, 0.1)


def test_of_several_nulls_the_nearest_within_the_limits_is_taken() -> None:
    curve = SineCurve(0, 1, null_v=1.0, half_wave_v=2.0, null_sigma_v=0)

    assert curve.nearest_null_v(4.0, -10, 10) == 5.0
    assert curve.nearest_null_v(4.0, -10, 4.5) == 1.0
    assert curve.nearest_null_v(0.0, 1.5, 4.5) is None


def test_a_pattern_of_full_and_empty_pulses_is_darkest_where_most_of_them_are_dark() -> None:
    assert pattern_lead([0.5, 0.0, 0.0]) == pytest.approx(0)
    assert abs(pattern_lead([0.5, 0.5, 0.0])) == pytest.approx(1)


def test_the_lead_of_a_pattern_with_a_decoy_is_where_its_mean_is_least() -> None:
    levels = np.array([0.5, 0.5, 0.5, 0.1, 0.0])
    drives = np.arcsin(np.sqrt(levels / 0.5))
    bias = np.linspace(-1, 1, 20_001)  # half-wave voltages from the null
    mean = np.mean([np.sin(drive + np.pi * bias / 2) ** 2 for drive in drives], axis=0)

    least = bias[np.argmin(mean)]

    assert pattern_lead(levels.tolist()) == pytest.approx(-least, abs=1e-3)


def test_the_doubt_is_the_worst_that_a_wrong_bias_can_make_of_a_mean() -> None:
    levels = np.array([0.5, 0.5, 0.5, 0.1, 0.0])
    drives = np.arcsin(np.sqrt(levels / 0.5))
    means = [np.mean(np.sin(drives + turn) ** 2) for turn in np.linspace(0, np.pi, 10_001)]

    assert brightness_in_doubt(levels.tolist()) == pytest.approx(0.64 / min(means), rel=1e-4)
    assert brightness_in_doubt([0.5, 0.5, 0.0]) == pytest.approx(2)


def counts(signal: int, empty: int, background: float = 0.0) -> SlotCounts:
    shares = np.array([0.6, 0.2])
    return SlotCounts(np.array([signal, empty]), shares, background * shares)


def test_extinction_is_light_per_slot_without_background() -> None:
    figure = extinction_db(counts(600_000, 300, background=500), 1)

    assert figure.value == pytest.approx(10 * math.log10(1e6 / 1e3), abs=0.01)
    assert figure.low < figure.value < figure.high


def test_an_extinction_that_cannot_be_counted_is_not_infinite() -> None:
    figure = extinction_db(counts(600_000, 0), 1)

    assert 50 < figure.value < 60
    assert figure.high == figure.value


def test_without_signal_there_is_no_extinction() -> None:
    assert extinction_db(counts(0, 10), 1).value == 0


@pytest.mark.parametrize("light", [2.0, 20.0])
def test_nine_in_ten_intervals_of_an_extinction_hold_it_however_few_the_counts(
    light: float,
) -> None:
    noise = np.random.default_rng(4)
    true_db = 10 * math.log10((20_000 / 0.6) / (light / 0.2))
    seen = noise.poisson(light + 0.2, size=400)

    figures = [extinction_db(counts(20_000, int(each), background=1.0), 1) for each in seen]

    assert np.mean([figure.low <= true_db <= figure.high for figure in figures]) >= 0.89
