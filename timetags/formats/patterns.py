"""Records that carry a pattern of inputs: one bit for each, several may be set."""

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock

INPUTS = 4

_BITS_SET = np.array([pattern.bit_count() for pattern in range(1 << INPUTS)], dtype=np.int64)
_LOWEST_INPUT = np.array(
    [0, *((pattern & -pattern).bit_length() for pattern in range(1, 1 << INPUTS))], dtype=np.int16
)
_INPUTS_OF = np.array(
    [
        [bit + 1 for bit in range(INPUTS) if pattern >> bit & 1]
        + [0] * (INPUTS - pattern.bit_count())
        for pattern in range(1 << INPUTS)
    ],
    dtype=np.int16,
)


def tags_of_patterns(
    pattern: NDArray[np.uint8], time_ps: NDArray[np.int64], *, first_input: int = 1
) -> TagBlock:
    """Make one tag of each bit that is set; bits of one record become tags of the same time.

    Args:
        pattern: Four bits, the lowest for input 1, shape ``(n,)``; 0 gives no tag.
        time_ps: Time of each record, shape ``(n,)``, ps.
        first_input: Number of the input of the lowest bit.

    Returns:
        At least one tag for each pattern that is not 0, in the order of the records and then of
        the inputs.
    """
    copies = _BITS_SET[pattern]
    if copies.size == 0 or (copies.min() == 1 and copies.max() == 1):
        channel = _LOWEST_INPUT[pattern]
    else:
        rank = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
        channel = _INPUTS_OF[np.repeat(pattern, copies), rank]
        time_ps = np.repeat(time_ps, copies)
    if first_input != 1:
        channel = channel + np.int16(first_input - 1)
    return TagBlock(channel, time_ps)


def pattern_of_channels(channel: NDArray[np.int16]) -> NDArray[np.uint64]:
    """Make the pattern with one bit for each tag.

    Args:
        channel: Inputs 1 to 4, shape ``(n,)``.
    """
    return np.uint64(1) << (channel - 1).astype(np.uint64)
