"""Decisions from a posterior: which setting to recommend, and which to measure next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics, rotation
from calibration.chain import Chain
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
    """Choose the setting of lowest posterior-mean excess.

    Among those that align some sample, and what the best of them becomes for all samples together.

    Args:
        posterior: What is known.
        rng: For samples and starts.
        span: Lowest and highest drives, shape ``(2, K)``.
        previous_setting: Recommendation before; it and its re-polished version compete.
        targets: Which bases may be inverted, the choices.
    """
    chain = posterior.chain
    drawn = posterior.samples(rng, DESIGN_SAMPLES + CLAIM_SAMPLES)
    samples, claims = drawn[:DESIGN_SAMPLES], drawn[DESIGN_SAMPLES:]
    span = _with_headroom(span, chain.half_turn)
    tried = Parameters.concatenate([posterior.modes[:MODES_TRIED], samples[:SAMPLES_TRIED]])
    found = _aligning(chain, tried, rng, span, previous_setting, targets)
    solutions = np.concatenate(found)
    of_tried = np.arange(len(solutions)) % len(tried)
    expected, target = _least_expected(chain, samples, solutions, targets)
    origin = int(np.argmin(expected))
    start = solutions[origin : origin + 1]
    if previous_setting is not None:
        start = np.append(start, previous_setting[None], axis=0)
    polished = _polish(chain, samples, start, span, targets)
    added = np.concatenate(polished)
    of_added = _least_expected(chain, samples, added, targets)
    solutions = np.concatenate([solutions, added])
    of_tried = np.append(of_tried, np.full(len(added), of_tried[origin]))
    expected, target = np.append(expected, of_added[0]), np.append(target, of_added[1])
    if previous_setting is not None:
        expected[-len(polished[-1]) :] *= WORTH_LEAVING
    best = int(np.argmin(expected))
    reachable = _reachable(chain, tried[of_tried], solutions, targets)
    worthy = reachable <= reachable.min() + OUT_OF_REACH * expected.min()
    aim = int(np.argmin(np.where(worthy, expected, np.inf)))
    inverted, setting = targets[target[best]], solutions[best]
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


def expected_at(
    posterior: RotationPosterior,
    best: Recommendation,
    rng: np.random.Generator,
    setting: Array,
    inverted: Inverted = NOTHING,
) -> Recommendation:
    """Describe another setting, shape ``(K,)``, as if it had been recommended.

    Args:
        posterior: What is known.
        best: What is recommended by it.
        rng: For samples.
        setting: The other one.
        inverted: Bases whose bits are to be inverted there.
    """
    claims = posterior.samples(rng, CLAIM_SAMPLES)
    excess = posterior.chain.excess(seen_inverted(claims, inverted), setting[None])[:, 0]
    return replace(best, setting=setting, inverted=inverted, excess=excess, floor=claims.floor)


def _aligning(
    chain: Chain,
    tried: Parameters,
    rng: np.random.Generator,
    span: Array,
    previous_setting: Array | None,
    targets: Sequence[Inverted],
) -> list[Array]:
    """Find settings that align each member of a batch: by target, the batch again and again."""
    starts = rng.uniform(span[0], span[1], size=(STARTS_TRIED, len(tried), chain.channels))
    if previous_setting is not None:
        polish = np.broadcast_to(previous_setting, (1, *starts.shape[1:]))
        starts = np.concatenate([polish, starts])
    repeated = tried[np.tile(np.arange(len(tried)), len(starts))]
    starts = starts.reshape(len(repeated), -1)
    return [
        kinematics.align(chain, seen_inverted(repeated, target), starts, span)[0]
        for target in targets
    ]


def _reachable(
    chain: Chain, of_each: Parameters, settings: Array, targets: Sequence[Inverted]
) -> Array:
    """Tell the least excess at each setting if all were as one member says, shape ``(C,)``."""
    excess = [chain.excess(seen_inverted(of_each, t), settings[:, None])[:, 0] for t in targets]
    return np.asarray(np.min(excess, axis=0))


def _least_expected(
    chain: Chain,
    samples: Parameters,
    settings: Array,
    targets: Sequence[Inverted],
) -> tuple[Array, NDArray[np.intp]]:
    """Tell the least posterior-mean excess at each setting, and with which target, ``(C,)``."""
    excess = [chain.excess(seen_inverted(samples, each), settings) for each in targets]
    expected = np.mean(excess, axis=1)
    return expected.min(axis=0), expected.argmin(axis=0)


def _polish(
    chain: Chain, samples: Parameters, settings: Array, span: Array, targets: Sequence[Inverted]
) -> Array:
    """Take Gauss-Newton steps towards the least mean excess over the samples nearly aligned.

    What aligns one sample, even the best mode, is not what is best for all of them.

    Returns:
        For each of C settings those on the way, the first one included, shape ``(C, n, K)``.
    """
    _, target = _least_expected(chain, samples, settings, targets)
    turned = np.stack([half_turn(targets[each]) for each in target])
    receiver = turned @ samples.receiver[:, None]
    path = [settings]
    for _ in range(POLISHING_STEPS):
        controller, axes = chain.actuator_axes(samples, path[-1])
        behind = receiver @ controller
        left = rotation.log(behind @ samples.fibre[:, None])
        near = np.linalg.norm(left, axis=-1, keepdims=True) < NEARLY_ALIGNED_RAD
        effect = behind @ np.swapaxes(axes, -1, -2)
        weighted = np.swapaxes(effect, -1, -2) * (EXCESS_PER_SQUARE_ANGLE * near)[..., None, :]
        slope = (weighted @ left[..., None]).sum(axis=0)
        curvature = (weighted @ effect).sum(axis=0)
        scale = np.trace(curvature, axis1=-2, axis2=-1)[:, None, None]
        damping = np.where(scale > 0, POLISHING_DAMPING * scale, 1.0) * np.eye(chain.channels)
        step_rad = -np.linalg.solve(curvature + damping, slope)[..., 0]
        path.append(np.clip(path[-1] + step_rad * chain.half_turn / np.pi, *span))
    return np.stack(path, axis=1)


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
    chain = posterior.chain
    left = half_turn(best.aim_inverted) @ chain.rotation(best.samples, best.aim[None])[:, 0]
    remaining = rotation.log(left)

    def gain_at(candidates: Array) -> Array:
        predicted = chain.error_probability(best.samples, candidates)
        predicted = np.swapaxes(predicted.reshape(*predicted.shape[:2], 4), 0, 1)
        if reading is not None:
            predicted = predicted @ reading.T
        return expected_gain(remaining, predicted, counts)

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
    chain: Chain,
    measured: Array,
    rng: np.random.Generator,
    span: Array,
    counts: Array,
    reading: Array | None = None,
) -> Array:
    """Choose a setting before there is a posterior: the one that is expected to tell most.

    The determinant of the Fisher information, averaged over draws from the prior.

    Args:
        chain: The model and its prior.
        measured: Settings measured so far, shape ``(M, K)``.
        rng: For draws and candidates.
        span: Lowest and highest drives, shape ``(2, K)``.
        counts: Counts to expect of each number at each setting, shape ``(R,)``.
        reading: What the numbers read, shape ``(R, 4)``; by default the four binomials themselves.

    Returns:
        Drives, shape ``(K,)``.
    """
    draws = chain.draw(rng, FIRST_DRAWS)
    candidates = rng.uniform(span[0], span[1], size=(FIRST_CANDIDATES, chain.channels))
    probability, slope = chain.linearise(draws, np.concatenate([measured, candidates]))
    if reading is not None:
        probability, slope = probability @ reading.T, slope @ reading.T
    weight = counts / (probability * (1 - probability))
    information = (slope * weight[..., None, :]) @ np.swapaxes(slope, -1, -2)
    known = chain.log_prior(draws)[2] + information[:, : len(measured)].sum(axis=1)
    after = known[:, None] + information[:, len(measured) :]
    chosen: Array = candidates[np.argmax(np.linalg.slogdet(after)[1].mean(axis=0))]
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
