"""Decisions from a posterior: which setting to recommend, and which to measure next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics, rotation
from calibration.inversion import NOTHING, Inverted, half_turn, seen_inverted
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
        inverted: Bases whose bits are to be inverted there.
        excess: QBER above the floor in each of CLAIM_SAMPLES posterior samples.
        floor: Floor in each of them.
        solutions: Other settings that align some sample, shape ``(C, K)``.
        samples: The DESIGN_SAMPLES posterior samples it was chosen with.
        aim: Setting that would be recommended if all were known: where limits keep the recommended
            one from perfect alignment, another one may be better but less well known.
        aim_inverted: Bases whose bits would be inverted there.
        reachable: Excess at the aim if all were as its own sample says.
    """

    setting: Array
    inverted: Inverted
    excess: Array
    floor: Array
    solutions: Array
    samples: Parameters
    aim: Array
    aim_inverted: Inverted
    reachable: float


def recommend(
    posterior: RotationPosterior,
    rng: np.random.Generator,
    span: Array,
    previous_setting: Array | None = None,
    targets: Sequence[Inverted] = (NOTHING,),
) -> Recommendation:
    """Choose the setting of lowest posterior-mean excess among those that align some sample.

    Args:
        posterior: What is known.
        rng: For samples and starts.
        span: Lowest and highest drives, shape ``(2, K)``.
        previous_setting: Recommendation before; it and its re-polished version compete.
        targets: Which bases may be inverted, the choices.
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
    chain, starts = posterior.chain, starts.reshape(len(repeated), -1)
    found = [
        kinematics.align(chain, seen_inverted(tried[repeated], target), starts, span)[0]
        for target in targets
    ]
    solutions = np.concatenate(found)
    repeated = np.tile(repeated, len(targets))
    if previous_setting is not None:
        solutions = np.concatenate([solutions, previous_setting[None]])
        repeated = np.append(repeated, 0)
    expected, target = _least_expected(posterior, samples, solutions, targets)
    best = int(np.argmin(expected))
    reachable = np.min(
        [
            chain.excess(seen_inverted(tried[repeated], each), solutions[:, None])[:, 0]
            for each in targets
        ],
        axis=0,
    )
    worthy = reachable <= reachable.min() + OUT_OF_REACH * expected.min()
    aim = int(np.argmin(np.where(worthy, expected, np.inf)))
    inverted = targets[target[best]]
    setting = solutions[best]
    return Recommendation(
        setting=setting,
        inverted=inverted,
        excess=chain.excess(seen_inverted(claims, inverted), setting[None])[:, 0],
        floor=claims.floor,
        solutions=found[target[best]][: len(tried)],
        samples=samples,
        aim=solutions[aim],
        aim_inverted=targets[target[aim]],
        reachable=float(reachable[aim]),
    )


def _least_expected(
    posterior: RotationPosterior,
    samples: Parameters,
    settings: Array,
    targets: Sequence[Inverted],
) -> tuple[Array, NDArray[np.intp]]:
    """Tell the least posterior-mean excess at each setting, and with which target, ``(C,)``."""
    excess = [posterior.chain.excess(seen_inverted(samples, each), settings) for each in targets]
    expected = np.mean(excess, axis=1)
    return expected.min(axis=0), expected.argmin(axis=0)


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
    remaining = (
        half_turn(best.aim_inverted) @ posterior.chain.rotation(best.samples, best.aim[None])[:, 0]
    )
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
