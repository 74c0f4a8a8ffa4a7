"""Decisions from a posterior: which setting to recommend, and which to measure next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics, rotation
from calibration.chain import Chain
from calibration.parameters import Parameters
from calibration.posterior import RotationPosterior

Array = NDArray[np.float64]

DESIGN_SAMPLES = 128
CLAIM_SAMPLES = 384
"""Posterior samples behind a claim, apart from those that the recommendation was chosen with."""

MODES_TRIED = 4
SAMPLES_TRIED = 8
STARTS_TRIED = 2
ANYWHERE = 20
NEARBY_HALF_TURNS = (0.02, 0.04, 0.08, 0.16, 0.32)
NEARBY_EACH = 5

REFINING_HALF_TURNS = (0.1, 0.05)
LEADERS = 4
AROUND_EACH = 8
"""The best candidates are improved in rounds of random steps, so many from each."""

FIRST_DRAWS = 16
FIRST_CANDIDATES = 30

POLISHING_STEPS = 3
NEARLY_ALIGNED_RAD = 1.0
POLISHING_DAMPING = 1e-3
"""Relative to the sum over the channels; for directions in which nothing changes."""

WORTH_LEAVING = 0.8
"""Share of the excess expected where the former recommendation leads to, below which another
setting is recommended: what was measured so far tells most about the former one's surroundings."""

HEADROOM = 0.05
"""Share of a channel's range at either end in which nothing is recommended."""

LONGEST_PERIOD = 1.25
"""Longest period to reckon with, as a multiple of the nominal one."""

OUT_OF_REACH = 0.25
"""Excess that limits leave, as a share of the excess expected, above which to aim elsewhere."""

EXCESS_PER_SQUARE_ANGLE = np.array([1.0, 1.0, 2.0]) / 8
"""QBER, mean of both bases, per squared rotation about S1, S2, S3; rad^-2."""


@dataclass(frozen=True)
class Recommendation:
    """The setting with the lowest expected excess, and what is expected there.

    Attributes:
        setting: Shape ``(K,)``.
        excess: QBER above the floor in each of CLAIM_SAMPLES posterior samples.
        floor: Floor in each of them.
        solutions: Other settings that align some sample, shape ``(C, K)``.
        samples: The DESIGN_SAMPLES posterior samples it was chosen with.
        aim: Setting that would be recommended if all were known: where limits keep the recommended
            one from perfect alignment, another one may be better but less well known.
        reachable: Excess at the aim if all were as its own sample says.
    """

    setting: Array
    excess: Array
    floor: Array
    solutions: Array
    samples: Parameters
    aim: Array
    reachable: float


def recommend(
    posterior: RotationPosterior,
    rng: np.random.Generator,
    span: Array,
    previous_setting: Array | None = None,
) -> Recommendation:
    """Choose the setting of lowest posterior-mean excess.

    Among those that align some sample, and what the best of them becomes for all samples together.

    Args:
        posterior: What is known.
        rng: For samples and starts.
        span: Lowest and highest drives, shape ``(2, K)``.
        previous_setting: Recommendation before; it and its re-polished version compete.
    """
    drawn = posterior.samples(rng, DESIGN_SAMPLES + CLAIM_SAMPLES)
    samples, claims = drawn[:DESIGN_SAMPLES], drawn[DESIGN_SAMPLES:]
    span = _with_headroom(span, posterior.chain.half_turn)
    tried = Parameters.concatenate([posterior.modes[:MODES_TRIED], samples[:SAMPLES_TRIED]])
    starts = rng.uniform(
        span[0], span[1], size=(STARTS_TRIED, len(tried), posterior.chain.channels)
    )
    if previous_setting is not None:
        polish = np.broadcast_to(previous_setting, (1, *starts.shape[1:]))
        starts = np.concatenate([polish, starts])
    repeated = np.tile(np.arange(len(tried)), len(starts))
    solutions, _ = kinematics.align(
        posterior.chain, tried[repeated], starts.reshape(len(repeated), -1), span
    )
    expected = posterior.chain.excess(samples, solutions).mean(axis=0)
    origin = int(np.argmin(expected))
    polished = [_polish(posterior.chain, samples, solutions[origin], span)]
    if previous_setting is not None:
        polished.append(_polish(posterior.chain, samples, previous_setting, span))
    solutions = np.concatenate([solutions, *polished])
    added = len(solutions) - len(expected)
    repeated = np.append(repeated, np.full(added, repeated[origin]))
    expected = np.append(expected, posterior.chain.excess(samples, solutions[-added:]).mean(axis=0))
    if previous_setting is not None:
        expected[-len(polished[-1]) :] *= WORTH_LEAVING
    setting = solutions[np.argmin(expected)]
    reachable = posterior.chain.excess(tried[repeated], solutions[:, None])[:, 0]
    worthy = reachable <= reachable.min() + OUT_OF_REACH * expected.min()
    aim = int(np.argmin(np.where(worthy, expected, np.inf)))
    return Recommendation(
        setting=setting,
        excess=posterior.chain.excess(claims, setting[None])[:, 0],
        floor=claims.floor,
        solutions=solutions[: len(tried)],
        samples=samples,
        aim=solutions[aim],
        reachable=float(reachable[aim]),
    )


