"""When clicks arrive within their slot: a peak on an even background, to a fraction of a bin."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 200
"""Most steps of a fit; it ends before once the centre stands still."""

STILL = 1e-6
"""Movement of the centre, in slots, below which it stands still."""

LEAST_WIDTH = 1e-4
"""Narrowest peak, in slots."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """Where the clicks of one detector crowd within a slot.

    Attributes:
        centre: In slots, 0 to 1.
        centre_sigma: Its standard error, in slots.
        width: Standard deviation of the peak, in slots.
        share: Share of the clicks that belong to the peak.
    """

    centre: float
    centre_sigma: float
    width: float
    share: float


def fit_peak(phase: Floats) -> Peak:
    """Fit a normal peak on an even background to phases by maximum likelihood.

    The two parts are told apart by expectation and maximisation (A. P. Dempster et al., J. R. Stat.
    Soc. B 39, 1 (1977)); the phase is a circle, and the peak narrow on it.

    Args:
        phase: Arrival of each click in slots, whole slots dropped, 0 to 1, shape ``(n,)``.

    Raises:
        ValueError: There are no clicks.
    """
    if len(phase) == 0:
        raise ValueError("there are no clicks")
    centre = float(np.angle(np.exp(2j * np.pi * phase).sum()) / (2 * np.pi))
    width, share = 0.1, 0.9
    told = 0.0
    for _ in range(ITERATIONS):
        offset = (phase - centre + 0.5) % 1.0 - 0.5
        density = np.exp(-0.5 * (offset / width) ** 2) / (math.sqrt(2 * math.pi) * width)
        weights = share * density / (share * density + 1 - share)
        total = float(weights.sum()) or 1.0
        step = float(weights @ offset) / total
        told = float(((weights * (offset - step)) ** 2).sum())
        width = max(math.sqrt(float(weights @ (offset - step) ** 2) / total), LEAST_WIDTH)
        share = min(total / len(phase), 1 - 1e-9)
        centre += step
        if abs(step) < STILL:
            break
    # Information on the centre: the squares of what each click adds to the likelihood's slope.
    told = told or width**2
    return Peak(centre % 1.0, width**2 / math.sqrt(told), width, share)
