import json

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.paddle_twin import LEAST_DEG, MOST_DEG, RETARDANCE_WAVES, PaddleOptions, PaddleTwin
from calibration import kinematics, rotation
from calibration.clicks import Clicks
from calibration.observations import Observations
from calibration.parameters import Parameters
from calibration.posterior import MISFIT_RATIO, RotationPosterior, fit
from calibration.sampler import Advice, RotationSampler
from calibration.tracking.polarization import PolarizationTracker
from calibration.wave_plates import WavePlateChain

RNG = np.random.default_rng
CHAIN = WavePlateChain.nominal(centre_deg=80.0)
SPAN = np.array([[LEAST_DEG] * 3, [MOST_DEG] * 3])
PADDLES = ("p1", "p2", "p3")


def truth_of(twin: PaddleTwin) -> Parameters:
    """Describe a twin as it was built, without the gauge; angles count from 0."""
    nominal = 2 * np.pi * np.array(RETARDANCE_WAVES)
    twist = 1 - twin._axis_rad_per_deg / np.radians(2)
    parts = [twin._retardance_rad - nominal, twin._azimuth_rad, np.zeros(3), [twist]]
    return Parameters(
        fibre=twin._fibre[None],
        receiver=twin._receiver[None],
        errors=np.concatenate(parts)[None],
        log_floor=np.log([twin.floor]),
    )


def angles(seed: int, count: int) -> NDArray[np.float64]:
    return RNG(seed).uniform(LEAST_DEG, MOST_DEG, (count, 3))


@pytest.mark.parametrize("twist", [0.0, 0.08])
def test_the_model_predicts_what_an_independent_twin_counts(twist: float) -> None:
    twin = PaddleTwin(3, PaddleOptions(loss_db=40.0, twist=twist))  # no two photons share a gate
    settings = angles(3, 6)

    predicted = WavePlateChain.nominal().error_probability(truth_of(twin), settings)[0]

    for setting, expected in zip(settings, predicted, strict=True):
        counts, errors = Clicks(twin.measure(setting, 1e12)).by_basis()
        assert np.allclose(errors / counts, expected, atol=2e-5)


def test_the_fibres_absorb_a_common_offset() -> None:
    whole = truth_of(PaddleTwin(6, PaddleOptions(twist=0.05)))
    chain, offset = WavePlateChain.nominal(), whole.errors[0, 3]
    about_s3 = rotation.exp(np.array([0.0, 0.0, offset]))
    shifted = whole.errors.copy()
    shifted[:, 3:6] -= offset
    fixed = Parameters(
        about_s3.T @ whole.fibre, whole.receiver @ about_s3, shifted, whole.log_floor
    )

    predicted = chain.error_probability(fixed, angles(7, 6))

    assert np.allclose(predicted, chain.error_probability(whole, angles(7, 6)))


def test_a_half_wave_plate_s_offset_becomes_a_small_retardance_about_any_axis() -> None:
    whole = truth_of(PaddleTwin(8))
    chain, (excess, offset) = WavePlateChain.nominal(), whole.errors[0, [1, 4]]
    # exp(excess n) = exp(along e1) exp(across e2) exp(about e3) in the frame of the plate
    turn = rotation.exp(excess * np.array([np.cos(offset), np.sin(offset), 0.0]))
    across = np.arcsin(turn[0, 2])
    along, about = np.arctan2(-turn[1, 2], turn[2, 2]), np.arctan2(-turn[0, 1], turn[0, 0])
    fixed = whole.errors.copy()
    fixed[:, [1, 4, 7]] = along, 0.0, across
    fixed[:, 3] += about
    fixed[:, 5] -= 2 * offset
    before, behind = (rotation.exp(np.array([0.0, 0.0, a])) for a in (about, 2 * offset))
    moved = Parameters(before @ whole.fibre, whole.receiver @ behind, fixed, whole.log_floor)

    predicted = chain.error_probability(moved, angles(9, 6))

    assert np.allclose(predicted, chain.error_probability(whole, angles(9, 6)))


def test_every_derivative_agrees_with_a_difference_quotient() -> None:
    at, settings = CHAIN.draw(RNG(1), 3), angles(1, 4)

    _, slope = CHAIN.linearise(at, settings)

    for direction in range(CHAIN.size):
        tangent = np.zeros((3, CHAIN.size))
        tangent[:, direction] = 1e-6
        above = CHAIN.error_probability(CHAIN.step(at, tangent), settings)
        below = CHAIN.error_probability(CHAIN.step(at, -tangent), settings)
        quotient = ((above - below) / 2e-6).reshape(3, 4, 4)
        assert np.allclose(slope[:, :, direction], quotient, atol=1e-7), direction


