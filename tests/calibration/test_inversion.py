import numpy as np
import pytest

from calibration.inversion import (
    EVERY,
    Inverted,
    composed,
    exchanged,
    half_turn,
    seen_inverted,
)
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)


@pytest.mark.parametrize("inverted", EVERY)
def test_inverting_is_a_rotation_and_its_own_undoing(inverted: Inverted) -> None:
    turn = half_turn(inverted)

    assert np.linalg.det(turn) == pytest.approx(1)
    assert turn @ turn == pytest.approx(np.eye(3))


@pytest.mark.parametrize("inverted", EVERY)
def test_inverted_bases_err_where_they_did_not(inverted: Inverted) -> None:
    at = CHAIN.draw(np.random.default_rng(1), 3)
    drives = np.random.default_rng(2).uniform(-5, 5, (4, 4))

    before = CHAIN.error_probability(at, drives)
    after = CHAIN.error_probability(seen_inverted(at, inverted), drives)

    for number, basis in enumerate(("Z", "X")):
        expected = 1 - before[:, :, number] if basis in inverted else before[:, :, number]
        assert after[:, :, number] == pytest.approx(expected)


def test_detectors_of_an_inverted_basis_are_exchanged() -> None:
    table = np.arange(16).reshape(4, 4)

    assert exchanged(table, ("Z",))[0].tolist() == [1, 0, 2, 3]
    assert exchanged(table, ("X",))[0].tolist() == [0, 1, 3, 2]
    assert exchanged(table, ())[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("first", EVERY)
@pytest.mark.parametrize("then", EVERY)
def test_one_inversion_after_another_is_again_one(first: Inverted, then: Inverted) -> None:
    both = composed(first, then)

    assert both in EVERY
    assert np.array_equal(half_turn(both), half_turn(then) @ half_turn(first))
