import math

import numpy as np
import pytest

from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.mean_photon import (
    Level,
    SlotCounts,
    Tap,
    relative_scale_sigma,
    signal_share,
)

PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
TAP = Tap(1e8, signal_share(PATTERN, MEANS), 50.0, 1550.0, 0.03)


def test_the_signals_share_is_the_mean_over_the_pattern() -> None:
    assert signal_share(PATTERN, MEANS) == pytest.approx((3 * 0.5 + 0.1 + 0.0005) / 5 / 0.5)


def test_a_power_is_photons_times_energy_times_clock_times_brightness() -> None:
    power_w = 0.32010 * 1e8 * (6.62607015e-34 * 299792458 / 1550e-9) * 1e5

    level = TAP.level([power_w] * 3, [0.0] * 3)

    assert level.mean_photons == pytest.approx(0.5, rel=1e-6)
    assert level.sigma == 0


def test_the_dark_reading_is_taken_off_and_its_noise_counts() -> None:
    level = TAP.level([1.1e-7, 1.1e-7], [0.9e-8, 1.1e-8])

    assert level.mean_photons * TAP.watts_per_photon == pytest.approx(1e-7)
    assert level.sigma * TAP.watts_per_photon == pytest.approx(1e-9, rel=1e-6)


def test_the_figure_holds_the_calibration_of_meter_and_tap_as_well() -> None:
    figure = Level(0.5, 0.003).figure(0.03)

    assert figure.high - figure.value == pytest.approx(1.645 * math.hypot(0.003, 0.015), rel=1e-3)


def test_a_tap_of_uncertain_splitting_adds_to_the_meters_error() -> None:
    assert relative_scale_sigma(0.03, 0.1) == pytest.approx(math.hypot(0.03, 0.02303), rel=1e-3)


def window(light: tuple[int, int, int], outside: int) -> Window:
    clicks = np.zeros((3, 4, 4), dtype=np.int64)
    clicks[:, 0, 0] = light
    singles = clicks.sum(axis=(0, 1)) + np.array([outside, 0, 0, 0])
    names = ("signal", "decoy", "vacuum")
    return Window(0.0, 1.0, "pattern", "calibration", names, clicks, singles)


def test_ratios_per_slot_are_freed_of_background_by_clicks_outside_of_the_gates() -> None:
    counts = SlotCounts.of([window((60_060, 4020, 40), 150)], PATTERN, 0.4)

    assert counts.background == pytest.approx([60, 20, 20])
    assert counts.ratio(1).value == pytest.approx(0.2)
    assert counts.ratio(2).value == pytest.approx(0.001)
    assert counts.ratio(2).low < 0.001 < counts.ratio(2).high


def test_windows_add_up() -> None:
    one, two = window((60, 4, 0), 3), window((30, 1, 1), 2)

    assert SlotCounts.of([one, two], PATTERN, 0.5).counts.tolist() == [90, 5, 1]


def test_clicks_spread_evenly_are_no_light() -> None:
    assert not SlotCounts.of([window((600, 200, 200), 1500)], PATTERN, 0.4).has_light
    assert SlotCounts.of([window((900, 200, 200), 1500)], PATTERN, 0.4).has_light


def test_without_signal_no_ratio_is_claimed() -> None:
    assert math.isnan(SlotCounts.of([window((0, 5, 0), 0)], PATTERN, 0.4).ratio(1).value)
