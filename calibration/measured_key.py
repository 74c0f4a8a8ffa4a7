"""The secret key rate that counts tell, and how uncertain it is: a figure to compare settings by.

It is the asymptotic rate of decoy-state BB84 with infinitely many decoys, of
:mod:`keyrate.decoy_bb84`, with gain and QBER of the signal and the background as measured; the
transmittance follows from the gain. Decoys are not used: what they tell of single photons would
be many times as noisy, and at settings of one link they rank alike. It is not clipped at zero and
goes on below, so that a search finds its way out of settings without key. It is no security
statement.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keyrate.entropy import binary_entropy

CORRECTION, SIFTING = 1.16, 0.5

STEP = 1e-3
"""Of the differences that tell slopes, in standard deviations of what was counted."""


@dataclass(frozen=True)
class KeyCounts:
    """What was counted at one setting.

    Attributes:
        pulses: Signal pulses sent.
        clicks: Clicks in their gates, whatever the basis.
        sifted: Those of them measured in the basis they were sent in.
        errors: Sifted clicks of opposite sign.
        empty_pulses: Gates without a pulse: of the vacuum intensity, or dark.
        empty_clicks: Clicks in them; they tell the background.
    """

    pulses: float
    clicks: int
    sifted: int
    errors: int
    empty_pulses: float = 0.0
    empty_clicks: int = 0


@dataclass(frozen=True)
class KeyRate:
    """A measured key rate.

    Attributes:
        value: Secret bits per signal pulse; negative where error correction would cost more than
            there is.
        variance: Of its counting noise.
    """

    value: float
    variance: float


def measured_key_rate(
    counts: KeyCounts,
    mean_photons: float,
    *,
    correction: float = CORRECTION,
    sifting: float = SIFTING,
) -> KeyRate:
    """Estimate the key rate with its counting noise, propagated to first order.

    Clicks in gates are Poisson, errors among the sifted ones binomial. An error share is taken as
    ``(errors + 1/2) / (sifted + 1)``, so that no errors among few clicks are not taken for none.

    Args:
        counts: What was counted.
        mean_photons: Mean photon number of the signal.
        correction: Leak of error correction over the least possible one.
        sifting: Share of clicks that sifting keeps.

    Raises:
        ValueError: Nothing was sent, no click was sifted, or the mean photon number is not
            positive.
    """
    if not (counts.pulses > 0 and counts.sifted > 0 and mean_photons > 0):
        raise ValueError(
            f"{counts.sifted} sifted clicks of {counts.pulses:g} pulses of {mean_photons:g} "
            "photons tell no key rate"
        )
    qber = (counts.errors + 0.5) / (counts.sifted + 1)
    background = background_variance = 0.0
    if counts.empty_pulses > 0:
        background = counts.empty_clicks / counts.empty_pulses
        background_variance = (counts.empty_clicks + 1) / counts.empty_pulses**2
    seen = np.array([counts.clicks / counts.pulses, qber, background])
    variances = np.array(
        [counts.clicks / counts.pulses**2, qber * (1 - qber) / counts.sifted, background_variance]
    )
    shares = mean_photons, correction, sifting
    slopes = np.zeros(3)
    for number in np.flatnonzero(variances):
        step = np.zeros(3)
        step[number] = STEP * math.sqrt(variances[number])
        rise = unclipped_key_rate(seen + step, *shares) - unclipped_key_rate(seen - step, *shares)
        slopes[number] = rise / (2 * step[number])
    return KeyRate(unclipped_key_rate(seen, *shares), float(slopes**2 @ variances))


def unclipped_key_rate(
    seen: NDArray[np.float64], mean_photons: float, correction: float, sifting: float
) -> float:
    """Return secret bits per signal pulse, also below zero.

    Args:
        seen: Gain of the signal, its QBER, and clicks per empty gate, shape ``(3,)``.
        mean_photons: Mean photon number of the signal.
        correction: Leak of error correction over the least possible one.
        sifting: Share of clicks that sifting keeps.
    """
    gain, qber = min(float(seen[0]), 1 - 1e-12), float(seen[1])
    background = min(max(float(seen[2]), 0.0), gain)
    transmittance = math.log((1 - background) / (1 - gain)) / mean_photons
    yield_1 = background + transmittance - background * transmittance
    arriving = (gain - background) / (1 - background)
    by_light = max(qber * gain - background / 2, 0.0)
    error_1 = background / 2 + (by_light / arriving * transmittance if arriving > 0 else 0.0)
    gain_1 = mean_photons * math.exp(-mean_photons) * yield_1
    known, told = binary_entropy([error_1 / yield_1, qber])
    return float(sifting * (gain_1 * (1 - known) - gain * correction * told))