def _polish(chain: Chain, samples: Parameters, setting: Array, span: Array) -> Array:
    """Take Gauss-Newton steps towards the least mean excess over the samples nearly aligned.

    What aligns one sample, even the best mode, is not what is best for all of them.

    Returns:
        Settings on the way, the first one included, shape ``(n, K)``.
    """
    path = setting[None]
    for _ in range(POLISHING_STEPS):
        controller, axes = chain.actuator_axes(samples, setting[None])
        behind = samples.receiver @ controller[:, 0]
        left = rotation.log(behind @ samples.fibre)
        near = np.linalg.norm(left, axis=-1) < NEARLY_ALIGNED_RAD
        if not np.any(near):
            break
        effect = behind[near] @ np.swapaxes(axes[near, 0], -1, -2)
        weighted = np.swapaxes(effect, -1, -2) * EXCESS_PER_SQUARE_ANGLE
        slope = (weighted @ left[near, :, None]).mean(axis=0)[:, 0]
        curvature = (weighted @ effect).mean(axis=0)
        damping = POLISHING_DAMPING * np.trace(curvature) * np.eye(chain.channels)
        step_rad = -np.linalg.solve(curvature + damping, slope)
        setting = np.clip(setting + step_rad * chain.half_turn / np.pi, *span)
        path = np.append(path, setting[None], axis=0)
    return path


def _with_headroom(span: Array, half_turn: Array) -> Array:
    """Leave room at both ends, for a tracker to start from, where more than a period remains."""
    low, high = span
    inset = HEADROOM * (high - low)
    has_room = high - low - 2 * inset > LONGEST_PERIOD * 2 * half_turn
    inset = np.where(has_room, inset, 0.0)
    return np.array([low + inset, high - inset])


def next_setting(
    posterior: RotationPosterior,
    best: Recommendation,
    rng: np.random.Generator,
    span: Array,
    counts: Array,
) -> Array:
    """Choose the measurement that promises to reduce the expected excess most.

    Ensemble A-optimal design: over posterior samples, the covariance between the rotation left at
    the setting aimed at and the error probabilities at a candidate tells how much of the former
    a measurement there would remove. Needs no derivatives and copes with several modes.

    Args:
        posterior: What is known.
        best: The recommendation drawn from it.
        rng: For candidates.
        span: Lowest and highest drives, shape ``(2, K)``.
        counts: Counts to expect in each of the four binomials, shape ``(2, 2)``.

    Returns:
        Drives, shape ``(K,)``.
    """
    chain = posterior.chain
    remaining = rotation.log(chain.rotation(best.samples, best.aim[None])[:, 0])

    def gain_at(candidates: Array) -> Array:
        predicted = chain.error_probability(best.samples, candidates)
        predicted = np.swapaxes(predicted.reshape(*predicted.shape[:2], 4), 0, 1)
        return expected_gain(remaining, predicted, counts.ravel())

    candidates = _candidates(best, rng, span, chain.half_turn)
    gain = gain_at(candidates)
    for reach in REFINING_HALF_TURNS:
        leading = candidates[np.argsort(-gain)[:LEADERS]]
        around = np.repeat(leading, AROUND_EACH, axis=0)
        around = around + reach * chain.half_turn * rng.normal(size=around.shape)
        around = np.clip(around, *span)
        candidates, gain = np.concatenate([candidates, around]), np.append(gain, gain_at(around))
    chosen: Array = candidates[np.argmax(gain)]
    return chosen


