from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sim.stokes import (
    STATE_VECTORS,
    Floats,
    haar_axis,
    haar_rotation,
    rotation,
)

H, V, D, A = STATE_VECTORS
vectors = arrays(float, 3, elements=st.floats(-10, 10))


@given(vectors)
def test_a_rotation_keeps_lengths_and_handedness(vector: Floats) -> None:
    matrix = rotation(vector)

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@given(vectors)
def test_the_opposite_rotation_vector_turns_back(vector: Floats) -> None:
    np.testing.assert_allclose(rotation(vector) @ rotation(-vector), np.eye(3), atol=1e-12)


@given(vectors, st.floats(-3, 3), st.floats(-3, 3))
def test_rotations_about_one_axis_add_up(axis: Floats, first: float, second: float) -> None:
    product = rotation(first * axis) @ rotation(second * axis)

    np.testing.assert_allclose(product, rotation((first + second) * axis), atol=1e-10)


@given(vectors)
def test_a_rotation_leaves_its_axis_alone(vector: Floats) -> None:
    np.testing.assert_allclose(rotation(vector) @ vector, vector, atol=1e-12)


@given(vectors, vectors)
def test_a_rotation_follows_rodrigues_formula(axis: Floats, turned: Floats) -> None:
    angle = np.linalg.norm(axis)
    unit = axis / angle if angle > 0 else np.array([1.0, 0, 0])
    expected = (
        np.cos(angle) * turned
        + np.sin(angle) * np.cross(unit, turned)
        + (1 - np.cos(angle)) * unit * (unit @ turned)
    )

    np.testing.assert_allclose(rotation(axis) @ turned, expected, atol=1e-11)


def test_many_rotations_are_made_at_once() -> None:
    several = np.random.default_rng(0).normal(size=(2, 5, 3))

    np.testing.assert_allclose(rotation(several)[1, 2], rotation(several[1, 2]), atol=1e-15)


def test_a_half_wave_plate_at_22_5_degrees_turns_horizontal_into_diagonal() -> None:
    plate = rotation(pi * (H + D) / sqrt(2))  # 22.5 degrees are 45 on the sphere

    np.testing.assert_allclose(plate @ H, D, atol=1e-15)


def test_a_quarter_wave_plate_at_45_degrees_makes_horizontal_circular() -> None:
    np.testing.assert_allclose(rotation(pi / 2 * D) @ H, [0, 0, -1], atol=1e-15)


def test_haar_rotations_have_the_moments_of_the_uniform_distribution() -> None:
    generator = np.random.default_rng(1)
    n = 4000
    drawn = np.array([haar_rotation(generator) for _ in range(n)])
    traces = np.trace(drawn, axis1=1, axis2=2)

    # entries: mean 0, variance 1/3; traces: orthonormal characters, mean 0 and mean square 1,
    # fourth moment 3 (the number of invariants in four vectors)
    assert np.abs(drawn.mean(axis=0)).max() < 4.5 * sqrt(1 / 3 / n)
    assert abs(traces.mean()) < 4 * sqrt(1 / n)
    assert abs((traces**2).mean() - 1) < 4 * sqrt((3 - 1) / n)


def test_haar_rotations_are_proper_rotations() -> None:
    matrix = haar_rotation(np.random.default_rng(2))

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_a_haar_axis_has_length_one() -> None:
    assert np.linalg.norm(haar_axis(np.random.default_rng(3))) == pytest.approx(1)
