"""Decoy-state BB84 with endless keys.

``R = q { -Q_mu f h(E_mu) + mu exp(-mu) Y_1 [1 - h(e_1)] }``: what the signal's single photons
carry, less what error correction tells. Decoys bound the yield ``Y_1`` and error rate ``e_1`` of
single photons. The bounds take gains as given, measured or modelled, and broadcast.

Sources: H.-K. Lo, X. Ma and K. Chen, Phys. Rev. Lett. 94, 230504 (2005); X. Ma et al., Phys. Rev. A
72, 012326 (2005), section III; D. Gottesman et al., Quantum Inf. Comput. 4, 325 (2004).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from keyrate.entropy import binary_entropy
from keyrate.link import BACKGROUND_ERROR, WeakCoherentLink
from keyrate.rate import KeyRate

Array = NDArray[np.float64]

ASSUMPTIONS = ("endless key", "phase-randomised pulses", "no side channels", "one-way correction")

Decoys = Literal["infinite", "vacuum+weak", "one weak", "two weak"]


@dataclass(frozen=True)
class SinglePhotons:
    """What is known of pulses of one photon.

    Attributes:
        yield_1: Least chance of a click, ``Y_1``.
        error_1: Greatest error rate, ``e_1``, 0 to 1/2.
    """

    yield_1: Array
    error_1: Array


@dataclass(frozen=True)
class DecoyBB84:
    """How the protocol is run. Fields broadcast.

    Attributes:
        signal: Mean photon number of the signal, ``mu``.
        weak: Of the weak decoy, ``nu``.
        weaker: Of the second weak decoy, below ``weak``.
        correction: Leak of error correction over the least possible one, ``f``.
        sifting: Share of clicks that sifting keeps, ``q``: 1/2, or ``efficient_sifting``.
    """

    signal: ArrayLike = 0.48
    weak: ArrayLike = 0.05
    weaker: ArrayLike = 0.0
    correction: ArrayLike = 1.16
    sifting: ArrayLike = 0.5


def efficient_sifting(key_basis_probability: ArrayLike) -> Array:
    """Return the share of clicks that make key where both choose the key basis so often.

    Source: H.-K. Lo, H. F. Chau and M. Ardehali, J. Cryptology 18, 133 (2005).
    """
    return np.asarray(key_basis_probability, dtype=float) ** 2


def decoy_bb84(
    link: WeakCoherentLink, protocol: DecoyBB84, decoys: Decoys = "vacuum+weak"
) -> KeyRate:
    """Return the key rate to expect of a link, bit per signal pulse.

    Args:
        link: What the link does to light.
        protocol: How the protocol is run.
        decoys: Which decoys there are; ``infinite`` knows single photons exactly.
    """
    signal = np.asarray(protocol.signal, dtype=float)
    singles = _single_photons(link, protocol, decoys)
    gain, qber = link.gain(signal), link.qber(signal)
    rate = secret_rate(gain, qber, signal, singles, protocol.correction, protocol.sifting)
    return KeyRate(rate, "general", ASSUMPTIONS)


def secret_rate(
    gain: ArrayLike,
    qber: ArrayLike,
    signal: ArrayLike,
    singles: SinglePhotons,
    correction: ArrayLike = 1.16,
    sifting: ArrayLike = 0.5,
) -> Array:
    """Return ``R`` of the module's head, unclipped, bit per signal pulse."""
    mu = np.asarray(signal, dtype=float)
    secret = mu * np.exp(-mu) * singles.yield_1 * (1 - binary_entropy(singles.error_1))
    told = np.asarray(gain) * np.asarray(correction) * binary_entropy(qber)
    return np.asarray(np.asarray(sifting) * (secret - told))


def vacuum_and_weak(
    signal: ArrayLike,
    weak: ArrayLike,
    signal_gain: ArrayLike,
    weak_gain: ArrayLike,
    weak_error_gain: ArrayLike,
    background: ArrayLike,
) -> SinglePhotons:
    """Bound single photons by a weak decoy and by pulses that are empty.

    Args:
        signal: ``mu``.
        weak: ``nu``, between 0 and ``mu``.
        signal_gain: ``Q_mu``.
        weak_gain: ``Q_nu``.
        weak_error_gain: ``E_nu Q_nu``.
        background: ``Y_0``, the gain of empty pulses.
    """
    mu, nu, y_0 = (np.asarray(each, dtype=float) for each in (signal, weak, background))
    lit = np.asarray(weak_gain) * np.exp(nu)
    bright = np.asarray(signal_gain) * np.exp(mu) * nu**2 / mu**2
    yield_1 = mu / (mu * nu - nu**2) * (lit - bright - (mu**2 - nu**2) / mu**2 * y_0)
    wrong = np.asarray(weak_error_gain) * np.exp(nu) - BACKGROUND_ERROR * y_0
    return _bounded(yield_1, wrong / nu)


