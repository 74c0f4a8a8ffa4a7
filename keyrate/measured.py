"""The secret key rate that counts tell, with what chance leaves open.

Gains and error rates are as counted; two decoys bound single photons. Their noise is that of
counting, carried through the bounds by drawing the counts anew. It is an estimate of the rate of an
endless key at this setting of the link, to show and to compare by; the key of a block is
``finite_two_decoys``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.decoy_bb84 import secret_rate, two_weak

Array = NDArray[np.float64]

DRAWS = 400
"""Draws from which an interval is taken."""

CONFIDENCE = 0.9


@dataclass(frozen=True)
class DecoyCounts:
    """Counts by intensity, brightest first: signal, decoy, and the emptiest; shape ``(..., 3)``.

    Attributes:
        pulses: Sent.
        clicks: In their gates, whatever the basis.
        sifted: Those of them measured in the basis they were sent in.
        errors: Sifted clicks of opposite sign.
    """

    pulses: Array
    clicks: Array
    sifted: Array
    errors: Array

    def plus(self, other: "DecoyCounts", fading: float = 1.0) -> "DecoyCounts":
        """Add newer counts; of the older ones a share stays."""
        return DecoyCounts(
            fading * self.pulses + other.pulses,
            fading * self.clicks + other.clicks,
            fading * self.sifted + other.sifted,
            fading * self.errors + other.errors,
        )


@dataclass(frozen=True)
class MeasuredRate:
    """A key rate, bit per signal pulse, with its 90 % interval; 0 where there is no key.

    Attributes:
        value: As the counts are.
        low: Below this it is with a chance of 5 %.
        high: Above this with a chance of 5 %.
    """

    value: float
    low: float
    high: float


def measured_rate(
    counts: DecoyCounts,
    mean_photons: ArrayLike,
    *,
    correction: float = 1.16,
    sifting: float = 0.5,
    seed: int = 0,
) -> MeasuredRate:
    """Return the key rate of counts.

    Draws about counts err as the counts do about the truth, so their interval is mirrored at the
    value: the basic bootstrap (A. C. Davison and D. V. Hinkley, Bootstrap Methods, ch. 5).

    Args:
        counts: Of one setting of the link, shape ``(3,)``.
        mean_photons: Of the three intensities, shape ``(3,)``; the first above the others' sum.
        correction: Leak of error correction over the least possible one.
        sifting: Share of clicks that sifting keeps.
        seed: Of the draws.

    Raises:
        ValueError: There are not three intensities, or one was never sent or sifted.
    """
    if counts.pulses.shape != (3,):
        raise ValueError(f"counts of three intensities are needed, not {counts.pulses.shape}")
    if not (np.all(counts.pulses > 0) and np.all(counts.sifted[:2] > 0)):
        raise ValueError("an intensity was not sent, or none of its clicks was sifted")
    noise = np.random.default_rng(seed)
    clicks = noise.poisson(counts.clicks, (DRAWS, 3)).astype(float)
    sifted = counts.sifted / np.maximum(counts.clicks, 1.0) * clicks
    errors = noise.poisson(counts.errors, (DRAWS, 3)).astype(float)
    drawn = DecoyCounts(counts.pulses, clicks, np.maximum(sifted, 1.0), errors)
    means = np.asarray(mean_photons, dtype=float)
    value = float(_rate(counts, means, correction, sifting))
    low, high = np.quantile(
        _rate(drawn, means, correction, sifting), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return MeasuredRate(
        max(value, 0.0), max(2 * value - float(high), 0.0), max(2 * value - float(low), 0.0)
    )


def _rate(counts: DecoyCounts, means: Array, correction: float, sifting: float) -> Array:
    gain = counts.clicks / counts.pulses
    qber = np.clip(counts.errors / np.maximum(counts.sifted, 1.0), 0.0, 1.0)
    wrong = gain * qber
    signal, weak, weaker = np.moveaxis(gain, -1, 0)
    _, wrong_weak, wrong_weaker = np.moveaxis(wrong, -1, 0)
    singles = two_weak(means[0], means[1], means[2], signal, weak, weaker, wrong_weak, wrong_weaker)
    return secret_rate(signal, qber[..., 0], means[0], singles, correction, sifting)
