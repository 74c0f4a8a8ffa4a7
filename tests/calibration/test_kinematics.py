import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.kinematics import align, bring_into_range, shortest_step
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
FULL_RANGE = np.array([[-5.0] * 4, [5.0] * 4])


def one(voltage: float, period_v: float, low: float, high: float) -> float:
    span_v = np.array([[low], [high]])
    return float(bring_into_range(np.array([voltage]), np.array([period_v]), span_v)[0])


@given(st.floats(-5, 5), st.floats(0.5, 20))
def test_a_voltage_within_its_range_is_left_alone(voltage: float, period_v: float) -> None:
    assert one(voltage, period_v, -5, 5) == voltage


@given(st.floats(-100, 100), st.floats(0.5, 9.9))
def test_a_range_longer_than_the_period_is_reached_by_whole_periods(
    voltage: float, period_v: float
) -> None:
    moved = one(voltage, period_v, -5, 5)

    assert -5 <= moved <= 5
    periods = (moved - voltage) / period_v
    assert periods == pytest.approx(round(periods), abs=1e-6)


@given(st.floats(-100, 100), st.floats(2, 20))
def test_a_shorter_range_is_never_left(voltage: float, period_v: float) -> None:
    assert 0 <= one(voltage, period_v, 0, 1.5) <= 1.5


def test_where_no_equivalent_is_in_range_the_closer_limit_is_chosen() -> None:
    assert one(1.5, 4.0, -1.0, 1.0) == pytest.approx(1.0)
    assert one(2.9, 4.0, -1.0, 1.0) == pytest.approx(-1.0)


def test_any_fibre_can_be_aligned_from_any_setting() -> None:
    rng = np.random.default_rng(1)
    fibres = CHAIN.draw(rng, 200)

    voltages, remaining = align(CHAIN, fibres, rng.uniform(-5, 5, (200, 4)), FULL_RANGE)

    assert np.all(np.abs(voltages) <= 5)
    assert np.mean(remaining < 1e-5) > 0.99
    reached = [CHAIN.excess(fibres[[k]], voltages[k][None])[0, 0] for k in range(200)]
    assert np.mean(np.array(reached) < 1e-9) > 0.99


def test_an_aligned_setting_stays() -> None:
    rng = np.random.default_rng(2)
    fibre = CHAIN.draw(rng, 1)
    aligned, _ = align(CHAIN, fibre, rng.uniform(-5, 5, (1, 4)), FULL_RANGE)

    again, remaining = align(CHAIN, fibre, aligned, FULL_RANGE)

    assert np.allclose(again, aligned, atol=1e-5)
    assert remaining[0] < 1e-6


def test_with_less_than_a_period_most_fibres_are_still_aligned_within_the_limits() -> None:
    rng = np.random.default_rng(3)
    span_v = np.array([[0.0] * 4, [4.5] * 4])
    voltages, remaining = align(CHAIN, CHAIN.draw(rng, 300), rng.uniform(0, 4.5, (300, 4)), span_v)

    assert np.all((voltages >= 0) & (voltages <= 4.5))
    assert np.mean(remaining < 1e-3) > 0.8


def test_locally_no_drive_goes_over_to_the_other_limit() -> None:
    rng = np.random.default_rng(5)
    span = np.array([[0.0] * 4, [3.5] * 4])
    fibres, start = CHAIN.draw(rng, 300), np.full((300, 4), 3.3)

    far, near = (
        align(CHAIN, fibres, start, span, steps=1, is_local=is_local)[0]
        for is_local in (False, True)
    )

    assert near.min() > 3.3 - 2.5 / np.pi - 1e-9  # one step of a radian
    assert far.min() == 0


def test_the_shortest_step_makes_the_turn_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    effect = rng.normal(size=(5, 3, 4))
    turn = 1e-6 * rng.normal(size=(5, 3))

    step = shortest_step(effect, turn)

    assert np.allclose((effect @ step[..., None])[..., 0], turn, rtol=1e-4, atol=1e-11)
    idle = np.linalg.svd(effect)[2][:, -1]
    assert np.allclose(np.sum(idle * step, axis=-1), 0, atol=1e-12)
