"""Inverse kinematics: drives at which the controller undoes both fibres."""

import numpy as np
from numpy.typing import NDArray

from calibration import rotation
from calibration.chain import Chain
from calibration.parameters import Parameters

Array = NDArray[np.float64]

STEPS = 40
LARGEST_STEP_RAD = 1.0
DAMPING_PER_RAD = 0.1
ALIGNED_RAD = 1e-6

WEIGHTS = np.sqrt([1.0, 1.0, 2.0])
"""What the QBER suffers from an angle about S1, S2 or S3, relative to the first."""


def bring_into_range(drives: Array, period: Array, span: Array) -> Array:
    """Move drives into their range, by whole periods where that is possible.

    Args:
        drives: Shape ``(..., K)``.
        period: Change after which a retarder acts alike, broadcastable.
        span: Lowest and highest drives, shape ``(2, K)``.

    Returns:
        Same shape: the equivalent drive in range that is closest to the given one; where no
        equivalent lies in range, the limit closest to one.
    """
    low, high = span
    above = np.maximum(np.ceil((low - drives) / period), 0) * period
    below = np.maximum(np.ceil((drives - high) / period), 0) * period
    wrapped = drives + above - below
    other = wrapped + np.where(above > 0, -period, period)  # misses at the other limit
    miss = np.maximum(low - wrapped, wrapped - high)
    other_miss = np.maximum(low - other, other - high)
    is_closer = (miss > 0) & (other_miss < miss)
    nearest: Array = np.clip(np.where(is_closer, other, wrapped), low, high)
    return nearest


def align(
    chain: Chain,
    parameters: Parameters,
    start: Array,
    span: Array,
    *,
    steps: int = STEPS,
    is_local: bool = False,
) -> tuple[Array, Array]:
    """Find drives that make each member's rotation the identity.

    Damped Gauss-Newton on the rotation vector, with the shortest step where drives outnumber angles
    and a damping that vanishes with the remaining angle, so that it ends quadratically. Where
    limits, or the retardances of wave plates, leave the identity out of reach, it ends at little
    excess QBER nearby.

    Args:
        chain: The model.
        parameters: A batch of B.
        start: Where to begin, shape ``(B, K)``.
        span: Lowest and highest drives, shape ``(2, K)``; never left.
        steps: At most so many.
        is_local: Whether a drive that has no equivalent setting in range waits at its limit, rather
            than going over to the other one where that is closer to an equivalent.

    Returns:
        Drives, shape ``(B, K)``, and the angle that remains, rad, shape ``(B,)``.
    """
    drives = bring_into_range(start, chain.period(parameters), span)
    remaining = np.full(len(parameters), np.inf)
    active = np.arange(len(parameters))
    for _ in range(steps):
        members = parameters[active]
        controller, axes = chain.actuator_axes(members, drives[active, None])
        whole = members.receiver @ controller[:, 0] @ members.fibre
        error = rotation.log(whole)
        remaining[active] = np.linalg.norm(error, axis=-1)
        going = remaining[active] > ALIGNED_RAD
        if not np.any(going):
            break
        active, members, error = active[going], members[going], error[going]
        effect = np.swapaxes(members.fibre, -1, -2) @ np.swapaxes(axes[going, 0], -1, -2)
        effect, turn = effect * WEIGHTS[:, None], -error * WEIGHTS
        here, period = drives[active], chain.period(members)
        step = shortest_step(effect, turn) * chain.half_turn / np.pi
        arrived = _arrive(here + step, period, span, is_local)
        stuck = ~_is_whole_number((arrived - here - step) / period)
        if np.any(stuck):  # let the others do what a channel at its limit cannot
            step = shortest_step(effect * ~stuck[:, None], turn) * chain.half_turn / np.pi
            arrived = np.where(stuck, arrived, _arrive(here + step, period, span, is_local))
        drives[active] = arrived
    return drives, remaining


def shortest_step(effect: Array, turn: Array, damping: float = 0.0) -> Array:
    """Find the smallest change of the drives that makes a given turn.

    Args:
        effect: What each drive does, per nominal radian, shape ``(B, 3, K)``.
        turn: Rotation vectors wanted, shape ``(B, 3)``, rad.
        damping: What a turn is left undone for, where the drives have to move by more than
            ``1 / (2 sqrt(damping))`` times its angle.

    Returns:
        Shape ``(B, K)``, nominal radians, at most LARGEST_STEP_RAD long; damped in proportion to
        the angle of the turn too.
    """
    angle = np.linalg.norm(turn, axis=-1)[:, None, None]
    transposed = np.swapaxes(effect, -1, -2)
    metric = effect @ transposed + (damping + DAMPING_PER_RAD * angle) * np.eye(3)
    step: Array = (transposed @ np.linalg.solve(metric, turn[..., None]))[..., 0]
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    step *= np.minimum(1, LARGEST_STEP_RAD / np.maximum(length, LARGEST_STEP_RAD))
    return step


def _arrive(drives: Array, period: Array, span: Array, is_local: bool) -> Array:
    arrived = bring_into_range(drives, period, span)
    if is_local:
        arrived = np.where(span[1] - span[0] < period, np.clip(drives, *span), arrived)
    return arrived


def _is_whole_number(value: Array) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.abs(value - np.round(value)) < 1e-9
    return whole
