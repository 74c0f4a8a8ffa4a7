"""The secret key of a finite block of decoy-state BB84 with two decoys.

Source: C. C. W. Lim et al., Phys. Rev. A 89, 022307 (2014), equations (1) to (5). Lower bounds on
counts are clamped at 0.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.finite import Block, KeyLength, Security, Source, bounds, key_length

Array = NDArray[np.float64]

TERMS = 21
"""Failures that share the secrecy."""


def two_decoy_length(
    block: Block, source: Source, security: Security, leak: ArrayLike | None = None
) -> KeyLength:
    """Return the secret bits of a block.

    Args:
        block: Counts of three intensities, shape ``(..., 3)``.
        source: The intensities, ``mu_1 > mu_2 + mu_3``, ``mu_2 > mu_3 >= 0``.
        security: What may go wrong.
        leak: Bits told by error correction if they were counted, shape ``(...)``.

    Raises:
        ValueError: There are not three intensities.
    """
    if block.key.shape[-1] != 3:
        raise ValueError(f"two decoys make three intensities, not {block.key.shape[-1]}")
    failures = np.asarray(security.secrecy, dtype=float) / TERMS
    empty, singles = _empty_and_singles(block.key, source, failures)
    _, test_singles = _empty_and_singles(block.test, source, failures)
    least, most = bounds(block.test_errors, source, failures)
    mu_2, mu_3 = source.intensity(1), source.intensity(2)
    errors = source.sends(1) * (most[..., 1] - least[..., 2]) / (mu_2 - mu_3)
    errors = np.maximum(errors, 0.0)
    return key_length(block, security, TERMS, empty, singles, test_singles, errors, leak)


def _empty_and_singles(counts: Array, source: Source, failures: Array) -> tuple[Array, Array]:
    """Return the least numbers of clicks of empty pulses, and of single photons."""
    least, most = bounds(counts, source, failures)
    mu_1, mu_2, mu_3 = (source.intensity(number) for number in range(3))
    sends_0, sends_1 = source.sends(0), source.sends(1)
    empty = sends_0 * (mu_2 * least[..., 2] - mu_3 * most[..., 1]) / (mu_2 - mu_3)
    empty = np.maximum(empty, 0.0)
    bright = (mu_2**2 - mu_3**2) / mu_1**2 * (most[..., 0] - empty / sends_0)
    room = mu_1 * (mu_2 - mu_3) - mu_2**2 + mu_3**2
    singles = sends_1 * mu_1 * (least[..., 1] - most[..., 2] - bright) / room
    return empty, np.maximum(singles, 0.0)
