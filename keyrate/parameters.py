"""The best way to run decoy-state BB84 on a link: intensities and probabilities of a finite block.

The search climbs on the key length before it is cut off at zero. From scratch it begins at the best
of a fixed set of points, and where that leads to no key, also at those of the best share of secret
bits: to sift next to nothing is a summit too, just below zero. For a link that has changed a little
it begins where it was.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import qmc

from keyrate.ascent import Height, climb
from keyrate.finite import KeyLength, Security, Source, expected_block
from keyrate.finite_two_decoys import two_decoy_length
from keyrate.link import WeakCoherentLink

Array = NDArray[np.float64]

FIRST_POINTS = 512
"""Points among which the search begins; a power of two."""

LEAST_LOGIT, MOST_LOGIT = -3.0, 4.0
"""Range of the first points in each coordinate."""

FIRST_STARTS = 2
"""Starts from scratch."""

SECOND_STARTS = 4
"""Further starts where the first leads to no key."""

BRIGHTEST = 1.5
"""Greatest mean photon number of the signal."""


@dataclass(frozen=True)
class Operation:
    """How a link is run.

    Attributes:
        key_basis_probability: With which both sides choose the key basis.
        source: Intensities and their probabilities, brightest first.
        bits_per_pulse: Secret bits per pulse sent that are to be expected, unclipped.
        length: What the block's key comes from.
    """

    key_basis_probability: float
    source: Source
    bits_per_pulse: float
    length: KeyLength


def best_two_decoys(
    link: WeakCoherentLink,
    pulses: float,
    security: Security,
    *,
    weakest: float = 2e-4,
    start: Operation | None = None,
) -> Operation:
    """Choose intensities and probabilities with two decoys for a block of so many pulses.

    Args:
        link: What the link does to light; plain numbers.
        pulses: Sent per block.
        security: What may go wrong.
        weakest: Mean photon number of the second decoy, as empty as the modulator makes it.
        start: What was best before, where the link has hardly changed.

    Raises:
        ValueError: ``pulses`` is not positive, or ``weakest`` is negative.
    """
    if not (pulses > 0 and weakest >= 0):
        raise ValueError(f"no block of {pulses:g} pulses with a weakest intensity of {weakest:g}")

    def length(points: Array) -> tuple[Array, Source, KeyLength, Array]:
        chosen, source = _unfold(points, weakest)
        block = expected_block(link, source, pulses, chosen)
        return chosen, source, two_decoy_length(block, source, security), block.key.sum(axis=-1)

    def bits(points: Array) -> Array:
        return length(points)[2].unclipped / pulses

    at, best = climb(bits, _fold(start)) if start is not None else _best_start(bits)
    if best <= 0:
        _, _, lengths, sifted = length(_first_points())
        shares = lengths.unclipped / np.maximum(sifted, 1.0)
        promising = _first_points()[np.argsort(-shares)[:SECOND_STARTS]]
        climbs = [(at, best), *(climb(bits, begun) for begun in promising)]
        at, best = max(climbs, key=lambda each: each[1])
    chosen, source, found, _ = length(at)
    return Operation(float(chosen), source, best, found)


def _best_start(bits: Height) -> tuple[Array, float]:
    """Climb from the best few of the first points: there may be two summits of like height."""
    promising = _first_points()[np.argsort(-bits(_first_points()))[:FIRST_STARTS]]
    return max((climb(bits, begun) for begun in promising), key=lambda each: each[1])


def _unfold(points: Array, weakest: float) -> tuple[Array, Source]:
    """Return key basis probability and source of points without limits, shape ``(..., 5)``."""
    chosen, brightest, dimmer, first, second = np.moveaxis(expit(points), -1, 0)
    signal = weakest * 2 + (BRIGHTEST - weakest * 2) * brightest
    decoy = weakest + (signal - 2 * weakest) * dimmer
    means = np.stack([signal, decoy, np.full_like(signal, weakest)], axis=-1)
    chances = np.stack([first, (1 - first) * second, (1 - first) * (1 - second)], axis=-1)
    return chosen, Source(means, chances)


def _fold(operation: Operation) -> Array:
    """Return the point that unfolds into an operation, shape ``(5,)``."""
    signal, decoy, weakest = np.asarray(operation.source.mean_photons, dtype=float)
    first, second, _ = np.asarray(operation.source.probabilities, dtype=float)
    shares = np.array(
        [
            operation.key_basis_probability,
            (signal - 2 * weakest) / (BRIGHTEST - 2 * weakest),
            (decoy - weakest) / (signal - 2 * weakest),
            first,
            second / (1 - first),
        ]
    )
    return np.asarray(logit(np.clip(shares, 1e-9, 1 - 1e-9)))


@cache
def _first_points() -> Array:
    drawn = qmc.Sobol(5, scramble=False).random(FIRST_POINTS)
    return np.asarray(LEAST_LOGIT + (MOST_LOGIT - LEAST_LOGIT) * drawn)
