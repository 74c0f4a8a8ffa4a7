"""The secret key rate of decoy-state BB84 in one asymptotic formula, to compare settings by."""

import math


def binary_entropy(share: float) -> float:
    """Return ``h(x)``, bit, for ``x`` clamped to 0 to 1/2."""
    x = min(max(share, 0.0), 0.5)
    return 0.0 if x == 0 else -x * math.log2(x) - (1 - x) * math.log2(1 - x)


def asymptotic_key_rate(
    mean_photons: float,
    transmittance: float,
    background: float,
    optical_error: float,
    *,
    correction: float = 1.16,
    sifting: float = 0.5,
) -> float:
    """Return the key rate of decoy-state BB84 with endless keys and infinitely many decoys.

    ``R = q { - Q f h(E) + Q_1 [1 - h(e_1)] }`` with gain ``Q = 1 - (1 - Y_0) exp(-eta mu)`` and
    background errors of 1/2.
    Source: X. Ma et al., Phys. Rev. A 72, 012326 (2005), after H.-K. Lo et al., Phys. Rev. Lett.
    94, 230504 (2005).

    Args:
        mean_photons: Mean photon number of the signal, ``mu``.
        transmittance: Share of Alice's photons that are detected, ``eta``, detectors included.
        background: Clicks per gate without light, of all detectors together, ``Y_0``.
        optical_error: Error rate of photons, 0 to 1.
        correction: Leak of error correction over the least possible one, ``f``.
        sifting: Share of clicks that sifting keeps, ``q``.

    Returns:
        Secret bits per signal pulse; 0 where there is no key.
    """
    arriving = -math.expm1(-transmittance * mean_photons)
    gain = 1 - (1 - background) * (1 - arriving)
    yield_1 = background + transmittance - background * transmittance
    if gain <= 0 or yield_1 <= 0:
        return 0.0
    qber = (background / 2 + optical_error * arriving) / gain
    error_1 = (background / 2 + optical_error * transmittance) / yield_1
    gain_1 = mean_photons * math.exp(-mean_photons) * yield_1
    secret = gain_1 * (1 - binary_entropy(error_1)) - gain * correction * binary_entropy(qber)
    return max(sifting * secret, 0.0)
