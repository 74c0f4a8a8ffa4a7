import math

import pytest

from calibration.key_rate import asymptotic_key_rate, binary_entropy


@pytest.mark.parametrize(
    ("distance_km", "expected"),
    [(0, 2.5546e-3), (20, 9.6245e-4), (50, 2.2260e-4), (100, 1.7184e-5), (140, 2.465e-7)],
)
def test_the_rate_of_the_gys_link_is_that_of_independent_implementations(
    distance_km: float, expected: float
) -> None:
    transmittance = 0.045 * 10 ** (-0.021 * distance_km)

    rate = asymptotic_key_rate(0.48, transmittance, 1.7e-6, 0.033, correction=1.22)

    assert rate == pytest.approx(expected, rel=2e-4)


def test_there_is_no_key_where_background_drowns_the_signal() -> None:
    assert asymptotic_key_rate(0.5, 1e-7, 1e-5, 0.01) == 0


def test_there_is_no_key_without_any_click() -> None:
    assert asymptotic_key_rate(0.5, 0.0, 0.0, 0.01) == 0


def test_the_entropy_of_an_error_rate_is_highest_at_one_half_and_stays_there() -> None:
    assert [binary_entropy(x) for x in (-0.1, 0, 0.5, 0.7)] == [0, 0, 1, 1]
    assert binary_entropy(0.11) == pytest.approx(-0.11 * math.log2(0.11) - 0.89 * math.log2(0.89))
