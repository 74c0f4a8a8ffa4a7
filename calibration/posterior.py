"""Posterior of the fibre and the controller from counts.

Exact binomial likelihood, Fisher scoring with Levenberg damping from many starts, modes weighted
by Laplace evidence; the posterior is a mixture of Gaussians in the tangent spaces of its modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain
from calibration.inversion import Inverted, seen_inverted
from calibration.modes import Climb, ascend, chi2_per_dof, distinct, laplace
from calibration.observations import Observations
from calibration.parameters import Parameters, Prior
from calibration.retarders import RetarderChain
from calibration.shared_drift import covariance_left_out
from calibration.variable_retarders import VariableRetarderChain
from calibration.wave_plate_stack import WavePlateStack
from calibration.wave_plates import WavePlateChain

Array = NDArray[np.float64]

MODELS: dict[str, type[Chain]] = {
    each.kind: each
    for each in (RetarderChain, VariableRetarderChain, WavePlateChain, WavePlateStack)
}
"""Models of controllers, by the name under which they are stored."""

STARTS = 100
"""Draws from the prior while several modes survive."""

STARTS_WITH_ONE_MODE = 10
"""Draws from the prior, as an insurance, once all but one mode are hardly possible."""

HARDLY_POSSIBLE = 0.01
"""Probability of all modes but the best."""

SCREENING_STEPS = 8
FINAL_STEPS = 40
LARGEST_STEP_RAD = 1.0
LARGEST_HOPE = 5.0
"""What a climb may still gain, as a multiple of what its next step promises: without a hope of
coming within the window of the best, it ends."""

NUMBERS_PROBED = 24
"""Error probabilities, at random settings, by which modes are told apart."""

MOST_MODES = 40

PROPOSALS_PER_SAMPLE = 2
"""Draws from the Gaussians, at most, for one that the counts do not contradict."""

PROPOSALS_AT_ONCE = 256

GAUGE_PRECISION = 1e4
"""Precision, rad^-2, that holds a turn about which the counts say nothing: were it left as free as
it is, Gaussian samples would be scrambled by it."""

MISFIT_RATIO = 1.6
"""Chi-square per degree of freedom above which counts are trusted less."""

FIRST_MISFIT = 0.01
MISFIT_GROWTH = 1.5
LARGEST_MISFIT = 0.5


@dataclass(frozen=True)
class RotationPosterior:
    """What the counts say about the fibre and the controller.

    Attributes:
        chain: The model and the prior beliefs.
        modes: Modes, best first, a batch of J.
        covariance: Gaussian covariance in each mode's tangent space, shape ``(J, P, P)``.
        drifted: Part of it that is due to a drift which all counts share, or None without one.
        weights: Probability of each mode, shape ``(J,)``.
        chi2_per_dof: Misfit of the best mode; near 1 if the model fits.
        misfit: Angle error assumed per half turn between settings, rad; 0 if it fits.
        photons: Detections used.
        seen: Counts behind it, weakened for age and misfit; None once restored from storage.
    """

    chain: Chain
    modes: Parameters
    covariance: Array
    weights: Array
    chi2_per_dof: float = np.nan
    misfit: float = 0.0
    photons: int = 0
    seen: Observations | None = None
    drifted: Array | None = None

    def samples(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw from the mixture, a batch of ``count``.

        Where a mode is not Gaussian, above all where counts sit at a minimum of the QBER, some
        draws contradict the counts: they are rejected against the exact posterior, under the
        Gaussian as the envelope (not after :meth:`from_dict`, when the counts are not there). What
        a drift does to all counts alike they cannot contradict: it is added to what they accept.
        """
        if self.seen is None:
            return self._propose(rng, count)[0]
        accepted, modes = self._accepted(self.seen, rng, count)
        if self.drifted is None:
            return accepted
        normal = rng.normal(size=(count, self.chain.size, 1))
        return self.chain.step(accepted, (_root(self.drifted)[modes] @ normal)[..., 0])

    def _accepted(
        self, seen: Observations, rng: np.random.Generator, count: int
    ) -> tuple[Parameters, NDArray[np.intp]]:
        """Draw what the counts do not contradict, and from which modes."""
        at_modes = log_posterior(self.chain, seen, self.modes)
        drawn, modes = [], np.empty(0, dtype=np.intp)
        log_accepted, log_chance = np.empty(0), np.empty(0)
        while len(log_chance) < PROPOSALS_PER_SAMPLE * count:
            proposed, chosen, log_envelope = self._propose(rng, PROPOSALS_AT_ONCE)
            log_ratio = log_posterior(self.chain, seen, proposed)
            drawn.append(proposed)
            modes = np.append(modes, chosen)
            log_accepted = np.append(log_accepted, log_ratio - at_modes[chosen] - log_envelope)
            log_chance = np.append(log_chance, np.log(rng.random(PROPOSALS_AT_ONCE)))
            rejected = log_chance > log_accepted
            if np.sum(~rejected) >= count:
                break
        # Accepted ones first, as drawn; should they not suffice, the least contradicted follow.
        order = np.lexsort((np.where(rejected, -log_accepted, 0.0), rejected))[:count]
        return Parameters.concatenate(drawn)[order], modes[order]

    @cached_property
    def _roots(self) -> Array:
        of_counts = self.covariance if self.drifted is None else self.covariance - self.drifted
        return np.asarray(np.linalg.cholesky(of_counts))

    def _propose(
        self, rng: np.random.Generator, count: int
    ) -> tuple[Parameters, NDArray[np.intp], Array]:
        """Draw from the Gaussians: samples, their modes, log density relative to the modes."""
        chosen = rng.choice(len(self.weights), size=count, p=self.weights)
        normal = rng.normal(size=(count, self.chain.size))
        tangent = np.empty_like(normal)
        for mode in np.unique(chosen):
            its = chosen == mode
            tangent[its] = normal[its] @ self._roots[mode].T
        samples = self.chain.step(self.modes[chosen], tangent)
        return samples, chosen, -0.5 * np.sum(normal**2, axis=-1)

    def controller_prior(self, *, widening: float = 1.5) -> Prior:
        """Turn what was learnt of the controller into a prior for another fibre.

        Args:
            widening: Factor on the standard deviations, for what changes in between.
        """
        best = self.modes[:1]
        mean = np.append(best.errors[0, self.chain.free], best.log_floor)
        variance = np.diagonal(self.covariance[0])[6:]
        return Prior(mean, 1 / (widening**2 * variance))

    def inverted(self, bases: Inverted) -> RotationPosterior:
        """Describe the link as it is once the bits of these bases are inverted.

        The counts behind it are left out: they were not inverted.
        """
        return replace(self, modes=seen_inverted(self.modes, bases), seen=None, drifted=None)

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-able description, for storing; :meth:`from_dict` restores it."""
        return {
            "chain": self.chain.to_dict(),
            "parameters": self.modes.to_dict(),
            "covariance": self.covariance.tolist(),
            "weights": self.weights.tolist(),
            "chi2_per_dof": self.chi2_per_dof,
            "misfit": self.misfit,
            "photons": self.photons,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RotationPosterior:
        """Restore what :meth:`to_dict` gave.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed.
        """
        try:
            chain = dict(stored["chain"])
            model = MODELS.get(chain.pop("kind", None))
            if model is None:
                raise ValueError("malformed posterior: of no known model of a controller")
            restored = cls(
                chain=model.from_dict(chain),
                modes=Parameters.from_dict(stored["parameters"]),
                covariance=np.asarray(stored["covariance"], dtype=float),
                weights=np.asarray(stored["weights"], dtype=float),
                chi2_per_dof=float(stored["chi2_per_dof"]),
                misfit=float(stored["misfit"]),
                photons=int(stored["photons"]),
            )
        except (AttributeError, TypeError) as exc:
            raise ValueError(f"malformed posterior: {exc}") from exc
        restored._check()
        return restored

    def _check(self) -> None:
        """Raise ValueError where arrays do not fit together or weights are no probabilities."""
        modes, size = len(self.weights), self.chain.size
        turns, errors = (modes, 3, 3), (modes, self.chain.error_count)
        expected = {"fibre": turns, "receiver": turns, "errors": errors, "log_floor": (modes,)}
        shapes = {name: value.shape for name, value in vars(self.modes).items()}
        independent = self.chain.independent_prior
        prior = {independent.mean.shape, independent.precision.shape}
        fits = shapes == expected and self.covariance.shape == (modes, size, size)
        if not fits or prior != {(size - 6,)}:
            raise ValueError("malformed posterior: arrays of shapes that do not fit together")
        if np.any(self.weights < 0) or not np.isclose(self.weights.sum(), 1):
            raise ValueError("malformed posterior: weights that are no probabilities")


def log_posterior(chain: Chain, seen: Observations, at: Parameters) -> Array:
    """Evaluate the log posterior density up to a constant, shape ``(B,)``."""
    probability = seen.error_probability(chain, at)
    return seen.log_likelihood(probability) + chain.log_prior(at)[0]


def _begin(chain: Chain, seen: Observations, at: Parameters) -> Climb[Parameters]:
    """Evaluate log posterior, gradient and curvature (Fisher information and prior)."""
    probability, slope = seen.linearise(chain, at)
    log_prior, pull, precision = chain.log_prior(at)
    variance = probability * (1 - probability)
    score = (seen.errors - seen.trials * probability) / variance
    flat = np.swapaxes(slope, 1, 2).reshape(len(at), chain.size, -1)
    weight = (seen.trials / variance).reshape(len(at), 1, -1)
    curvature = (flat * weight) @ np.swapaxes(flat, -1, -2) + precision
    return Climb(
        at=at,
        log_posterior=seen.log_likelihood(probability) + log_prior,
        gradient=(flat @ score.reshape(len(at), -1, 1))[..., 0] + pull,
        curvature=curvature,
        damping=np.full(len(at), 1e-2),
    )


def _climb(chain: Chain, seen: Observations, climb: Climb[Parameters], steps: int) -> None:
    def step(at: Parameters, tangent: Array) -> Parameters:
        length = np.linalg.norm(tangent, axis=-1, keepdims=True)
        return chain.step(at, tangent * np.minimum(1, LARGEST_STEP_RAD / length))

    ascend(climb, partial(_begin, chain, seen), step, steps, largest_hope=LARGEST_HOPE)


def fit(
    chain: Chain,
    seen: Observations,
    rng: np.random.Generator,
    *,
    span: Array,
    previous: RotationPosterior | None = None,
    drift_rad: float = 0.0,
    reference: Array | None = None,
) -> RotationPosterior:
    """Find the posterior.

    Where the model does not fit, settings are trusted less the farther they lie from the one that
    matters: each is taken to be known only up to a random rotation of ``misfit`` radians per half
    turn of distance, the smallest misfit that explains the counts.

    Args:
        chain: The model and its prior.
        seen: All counts so far.
        rng: For starts and probe settings.
        span: Lowest and highest drives, shape ``(2, K)``; modes that agree there are one mode.
        previous: Posterior before the newest setting: its modes are starts as well.
        drift_rad: Drift of the fibre per axis in one second, rad; older counts weigh less.
        reference: Setting that matters, shape ``(K,)``; without it the model is taken as exact.
    """
    tilt = 0.25 * drift_rad**2 * seen.age_s
    current = seen.aged(drift_rad)
    climb = _search(chain, current, rng, span, previous)
    ratio, freedom = _chi2(chain, current, climb)
    misfit, reduced = 0.0, ratio
    if reference is not None:
        distance = np.linalg.norm((seen.drives - reference) / chain.half_turn, axis=-1)
        limit = max(MISFIT_RATIO, 1 + 3 * np.sqrt(2 / freedom))  # chance exceeds it in 0.1 %
        while reduced > limit and misfit < LARGEST_MISFIT:
            last = previous.misfit if previous is not None and misfit == 0 else misfit
            misfit = max(FIRST_MISFIT, last * MISFIT_GROWTH if misfit else last / MISFIT_GROWTH)
            current = seen.weakened(tilt + (misfit * distance) ** 2)
            climb = _begin(chain, current, climb.at)
            _climb(chain, current, climb, FINAL_STEPS)
            reduced, _ = _chi2(chain, current, climb)
    if reduced > 1:
        current = current.dispersed(reduced)
        climb = _begin(chain, current, climb.at)
        _climb(chain, current, climb, FINAL_STEPS)
    posterior, photons = _laplace(chain, seen, climb), round(seen.cost)
    if drift_rad:
        posterior = _drifted(posterior, current, drift_rad)
    return replace(
        posterior,
        chi2_per_dof=ratio,
        misfit=misfit,
        photons=photons,
        seen=current,
    )


def _search(
    chain: Chain,
    seen: Observations,
    rng: np.random.Generator,
    span: Array,
    previous: RotationPosterior | None,
) -> Climb[Parameters]:
    """Climb from many starts and keep the distinct modes, best first."""
    several = previous is None or previous.weights[0] < 1 - HARDLY_POSSIBLE
    starts = chain.draw(rng, STARTS if several else STARTS_WITH_ONE_MODE)
    shape = (-(-NUMBERS_PROBED // len(seen.reading)), chain.channels)
    probes = rng.uniform(span[0], span[1], size=shape)
    known = [] if previous is None else [previous.modes]
    climb = _begin(chain, seen, Parameters.concatenate([starts, *known]))
    _climb(chain, seen, climb, SCREENING_STEPS)
    fresh = np.argsort(-climb.log_posterior[: len(starts)])[: -(-len(starts) // 3)]
    climb = climb.keep(np.append(fresh, np.arange(len(starts), len(climb.at))))
    _climb(chain, seen, climb, FINAL_STEPS)

    def predict(at: Parameters) -> Array:
        predicted = chain.error_probability(at, probes)
        return seen.read(predicted.reshape(len(at), -1, 4)).reshape(len(at), -1)

    return distinct(climb, predict, MOST_MODES)


def _laplace(chain: Chain, seen: Observations, climb: Climb[Parameters]) -> RotationPosterior:
    curvature = climb.curvature
    if seen.hides_turns:
        curvature = curvature + GAUGE_PRECISION * _gauge(chain, climb.at)
    order, weights, covariance = laplace(climb.log_posterior, curvature)
    return RotationPosterior(chain, climb.at[order], covariance, weights)


def _drifted(
    posterior: RotationPosterior, seen: Observations, drift_rad: float
) -> RotationPosterior:
    """Widen a posterior by the drift that all counts share."""
    chain, modes, covariance = posterior.chain, posterior.modes, posterior.covariance
    drifted = covariance_left_out(chain, seen, modes, covariance, drift_rad)
    return replace(posterior, covariance=covariance + drifted, drifted=drifted)


def _root(covariance: Array) -> Array:
    """Give a matrix whose square is a covariance that may be singular, shape ``(J, P, P)``."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])


def _gauge(chain: Chain, at: Parameters) -> Array:
    """Project on the turn of both fibres about S3, against each other, shape ``(B, P, P)``."""
    turn = np.zeros((len(at), chain.size))
    turn[:, :3], turn[:, 3:6] = -at.fibre[:, :, 2], at.receiver[:, 2, :]
    projector: Array = 0.5 * turn[:, :, None] * turn[:, None, :]
    return projector


def _chi2(chain: Chain, seen: Observations, climb: Climb[Parameters]) -> tuple[float, float]:
    """Return chi-square per degree of freedom of the best mode, and the degrees of freedom."""
    best = climb.best
    _, _, precision = chain.log_prior(best.at)
    fitted = chain.size - np.sum(np.linalg.inv(best.curvature[0]) * precision[0])
    probability = seen.error_probability(chain, best.at)[0]
    return chi2_per_dof(seen.trials, seen.errors, probability, fitted)
