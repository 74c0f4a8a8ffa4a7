import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration import rotation

COMPONENT = st.floats(-4, 4)
VECTORS = st.tuples(COMPONENT, COMPONENT, COMPONENT).map(np.array)


def retarder(azimuth: float, retardance: float) -> NDArray[np.float64]:
    a, b = rotation.jones_of_retarders(np.array([azimuth]), np.array([retardance]))
    return rotation.of_jones(a[0], b[0])


@given(VECTORS)
def test_exp_gives_a_proper_rotation(vector: NDArray[np.float64]) -> None:
    matrix = rotation.exp(vector)

    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@given(VECTORS)
def test_log_is_the_shortest_way_to_the_same_rotation(vector: NDArray[np.float64]) -> None:
    shortest = rotation.log(rotation.exp(vector))

    assert np.linalg.norm(shortest) <= np.pi + 1e-12
    assert np.allclose(rotation.exp(shortest), rotation.exp(vector), atol=1e-9)


@given(VECTORS, st.floats(0, 1e-3))
def test_log_is_right_close_to_half_a_turn(vector: NDArray[np.float64], missing: float) -> None:
    length = np.linalg.norm(vector)
    axis = vector / length if length > 1e-3 else np.array([1.0, 0, 0])
    turn = axis * (np.pi - missing)

    assert np.allclose(rotation.exp(rotation.log(rotation.exp(turn))), rotation.exp(turn))


@given(st.floats(1e-12, 1e-3))
def test_log_keeps_small_angles_to_full_relative_precision(angle: float) -> None:
    turn = np.array([0.6, -0.8, 0.0]) * angle

    assert rotation.log(rotation.exp(turn)) == pytest.approx(turn, rel=1e-9, abs=1e-18)


@given(st.floats(-7, 7), st.floats(-20, 20))
def test_a_linear_retarder_turns_about_its_axis(azimuth: float, angle: float) -> None:
    axis = np.array([np.cos(azimuth), np.sin(azimuth), 0])

    turned = retarder(azimuth, angle)

    assert np.allclose(turned, rotation.exp(axis * angle), atol=1e-12)


def test_retarders_act_one_after_the_other() -> None:
    azimuth, retardance = np.random.default_rng(4).uniform(-9, 9, (2, 5))

    products = rotation.of_jones(*rotation.jones_of_retarders(azimuth, retardance))

    expected = np.eye(3)
    for product, *one in zip(products, azimuth, retardance, strict=True):
        expected = retarder(*one) @ expected
        assert np.allclose(product, expected, atol=1e-12)


@pytest.mark.parametrize("turns", [0.5, 1.0, 1.5, -0.5])
def test_whole_and_half_turns_of_a_retarder_are_exact(turns: float) -> None:
    half_turn = np.diag([1.0, -1, -1]) if turns % 1 else np.eye(3)

    assert np.allclose(retarder(0.0, 2 * np.pi * turns), half_turn, atol=1e-12)


@given(VECTORS, VECTORS)
def test_skew_agrees_with_numpy(left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    assert np.allclose(rotation.skew(left) @ right, np.cross(left, right))


def test_random_rotations_favour_no_direction() -> None:
    drawn = rotation.random(np.random.default_rng(1), 20_000)

    assert np.allclose(drawn.mean(axis=0), 0, atol=0.02)
    assert np.allclose((drawn**2).mean(axis=0), 1 / 3, atol=0.02)


def test_orthonormal_undoes_rounding() -> None:
    rng = np.random.default_rng(2)
    exact = rotation.random(rng, 50)

    restored = rotation.orthonormal(exact + 1e-6 * rng.normal(size=exact.shape))

    assert np.allclose(restored @ np.swapaxes(restored, -1, -2), np.eye(3), atol=1e-12)
    assert np.allclose(restored, exact, atol=1e-5)


@given(VECTORS)
def test_turning_back_undoes_a_turn(vector: NDArray[np.float64]) -> None:
    assert np.allclose(rotation.exp(-vector) @ rotation.exp(vector), np.eye(3), atol=1e-12)


@given(VECTORS, st.floats(-2, 2), st.floats(-2, 2))
def test_turns_about_one_axis_add_up(
    vector: NDArray[np.float64], first: float, second: float
) -> None:
    one_after_the_other = rotation.exp(second * vector) @ rotation.exp(first * vector)

    assert np.allclose(one_after_the_other, rotation.exp((first + second) * vector), atol=1e-11)


@given(VECTORS, VECTORS)
def test_a_turned_frame_sees_the_axis_turned(
    vector: NDArray[np.float64], frame: NDArray[np.float64]
) -> None:
    turn = rotation.exp(frame)

    assert np.allclose(turn @ rotation.exp(vector) @ turn.T, rotation.exp(turn @ vector))


@given(VECTORS)
def test_exp_grows_along_its_generator(vector: NDArray[np.float64]) -> None:
    step = 1e-5

    quotient = (rotation.exp((1 + step) * vector) - rotation.exp((1 - step) * vector)) / (2 * step)

    assert np.allclose(quotient, rotation.skew(vector) @ rotation.exp(vector), atol=1e-7)


@given(st.floats(-7, 7), st.floats(-20, 20))
def test_a_retarder_s_derivative_is_a_turn_about_its_axis(azimuth: float, angle: float) -> None:
    axis, step = np.array([np.cos(azimuth), np.sin(azimuth), 0]), 1e-5
    above, below = (retarder(azimuth, angle + change) for change in (step, -step))

    here = retarder(azimuth, angle)

    assert np.allclose((above - below) / (2 * step), rotation.skew(axis) @ here, atol=1e-8)


def test_stacks_are_turned_member_by_member() -> None:
    vectors = np.random.default_rng(3).normal(size=(2, 5, 3))

    stacked = rotation.exp(vectors)

    assert np.allclose(stacked[1, 4], rotation.exp(vectors[1, 4]))
    assert np.allclose(rotation.log(stacked)[1, 4], rotation.log(stacked[1, 4]))


@pytest.mark.parametrize("angle_rad", [1e-6, 0.009, 0.5, 2.0, 3.1])
def test_the_slope_of_the_logarithm_is_its_change(angle_rad: float) -> None:
    vector = angle_rad * np.array([0.48, -0.6, 0.64])
    small = 1e-6 * np.eye(3)

    after = rotation.log(rotation.exp(small) @ rotation.exp(vector)) - vector
    before = rotation.log(rotation.exp(vector) @ rotation.exp(small)) - vector

    slope = rotation.log_slope(vector)
    assert np.allclose(after.T / 1e-6, slope, atol=1e-5)
    assert np.allclose(before.T / 1e-6, slope.T, atol=1e-5)
