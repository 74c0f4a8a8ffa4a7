"""Decisions from a posterior: which setting to recommend, and which to measure next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics, rotation
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
    """Choose the setting of lowest posterior-mean excess among those that align some sample.

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
    if previous_setting is not None:
        solutions = np.concatenate([solutions, previous_setting[None]])
        repeated = np.append(repeated, 0)
    expected = posterior.chain.excess(samples, solutions).mean(axis=0)
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
    reading: Array | None = None,
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
        counts: Counts to expect of each of R numbers, shape ``(R,)``.
        reading: Weight of each ``p_ab`` in the error probability of each number, shape ``(R, 4)``;
            by default the numbers are the four binomials.

    Returns:
        Drives, shape ``(K,)``.
    """
    candidates = _candidates(best, rng, span, posterior.chain.half_turn)
    predicted = posterior.chain.error_probability(best.samples, candidates)
    predicted = np.swapaxes(predicted.reshape(*predicted.shape[:2], 4), 0, 1)
    if reading is not None:
        predicted = predicted @ reading.T
    remaining = posterior.chain.rotation(best.samples, best.aim[None])[:, 0]
    gain = expected_gain(rotation.log(remaining), predicted, counts)
    chosen: Array = candidates[np.argmax(gain)]
    return chosen


def expected_gain(remaining_rad: Array, predicted: Array, counts: Array) -> Array:
    """Estimate by how much each candidate's counts would reduce the expected excess.

    Args:
        remaining_rad: Rotation left at the recommended setting, shape ``(S, 3)``.
        predicted: Error probabilities at the candidates, shape ``(C, S, R)``.
        counts: Counts to expect, shape ``(R,)``.

    Returns:
        QBER, shape ``(C,)``.
    """
    samples = len(remaining_rad)
    noise = np.mean(predicted * (1 - predicted), axis=1) / np.maximum(counts, 1e-9)
    angles = remaining_rad - remaining_rad.mean(axis=0)
    spread = predicted - predicted.mean(axis=1, keepdims=True)
    cross = angles.T @ spread / samples
    total = np.swapaxes(spread, -1, -2) @ spread / samples + noise[..., None] * np.eye(len(counts))
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
