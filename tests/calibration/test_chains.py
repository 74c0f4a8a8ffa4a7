"""What every model of a controller promises, whatever drives it."""

import json

import numpy as np
import pytest

from calibration import rotation
from calibration.chain import Chain
from calibration.posterior import MODELS
from calibration.retarders import RetarderChain
from calibration.variable_retarders import VariableRetarderChain
from calibration.wave_plate_stack import WavePlateStack
from calibration.wave_plates import WavePlateChain

RNG = np.random.default_rng

CHAINS: dict[str, Chain] = {
    "four squeezers": RetarderChain.nominal(2.5),
    "three retarders": VariableRetarderChain.of_cells(),
    "four retarders": VariableRetarderChain.of_cells((0, 90, 0, 90)),
    "paddles": WavePlateChain.nominal(),
    "quarter, half, quarter": WavePlateStack.homed(),
    "half, quarter, quarter": WavePlateStack.homed((0.5, 0.25, 0.25)),
    "odd plates": WavePlateStack.homed((0.25, 0.47, 0.3, 0.25), zero_deg=(0, 10, 20, 30)),
}


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> Chain:
    return CHAINS[request.param]


def test_every_derivative_agrees_with_a_difference_quotient(chain: Chain) -> None:
    at = chain.draw(RNG(1), 3)
    drives = RNG(2).uniform(0, 2, (4, chain.channels)) * chain.half_turn

    _, slope = chain.linearise(at, drives)

    for direction in range(chain.size):
        tangent = np.zeros((3, chain.size))
        tangent[:, direction] = 1e-6
        above = chain.error_probability(chain.step(at, tangent), drives)
        below = chain.error_probability(chain.step(at, -tangent), drives)
        quotient = ((above - below) / 2e-6).reshape(3, 4, 4)
        assert np.allclose(slope[:, :, direction], quotient, atol=1e-7), direction


def test_the_prior_s_gradient_agrees_with_a_difference_quotient(chain: Chain) -> None:
    at = chain.step(chain.draw(RNG(3), 2), 0.01 * RNG(4).normal(size=(2, chain.size)))

    _, gradient, _ = chain.log_prior(at)

    for direction in range(chain.size):
        tangent = np.zeros((2, chain.size))
        tangent[:, direction] = 1e-6
        above, below = chain.step(at, tangent), chain.step(at, -tangent)
        rise = chain.log_prior(above)[0] - chain.log_prior(below)[0]
        assert gradient[:, direction] == pytest.approx(rise / 2e-6, rel=1e-3, abs=1e-3)


def test_small_changes_turn_about_the_actuator_axes(chain: Chain) -> None:
    at = chain.draw(RNG(5), 1)
    drives = RNG(6).uniform(0, 2, (1, chain.channels)) * chain.half_turn
    turned_rad = 1e-5 * RNG(7).normal(size=chain.channels)

    before, axes = chain.actuator_axes(at, drives)
    after = chain.controller(at, drives + turned_rad * chain.half_turn / np.pi)

    expected = before[0, 0] @ rotation.exp(turned_rad @ axes[0, 0])
    assert np.allclose(after[0, 0], expected, atol=1e-8)


def test_no_direction_is_left_that_changes_nothing(chain: Chain) -> None:
    at = chain.draw(RNG(8), 1)
    drives = RNG(9).uniform(0, 2, (60, chain.channels)) * chain.half_turn

    _, slope = chain.linearise(at, drives)

    # One unit of each free parameter is some radians; of these, any mixture shows.
    shown = np.linalg.svd(slope[0].transpose(0, 2, 1).reshape(-1, chain.size), compute_uv=False)
    assert shown.min() > 1e-3 * shown.max()


def test_a_model_is_restored_from_what_is_stored(chain: Chain) -> None:
    stored = json.loads(json.dumps(chain.to_dict()))

    restored = MODELS[stored.pop("kind")].from_dict(stored)

    assert type(restored) is type(chain)
    assert restored.to_dict() == chain.to_dict()


def test_a_model_takes_no_other_for_its_own_hardware() -> None:
    for one, chain in CHAINS.items():
        assert [name for name, other in CHAINS.items() if chain.is_like(other)] == [one]
