import json

import numpy as np
import pytest

from benchmarks.twin import AXES_DEG, HALF_WAVE_V, Twin, TwinOptions
from calibration import rotation
from calibration.chain import wrap_angle
from calibration.clicks import Clicks
from calibration.parameters import Parameters
from calibration.retarders import RetarderChain, prior_of_widths

RNG = np.random.default_rng
CHAIN = RetarderChain.nominal(2.5)


def truth_of(twin: Twin) -> Parameters:
    """Describe a twin as it was built, without the gauge."""
    azimuth = np.arctan2(twin._axes[:, 1], twin._axes[:, 0]) - np.radians(AXES_DEG)
    return Parameters(
        fibre=twin._fibre[None],
        receiver=twin._receiver[None],
        errors=np.concatenate(
            [twin._rad_per_v * HALF_WAVE_V / np.pi - 1, twin._offset_rad, wrap_angle(azimuth)]
        )[None],
        log_floor=np.log([twin.floor]),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_model_predicts_what_an_independent_twin_counts(seed: int) -> None:
    twin = Twin(seed, TwinOptions(loss_db=40.0))  # so dark that no two photons share a gate
    voltages = RNG(seed).uniform(-5, 5, (6, 4))

    predicted = CHAIN.error_probability(truth_of(twin), voltages)[0]

    for voltage, expected in zip(voltages, predicted, strict=True):
        counts, errors = Clicks(twin.measure(voltage, 1e12)).by_basis()
        assert np.allclose(errors / counts, expected, atol=2e-5)


def test_the_fibres_absorb_what_the_gauge_fixes_at_zero() -> None:
    whole = truth_of(Twin(6))
    scale, offset, azimuth = np.split(whole.errors[0], 3)
    ends = rotation.jones_of_retarders(
        (np.radians(AXES_DEG) + azimuth)[[0, -1], None], offset[[0, -1], None]
    )
    first, last = rotation.of_jones(*ends)[0]
    about_s3 = rotation.exp(np.array([0, 0, azimuth[0]]))
    fixed = Parameters(
        fibre=about_s3.T @ first @ whole.fibre,
        receiver=whole.receiver @ last @ about_s3,
        errors=np.concatenate([scale, offset * [0, 1, 1, 0], azimuth - azimuth[0]])[None],
        log_floor=whole.log_floor,
    )
    voltages = RNG(18).uniform(-5, 5, (6, 4))

    assert np.allclose(
        CHAIN.error_probability(fixed, voltages), CHAIN.error_probability(whole, voltages)
    )


def test_every_derivative_agrees_with_a_difference_quotient() -> None:
    rng = RNG(1)
    at, voltages = CHAIN.draw(rng, 3), rng.uniform(-5, 5, (4, 4))

    _, slope = CHAIN.linearise(at, voltages)

    for direction in range(CHAIN.size):
        tangent = np.zeros((3, CHAIN.size))
        tangent[:, direction] = 1e-6
        above = CHAIN.error_probability(CHAIN.step(at, tangent), voltages)
        below = CHAIN.error_probability(CHAIN.step(at, -tangent), voltages)
        quotient = ((above - below) / 2e-6).reshape(3, 4, 4)
        assert np.allclose(slope[:, :, direction], quotient, atol=1e-7), direction


def test_the_prior_s_gradient_agrees_with_a_difference_quotient() -> None:
    at = CHAIN.draw(RNG(2), 3)
    at = CHAIN.step(at, 0.1 * RNG(3).normal(size=(3, CHAIN.size)))

    _, gradient, _ = CHAIN.log_prior(at)

    for direction in range(CHAIN.size):
        tangent = np.zeros((3, CHAIN.size))
        tangent[:, direction] = 1e-6
        rise = (
            CHAIN.log_prior(CHAIN.step(at, tangent))[0]
            - CHAIN.log_prior(CHAIN.step(at, -tangent))[0]
        )
        assert gradient[:, direction] == pytest.approx(rise / 2e-6, rel=1e-4, abs=1e-4)


def test_linearising_predicts_what_the_whole_rotation_predicts() -> None:
    at, voltages = CHAIN.draw(RNG(4), 3), RNG(5).uniform(-5, 5, (4, 4))

    probability, _ = CHAIN.linearise(at, voltages)

    block = CHAIN.rotation(at, voltages)[..., :2, :2].reshape(3, 4, 4)
    assert np.allclose(probability, 0.5 * (1 - at.visibility[:, None, None] * block))


def test_the_excess_is_the_qber_above_the_floor() -> None:
    at, voltages = CHAIN.draw(RNG(6), 3), RNG(7).uniform(-5, 5, (4, 4))

    probability = CHAIN.error_probability(at, voltages)

    qber = 0.5 * (probability[..., 0, 0] + probability[..., 1, 1])
    assert np.allclose(CHAIN.excess(at, voltages), qber - at.floor[:, None])


def test_the_mirror_solution_predicts_the_same_counts() -> None:
    at, voltages = CHAIN.draw(RNG(8), 1), RNG(9).uniform(-5, 5, (6, 4))
    mirror, half_turn = np.diag([1.0, 1, -1]), np.diag([-1.0, -1, 1])
    mirrored = Parameters(
        fibre=half_turn @ mirror @ at.fibre @ mirror,
        receiver=mirror @ at.receiver @ mirror @ half_turn,
        errors=at.errors,
        log_floor=at.log_floor,
    )

    assert np.allclose(
        CHAIN.error_probability(at, voltages), CHAIN.error_probability(mirrored, voltages)
    )


def test_a_whole_period_changes_nothing() -> None:
    at, voltages = CHAIN.draw(RNG(10), 2), RNG(11).uniform(-2, 2, (1, 4))

    shifted = voltages + CHAIN.period(at)[:, None]

    assert np.allclose(CHAIN.rotation(at, shifted), CHAIN.rotation(at, voltages))


def test_small_voltage_changes_turn_about_the_actuator_axes() -> None:
    at, voltages = CHAIN.draw(RNG(12), 1), RNG(13).uniform(-5, 5, (1, 4))
    change_v = 1e-5 * np.array([1.0, -2, 3, 0.5])

    before, axes = CHAIN.actuator_axes(at, voltages)
    turned_rad = np.pi / CHAIN.half_turn * change_v
    after = CHAIN.controller(at, voltages + change_v)

    expected = before[0, 0] @ rotation.exp(turned_rad @ axes[0, 0])
    assert np.allclose(after[0, 0], expected, atol=1e-8)


def test_draws_follow_the_prior_s_widths() -> None:
    prior = prior_of_widths(4, scale=0.1, azimuth_deg=10)
    drawn = RetarderChain.nominal(2.5, prior=prior).draw(RNG(14), 4000)

    scale, offset, azimuth = np.split(drawn.errors, 3, axis=-1)
    assert scale.std() == pytest.approx(0.1, rel=0.05)
    assert np.degrees(azimuth[:, 1:].std()) == pytest.approx(10, rel=0.05)
    assert np.ptp(offset[:, 1:-1]) > 6
    assert not offset[:, [0, -1]].any()
    assert not azimuth[:, 0].any()


def test_steps_keep_the_gauge_and_a_sensible_floor() -> None:
    at = CHAIN.step(CHAIN.draw(RNG(15), 5), np.full((5, CHAIN.size), 10.0))

    _, offset, azimuth = np.split(at.errors, 3, axis=-1)
    assert not offset[:, [0, -1]].any()
    assert not azimuth[:, 0].any()
    assert np.all(at.floor < 0.5)


def test_parameters_survive_storage() -> None:
    at = CHAIN.draw(RNG(16), 2)

    restored = Parameters.from_dict(json.loads(json.dumps(at.to_dict())))

    assert all(np.array_equal(getattr(restored, name), value) for name, value in vars(at).items())


def test_controllers_of_three_retarders_are_described_too() -> None:
    chain = RetarderChain.nominal([2.5, 3.0, 2.5], azimuth_deg=(0, 90, 0))

    probability, slope = chain.linearise(chain.draw(RNG(17), 2), np.zeros((1, 3)))

    assert probability.shape == (2, 1, 4)
    assert slope.shape == (2, 1, 13, 4)


@pytest.mark.parametrize(
    ("half_wave_v", "azimuth_deg"), [(2.5, (0, 90)), (0.0, (0, 90, 0, 90)), (-1.0, (0, 90, 0))]
)
def test_an_impossible_controller_is_refused(
    half_wave_v: float, azimuth_deg: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"retarders|positive"):
        RetarderChain.nominal(half_wave_v, azimuth_deg=azimuth_deg)