def test_the_prior_s_gradient_agrees_with_a_difference_quotient() -> None:
    at = CHAIN.step(CHAIN.draw(RNG(2), 3), 0.1 * RNG(3).normal(size=(3, CHAIN.size)))

    _, gradient, _ = CHAIN.log_prior(at)

    for direction in range(CHAIN.size):
        tangent = np.zeros((3, CHAIN.size))
        tangent[:, direction] = 1e-6
        above, below = CHAIN.step(at, tangent), CHAIN.step(at, -tangent)
        rise = CHAIN.log_prior(above)[0] - CHAIN.log_prior(below)[0]
        assert gradient[:, direction] == pytest.approx(rise / 2e-6, rel=1e-4, abs=1e-4)


def test_small_turns_act_about_the_actuator_axes() -> None:
    at, setting = CHAIN.draw(RNG(12), 1), angles(12, 1)
    change_deg = 1e-4 * np.array([1.0, -2.0, 3.0])

    before, axes = CHAIN.actuator_axes(at, setting)
    after = CHAIN.controller(at, setting + change_deg)

    expected = before[0, 0] @ rotation.exp(np.pi / CHAIN.half_turn * change_deg @ axes[0, 0])
    assert np.allclose(after[0, 0], expected, atol=1e-9)


def test_a_whole_period_changes_nothing() -> None:
    at, setting = CHAIN.draw(RNG(10), 2), angles(11, 1)

    shifted = setting + CHAIN.period(at)[:, None]

    assert np.allclose(CHAIN.rotation(at, shifted), CHAIN.rotation(at, setting))


def test_draws_follow_the_prior_s_widths() -> None:
    chain = WavePlateChain.nominal(retardance_sigma_waves=0.05, twist=0.1, twist_sigma=0.02)
    retardance, offset, crosswise = np.split(chain.draw(RNG(14), 4000).errors[:, :-1], 3, axis=-1)
    twist = chain.draw(RNG(14), 4000).errors[:, -1]

    assert retardance.std(axis=0) == pytest.approx([2 * np.pi * 0.05] * 3, rel=0.05)
    assert crosswise.std(axis=0) == pytest.approx([0, 2 * np.pi * 0.05, 0], rel=0.05)
    assert not offset[:, :2].any()
    assert np.ptp(offset[:, 2]) > 6
    assert twist.mean() == pytest.approx(0.1, abs=0.002)
    assert twist.std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("middle_waves", [0.45, 0.38])
def test_only_a_plate_near_half_a_wave_is_described_as_one(middle_waves: float) -> None:
    chain = WavePlateChain.nominal((0.25, middle_waves, 0.25))

    drawn = chain.draw(RNG(15), 4000)

    is_half_wave = chain.retardance_rad[1] == np.pi
    assert is_half_wave == (middle_waves == 0.45)
    spread = np.hypot(0.02, 0.05 if is_half_wave else 0.0)
    assert drawn.errors[:, 1].std() == pytest.approx(2 * np.pi * spread, rel=0.05)
    assert (np.ptp(drawn.errors[:, 4]) > 6) == (not is_half_wave)


@pytest.mark.parametrize(
    "waves", [(0.25, 0.5), (0.25, 0.0, 0.25), (0.25, 1.0, 0.25), (0.5, 0.5, 0.5)]
)
def test_an_impossible_controller_is_refused(waves: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"three or more|between 0 and 1|half-wave"):
        WavePlateChain.nominal(waves)


@pytest.mark.parametrize("waves", [(0.5, 0.25, 0.25), (0.25, 0.5, 0.25, 0.25), (0.3, 0.3, 0.3)])
def test_other_orders_and_numbers_of_plates_are_described_too(waves: tuple[float, ...]) -> None:
    chain = WavePlateChain.nominal(waves)
    at, settings = chain.draw(RNG(16), 2), RNG(17).uniform(0, 170, (3, len(waves)))

    _, slope = chain.linearise(at, settings)

    for direction in range(chain.size):
        tangent = np.zeros((2, chain.size))
        tangent[:, direction] = 1e-6
        above = chain.error_probability(chain.step(at, tangent), settings)
        below = chain.error_probability(chain.step(at, -tangent), settings)
        assert np.allclose(
            slope[:, :, direction], (above - below).reshape(2, 3, 4) / 2e-6, atol=1e-7
        )


def test_any_fibre_can_be_aligned_where_nothing_limits_the_angles() -> None:
    perfect = WavePlateChain.nominal(retardance_sigma_waves=1e-9, twist=0.0, twist_sigma=1e-9)
    fibres, whole_turn = perfect.draw(RNG(4), 60), np.array([[0.0] * 3, [180.0] * 3])
    starts = RNG(5).uniform(0, 180, (6, 60, 3))

    reached = [
        kinematics.align(perfect, fibres, start, whole_turn, steps=100)[1] for start in starts
    ]

    assert np.min(reached, axis=0).max() < 1e-4


