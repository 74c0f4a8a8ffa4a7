"""What counts show of a rotation close to a known one, to second order in the turn between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.tracking import symmetric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Expansion:
    """The elements ``R_ab = l_a . exp([x]x) r_b`` as ``value + torque . x + x' bend x / 2``.

    ``r_b`` is a sent state and ``l_a`` an analyser, both as seen where the turn ``x`` is inserted;
    ``ab`` is flattened, measured basis by sent basis. What is left out is the third order: 0.005 at
    0.3 rad.

    Attributes:
        value: Shape ``(4, 1)``.
        torque: Shape ``(4, 3, 1)``, per rad.
        bend: Shape ``(4, 3, 3)``, per rad^2, the last two axes symmetric.
        loss: Mean of the second order per variance and covariance of ``x``, shape ``(4, 6)``.
    """

    value: Array
    torque: Array
    bend: Array
    loss: Array

    @classmethod
    def about(cls, behind: Array, in_front: Array) -> Expansion:
        """Expand about the product of a rotation behind the turn and one in front of it."""
        analysers, sent = behind[:2], in_front.T[:2]
        products = (analysers[:, None, :, None] * sent[None, :, None, :]).reshape(4, 9)
        terms = products @ _TERMS
        return cls(
            value=terms[:, :1],
            torque=terms[:, 1:4, None],
            bend=terms[:, 4:13].reshape(4, 3, 3),
            loss=terms[:, 13:],
        )

    def at(self, turn: Array) -> tuple[Array, Array]:
        """Evaluate at turns, shape ``(3, J)``.

        Returns:
            The elements, shape ``(4, J)``, and their slopes, shape ``(4, 3, J)``.
        """
        slope = self.torque + self.bend @ turn
        return self.value + 0.5 * np.add.reduce((self.torque + slope) * turn, 1), slope


def _terms() -> Array:
    """Tell how every coefficient follows from the nine products ``l_i r_k``, shape ``(9, 19)``."""
    delta, product = np.eye(3), np.eye(9).reshape(3, 3, 9)
    value = np.einsum("iip->p", product)
    torque = np.array([product[(m + 2) % 3, (m + 1) % 3] for m in range(3)])
    torque -= np.array([product[(m + 1) % 3, (m + 2) % 3] for m in range(3)])
    bend = 0.5 * (product + product.transpose(1, 0, 2)) - delta[..., None] * value
    loss = 0.5 * symmetric.MULTIPLICITY[:, None] * bend[symmetric.ROW, symmetric.COLUMN]
    return np.vstack([value, torque, bend.reshape(9, 9), loss]).T


_TERMS = np.ascontiguousarray(_terms())
