"""Modes of a posterior: damped Fisher scoring from many starts, and what each mode is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONVERGED_NATS = 1e-3
MODE_WINDOW_NATS = 12.0
"""Log posterior below the best mode's from which a mode is given up."""

SAME_PREDICTION = 0.03
"""Largest difference of the error probabilities that one and the same mode predicts."""


class Batch(Protocol):
    """Parameters of a model, many at once: a dataclass of arrays of one leading axis."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[Any], /) -> Self: ...


B = TypeVar("B", bound=Batch)


@dataclass
class Climb(Generic[B]):
    """Fisher scoring on a batch of starts: where each stands and what is known there.

    Attributes:
        at: Parameters, a batch.
        log_posterior: Log posterior density up to a constant, shape ``(B,)``.
        gradient: Its slope along the tangent vectors, shape ``(B, P)``.
        curvature: Fisher information and that of the prior, shape ``(B, P, P)``.
        damping: Levenberg's, shape ``(B,)``.
    """

    at: B
    log_posterior: Array
    gradient: Array
    curvature: Array
    damping: Array

    @property
    def best(self) -> Climb[B]:
        """The member of the highest posterior density alone."""
        return self.keep(np.array([np.argmax(self.log_posterior)]))

    def keep(self, index: NDArray[Any]) -> Climb[B]:
        """Pick members."""
        return Climb(**{name: value[index] for name, value in vars(self).items()})

    def put(self, index: NDArray[Any], other: Climb[B]) -> None:
        """Replace the members at ``index``."""
        for mine, new in zip(vars(self.at).values(), vars(other.at).values(), strict=True):
            mine[index] = new
        for name in ("log_posterior", "gradient", "curvature", "damping"):
            getattr(self, name)[index] = getattr(other, name)


def ascend(
    climb: Climb[B],
    begin: Callable[[B], Climb[B]],
    step: Callable[[B, Array], B],
    steps: int,
    *,
    largest_hope: float | None = None,
) -> None:
    """Improve every member by up to ``steps`` damped scoring steps, in place.

    Args:
        climb: Where they stand.
        begin: Evaluates log posterior, gradient and curvature.
        step: Moves parameters along tangent vectors, shape ``(B, P)``, or as far as is sensible.
        steps: Most steps.
        largest_hope: What a member may still gain, as a multiple of what its next step promises:
            without a hope of coming within the window of the best, it ends. None for no limit.
    """
    diagonal = np.arange(climb.gradient.shape[-1])
    active = np.arange(len(climb.at))
    for _ in range(steps):
        here = climb.keep(active)
        damped = here.curvature.copy()
        damped[:, diagonal, diagonal] *= 1 + here.damping[:, None]
        tangent = np.linalg.solve(damped, here.gradient[..., None])[..., 0]
        gain = 0.5 * np.sum(tangent * here.gradient, axis=-1)
        going = (gain > CONVERGED_NATS) | (here.damping > 1)  # a short step is not convergence
        if largest_hope is not None:
            behind = climb.log_posterior.max() - here.log_posterior
            going &= behind < MODE_WINDOW_NATS + largest_hope * gain
        active, here, tangent = active[going], here.keep(going), tangent[going]
        if len(active) == 0:
            return
        there = begin(step(here.at, tangent))
        better = there.log_posterior > here.log_posterior
        there.damping = np.maximum(here.damping * 0.2, 1e-4)
        climb.put(active[better], there.keep(better))
        climb.damping[active[~better]] = here.damping[~better] * 8
        active = active[climb.damping[active] <= 1e6]


def distinct(climb: Climb[B], predict: Callable[[B], Array], most: int) -> Climb[B]:
    """Keep the members that are good and predict something new, best first.

    Args:
        climb: Climbed to their tops.
        predict: Error probabilities by which modes are told apart, shape ``(B, N)``.
        most: How many to keep.
    """
    order = np.argsort(-climb.log_posterior)
    order = order[climb.log_posterior[order] > climb.log_posterior.max() - MODE_WINDOW_NATS]
    predicted = predict(climb.at[order])
    kept: list[int] = []
    for member in range(len(order)):
        apart = np.abs(predicted[kept] - predicted[member]).max(axis=-1)
        if np.all(apart > SAME_PREDICTION):
            kept.append(member)
    return climb.keep(order[kept[:most]])


def laplace(log_posterior: Array, curvature: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """Approximate a posterior by a Gaussian at each mode.

    Args:
        log_posterior: At the modes, shape ``(J,)``.
        curvature: There, shape ``(J, P, P)``.

    Returns:
        The order of the modes by their evidence, best first; in that order their probabilities,
        shape ``(J,)``, and covariances, shape ``(J, P, P)``.
    """
    _, log_determinant = np.linalg.slogdet(curvature)
    evidence = log_posterior - 0.5 * log_determinant
    order = np.argsort(-evidence)
    weights = np.exp(evidence[order] - evidence.max())
    covariance = np.linalg.inv(curvature[order]).astype(np.float64, copy=False)
    return order, weights / weights.sum(), 0.5 * (covariance + np.swapaxes(covariance, -1, -2))


def chi2_per_dof(
    trials: Array, errors: Array, probability: Array, fitted: float
) -> tuple[float, float]:
    """Compare counts with what is predicted for them.

    Args:
        trials: Counts of each number; 0 where it is not told.
        errors: Errors among them, same shape.
        probability: Predicted error probabilities, same shape.
        fitted: Number of parameters that the counts, rather than the prior, determine.

    Returns:
        Chi-square per degree of freedom, and the degrees of freedom: numbers seen less ``fitted``.
    """
    used = trials > 0
    n, k, p = trials[used], errors[used], probability[used]
    chi2 = np.sum((k - n * p) ** 2 / (n * p * (1 - p)))
    freedom = max(float(used.sum() - fitted), 1.0)
    return float(chi2) / freedom, freedom
