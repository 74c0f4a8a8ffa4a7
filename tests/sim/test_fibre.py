from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.fibre import BLOCK_STEPS, BLOCKS_KEPT, Fibre, FibreSettings
from sim.stokes import Floats, rotation

STILL = FibreSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=0.0)
WALK = FibreSettings(drift_rad_per_sqrt_s=0.1, slow_amplitude_rad=0.0)


def fibre(settings: FibreSettings, seed: int = 0, start_s: float | None = 0.0) -> Fibre:
    return Fibre(settings, np.random.default_rng(seed), start_s=start_s)


def turned_by(after: Floats, before: Floats) -> Floats:
    return Rotation.from_matrix(after @ np.swapaxes(before, -1, -2)).as_rotvec()


@pytest.mark.parametrize("duration_s", [0.1, 1.0])
def test_each_axis_gathers_the_variance_q_squared_t(duration_s: float) -> None:
    walk = fibre(WALK)
    n = 3000
    nodes = np.array([walk.rotation(i * duration_s) for i in range(n + 1)])
    vectors = turned_by(nodes[1:], nodes[:-1])

    shares = (vectors**2).mean(axis=0) / (0.1**2 * duration_s)

    assert np.abs(shares - 1).max() < 4.5 * sqrt(2 / n)
    assert np.abs(np.corrcoef(vectors.T) - np.eye(3)).max() < 4.5 / sqrt(n)


def test_the_walk_has_no_preferred_direction() -> None:
    walk = fibre(WALK, seed=1)
    n = 3000
    nodes = np.array([walk.rotation(float(i)) for i in range(n + 1)])

    assert np.abs(turned_by(nodes[1:], nodes[:-1]).mean(axis=0)).max() < 4.5 * 0.1 / sqrt(n)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=8))
def test_the_path_does_not_depend_on_when_it_is_asked_for(times_s: list[float]) -> None:
    asked_once, asked_often = fibre(WALK), fibre(WALK)
    for time_s in times_s:
        asked_often.rotation(time_s)

    np.testing.assert_array_equal(asked_often.rotation(times_s[0]), asked_once.rotation(times_s[0]))


def test_the_recent_past_may_be_asked_for_again() -> None:
    walk = fibre(WALK)
    before = walk.rotation(100.0)
    walk.rotation(160.0)

    np.testing.assert_array_equal(walk.rotation(100.0), before)


def test_the_distant_past_is_forgotten_and_says_so() -> None:
    walk = fibre(WALK)
    block_s = BLOCK_STEPS * WALK.step_s
    walk.rotation((BLOCKS_KEPT + 1) * block_s)

    with pytest.raises(LookupError, match="forgotten"):
        walk.rotation(0.5 * block_s)


def test_the_rotation_stays_a_rotation_over_a_day() -> None:
    matrix = fibre(FibreSettings(drift_rad_per_sqrt_s=1.0, step_s=0.1)).rotation(86400.0)

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-11)


def test_the_path_has_no_seam_between_blocks() -> None:
    walk = fibre(FibreSettings(drift_rad_per_sqrt_s=0.1, slow_amplitude_rad=0.0))
    seam_s = BLOCK_STEPS * walk.settings.step_s

    np.testing.assert_allclose(
        walk.rotation(seam_s - 1e-9), walk.rotation(seam_s + 1e-9), atol=1e-6
    )


def test_between_grid_points_the_rotation_is_uniform() -> None:
    walk = fibre(WALK)
    start, middle, end = (walk.rotation(t) for t in (0.02, 0.025, 0.03))

    np.testing.assert_allclose(turned_by(middle, start), turned_by(end, middle), atol=1e-12)


def test_times_before_the_start_see_the_start() -> None:
    walk = fibre(WALK, start_s=10.0)

    np.testing.assert_array_equal(walk.rotation(3.0), walk.rotation(10.0))


def test_without_a_start_the_path_begins_when_it_is_first_asked_for() -> None:
    late, early = fibre(WALK, start_s=None), fibre(WALK, start_s=0.0)

    np.testing.assert_array_equal(late.rotation(4e6), early.rotation(0.0))
    np.testing.assert_allclose(late.rotation(4e6 + 5), early.rotation(5.0), atol=1e-6)


def test_a_fibre_without_drift_stands_still() -> None:
    still = fibre(STILL)

    np.testing.assert_array_equal(still.rotation(1e9), still.rotation(0.0))


def test_the_slow_term_turns_by_its_amplitude_and_comes_back() -> None:
    slow = fibre(
        FibreSettings(drift_rad_per_sqrt_s=0.0, slow_amplitude_rad=0.4, slow_period_s=100.0)
    )
    start, quarter, half = (slow.rotation(t) for t in (0.0, 25.0, 50.0))

    assert np.linalg.norm(turned_by(quarter, start)) == pytest.approx(0.4)
    np.testing.assert_allclose(half, start, atol=1e-12)


def test_a_jump_turns_the_far_end_from_its_time_on() -> None:
    moved = fibre(STILL)
    before = moved.rotation(0.0)
    vector = np.array([0.3, -0.2, 0.1])
    moved.jump(vector, 5.0)

    np.testing.assert_array_equal(moved.rotation(4.9), before)
    np.testing.assert_allclose(moved.rotation(5.0), rotation(vector) @ before, atol=1e-14)


def test_jumps_add_up() -> None:
    moved = fibre(STILL)
    before = moved.rotation(0.0)
    for i in range(1000):
        moved.jump(np.array([0.0, 0.0, 2 * pi / 1000]), float(i))

    np.testing.assert_allclose(moved.rotation(1000.0), before, atol=1e-10)


def test_the_same_seed_walks_the_same_path() -> None:
    np.testing.assert_array_equal(fibre(WALK, 7).rotation(50.0), fibre(WALK, 7).rotation(50.0))


def test_another_seed_walks_another_path() -> None:
    assert not np.allclose(fibre(WALK, 7).rotation(50.0), fibre(WALK, 8).rotation(50.0))


@pytest.mark.parametrize(
    "wrong", [{"drift_rad_per_sqrt_s": -1.0}, {"step_s": 0.0}, {"slow_period_s": -1.0}]
)
def test_a_fibre_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        FibreSettings(**wrong)
