"""Bits inverted in software: further rotations at which a link makes key.

Inverting all bits of basis Z is as good as exchanging the detectors H and V, and that is as good as
a receiver turned by half a turn about S2: ``R`` becomes ``diag(-1, 1, -1) R``. So a link also works
where the fibres and the controller together are one of ``diag(s_z, s_x, s_z s_x)``, with a sign of
-1 for a basis that is inverted: four times as many settings, some of them nearer.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.parameters import Parameters

Array = NDArray[np.float64]
Scalar = TypeVar("Scalar", np.int64, np.float64)

Inverted = tuple[str, ...]
"""Names of the inverted bases, some of ``("Z", "X")``."""

BASES = ("Z", "X")

NOTHING: Inverted = ()
EVERY: tuple[Inverted, ...] = (NOTHING, ("Z",), ("X",), ("Z", "X"))
BOTH_ALIKE: tuple[Inverted, ...] = (NOTHING, ("Z", "X"))
"""Those that a pooled QBER can tell: turned about S3, the others are no longer what they were."""


def half_turn(inverted: Collection[str]) -> Array:
    """Give the rotation that inverted bases are as good as, behind the receiver, ``(3, 3)``."""
    z, x = (-1.0 if basis in inverted else 1.0 for basis in BASES)
    return np.diag([z, x, z * x])


def composed(first: Collection[str], then: Collection[str]) -> Inverted:
    """Tell which bases are inverted after both: two inversions of a basis undo each other."""
    return tuple(basis for basis in BASES if (basis in first) != (basis in then))


def seen_inverted(parameters: Parameters, inverted: Collection[str]) -> Parameters:
    """Describe the link as it is once the bits of these bases are inverted."""
    return replace(parameters, receiver=half_turn(inverted) @ parameters.receiver)


def exchanged(table: NDArray[Scalar], inverted: Collection[str]) -> NDArray[Scalar]:
    """Exchange the detectors of inverted bases.

    Args:
        table: Counts, or what goes with them, with the detectors H, V, D, A along the last axis.
        inverted: Names of the bases.
    """
    order = [1, 0] if "Z" in inverted else [0, 1]
    order += [3, 2] if "X" in inverted else [2, 3]
    return table[..., order]
