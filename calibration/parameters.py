"""Values of what is unknown about a link, and what is believed of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Values of a model's parameters, a batch of B.

    Attributes:
        fibre: Rotation in front of the controller, shape ``(B, 3, 3)``.
        receiver: Rotation behind it, shape ``(B, 3, 3)``.
        errors: What is uncertain about the controller, shape ``(B, E)``; the model says what is
            what.
        log_floor: Logarithm of the QBER at perfect alignment, shape ``(B,)``.
    """

    fibre: Array
    receiver: Array
    errors: Array
    log_floor: Array

    def __len__(self) -> int:
        return len(self.log_floor)

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Parameters:
        return Parameters(**{name: value[index] for name, value in vars(self).items()})

    @property
    def floor(self) -> Array:
        """QBER at perfect alignment, shape ``(B,)``."""
        return np.exp(self.log_floor)

    @property
    def visibility(self) -> Array:
        """Visibility at perfect alignment, shape ``(B,)``."""
        return 1 - 2 * self.floor

    @staticmethod
    def concatenate(parts: Sequence[Parameters]) -> Parameters:
        """Join batches."""
        names = vars(parts[0])
        return Parameters(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def to_dict(self) -> dict[str, Any]:
        """Give the values as plain lists, for storing."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Parameters:
        """Restore what :meth:`to_dict` gave."""
        return cls(**{name: np.asarray(value, dtype=float) for name, value in stored.items()})


@dataclass(frozen=True)
class Prior:
    """Independent Gaussian beliefs about everything but the two fibres, which may be anything.

    Attributes:
        mean: Free errors of the controller, then the logarithm of the floor, shape ``(P - 6,)``.
        precision: Same shape; 0 where nothing is known.
    """

    mean: Array
    precision: Array
