from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.liquid_crystals import LiquidCrystalBank, LiquidCrystalSettings

PERFECT = LiquidCrystalSettings(
    thickness_spread=0, threshold_spread=0, residual_spread_waves=0, axis_spread_rad=0
)
volts = st.floats(0, 25)


def bank(settings: LiquidCrystalSettings = PERFECT, seed: int = 0) -> LiquidCrystalBank:
    return LiquidCrystalBank(settings, np.random.default_rng(seed))


@given(st.tuples(volts, volts, volts))
def test_any_voltages_make_a_rotation(voltages_v: tuple[float, float, float]) -> None:
    matrix = bank(LiquidCrystalSettings()).rotation_at(np.array(voltages_v))

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@given(volts, volts)
def test_more_voltage_never_gives_more_retardance(one_v: float, other_v: float) -> None:
    less_v, more_v = sorted((one_v, other_v))

    less, more = (bank().retardance_waves(np.full(3, v)) for v in (less_v, more_v))

    assert np.all(more <= less)


def test_below_the_threshold_nothing_happens_and_far_above_nothing_is_left() -> None:
    assert bank().retardance_waves(np.array([0.0, 0.8, 1.2])) == pytest.approx([1.1] * 3)
    assert bank().retardance_waves(np.array([25.0] * 3)) == pytest.approx([0.0] * 3, abs=1e-4)


def test_light_meets_cell_1_first() -> None:
    at_rest, expected = np.array([1.7, 2.2, 2.9]), Rotation.identity()
    for azimuth, waves in zip((0, np.pi / 2, 0), bank().retardance_waves(at_rest), strict=True):
        axis = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        expected = Rotation.from_rotvec(2 * np.pi * waves * axis) * expected

    np.testing.assert_allclose(bank().rotation_at(at_rest), expected.as_matrix(), atol=1e-12)


def test_cells_differ_from_unit_to_unit() -> None:
    settings = replace(PERFECT, thickness_spread=0.02)
    full = [bank(settings, seed).retardance_waves(np.zeros(3)) for seed in range(200)]

    assert np.mean(full) == pytest.approx(1.1, rel=0.005)
    assert np.std(full) == pytest.approx(0.022, rel=0.15)


def test_molecules_follow_the_voltage_at_their_speed() -> None:
    of = bank(replace(PERFECT, slew_v_per_s=10.0))
    of.set_voltage(2, 5.0, now_s=1.0)

    assert of.voltage_v(2, 1.2) == pytest.approx(2.0)
    assert of.voltage_v(2, 3.0) == 5.0
    assert of.voltage_v(1, 3.0) == 0.0
    assert [of.is_moving(t) for t in (0.9, 1.2, 1.6)] == [False, True, False]
    assert of.changes(0.0, 2.0) == [1.0]


@pytest.mark.parametrize(
    ("cell", "voltage_v", "said"),
    [(0, 1.0, "1 to 3"), (4, 1.0, "1 to 3"), (1, -0.1, "0 to 25"), (1, nan, "0 to 25")],
)
def test_what_no_cell_can_do_is_refused(cell: int, voltage_v: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bank().set_voltage(cell, voltage_v, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"full_waves": 0}, {"slew_v_per_s": -1}, {"axis_spread_rad": -1}]
)
def test_impossible_cells_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        LiquidCrystalSettings(**wrong)
