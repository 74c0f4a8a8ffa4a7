from dataclasses import replace
from math import nan, pi
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.paddles import PADDLES, REST_DEG, PaddleBank, PaddleSettings
from sim.stokes import Floats

PERFECT = PaddleSettings(retardance_spread=0.0)
angles = st.floats(0, 170)


def bank(settings: PaddleSettings = PERFECT, seed: int = 0) -> PaddleBank:
    return PaddleBank(settings, np.random.default_rng(seed))


def single(paddle: int, settings: PaddleSettings = PERFECT, seed: int = 0) -> PaddleBank:
    """A bank whose other paddles hardly retard."""
    waves = np.where(np.equal(PADDLES, paddle), settings.retardance_waves, 1e-12)
    first, second, third = waves.tolist()
    return bank(replace(settings, retardance_waves=(first, second, third)), seed)


def vector(of: PaddleBank, angles_deg: tuple[float, float, float]) -> Floats:
    return Rotation.from_matrix(of.rotation_at(np.array(angles_deg))).as_rotvec()


@given(st.tuples(angles, angles, angles))
def test_any_angles_make_a_rotation(angles_deg: tuple[float, float, float]) -> None:
    matrix = bank(PaddleSettings()).rotation_at(np.array(angles_deg))

    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize(("paddle", "retardance_rad"), [(1, pi / 2), (2, pi), (3, pi / 2)])
def test_each_paddle_has_its_nominal_retardance_whatever_its_angle(
    paddle: int, retardance_rad: float
) -> None:
    of = single(paddle)

    turned = [np.linalg.norm(vector(of, (angle, angle, angle))) for angle in (0.0, 33.0, 170.0)]

    assert turned == pytest.approx([retardance_rad] * 3, abs=1e-9)


@pytest.mark.parametrize(("twist", "turned_deg"), [(0.0, 60.0), (0.08, 55.2)])
def test_the_linear_axis_turns_twice_as_far_as_the_paddle_less_the_twist(
    twist: float, turned_deg: float
) -> None:
    of = single(1, replace(PERFECT, twist=twist))
    before, after = vector(of, (10.0, 0.0, 0.0)), vector(of, (40.0, 0.0, 0.0))

    cosine = before @ after / (pi / 2) ** 2
    assert np.degrees(np.arccos(cosine)) == pytest.approx(turned_deg)
    np.testing.assert_allclose([before[2], after[2]], 0, atol=1e-9)


def test_light_meets_paddle_1_first() -> None:
    of = bank()
    angles_deg = np.array([20.0, 70.0, 140.0])
    each = [Rotation.from_matrix(single(k).rotation_at(angles_deg)) for k in PADDLES]

    expected = (each[2] * each[1] * each[0]).as_matrix()

    np.testing.assert_allclose(of.rotation_at(angles_deg), expected, atol=1e-9)


def test_retardances_differ_from_unit_to_unit_by_some_per_cent() -> None:
    settings = PaddleSettings(retardance_spread=0.03)
    shares = [
        np.linalg.norm(vector(single(1, settings, seed), (0, 0, 0))) / (pi / 2)
        for seed in range(300)
    ]

    assert np.mean(shares) == pytest.approx(1, abs=0.01)
    assert np.std(shares) == pytest.approx(0.03, rel=0.2)


def test_where_the_axes_stand_is_another_for_every_unit() -> None:
    azimuths = [np.arctan2(*vector(single(2, seed=seed), (0, 0, 0))[1::-1]) for seed in range(40)]

    assert np.ptp(azimuths) > 5


def test_plates_that_were_homed_stand_there_to_a_degree_or_so() -> None:
    homed = replace(PERFECT, homing_spread_deg=1.0)
    azimuths = [np.arctan2(*vector(single(1, homed, s), (0, 0, 0))[1::-1]) for s in range(200)]

    assert np.degrees(np.std(azimuths)) / 2 == pytest.approx(1.0, rel=0.15)


def test_a_paddle_moves_at_its_speed_and_stops_at_its_target() -> None:
    of = bank()
    of.turn(2, 105.0, start_s=10.0, speed_deg_per_s=40.0)

    assert of.angle_deg(2, 10.25) == pytest.approx(95.0)
    assert of.angle_deg(2, 11.0) == 105.0
    assert of.target_deg(2) == 105.0
    assert [of.is_moving(t) for t in (9.9, 10.25, 10.6)] == [False, True, False]
    assert of.changes(9.0, 11.0) == [10.0]


def test_a_move_may_be_told_before_it_begins() -> None:
    of = bank()
    of.turn(1, 45.0, start_s=0.0, speed_deg_per_s=40.0)
    of.turn(2, 45.0, start_s=1.0, speed_deg_per_s=40.0)

    assert of.angle_deg(2, 0.9) == REST_DEG
    assert of.angle_deg(2, 1.5) == pytest.approx(65.0)


def test_a_turn_on_the_way_leaves_from_where_the_paddle_is() -> None:
    of = bank()
    of.turn(3, 125.0, start_s=0.0, speed_deg_per_s=40.0)
    of.turn(3, 85.0, start_s=0.5, speed_deg_per_s=40.0)

    assert of.angle_deg(3, 0.75) == pytest.approx(95.0)


@pytest.mark.parametrize("angle_deg", [-0.1, 170.1, nan])
def test_angles_beyond_the_travel_are_refused(angle_deg: float) -> None:
    of = bank()

    with pytest.raises(ValueError, match="outside 0 to 170"):
        of.turn(1, angle_deg, start_s=0.0, speed_deg_per_s=40.0)

    assert of.target_deg(1) == REST_DEG


@pytest.mark.parametrize("speed", [0.0, -1.0, nan])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        bank().turn(1, 20.0, start_s=0.0, speed_deg_per_s=speed)


@pytest.mark.parametrize("paddle", [0, 4])
def test_there_are_three_paddles(paddle: int) -> None:
    with pytest.raises(ValueError, match="1 to 3"):
        bank().turn(paddle, 20.0, start_s=0.0, speed_deg_per_s=40.0)


def test_the_loss_stays_within_its_ripple() -> None:
    of = bank(replace(PERFECT, insertion_loss_ripple_db=0.5))
    of.turn(1, 0.0, start_s=0.0, speed_deg_per_s=100.0)
    of.turn(3, 170.0, start_s=0.0, speed_deg_per_s=100.0)
    losses = [of.loss_db(t) for t in np.linspace(0, 1, 21)]

    assert min(losses) >= 0
    assert max(losses) <= 0.5
    assert np.ptp(losses) > 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"retardance_waves": (0.25, 0.0, 0.25)},
        {"retardance_waves": (0.25, 1.5, 0.25)},
        {"retardance_spread": -0.1},
        {"insertion_loss_ripple_db": -1.0},
        {"twist": 1.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"between|negative"):
        PaddleSettings(**wrong)
