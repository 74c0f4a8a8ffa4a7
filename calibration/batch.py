"""Values of what is unknown, many guesses side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Batch:
    """What a dataclass of arrays, all with the guesses along their first axis, can do.

    Attributes:
        log_floor: Logarithm of the error probability at the optimum, shape ``(B,)``.
    """

    log_floor: Array

    def __len__(self) -> int:
        return len(self.log_floor)

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Self:
        return type(self)(**{name: value[index] for name, value in vars(self).items()})

    @property
    def floor(self) -> Array:
        """Error probability at the optimum, shape ``(B,)``."""
        return np.exp(self.log_floor)

    @property
    def visibility(self) -> Array:
        """Visibility at the optimum, shape ``(B,)``."""
        return 1 - 2 * self.floor

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join batches."""
        names = vars(parts[0])
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def to_dict(self) -> dict[str, Any]:
        """Give the values as plain lists, for storing."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Restore what :meth:`to_dict` gave."""
        return cls(**{name: np.asarray(value, dtype=float) for name, value in stored.items()})
