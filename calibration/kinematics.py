"""Inverse kinematics: voltages at which the controller undoes both fibres."""

import numpy as np
from numpy.typing import NDArray

from calibration import rotation
from calibration.retarders import Parameters, RetarderChain

Array = NDArray[np.float64]

STEPS = 40
LARGEST_STEP_RAD = 1.0
DAMPING_PER_RAD = 0.1
ALIGNED_RAD = 1e-6


def bring_into_range(voltages: Array, period_v: Array, span_v: Array) -> Array:
    """Move voltages into their range, by whole periods where that is possible.

    Args:
        voltages: Shape ``(..., K)``.
        period_v: Voltage after which a retarder acts alike, broadcastable.
        span_v: Lowest and highest voltages, shape ``(2, K)``.

    Returns:
        Same shape: the equivalent voltage in range that is closest to the given one; where no
        equivalent lies in range, the limit closest to one.
    """
    low, high = span_v
    above = np.maximum(np.ceil((low - voltages) / period_v), 0) * period_v
    below = np.maximum(np.ceil((voltages - high) / period_v), 0) * period_v
    wrapped = voltages + above - below
    other = wrapped + np.where(above > 0, -period_v, period_v)  # misses at the other limit
    miss = np.maximum(low - wrapped, wrapped - high)
    other_miss = np.maximum(low - other, other - high)
    is_closer = (miss > 0) & (other_miss < miss)
    nearest: Array = np.clip(np.where(is_closer, other, wrapped), low, high)
    return nearest


def align(
    chain: RetarderChain,
    parameters: Parameters,
    start_v: Array,
    span_v: Array,
    *,
    steps: int = STEPS,
) -> tuple[Array, Array]:
    """Find voltages that make each member's rotation the identity.

    Damped Gauss-Newton on the rotation vector, with the shortest voltage step (retarders outnumber
    angles) and a damping that vanishes with the remaining angle, so that it ends quadratically.

    Args:
        chain: The model.
        parameters: A batch of B.
        start_v: Where to begin, shape ``(B, K)``.
        span_v: Lowest and highest voltages, shape ``(2, K)``; never left.
        steps: At most so many.

    Returns:
        Voltages, shape ``(B, K)``, and the angle that remains, rad, shape ``(B,)``.
    """
    voltages = bring_into_range(start_v, chain.period_v(parameters), span_v)
    remaining = np.full(len(parameters), np.inf)
    active = np.arange(len(parameters))
    for _ in range(steps):
        members = parameters[active]
        controller, axes = chain.actuator_axes(members, voltages[active, None])
        whole = members.receiver @ controller[:, 0] @ members.fibre
        error = rotation.log(whole)
        remaining[active] = np.linalg.norm(error, axis=-1)
        going = remaining[active] > ALIGNED_RAD
        if not np.any(going):
            break
        active, members, error = active[going], members[going], error[going]
        effect = np.swapaxes(members.fibre, -1, -2) @ np.swapaxes(axes[going, 0], -1, -2)
        rad_per_v = np.pi / chain.half_wave_v * (1 + members.scale)
        here, period_v = voltages[active], chain.period_v(members)
        step = shortest_step(effect, -error) / rad_per_v
        arrived = bring_into_range(here + step, period_v, span_v)
        stuck = ~_is_whole_number((arrived - here - step) / period_v)
        if np.any(stuck):  # let the others do what a channel at its limit cannot
            step = shortest_step(effect * ~stuck[:, None], -error) / rad_per_v
            arrived = np.where(stuck, arrived, bring_into_range(here + step, period_v, span_v))
        voltages[active] = arrived
    return voltages, remaining


def shortest_step(effect: Array, turn: Array) -> Array:
    """Find the smallest change of the retardances that makes a given turn.

    Args:
        effect: Axis of each retarder, shape ``(B, 3, K)``.
        turn: Rotation vectors wanted, shape ``(B, 3)``, rad.

    Returns:
        Shape ``(B, K)``, rad; damped in proportion to the angle of the turn, at most
        LARGEST_STEP_RAD long.
    """
    angle = np.linalg.norm(turn, axis=-1)[:, None, None]
    transposed = np.swapaxes(effect, -1, -2)
    metric = effect @ transposed + DAMPING_PER_RAD * angle * np.eye(3)
    step: Array = (transposed @ np.linalg.solve(metric, turn[..., None]))[..., 0]
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    step *= np.minimum(1, LARGEST_STEP_RAD / np.maximum(length, LARGEST_STEP_RAD))
    return step


def _is_whole_number(value: Array) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.abs(value - np.round(value)) < 1e-9
    return whole
