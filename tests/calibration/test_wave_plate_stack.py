import numpy as np
import pytest

from calibration import rotation
from calibration.parameters import Parameters
from calibration.wave_plate_stack import WavePlateStack

RNG = np.random.default_rng


@pytest.mark.parametrize(
    ("waves", "spread"),
    [
        ((0.25, 0.5, 0.25), [6**0.5]),  # o3 - 2 o2 + o1
        ((0.5, 0.25, 0.25), [2**0.5]),  # o3 - o2
        ((0.25, 0.25, 0.5), [2**0.5]),  # o2 - o1
        ((0.25, 0.5, 0.5, 0.25), [10**0.5]),  # o4 - 2 o3 + 2 o2 - o1
    ],
)
def test_what_homing_leaves_open_of_the_offsets_adds_up(
    waves: tuple[float, ...], spread: list[float]
) -> None:
    chain = WavePlateStack.homed(waves, homing_sigma_deg=1.0)

    offsets = chain.draw(RNG(1), 4000).errors[:, chain.free][:, chain.angles]

    assert offsets.std(axis=0) == pytest.approx(2 * np.radians(1.0) * np.array(spread), rel=0.05)


def test_the_fibres_and_one_offset_absorb_where_the_plates_were_homed() -> None:
    chain, (first, second, third) = WavePlateStack.homed(), np.radians([2.0, -3.0, 5.0])
    fixed = chain.draw(RNG(2), 1)
    errors = np.zeros_like(fixed.errors)
    errors[:, 3:6] = first, second, third
    homed = Parameters(fixed.fibre, fixed.receiver, errors, fixed.log_floor)
    in_gauge = np.zeros_like(errors)
    in_gauge[:, 5] = third - 2 * second + first
    about = [rotation.exp(np.array([0.0, 0.0, a])) for a in (-first, 2 * second - first)]
    absorbed = Parameters(
        about[0] @ fixed.fibre, fixed.receiver @ about[1], in_gauge, fixed.log_floor
    )
    angles = RNG(3).uniform(0, 180, (6, 3))

    assert np.allclose(
        chain.error_probability(homed, angles), chain.error_probability(absorbed, angles)
    )


def test_a_plate_of_nearly_half_a_wave_is_expected_to_be_just_that() -> None:
    chain = WavePlateStack.homed((0.25, 0.47, 0.25), retardance_sigma_waves=0.01)

    errors = chain.draw(RNG(4), 4000).errors

    assert errors[:, 1].mean() == pytest.approx(2 * np.pi * -0.03, abs=0.005)
    assert errors[:, 1].std() == pytest.approx(2 * np.pi * 0.01, rel=0.05)


def test_there_is_no_twist() -> None:
    chain = WavePlateStack.homed()
    stepped = chain.step(chain.draw(RNG(5), 3), np.ones((3, chain.size)))

    assert not stepped.errors[:, -1].any()
    assert np.all(chain.period(stepped) == 180.0)


def test_beliefs_about_paddles_are_not_those_about_a_stack() -> None:
    with pytest.raises(ValueError, match="a prior of 7 numbers for 6"):
        WavePlateStack.nominal()
