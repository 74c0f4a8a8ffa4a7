"""What finite-key analyses of decoy-state BB84 share: counts of a block, and what chance does.

Every count is bounded by Hoeffding's inequality. Source: C. C. W. Lim et al., Phys. Rev. A 89,
022307 (2014); for the proof, and for keys of variable length, J. Wiesemann et al.,
arXiv:2405.16578.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.entropy import binary_entropy
from keyrate.link import WeakCoherentLink

Array = NDArray[np.float64]

LEAST_COUNT = 1e-9
"""Stands for none where a bound divides by a count."""


@dataclass(frozen=True)
class Security:
    """What may go wrong with a key, and how likely.

    Attributes:
        secrecy: Chance that it is not secret, ``eps_sec``.
        correctness: Chance that both sides' keys differ, ``eps_cor``.
        correction: Leak of error correction over the least possible one, ``f``; used where the leak
            was not measured.
    """

    secrecy: ArrayLike = 1e-10
    correctness: ArrayLike = 1e-15
    correction: ArrayLike = 1.16


@dataclass(frozen=True)
class Source:
    """Intensities, brightest first, and how often each is sent; last axis: intensity.

    Attributes:
        mean_photons: ``mu_1 > mu_2 (> mu_3)``, shape ``(..., K)``.
        probabilities: ``p_k``, same shape; they sum to 1.
    """

    mean_photons: ArrayLike
    probabilities: ArrayLike

    def intensity(self, number: int) -> Array:
        """Return the mean photon number of an intensity, shape ``(...)``."""
        return np.asarray(self.mean_photons, dtype=float)[..., number]

    def sends(self, photons: int) -> Array:
        """Return the chance of a pulse of so many photons, ``tau_n``, shape ``(...)``; 0 or 1."""
        mu, chance = np.asarray(self.mean_photons, dtype=float), np.asarray(self.probabilities)
        return np.asarray((chance * np.exp(-mu) * mu**photons).sum(axis=-1))

    @property
    def weights(self) -> Array:
        """``exp(k) / p_k``, shape ``(..., K)``."""
        return np.asarray(np.exp(self.mean_photons) / np.asarray(self.probabilities))


@dataclass(frozen=True)
class Block:
    """Counts of a block by intensity, shape ``(..., K)``; they need not be whole.

    Attributes:
        key: Clicks where both used the key basis.
        key_errors: Errors among them.
        test: Clicks where both used the test basis.
        test_errors: Errors among them.
    """

    key: Array
    key_errors: Array
    test: Array
    test_errors: Array

    @property
    def qber(self) -> Array:
        """Error rate of the key basis, shape ``(...)``."""
        return np.asarray(
            self.key_errors.sum(axis=-1) / np.maximum(self.key.sum(axis=-1), LEAST_COUNT)
        )


@dataclass(frozen=True)
class KeyLength:
    """Secret bits of a block and what they come from; shape ``(...)`` each.

    Attributes:
        unclipped: Secret bits, below 0 where there is no key.
        key_singles: Least number of single photons in the key basis.
        test_singles: In the test basis.
        test_single_errors: Most errors among those.
        phase_error: Greatest phase error rate of the key's single photons.
        leak: Bits told by error correction.
    """

    unclipped: Array
    key_singles: Array
    test_singles: Array
    test_single_errors: Array
    phase_error: Array
    leak: Array

    @property
    def bits(self) -> Array:
        """Secret bits, whole."""
        return np.floor(np.maximum(self.unclipped, 0.0))


def expected_block(
    link: WeakCoherentLink, source: Source, pulses: ArrayLike, key_basis_probability: ArrayLike
) -> Block:
    """Return the counts to expect of so many pulses.

    Args:
        link: What the link does to light; its fields broadcast against ``(...)``.
        source: Intensities and their probabilities.
        pulses: Sent, shape ``(...)``.
        key_basis_probability: With which both sides choose the key basis, shape ``(...)``.
    """
    mu = np.asarray(source.mean_photons, dtype=float)
    wide = WeakCoherentLink(
        *(
            np.asarray(each, dtype=float)[..., None]
            for each in (
                link.transmittance,
                link.background,
                link.misalignment,
                link.afterpulse_probability,
            )
        )
    )
    sent = np.asarray(pulses, dtype=float)[..., None] * np.asarray(source.probabilities)
    chosen = np.asarray(key_basis_probability, dtype=float)[..., None]
    clicks, errors = sent * wide.gain(mu), sent * wide.error_gain(mu)
    in_key, in_test = chosen**2, (1 - chosen) ** 2
    return Block(in_key * clicks, in_key * errors, in_test * clicks, in_test * errors)


def deviation(counts: Array, failures: Array) -> Array:
    """Return by how much a sum over intensities may deviate, ``sqrt(n/2 ln(1/eps))``.

    Args:
        counts: By intensity, shape ``(..., K)``; their total counts.
        failures: Chance ``eps`` that it deviates more, shape ``(...)``.
    """
    away = np.sqrt(counts.sum(axis=-1) / 2 * np.log(1 / failures))
    return np.asarray(away[..., None])


def bounds(counts: Array, source: Source, failures: Array) -> tuple[Array, Array]:
    """Return least and greatest counts of one intensity alone, ``n_k^-`` and ``n_k^+``."""
    away = deviation(counts, failures)
    weights = source.weights
    return weights * np.maximum(counts - away, 0.0), weights * (counts + away)


def phase_error(
    test_singles: Array, test_errors: Array, key_singles: Array, secrecy: Array, terms: int
) -> Array:
    """Return the greatest phase error rate of the key's single photons, from the other basis.

    Args:
        test_singles: Least number of single photons of the test basis.
        test_errors: Most errors among them.
        key_singles: Least number of single photons of the key basis.
        secrecy: ``eps_sec``.
        terms: Number of failures that share it: 21 with two decoys, 19 with one.
    """
    c, d = np.maximum(test_singles, LEAST_COUNT), np.maximum(key_singles, LEAST_COUNT)
    share = np.clip(test_errors / c, LEAST_COUNT, 0.5)
    spread = (c + d) * (1 - share) * share / (c * d * np.log(2))
    logarithm = np.log2((c + d) / (c * d * (1 - share) * share) * (terms / secrecy) ** 2)
    doubt = np.sqrt(spread * np.maximum(logarithm, 0.0))
    return np.asarray(np.minimum(share + doubt, 0.5))


def key_length(
    block: Block,
    security: Security,
    terms: int,
    empty: Array,
    key_singles: Array,
    test_singles: Array,
    test_single_errors: Array,
    leak: ArrayLike | None,
) -> KeyLength:
    """Return the secret bits once single photons are bounded.

    Args:
        block: Counts.
        security: What may go wrong.
        terms: Number of failures that share the secrecy.
        empty: Least number of the key's clicks from empty pulses.
        key_singles: Least number of the key's single photons.
        test_singles: Of the test basis.
        test_single_errors: Most errors among them.
        leak: Bits told by error correction, or None: ``f n h(E)``.
    """
    secrecy = np.asarray(security.secrecy, dtype=float)
    error = phase_error(test_singles, test_single_errors, key_singles, secrecy, terms)
    if leak is None:
        sifted = block.key.sum(axis=-1)
        leak = np.asarray(security.correction) * sifted * binary_entropy(block.qber)
    told = np.asarray(leak, dtype=float)
    overhead = 6 * np.log2(terms / secrecy) + np.log2(2 / np.asarray(security.correctness))
    length = empty + key_singles * (1 - binary_entropy(error)) - told - overhead
    return KeyLength(np.asarray(length), key_singles, test_singles, test_single_errors, error, told)
