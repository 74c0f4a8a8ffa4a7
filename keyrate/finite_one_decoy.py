"""The secret key of a finite block of decoy-state BB84 with one decoy.

Source: D. Rusca et al., Appl. Phys. Lett. 112, 171104 (2018), equations (A17) to (A25).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.finite import Block, KeyLength, Security, Source, bounds, deviation, key_length

Array = NDArray[np.float64]

TERMS = 19
"""Failures that share the secrecy."""


def one_decoy_length(
    block: Block, source: Source, security: Security, leak: ArrayLike | None = None
) -> KeyLength:
    """Return the secret bits of a block.

    Args:
        block: Counts of two intensities, shape ``(..., 2)``.
        source: The intensities, ``mu_1 > mu_2 > 0``.
        security: What may go wrong.
        leak: Bits told by error correction if they were counted, shape ``(...)``.

    Raises:
        ValueError: There are not two intensities.
    """
    if block.key.shape[-1] != 2:
        raise ValueError(f"one decoy makes two intensities, not {block.key.shape[-1]}")
    failures = np.asarray(security.secrecy, dtype=float) / TERMS
    mu_1, mu_2 = source.intensity(0), source.intensity(1)
    least, most = bounds(block.key, source, failures)
    empty = source.sends(0) * (mu_1 * least[..., 1] - mu_2 * most[..., 0]) / (mu_1 - mu_2)
    singles = _singles(block.key, block.key_errors, source, failures)
    test_singles = _singles(block.test, block.test_errors, source, failures)
    least, most = bounds(block.test_errors, source, failures)
    errors = source.sends(1) * (most[..., 0] - least[..., 1]) / (mu_1 - mu_2)
    return key_length(
        block,
        security,
        TERMS,
        np.maximum(empty, 0.0),
        singles,
        test_singles,
        np.maximum(errors, 0.0),
        leak,
    )


def _singles(counts: Array, errors: Array, source: Source, failures: Array) -> Array:
    """Return the least number of clicks of single photons."""
    least, most = bounds(counts, source, failures)
    mu_1, mu_2, sends_0 = source.intensity(0), source.intensity(1), source.sends(0)
    _, most_errors = bounds(errors, source, failures)
    per_intensity = 2 * (sends_0[..., None] * most_errors + deviation(counts, failures))
    most_empty = per_intensity.min(axis=-1)
    bright = mu_2**2 / mu_1**2 * most[..., 0]
    dark = (mu_1**2 - mu_2**2) / mu_1**2 * most_empty / sends_0
    room = mu_2 * (mu_1 - mu_2)
    singles = source.sends(1) * mu_1 / room * (least[..., 1] - bright - dark)
    return np.asarray(np.maximum(singles, 0.0))
