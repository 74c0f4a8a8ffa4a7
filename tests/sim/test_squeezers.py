from math import nan, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.squeezers import FULL_SCALE_V, SqueezerBank, SqueezerSettings
from sim.stokes import Floats

PERFECT = SqueezerSettings(scale_spread=0.0, axis_spread_rad=0.0)
voltages = st.floats(-FULL_SCALE_V, FULL_SCALE_V)


def bank(settings: SqueezerSettings = PERFECT, seed: int = 0) -> SqueezerBank:
    return SqueezerBank(settings, np.random.default_rng(seed))


def only(channel: int, voltage_v: float) -> Floats:
    return np.where(np.arange(1, 5) == channel, voltage_v, 0.0)


def outer_squeezer(of: SqueezerBank, channel: int, voltage_v: float) -> Floats:
    """Rotation vector that a voltage on the first or the last squeezer adds."""
    rest, turned = of.rotation_at(np.zeros(4)), of.rotation_at(only(channel, voltage_v))
    change = rest.T @ turned if channel == 1 else turned @ rest.T
    return Rotation.from_matrix(change).as_rotvec()


@given(st.tuples(voltages, voltages, voltages, voltages))
def test_any_voltages_make_a_rotation(volts: tuple[float, ...]) -> None:
    matrix = bank(SqueezerSettings()).rotation_at(np.array(volts))

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_light_meets_squeezer_1_first_and_turns_about_its_nominal_axis() -> None:
    np.testing.assert_allclose(outer_squeezer(bank(), 1, 1.25), [pi / 2, 0, 0], atol=1e-12)


def test_squeezer_4_is_the_last_and_turns_about_the_other_axis() -> None:
    np.testing.assert_allclose(outer_squeezer(bank(), 4, 1.25), [0, pi / 2, 0], atol=1e-12)


def test_twice_the_half_wave_voltage_is_a_full_turn() -> None:
    of = bank()

    np.testing.assert_allclose(
        of.rotation_at(only(2, 5.0)), of.rotation_at(only(2, 0.0)), atol=1e-12
    )


def test_scale_errors_stay_within_their_spread() -> None:
    settings = SqueezerSettings(scale_spread=0.1, axis_spread_rad=0.0)
    angles = np.array(
        [np.linalg.norm(outer_squeezer(bank(settings, seed), 1, 1.25)) for seed in range(200)]
    )

    assert np.abs(angles / (pi / 2) - 1).max() <= 0.1
    assert np.ptp(angles / (pi / 2)) > 0.18


def test_axes_spread_in_the_plane_of_linear_polarizations() -> None:
    settings = SqueezerSettings(scale_spread=0.0, axis_spread_rad=0.1)
    n = 1000
    vectors = np.array([outer_squeezer(bank(settings, seed), 4, 1.25) for seed in range(n)])
    psi = np.arctan2(-vectors[:, 0], vectors[:, 1])

    np.testing.assert_allclose(vectors[:, 2], 0, atol=1e-12)
    assert abs(psi.std() / 0.1 - 1) < 4 / np.sqrt(2 * n)


