"""A secret key rate together with what it rests on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SecurityClass = Literal["general", "collective", "individual"]
"""Attacks that the rate is proven against, from all to the weakest class. Rates of different
classes must not be traded against each other as if they were equal."""


@dataclass(frozen=True)
class KeyRate:
    """Secret key per pulse.

    Attributes:
        unclipped: What the formula gives, bit per pulse; below 0 there is no key, but a search
            still sees which way key lies.
        security_class: Attacks that it holds against.
        assumptions: What else it takes for granted.
    """

    unclipped: NDArray[np.float64]
    security_class: SecurityClass
    assumptions: tuple[str, ...]

    @property
    def bits_per_pulse(self) -> NDArray[np.float64]:
        """Secret bits per pulse, 0 where there is no key."""
        return np.maximum(self.unclipped, 0.0)
