import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sfifteen import windows_ms


@pytest.mark.parametrize(
    ("duration_s", "longest_s", "windows"),
    [
        (0.05, 1.0, [50]),
        (0.0501, 1.0, [51]),
        (2.5, 1.0, [834, 833, 833]),
        (65.535, 65.535, [65535]),
        (0.003, 0.001, [1, 1, 1]),
    ],
)
def test_a_measurement_is_cut_into_windows_about_as_long(
    duration_s: float, longest_s: float, windows: list[int]
) -> None:
    assert windows_ms(duration_s, longest_s) == windows


@given(st.floats(0.001, 50.0), st.floats(0.001, 65.535))
def test_windows_cover_the_measurement_and_none_is_too_long(
    duration_s: float, longest_s: float
) -> None:
    windows = windows_ms(duration_s, longest_s)
    assert duration_s - 1e-8 <= sum(windows) / 1000 < duration_s + 0.001 + 1e-8
    assert min(windows) >= 1
    assert max(windows) <= max(1, longest_s * 1000 + 1e-6)
    assert max(windows) - min(windows) <= 1
