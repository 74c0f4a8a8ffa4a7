"""When clicks arrive within their slot: crowds on an even background, to a fraction of a bin."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 200
"""Most steps of a fit; it ends before once the centre stands still."""

STILL = 1e-6
"""Movement of the centre, in slots, below which it stands still."""

LEAST_WIDTH = 1e-4
"""Narrowest crowd, in slots."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comb:
    """Crowds of one detector within a slot, as far apart as they are known to be.

    Attributes:
        offsets: Places of the crowds, in slots from the comb's centre.
        shares: Share of the light that each of them gets; sums to 1.
    """

    offsets: tuple[float, ...]
    shares: tuple[float, ...]


SINGLE = Comb((0.0,), (1.0,))
"""All light of a slot arrives at once."""


@dataclass(frozen=True)
class Peak:
    """Where the clicks of one detector crowd within a slot.

    Attributes:
        centre: In slots, 0 to 1; of a comb, its centre.
        centre_sigma: Its standard error, in slots.
        width: Standard deviation of each crowd, in slots.
        share: Share of the clicks that belong to the crowds.
    """

    centre: float
    centre_sigma: float
    width: float
    share: float


def fit_peak(phase: Floats, comb: Comb = SINGLE) -> Peak:
    """Fit normal crowds on an even background to phases by maximum likelihood.

    The parts are told apart by expectation and maximisation (A. P. Dempster et al., J. R. Stat.
    Soc. B 39, 1 (1977)); the phase is a circle, and the crowds narrow on it.

    Args:
        phase: Arrival of each click in slots, whole slots dropped, 0 to 1, shape ``(n,)``.
        comb: How the crowds lie; the comb as a whole crowds about its centre, that is, the first
            Fourier component of its shares at their offsets is positive.

    Raises:
        ValueError: There are no clicks.
    """
    if len(phase) == 0:
        raise ValueError("there are no clicks")
    offsets, shares = np.array(comb.offsets), np.array(comb.shares)
    centre = float(np.angle(np.exp(2j * np.pi * phase).sum()) / (2 * np.pi))
    width, share = _first_width(offsets), 0.9
    told = 0.0
    for _ in range(ITERATIONS):
        offset = (phase[:, None] - centre - offsets + 0.5) % 1.0 - 0.5
        height = shares / (math.sqrt(2 * math.pi) * width)
        density = share * height * np.exp(-0.5 * (offset / width) ** 2)
        weights = density / (density.sum(axis=1, keepdims=True) + 1 - share)
        total = float(weights.sum()) or 1.0
        step = float((weights * offset).sum()) / total
        slope = (weights * (offset - step)).sum(axis=1)
        told = float(slope @ slope)
        width = max(math.sqrt(float((weights * (offset - step) ** 2).sum()) / total), LEAST_WIDTH)
        share = min(total / len(phase), 1 - 1e-9)
        centre += step
        if abs(step) < STILL:
            break
    # Information on the centre: the squares of what each click adds to the likelihood's slope.
    told = told or width**2
    return Peak(centre % 1.0, width**2 / math.sqrt(told), width, share)


def _first_width(offsets: Floats) -> float:
    """Return a width to begin with: crowds that are told apart from their neighbours."""
    apart = np.diff(np.sort(offsets))
    return min(0.1, *(apart / 4)) if len(apart) else 0.1
