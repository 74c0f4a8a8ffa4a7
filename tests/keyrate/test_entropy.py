import math

import pytest

from keyrate.entropy import binary_entropy, entropy_of, thermal_entropy


def test_error_rates_beyond_a_half_are_as_bad_as_a_half() -> None:
    assert binary_entropy([-0.1, 0, 0.5, 0.7]).tolist() == [0, 0, 1, 1]


def test_binary_entropy_is_that_of_its_formula() -> None:
    expected = -0.11 * math.log2(0.11) - 0.89 * math.log2(0.89)
    assert float(binary_entropy(0.11)) == pytest.approx(expected)


def test_two_equal_halves_are_one_bit() -> None:
    assert float(entropy_of(0.5, 0.5, 0.0)) == 1


def test_the_vacuum_has_no_entropy_and_one_thermal_photon_two_bits() -> None:
    assert thermal_entropy([0.0, 1.0]).tolist() == [0, 2]