def first_setting(
    chain: Chain, measured: Array, rng: np.random.Generator, span: Array, counts: Array
) -> Array:
    """Choose a setting before there is a posterior: the one that is expected to tell most.

    The determinant of the Fisher information, averaged over draws from the prior.

    Args:
        chain: The model and its prior.
        measured: Settings measured so far, shape ``(M, K)``.
        rng: For draws and candidates.
        span: Lowest and highest drives, shape ``(2, K)``.
        counts: Counts to expect in each of the four binomials at each setting, shape ``(2, 2)``.

    Returns:
        Drives, shape ``(K,)``.
    """
    draws = chain.draw(rng, FIRST_DRAWS)
    candidates = rng.uniform(span[0], span[1], size=(FIRST_CANDIDATES, chain.channels))
    probability, slope = chain.linearise(draws, np.concatenate([measured, candidates]))
    weight = counts.ravel() / (probability * (1 - probability))
    information = (slope * weight[..., None, :]) @ np.swapaxes(slope, -1, -2)
    known = np.diag(chain.log_prior(draws)[2]) + information[:, : len(measured)].sum(axis=1)
    after = known[:, None] + information[:, len(measured) :]
    chosen: Array = candidates[np.argmax(np.linalg.slogdet(after)[1].mean(axis=0))]
    return chosen


def expected_gain(remaining_rad: Array, predicted: Array, counts: Array) -> Array:
    """Estimate by how much each candidate's counts would reduce the expected excess.

    Args:
        remaining_rad: Rotation left at the recommended setting, shape ``(S, 3)``.
        predicted: Error probabilities at the candidates, shape ``(C, S, 4)``.
        counts: Counts to expect, shape ``(4,)``.

    Returns:
        QBER, shape ``(C,)``.
    """
    samples = len(remaining_rad)
    noise = np.mean(predicted * (1 - predicted), axis=1) / np.maximum(counts, 1e-9)
    angles = remaining_rad - remaining_rad.mean(axis=0)
    spread = predicted - predicted.mean(axis=1, keepdims=True)
    cross = angles.T @ spread / samples
    total = np.swapaxes(spread, -1, -2) @ spread / samples + noise[..., None] * np.eye(4)
    informed = np.linalg.solve(total, np.swapaxes(cross, 1, 2))
    removed = np.sum(cross * np.swapaxes(informed, 1, 2), axis=-1)
    gain: Array = removed @ EXCESS_PER_SQUARE_ANGLE
    return gain


def _candidates(
    best: Recommendation, rng: np.random.Generator, span: Array, half_turn: Array
) -> Array:
    """Gather settings worth a measurement: aligned ones, some nearby and some anywhere."""
    channels = len(half_turn)
    reach = np.repeat(NEARBY_HALF_TURNS, NEARBY_EACH)[:, None] * half_turn
    nearby = best.aim + reach * rng.normal(size=(len(reach), channels))
    anywhere = rng.uniform(span[0], span[1], size=(ANYWHERE, channels))
    here = np.stack([best.setting, best.aim])
    return np.concatenate([here, best.solutions, np.clip(nearby, *span), anywhere])
