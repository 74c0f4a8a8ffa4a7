import numpy as np
import pytest
from numpy.typing import NDArray

from calibration import kinematics
from calibration.parameters import Parameters
from calibration.variable_retarders import VariableRetarderChain

RNG = np.random.default_rng
CHAIN = VariableRetarderChain.of_cells()


def aligned(chain: VariableRetarderChain, highest_waves: float) -> float:
    """Share of links that cells of so much retardance align to within a tenth of a point."""
    links = chain.draw(RNG(1), 30)
    span = np.array([[0.0], [highest_waves]]).repeat(chain.channels, axis=1)
    starts = RNG(2).uniform(*span, (8, 30, chain.channels))
    reached = [kinematics.align(chain, links, start, span, steps=80)[0] for start in starts]
    excess = [np.diagonal(chain.excess(links, drives)) for drives in reached]
    return float(np.mean(np.min(excess, axis=0) < 0.001))


def test_a_cell_turns_by_what_its_data_sheet_says_and_by_its_errors() -> None:
    at = CHAIN.draw(RNG(3), 1)
    scale, offset = at.errors[0, :3], at.errors[0, 3:6]
    waves = np.array([0.2, 0.6, 0.9])

    _, retardance = CHAIN.azimuth_and_retardance(at, waves[None])

    assert retardance[0, 0] == pytest.approx(2 * np.pi * waves * (1 + scale) + offset)


def test_offsets_are_known_up_to_a_small_share_of_a_wave() -> None:
    drawn = VariableRetarderChain.of_cells(offset_sigma_waves=0.02).draw(RNG(4), 4000)

    offset = drawn.errors[:, 3:6]
    assert offset[:, 1].std() == pytest.approx(2 * np.pi * 0.02, rel=0.05)
    assert not offset[:, [0, 2]].any()


def test_a_whole_wave_changes_nothing() -> None:
    at, waves = CHAIN.draw(RNG(5), 2), RNG(6).uniform(0, 1, (1, 3))

    shifted = waves + CHAIN.period(at)[:, None]

    assert np.allclose(CHAIN.rotation(at, shifted), CHAIN.rotation(at, waves))


def test_three_cells_reach_everything_only_if_they_go_through_a_whole_wave() -> None:
    perfect = VariableRetarderChain.of_cells(
        scale_sigma=1e-6, azimuth_sigma_deg=1e-6, offset_sigma_waves=1e-6
    )

    assert aligned(perfect, 1.0) == 1.0
    assert aligned(perfect, 0.5) < 0.8


def test_the_fibres_absorb_what_the_gauge_fixes_at_zero() -> None:
    free = CHAIN.draw(RNG(7), 1)
    whole = free.errors.copy()
    whole[:, [3, 5, 6]] = 0.1, -0.2, 0.15  # first and last offset, first azimuth error
    whole[:, 7:] += 0.15
    first, last, about_s3 = (
        CHAIN.controller(
            Parameters(free.fibre, free.receiver, errors, free.log_floor), np.zeros((1, 3))
        )[0, 0]
        for errors in (_only(3, 0.1, whole), _only(5, -0.2, whole), np.zeros_like(whole))
    )
    turn = np.array([[np.cos(0.15), -np.sin(0.15), 0], [np.sin(0.15), np.cos(0.15), 0], [0, 0, 1]])
    fixed = Parameters(
        turn.T @ first @ free.fibre, free.receiver @ last @ turn, free.errors, free.log_floor
    )
    unfixed = Parameters(free.fibre, free.receiver, whole, free.log_floor)
    waves = RNG(8).uniform(0, 1, (6, 3))

    assert np.allclose(about_s3, np.eye(3))
    assert np.allclose(
        CHAIN.error_probability(fixed, waves), CHAIN.error_probability(unfixed, waves)
    )


def _only(offset: int, value_rad: float, errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors of the axes as given, and of all offsets one."""
    only = np.zeros_like(errors)
    only[:, 6:] = errors[:, 6:]
    only[:, offset] = value_rad
    return only


@pytest.mark.parametrize("azimuth_deg", [(0.0, 90.0), ()])
def test_fewer_than_three_cells_are_no_controller(azimuth_deg: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"three or more|negative"):
        VariableRetarderChain.of_cells(azimuth_deg)
