"""The one internal form of time tags: blocks of channel numbers and times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TagBlock:
    """One block of a stream of time tags, in order of time unless said otherwise.

    Attributes:
        channel: Numbers as the source gives them, shape ``(n,)``.
        time_ps: Time since the source's own zero, ps, shape ``(n,)``.
    """

    channel: NDArray[np.int16]
    time_ps: NDArray[np.int64]