def test_out_of_reach_the_best_of_some_starts_is_nearly_the_best_there_is() -> None:
    fibres, starts = CHAIN.draw(RNG(6), 80), RNG(7).uniform(LEAST_DEG, MOST_DEG, (24, 80, 3))
    reached = [kinematics.align(CHAIN, fibres, start, SPAN)[0] for start in starts]
    excess = np.stack(
        [[CHAIN.excess(fibres[[k]], each[[k]])[0, 0] for k in range(80)] for each in reached]
    )
    missed = np.flatnonzero(excess.min(axis=0) > 0.001)

    assert len(missed) > 1
    grid = np.stack(np.meshgrid(*[np.linspace(LEAST_DEG, MOST_DEG, 40)] * 3), axis=-1)
    for k in missed:
        least = CHAIN.excess(fibres[k : k + 1], grid.reshape(-1, 3)).min()
        assert excess[:, k].min() < least + 1e-4


def observe(truth: Parameters, settings: int, counts: float, seed: int) -> Observations:
    drives = angles(seed, settings)
    probability = CHAIN.error_probability(truth, drives)[0].reshape(-1, 4)
    trials = RNG(seed).poisson(counts / 4, size=probability.shape)
    return Observations(
        drives=drives,
        trials=trials.astype(float),
        errors=RNG(seed + 1).binomial(trials, probability).astype(float),
        age_s=np.zeros(settings),
    )


def test_samples_scatter_about_the_truth_as_far_as_they_claim() -> None:
    setting, scores = np.array([[30.0, 100.0, 70.0]]), []
    for seed in range(10):
        truth = CHAIN.draw(RNG(100 + seed), 1)
        learnt = fit(CHAIN, observe(truth, 10, 1000, seed), RNG(seed), span=SPAN)
        p = CHAIN.error_probability(learnt.samples(RNG(seed), 200), setting).reshape(200, 4)
        true_p = CHAIN.error_probability(truth, setting).ravel()
        scores.append((true_p - p.mean(axis=0)) / p.std(axis=0))

    assert 0.6 < np.sqrt(np.mean(np.square(scores))) < 1.6


def test_enough_counts_leave_one_mode_that_fits() -> None:
    truth = CHAIN.draw(RNG(20), 1)

    learnt = fit(CHAIN, observe(truth, 12, 4000, 21), RNG(22), span=SPAN)

    predicted = CHAIN.error_probability(learnt.modes[:1], angles(23, 50))
    assert len(learnt.weights) == 1
    assert np.abs(predicted - CHAIN.error_probability(truth, angles(23, 50))).max() < 0.05
    assert learnt.chi2_per_dof < MISFIT_RATIO


def test_a_posterior_survives_storage() -> None:
    learnt = fit(CHAIN, observe(CHAIN.draw(RNG(24), 1), 6, 1000, 25), RNG(26), span=SPAN)

    restored = RotationPosterior.from_dict(json.loads(json.dumps(learnt.to_dict())))

    assert isinstance(restored.chain, WavePlateChain)
    assert restored.to_dict() == learnt.to_dict()


def vector(setting: object) -> NDArray[np.float64]:
    assert isinstance(setting, dict)
    return np.array([setting[name] for name in PADDLES])


def align(twin: PaddleTwin, settings: int, seed: int) -> Advice:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(LEAST_DEG, MOST_DEG) for name in PADDLES
    }
    space["n_photons"] = IntDistribution(300, 20_000, log=True)
    sampler = RotationSampler(space, chain=CHAIN, first_photons=300, seed=seed)
    study = optuna.create_study(sampler=sampler)
    for _ in range(settings):
        trial = study.ask(space)
        table = twin.measure(vector(trial.params), trial.params["n_photons"])
        trial.set_user_attr("clicks", table.tolist())
        study.tell(trial, Clicks(table).qber.value)
    return sampler.advice(study)


def test_paddles_are_aligned_with_few_settings_and_what_is_claimed_holds() -> None:
    excess, within = [], []
    for seed in range(8):
        twin = PaddleTwin(seed, PaddleOptions(twist=0.04 * (seed % 3)))
        advice = align(twin, 9, seed)
        excess.append(twin.excess(vector(advice.setting)))
        within.append(excess[-1] < max(advice.excess_q90, 1e-4))

    assert np.median(excess) < 0.001
    assert np.mean(within) > 0.6


def test_paddles_hold_a_drifting_fibre() -> None:
    twin = PaddleTwin(2)
    advice = align(twin, 10, 2)
    limits = dict.fromkeys(PADDLES, (LEAST_DEG, MOST_DEG))
    tracker = PolarizationTracker(
        advice.posterior, advice.setting, limits, now_s=0.0, drift_rad=0.01
    )
    excess, lost = [], False
    for window in range(400):
        proposal = tracker.next_setting(0.1 * window)
        twin.drift(0.01, 0.1)
        excess.append(twin.excess(vector(proposal.setting)))
        clicks = Clicks(twin.measure(vector(proposal.setting), 1e4))
        lost |= tracker.update(clicks, proposal.setting, 0.1 * (window + 1)).lost

    assert not lost
    assert np.mean(excess[100:]) < 1.8 * 0.00022  # bound of this drift and rate
