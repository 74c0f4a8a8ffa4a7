"""Levels of an intensity modulator from counts at a few drives."""

from math import pi, sin

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.intensity_levels import LevelLook, fit_level, ratio_error_percent

NOMINAL_V = 5.0


def level(drive_v: float, half_wave_v: float, miss_v: float = 0.0) -> float:
    return sin(pi * (drive_v + miss_v) / (2 * half_wave_v)) ** 2


def look(drive_v: float, ratio: float, *, clicks: float = 1e8, dark: float = 0.0) -> LevelLook:
    """Counts to expect of a level that is sent in a third as many pulses as the signal."""
    exposure = np.array([1.0, 3.0])
    background = dark * exposure
    pair = np.rint(clicks * exposure * np.array([ratio, 1.0]) + background).astype(np.int64)
    return LevelLook(drive_v, pair, exposure, background)


@given(
    half_wave_v=st.floats(4.0, 6.0),
    miss_v=st.floats(-0.15, 0.15),
    wanted=st.floats(0.05, 0.6),
)
@settings(max_examples=40, deadline=None)
def test_the_drive_of_a_level_is_found_in_two_looks(
    half_wave_v: float, miss_v: float, wanted: float
) -> None:
    drive_v, looks = NOMINAL_V * 0.3, []
    for _ in range(2):
        looks.append(look(drive_v, level(drive_v, half_wave_v, miss_v)))
        drive_v = fit_level(looks, NOMINAL_V, 0.1).drive_v(wanted)

    assert level(drive_v, half_wave_v, miss_v) == pytest.approx(wanted, rel=0.02)


def test_background_is_not_taken_for_light() -> None:
    ratio, sigma = look(1.5, 0.2, clicks=1e4, dark=2e3).ratio()

    assert ratio == pytest.approx(0.2)
    assert sigma == pytest.approx(np.sqrt(4000 + 0.04 * 36_000 / 9) / 1e4, rel=1e-3)


def test_the_error_is_relative_and_never_negative() -> None:
    low = ratio_error_percent(look(1.5, 0.18, clicks=1e5), 0.2)
    right = ratio_error_percent(look(1.5, 0.2, clicks=1e5), 0.2)

    assert low.value == pytest.approx(10)
    assert 8 < low.low < 10 < low.high < 12
    assert right.low == 0 < right.high < 2


def test_without_light_in_the_signal_there_is_no_ratio() -> None:
    dark = LevelLook(1.0, np.array([10, 30]), np.array([1.0, 3.0]), np.array([10.0, 30.0]))

    with pytest.raises(ValueError, match="the signal shows no light"):
        dark.ratio()