def one_weak(
    signal: ArrayLike,
    weak: ArrayLike,
    signal_gain: ArrayLike,
    signal_error_gain: ArrayLike,
    weak_gain: ArrayLike,
    weak_error_gain: ArrayLike,
) -> SinglePhotons:
    """Bound single photons by one weak decoy alone: the background is as bad as errors allow."""
    mu, nu = np.asarray(signal, dtype=float), np.asarray(weak, dtype=float)
    wrong_bright = np.asarray(signal_error_gain) * np.exp(mu)
    wrong_weak = np.asarray(weak_error_gain) * np.exp(nu)
    worst = wrong_bright / BACKGROUND_ERROR
    bounded = vacuum_and_weak(mu, nu, signal_gain, weak_gain, weak_error_gain, worst)
    return _bounded(bounded.yield_1, np.minimum(wrong_weak / nu, wrong_bright / mu))


def two_weak(
    signal: ArrayLike,
    weak: ArrayLike,
    weaker: ArrayLike,
    signal_gain: ArrayLike,
    weak_gain: ArrayLike,
    weaker_gain: ArrayLike,
    weak_error_gain: ArrayLike,
    weaker_error_gain: ArrayLike,
) -> SinglePhotons:
    """Bound single photons by two decoys, the weaker of which need not be empty.

    Args:
        signal: ``mu``, above the sum of the decoys.
        weak: ``nu_1``.
        weaker: ``nu_2``, below ``nu_1``.
        signal_gain: ``Q_mu``.
        weak_gain: ``Q_nu1``.
        weaker_gain: ``Q_nu2``.
        weak_error_gain: ``E_nu1 Q_nu1``.
        weaker_error_gain: ``E_nu2 Q_nu2``.
    """
    mu, nu_1, nu_2 = (np.asarray(each, dtype=float) for each in (signal, weak, weaker))
    lit_1, lit_2 = np.asarray(weak_gain) * np.exp(nu_1), np.asarray(weaker_gain) * np.exp(nu_2)
    y_0 = np.maximum((nu_1 * lit_2 - nu_2 * lit_1) / (nu_1 - nu_2), 0.0)
    bright = np.asarray(signal_gain) * np.exp(mu) - y_0
    room = mu * (nu_1 - nu_2) - nu_1**2 + nu_2**2
    yield_1 = mu / room * (lit_1 - lit_2 - (nu_1**2 - nu_2**2) / mu**2 * bright)
    wrong_1 = np.asarray(weak_error_gain) * np.exp(nu_1)
    wrong_2 = np.asarray(weaker_error_gain) * np.exp(nu_2)
    return _bounded(yield_1, (wrong_1 - wrong_2) / (nu_1 - nu_2))


def best_signal(misalignment: float, correction: float = 1.16) -> float:
    """Return the best ``mu`` with infinitely many decoys and no background.

    It solves ``(1 - mu) exp(-mu) = f h(e_d) / (1 - h(e_d))``.

    Raises:
        ValueError: The misalignment leaves no key at any intensity.
    """
    entropy = float(binary_entropy(misalignment))
    wanted = correction * entropy / (1 - entropy) if entropy < 1 else np.inf
    if wanted >= 1:
        raise ValueError(f"a misalignment of {misalignment:.3g} leaves no key at any intensity")
    return float(brentq(lambda mu: (1 - mu) * np.exp(-mu) - wanted, 0.0, 1.0))


def _single_photons(link: WeakCoherentLink, protocol: DecoyBB84, decoys: Decoys) -> SinglePhotons:
    mu, nu, nu_2 = protocol.signal, protocol.weak, protocol.weaker
    if decoys == "infinite":
        return SinglePhotons(link.yield_of(1), link.error_of(1))
    if decoys == "vacuum+weak":
        background = link.gain(0.0)
        return vacuum_and_weak(
            mu, nu, link.gain(mu), link.gain(nu), link.error_gain(nu), background
        )
    if decoys == "one weak":
        return one_weak(
            mu, nu, link.gain(mu), link.error_gain(mu), link.gain(nu), link.error_gain(nu)
        )
    return two_weak(
        mu,
        nu,
        nu_2,
        link.gain(mu),
        link.gain(nu),
        link.gain(nu_2),
        link.error_gain(nu),
        link.error_gain(nu_2),
    )


def _bounded(yield_1: ArrayLike, wrong: ArrayLike) -> SinglePhotons:
    """Clamp bounds: no yield below 0, no error rate above 1/2."""
    least = np.maximum(np.asarray(yield_1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(least > 0, np.asarray(wrong) / least, 0.5)
    return SinglePhotons(least, np.clip(error, 0.0, 0.5))
