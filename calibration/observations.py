"""Counts of settings, as the likelihood sees them: which error probability each number reads.

A receiver tells up to four binomials per setting: measured basis by sent basis. One that keeps
less tells fewer: those of alike bases only, or a single one of both bases together. Every number is
a row of a *reading* matrix: its error probability is the row times the four ``p_ab`` of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain
from calibration.parameters import Parameters

Array = NDArray[np.float64]

ZZ, ZX, XZ, XX, POOLED = range(5)
"""Rows of :func:`readings`."""

HARDLY_DIFFERENT = 0.2
"""Difference of the weights of Z and X, relative to their sum, below which they are alike."""


def readings(z_share: float = 0.5) -> Array:
    """Give the rows of every number that a receiver may tell.

    Args:
        z_share: Share of the sifted counts that are of basis Z, where both are taken together.

    Returns:
        Shape ``(5, 4)``: ZZ, ZX, XZ, XX (measured basis, sent basis), and both alike ones pooled.
    """
    return np.vstack([np.eye(4), [z_share, 0.0, 0.0, 1 - z_share]])


@dataclass(frozen=True)
class Observations:
    """Counts of M settings, R numbers of each.

    Attributes:
        drives: Settings, shape ``(M, K)``.
        trials: All counts of each number, shape ``(M, R)``; 0 where a setting does not tell it.
        errors: Counts of opposite sign among them, same shape.
        age_s: How long ago each setting was measured, shape ``(M,)``.
        reading: Weight of each ``p_ab`` in the error probability of each number, shape ``(R, 4)``.
        photons: Detections that each setting cost, shape ``(M,)``; None for those that are told.

    Raises:
        ValueError: Shapes do not fit together.
    """

    drives: Array
    trials: Array
    errors: Array
    age_s: Array
    reading: Array = field(default_factory=lambda: np.eye(4))
    photons: Array | None = None

    def __post_init__(self) -> None:
        expected = (len(self.drives), len(self.reading))
        if not self.trials.shape == self.errors.shape == expected:
            raise ValueError(f"counts of shape {self.trials.shape}, expected {expected}")

    def __len__(self) -> int:
        return len(self.drives)

    @property
    def cost(self) -> float:
        """Detections that all settings cost."""
        return float(self.trials.sum() if self.photons is None else self.photons.sum())

    @property
    def shares(self) -> Array:
        """Counts of each number per detection, shape ``(R,)``."""
        if self.cost == 0:
            return np.full(len(self.reading), 0.25)
        shares: Array = self.trials.sum(axis=0) / self.cost
        return shares

    @property
    def hides_turns(self) -> bool:
        """Whether turning both fibres about S3, against each other, changes nothing that is told.

        With ``A`` such a turn, ``A R A'`` has the same ``R_ZZ + R_XX`` as ``R``: so it is where
        only the sum of both bases is told, and nearly so where their weights hardly differ.
        """
        z, x = self.reading[:, ZZ], self.reading[:, XX]
        return bool(np.all(np.abs(z - x) < HARDLY_DIFFERENT * (z + x)))

    def part(self, index: slice) -> Observations:
        """Pick settings, and count ages from the newest of them."""
        age_s = self.age_s[index]
        return replace(
            self,
            drives=self.drives[index],
            trials=self.trials[index],
            errors=self.errors[index],
            age_s=age_s - age_s.min(initial=np.inf),
            photons=None if self.photons is None else self.photons[index],
        )

    def read(self, pairs: Array) -> Array:
        """Turn quantities of the four pairs, shape ``(..., 4)``, into those of the numbers."""
        if self._tells_all:
            return pairs
        return (pairs.reshape(-1, 4) @ self.reading.T).reshape(*pairs.shape[:-1], -1)

    @cached_property
    def _tells_all(self) -> bool:
        """Whether the numbers are the four pairs themselves."""
        return np.array_equal(self.reading, np.eye(4))

    def error_probability(self, chain: Chain, at: Parameters) -> Array:
        """Predict the error probability of every number, shape ``(B, M, R)``."""
        probability = chain.error_probability(at, self.drives)
        return self.read(probability.reshape(*probability.shape[:2], 4))

    def linearise(self, chain: Chain, at: Parameters) -> tuple[Array, Array]:
        """Predict the error probabilities and their derivatives.

        Returns:
            Shapes ``(B, M, R)`` and ``(B, M, P, R)``, along the chain's tangent vectors.
        """
        probability, slope = chain.linearise(at, self.drives)
        return self.read(probability), self.read(slope)

    def log_likelihood(self, probability: Array) -> Array:
        """Evaluate the exact binomial log likelihood up to a constant, shape ``(B,)``.

        Args:
            probability: Error probabilities, shape ``(B, M, R)``.
        """
        correct = self.trials - self.errors
        flat = probability.reshape(len(probability), -1)
        total: Array = np.log(flat) @ self.errors.ravel() + np.log1p(-flat) @ correct.ravel()
        return total

    def aged(self, drift_rad: float) -> Observations:
        """Reduce the weight of old counts of a fibre that drifts, rad per axis in one second."""
        return self.weakened(0.25 * drift_rad**2 * self.age_s)

    def dispersed(self, dispersion: float) -> Observations:
        """Reduce the weight of all counts alike, as if their variance were so many times binomial.

        Source: P. McCullagh and J. A. Nelder, Generalized Linear Models, 2nd ed., section 4.5.
        """
        return replace(self, trials=self.trials / dispersion, errors=self.errors / dispersion)

    def weakened(self, tilt: Array) -> Observations:
        """Reduce the weight of counts whose setting is known only up to a random rotation.

        A rotation with variance ``4 tilt`` per axis spreads an error probability ``p`` by
        ``4 p (1 - p) tilt + tilt^2 / 4``, or less where bases are taken together; the counts are
        scaled so that their binomial variance covers that as well.

        Args:
            tilt: Shape ``(M,)``, rad^2 / 4.
        """
        share = (self.errors + 0.5) / (self.trials + 1)
        binomial = share * (1 - share)
        tilt = tilt[:, None]
        spread = 4 * binomial * tilt + 0.25 * tilt**2
        weight = 1 / (1 + self.trials * spread / binomial)
        return replace(self, trials=self.trials * weight, errors=self.errors * weight)
