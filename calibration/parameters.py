"""Values of what is unknown about a link, and what is believed of them beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.batch import Array, Batch


@dataclass(frozen=True)
class Parameters(Batch):
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


@dataclass(frozen=True)
class Prior:
    """Independent Gaussian beliefs about everything but the two fibres, which may be anything.

    Attributes:
        mean: Free errors of the controller, then the logarithm of the floor, shape ``(P - 6,)``.
        precision: Same shape; 0 where nothing is known.
    """

    mean: Array
    precision: Array


@dataclass(frozen=True)
class TangentPrior:
    """A Gaussian belief about everything, correlations included.

    Attributes:
        reference: Values to expect, a batch of one; they fix the gauge as well.
        precision: In the tangent space there, shape ``(P, P)``; rows and columns of 0 where nothing
            is known.
    """

    reference: Parameters
    precision: Array

    @property
    def knows_fibre(self) -> bool:
        """Whether anything is known of the fibre in front of the controller."""
        return bool(np.any(self.precision[:3]))