def test_the_quadratic_retardance_is_in_full_at_full_scale() -> None:
    curved = bank(SqueezerSettings(scale_spread=0, axis_spread_rad=0, quadratic_rad=0.3))

    # 5 V are two half waves and so a full turn: what remains is the quadratic part
    np.testing.assert_allclose(outer_squeezer(curved, 1, 5.0), [0.3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(outer_squeezer(curved, 1, -5.0), [0.3, 0, 0], atol=1e-12)


def test_a_drive_follows_at_its_slew_rate() -> None:
    slow = bank(SqueezerSettings(slew_v_per_s=10.0))
    slow.set_voltage(3, 2.0, now_s=1.0)

    assert [slow.voltage_v(3, t) for t in (1.0, 1.1, 1.2, 9.0)] == pytest.approx([0, 1, 2, 2])
    assert slow.target_v(3) == 2.0


def test_a_drive_turned_on_its_way_goes_back_from_there() -> None:
    slow = bank(SqueezerSettings(slew_v_per_s=10.0))
    slow.set_voltage(1, 4.0, now_s=0.0)
    slow.set_voltage(1, 0.0, now_s=0.1)

    assert slow.voltage_v(1, 0.15) == pytest.approx(0.5)


def test_drives_are_moving_until_the_slowest_has_arrived() -> None:
    slow = bank(SqueezerSettings(slew_v_per_s=10.0))
    slow.set_voltage(1, 0.1, now_s=0.0)
    slow.set_voltage(4, 1.0, now_s=0.0)

    assert [slow.is_moving(t) for t in (0.05, 0.0999, 0.1001)] == [True, True, False]


def test_the_rotation_of_a_past_time_is_that_of_the_voltages_then() -> None:
    of = bank()
    before = of.rotation(0.5)
    of.set_voltage(2, 1.0, now_s=1.0)

    np.testing.assert_array_equal(of.rotation(0.5), before)
    assert not np.allclose(of.rotation(1.5), before)


def test_settled_drives_without_hysteresis_give_the_static_rotation() -> None:
    of = bank(SqueezerSettings())
    target = np.array([1.0, -2.0, 3.0, -4.5])
    for channel, voltage_v in enumerate(target, start=1):
        of.set_voltage(channel, voltage_v, now_s=0.0)

    np.testing.assert_allclose(of.rotation(1.0), of.rotation_at(target), atol=1e-14)


@pytest.mark.parametrize(
    ("visited_v", "felt_v"),
    [
        ([1.0], 0.8),  # the first 0.2 V are play
        ([1.0, 0.9], 0.8),  # turning back: inside the play nothing happens
        ([1.0, 0.6], 0.8),
        ([1.0, 0.5], 0.7),  # through the play: dragged along from the other side
        ([1.0, 0.0], 0.2),
        ([-3.0, 3.0], 2.8),
        ([3.0, -3.0], -2.8),
        ([0.1], 0.0),
    ],
)
def test_hysteresis_is_a_play_between_drive_and_squeeze(
    visited_v: list[float], felt_v: float
) -> None:
    loose = bank(SqueezerSettings(scale_spread=0, axis_spread_rad=0, hysteresis_v=0.2))
    for i, voltage_v in enumerate(visited_v):
        loose.set_voltage(1, voltage_v, now_s=float(i))

    np.testing.assert_allclose(
        loose.rotation(100.0), loose.rotation_at(only(1, felt_v)), atol=1e-12
    )


@given(st.lists(voltages, max_size=5), st.floats(-4.0, 5.0))
def test_coming_from_below_makes_a_setting_repeatable(past_v: list[float], goal_v: float) -> None:
    loose = bank(SqueezerSettings(hysteresis_v=0.2))
    for i, voltage_v in enumerate([*past_v, goal_v - 0.5, goal_v]):
        loose.set_voltage(2, voltage_v, now_s=float(i))

    np.testing.assert_allclose(
        loose.rotation(100.0), loose.rotation_at(only(2, goal_v - 0.2)), atol=1e-9
    )


def test_a_drive_turned_back_before_it_arrived_leaves_the_squeeze_where_it_got() -> None:
    loose = bank(SqueezerSettings(hysteresis_v=0.2, slew_v_per_s=10.0))
    loose.set_voltage(1, 5.0, now_s=0.0)
    loose.set_voltage(1, 0.9, now_s=0.1)  # at 1 V, felt 0.8 V; 0.9 V is inside the play

    np.testing.assert_allclose(loose.rotation(9.0), loose.rotation_at(only(1, 0.8)), atol=1e-12)


@given(st.tuples(voltages, voltages, voltages, voltages), st.integers(0, 50))
def test_the_insertion_loss_ripples_within_its_limits(volts: tuple[float, ...], seed: int) -> None:
    of = bank(SqueezerSettings(insertion_loss_ripple_db=0.3), seed)
    for channel, voltage_v in enumerate(volts, start=1):
        of.set_voltage(channel, voltage_v, now_s=0.0)

    assert 0 <= of.loss_db(1.0) <= 0.3


def test_the_insertion_loss_depends_on_the_voltages() -> None:
    of = bank()
    before = of.loss_db(0.0)
    of.set_voltage(1, 2.0, now_s=0.0)

    assert of.loss_db(1.0) != pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("voltage_v", [5.001, -5.001, nan])
def test_a_voltage_beyond_full_scale_is_refused_and_changes_nothing(voltage_v: float) -> None:
    of = bank()
    with pytest.raises(ValueError, match="outside"):
        of.set_voltage(1, voltage_v, now_s=0.0)

    assert of.target_v(1) == 0.0


@pytest.mark.parametrize("channel", [0, 5])
def test_a_channel_that_is_not_there_is_refused(channel: int) -> None:
    with pytest.raises(ValueError, match="not one of 1 to 4"):
        bank().set_voltage(channel, 1.0, now_s=0.0)


@pytest.mark.parametrize("wrong", [{"v_pi_v": 0.0}, {"hysteresis_v": -0.1}, {"scale_spread": 1.0}])
def test_a_controller_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SqueezerSettings(**wrong)
