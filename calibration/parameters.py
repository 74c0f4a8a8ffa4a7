"""Values of what is unknown about a link, and what is believed of them beforehand."""

from __future__ import annotations

from dataclasses import dataclass

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
