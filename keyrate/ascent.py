"""Climbing a smooth function of a few numbers, many points at a call.

A call of an array function costs as much for a hundred points as for one. So each step looks at a
whole stencil, from which a Newton step follows without derivatives, and then along it and along the
slope at several lengths at once. The same start gives the same end.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Height = Callable[[Array], Array]
"""Heights, shape ``(P,)``, of points, shape ``(P, D)``."""

STENCIL = 1e-3
"""Distance of the stencil's points from its centre."""

LENGTHS = 2.0 ** np.arange(-8, 3)
"""Steps that are tried, in lengths of the Newton step."""

LONGEST = 2.0
"""Longest step of one coordinate."""

MOST_STEPS = 40

ARRIVED = 1e-5
"""Gain of height, as a share of it, with which the climb ends: the next one is its square."""


def climb(height: Height, start: Array, *, steps: int = MOST_STEPS) -> tuple[Array, float]:
    """Climb from a point to a maximum.

    Args:
        height: What is to be made high; finite everywhere, smooth on the scale of ``STENCIL``.
        start: Shape ``(D,)``.
        steps: Most steps.

    Returns:
        The point, shape ``(D,)``, and its height.
    """
    at = np.asarray(start, dtype=float)
    best = float(height(at[None])[0])
    for _ in range(steps):
        slope, bend = _shape(height, at)
        values, axes = np.linalg.eigh(bend)
        newton = axes @ ((axes.T @ slope) / np.maximum(np.abs(values), 1e-12 + 1e-9 * abs(best)))
        uphill = slope / max(float(np.abs(slope).max()), 1e-300)
        moves = np.concatenate([np.outer(LENGTHS, _held(newton)), np.outer(LENGTHS, uphill / 4)])
        heights = height(at + moves)
        chosen = int(np.argmax(heights))
        gain = float(heights[chosen]) - best
        if gain <= 0:
            break
        at, best = at + moves[chosen], float(heights[chosen])
        if gain < ARRIVED * abs(best):
            break
    return at, best


def _shape(height: Height, at: Array) -> tuple[Array, Array]:
    """Return slope, shape ``(D,)``, and second derivatives, shape ``(D, D)``, by differences."""
    size = len(at)
    step = STENCIL * np.eye(size)
    first, second = np.triu_indices(size, 1)
    points = np.concatenate(
        [at[None], at + step, at - step, at + step[first] + step[second]], axis=0
    )
    heights = height(points)
    centre, ahead = heights[0], heights[1 : size + 1]
    behind, corners = heights[size + 1 : 2 * size + 1], heights[2 * size + 1 :]
    bend = np.diag((ahead - 2 * centre + behind) / STENCIL**2)
    # A corner lies where slope and bend of both of its coordinates act, and their mixed term.
    mixed = (corners - ahead[first] - ahead[second] + centre) / STENCIL**2
    bend[first, second] = bend[second, first] = mixed
    return (ahead - behind) / (2 * STENCIL), bend


def _held(step: Array) -> Array:
    """Shorten a step whose longest coordinate is too long."""
    return np.asarray(step / max(float(np.abs(step).max()) / LONGEST, 1.0))
