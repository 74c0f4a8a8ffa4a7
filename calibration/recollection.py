"""What an earlier alignment learnt, as a prior for the next one, and when to stop believing it.

The input fibre wanders by itself and fastest; receiver and controller stay nearly as they were. So
an old posterior is carried over whole, correlations and gauge included, widened by what may have
happened since. It is believed in steps, strictest first: the fibre has only drifted; the fibre may
be anything, but the bench behind it is the same; nothing is known but what the laboratory knew. A
belief is given up once counts contradict it and a looser one explains them better; no count is
wasted, as all are read again under the looser one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from calibration.chain import Chain
from calibration.observations import Observations
from calibration.parameters import Prior, TangentPrior
from calibration.posterior import RotationPosterior, fit, log_posterior

Array = NDArray[np.float64]

DAY_S = 86_400.0

WIDENING = 1.5
"""Factor on the standard deviations of what was known: Gaussians about a mode are too sure."""

RECEIVER_RAD = 0.05
"""Random walk of the receiver's rotation, per axis in a day, rad: pigtails in a laboratory."""

ERRORS = 0.02
"""Random walk of each of the controller's errors in a day, rad or relative."""

LOG_FLOOR = 0.2
"""Random walk of the floor's natural logarithm in a day."""

FORGOTTEN_RAD = 1.0
"""Uncertainty of the fibre per axis beyond which it may be anything: after a random walk as long, a
Gaussian would claim to know more than is left to know on the sphere of rotations."""

LEAST_WEIGHT = 0.9
"""Weight of the best mode below which an old posterior is no use: it had not made up its mind."""

SUSPICIOUS = 0.01
"""Probability of a chi-square below which looser beliefs are tried."""

REFUTED = 1e-3
"""Probability, under the stricter belief, of a gain as large as the looser one's."""


@dataclass(frozen=True)
class Recollection:
    """An earlier alignment, or a tracker, some time ago.

    Attributes:
        posterior: What was known then.
        elapsed_s: Time since, s.
        drift_rad: Drift of the fibre per axis in one second, rad; it grows with the root of time.
    """

    posterior: RotationPosterior
    elapsed_s: float = 0.0
    drift_rad: float = 0.0

    @classmethod
    def of_stored(
        cls, stored: Mapping[str, Any] | None, chain: Chain, elapsed_s: float, drift_rad: float
    ) -> Recollection | None:
        """Read a stored posterior; None if it cannot be read or is of no use for a controller."""
        if stored is None:
            return None
        try:
            posterior = RotationPosterior.from_dict(stored)
        except (KeyError, TypeError, ValueError):
            return None
        recalled = cls(posterior, max(elapsed_s, 0.0), drift_rad)
        return recalled if posterior.chain.is_like(chain) and recalled.is_usable else None

    @property
    def is_usable(self) -> bool:
        """Whether one explanation of the counts had prevailed."""
        return bool(self.posterior.weights[0] >= LEAST_WEIGHT)

    def priors(self) -> tuple[TangentPrior, ...]:
        """Give the beliefs that rest on it, strictest first."""
        days = self.elapsed_s / DAY_S
        variance = np.full(self.posterior.chain.size, ERRORS**2 * days)
        variance[3:6] = RECEIVER_RAD**2 * days
        variance[-1] = LOG_FLOOR**2 * days
        variance[:3] = self.drift_rad**2 * self.elapsed_s
        covariance = WIDENING**2 * self.posterior.covariance[0] + np.diag(variance)
        reference = self.posterior.modes[:1]
        bench = np.zeros_like(covariance)
        bench[3:, 3:] = np.linalg.inv(covariance[3:, 3:])
        looser = TangentPrior(reference, bench)
        precision = np.linalg.inv(covariance)
        fibre_alone = np.linalg.inv(precision[:3, :3])  # as if the controller were known
        if np.trace(fibre_alone) / 3 > FORGOTTEN_RAD**2:
            return (looser,)
        return TangentPrior(reference, precision), looser


def models(
    chain: Chain, recollection: Recollection | None, learnt: Prior | None = None
) -> tuple[Chain, ...]:
    """Give a controller under each belief, strictest first.

    Args:
        chain: The controller, with what the laboratory knew: believed last.
        recollection: An earlier alignment.
        learnt: What many earlier ones told of the controller; believed if that one is not.
    """
    recalled = () if recollection is None else recollection.priors()
    priors: tuple[Prior | TangentPrior, ...] = recalled if learnt is None else (*recalled, learnt)
    return (*(chain.with_prior(prior) for prior in priors), chain)


def fit_believed(
    models: Sequence[Chain],
    seen: Observations,
    rng: np.random.Generator,
    *,
    span: Array,
    previous: RotationPosterior | None = None,
    drift_rad: float = 0.0,
    reference: Array | None = None,
) -> tuple[int, RotationPosterior]:
    """Find the posterior under the strictest belief that the counts do not refute.

    Args:
        models: The controller under each belief, strictest first.
        seen: All counts so far.
        rng: For starts and probe settings.
        span: Lowest and highest drives, shape ``(2, K)``.
        previous: Posterior before the newest setting, under the first belief.
        drift_rad: As for :func:`~calibration.posterior.fit`.
        reference: Likewise.

    Returns:
        Number of the belief, and the posterior.
    """
    under = partial(fit, seen=seen, rng=rng, span=span, drift_rad=drift_rad, reference=reference)
    believed, posterior = 0, under(models[0], previous=previous)
    aged = seen.aged(drift_rad)
    for looser in range(1, len(models)):
        if not is_suspicious(posterior, aged):
            break
        other = under(models[looser])
        if is_refuted(posterior, other, aged):
            believed, posterior = looser, other
    return believed, posterior


def is_suspicious(posterior: RotationPosterior, seen: Observations) -> bool:
    """Tell whether counts contradict what a posterior's prior believes.

    Misfit to the counts and distance from the prior together are a chi-square.

    Args:
        posterior: Its best mode is looked at.
        seen: The counts that it rests on, weakened for age only.
    """
    best = posterior.modes[:1]
    probability = seen.error_probability(posterior.chain, best)[0]
    used = seen.trials > 0
    trials, errors, p = seen.trials[used], seen.errors[used], probability[used]
    misfit = np.sum((errors - trials * p) ** 2 / (trials * p * (1 - p)))
    distance = -2 * posterior.chain.log_prior(best)[0][0]
    freedom = max(int(used.sum()) - (posterior.chain.size - _believed(posterior.chain)), 1)
    return bool(chi2.sf(misfit + distance, freedom) < SUSPICIOUS)


def is_refuted(strict: RotationPosterior, loose: RotationPosterior, seen: Observations) -> bool:
    """Tell whether a looser belief explains counts so much better that the stricter is wrong.

    A likelihood-ratio test: the gain is a chi-square with as many degrees as were freed.
    """
    of_each = [log_posterior(each.chain, seen, each.modes[:1])[0] for each in (loose, strict)]
    freed = _believed(strict.chain)
    if isinstance(loose.chain.prior, TangentPrior):
        freed -= _believed(loose.chain)
    return bool(chi2.sf(2 * (of_each[0] - of_each[1]), freed) < REFUTED)


def _believed(chain: Chain) -> int:
    """Count the numbers of which a belief says anything."""
    if isinstance(chain.prior, Prior):
        return int(np.count_nonzero(chain.prior.precision))
    return chain.size if chain.prior.knows_fibre else chain.size - 3
