"""Posterior of phase, half-wave voltage and visibility from state-resolved counts.

Exact binomial likelihood. Fisher scoring from a grid of starts finds every mode: with few settings
a half-wave voltage that is off by an alias predicts the same counts, and so does the mirrored
slope. Samples are drawn about the modes and resampled by the exact density, so that nothing need
be Gaussian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from calibration.interferometer import SIZE, Interferometer, Phases, wrapped
from calibration.modes import Climb, ascend, chi2_per_dof, distinct, laplace
from calibration.observations import XX, ZZ, Observations

Array = NDArray[np.float64]

PHASE_STARTS = 10
SCALE_SIGMAS = 2.5
SCALE_STEP_RAD = 0.7
"""Largest phase between neighbouring starts at the ends of the range that was measured."""

MOST_SCALES = 41
SCREENING_STEPS = 6
KEPT_STARTS = 30
FINAL_STEPS = 30
LARGEST_STEP_RAD = 1.0
LARGEST_LOG_STEP = 1.5
MOST_MODES = 12
PROBES = 25

CIRCLE_PRECISION = 3 / np.pi**2
"""Inverse variance of a phase that may be anything."""

PROPOSALS = 2048
TAIL = 5.0
"""Degrees of freedom of the proposals: heavy tails, for what a mode's curvature does not show."""

WRAPS = 3

LEAST_WEIGHT = 1e-3
"""Weight up to which a mode no longer counts when it is asked whether the phase rises or falls."""

MISFIT_RATIO = 1.6
FIRST_MISFIT = 0.01
MISFIT_GROWTH = 1.5
LARGEST_MISFIT = 0.5


@dataclass(frozen=True)
class PhasePosterior:
    """What the counts say about the interferometer.

    Attributes:
        model: The model and the prior beliefs.
        modes: Modes, best first, a batch of J.
        covariance: Inverse curvature at each, shape ``(J, 3, 3)``.
        weights: Probability of each mode, shape ``(J,)``.
        z_errors: Errors and counts of the basis that does not see the phase; zeros where all do.
        chi2_per_dof: Misfit of the best mode; near 1 if the model fits.
        misfit: Phase error assumed per half turn between settings, rad; 0 if the model fits.
        photons: Counts that see the phase.
        sifted_share: Share of the sifted counts whose errors see the phase.
        seen: Counts behind it; None once restored from storage.
    """

    model: Interferometer
    modes: Phases
    covariance: Array
    weights: Array
    z_errors: tuple[float, float] = (0.0, 0.0)
    chi2_per_dof: float = np.nan
    misfit: float = 0.0
    photons: int = 0
    sifted_share: float = 1.0
    seen: Observations | None = None

    def samples(self, rng: np.random.Generator, count: int) -> Phases:
        """Draw from the posterior, a batch of ``count``.

        Proposals come from Student distributions about the modes; they are resampled by the exact
        density over that of the proposals (not after :meth:`from_dict`, when the counts are not
        there: the proposals are then taken as they are).
        """
        drawn = count if self.seen is None else max(PROPOSALS, 2 * count)
        chosen = rng.choice(len(self.weights), size=drawn, p=self.weights)
        root: Array = np.linalg.cholesky(self.covariance).astype(np.float64, copy=False)
        normal = rng.normal(size=(drawn, SIZE, 1))
        if self.seen is not None:
            normal *= np.sqrt(TAIL / rng.chisquare(TAIL, size=(drawn, 1, 1)))
        proposed = self.model.step(self.modes[chosen], (root[chosen] @ normal)[..., 0])
        if self.seen is None:
            return proposed
        log_weight = log_posterior(self.model, self.seen, proposed)
        log_weight -= _log_proposal(self.modes, root, self.weights, proposed)
        weight = np.cumsum(np.exp(log_weight - log_weight.max()))
        comb = (rng.random() + np.arange(count)) / count * weight[-1]
        index = rng.permutation(np.minimum(np.searchsorted(weight, comb), drawn - 1))
        return proposed[index]

    @property
    def floor_elsewhere(self) -> float:
        """Error probability in the basis that does not see the phase."""
        errors, trials = self.z_errors
        expected, strength = self.model.floor, 1 / self.model.floor
        return (errors + expected * strength) / (trials + strength)

    def interferometer_prior(self, *, widening: float = 1.5) -> Interferometer:
        """Turn what was learnt of the device into beliefs for another phase.

        Args:
            widening: Factor on the standard deviations, for what changes in between.
        """
        spread = widening * np.sqrt(np.diagonal(self.covariance[0]))
        return replace(
            self.model,
            scale=float(self.modes.scale[0]),
            scale_sigma=float(min(spread[1], self.model.scale_sigma)),
            floor=float(np.clip(self.modes.floor[0], 1e-6, 0.49)),
            floor_log_sigma=float(min(spread[2], self.model.floor_log_sigma)),
            sign=self.slope,
        )

    @property
    def slope(self) -> int:
        """1 where the phase rises with the drive, -1 where it falls, 0 where that is not known."""
        likely = self.modes.sign[self.weights > LEAST_WEIGHT]
        if self.model.encoding == "time-bin" or np.any(likely != likely[0]):
            return self.model.sign
        return int(likely[0])

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-able description, for storing; :meth:`from_dict` restores it."""
        return {
            "kind": "phase",
            "model": self.model.to_dict(),
            "modes": self.modes.to_dict(),
            "covariance": self.covariance.tolist(),
            "weights": self.weights.tolist(),
            "z_errors": list(self.z_errors),
            "chi2_per_dof": self.chi2_per_dof,
            "misfit": self.misfit,
            "photons": self.photons,
            "sifted_share": self.sifted_share,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PhasePosterior:
        """Restore what :meth:`to_dict` gave.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed, or this is the posterior of something else.
        """
        if stored.get("kind") != "phase":
            raise ValueError("malformed posterior: not one of a phase")
        try:
            errors, trials = stored["z_errors"]
            restored = cls(
                model=Interferometer.from_dict(stored["model"]),
                modes=Phases.from_dict(stored["modes"]),
                covariance=np.asarray(stored["covariance"], dtype=float),
                weights=np.asarray(stored["weights"], dtype=float),
                z_errors=(float(errors), float(trials)),
                chi2_per_dof=float(stored["chi2_per_dof"]),
                misfit=float(stored["misfit"]),
                photons=int(stored["photons"]),
                sifted_share=float(stored["sifted_share"]),
            )
        except (AttributeError, TypeError) as exc:
            raise ValueError(f"malformed posterior: {exc}") from exc
        modes = len(restored.weights)
        fits = {value.shape for value in vars(restored.modes).values()} == {(modes,)}
        if not fits or restored.covariance.shape != (modes, SIZE, SIZE) or modes == 0:
            raise ValueError("malformed posterior: arrays of shapes that do not fit together")
        if np.any(restored.weights < 0) or not np.isclose(restored.weights.sum(), 1):
            raise ValueError("malformed posterior: weights that are no probabilities")
        return restored


def log_posterior(model: Interferometer, seen: Observations, at: Phases) -> Array:
    """Evaluate the log posterior density up to a constant, shape ``(B,)``."""
    trials, errors = _counts(model, seen)
    probability = model.error_probability(at, seen.drives[:, 0])
    terms = errors * np.log(probability) + (trials - errors) * np.log1p(-probability)
    return np.asarray(terms.sum(axis=(1, 2)) + model.log_prior(at)[0])


def fit(
    model: Interferometer,
    seen: Observations,
    *,
    span: tuple[float, float],
    previous: PhasePosterior | None = None,
    drift_rad: float = 0.0,
    reference: float | None = None,
) -> PhasePosterior:
    """Find the posterior.

    Where the model does not fit, settings are trusted less the farther they lie from the one that
    matters, by the smallest phase error per half turn that explains the counts.

    Args:
        model: The model and its prior.
        seen: All counts so far; one drive per setting.
        span: Lowest and highest drive; modes that predict the same there are one mode.
        previous: Posterior before the newest setting: its modes are starts as well.
        drift_rad: Drift of the phase in one second, rad; older counts weigh less.
        reference: Setting that matters; without it the model is taken as exact.
    """
    tilt = 0.25 * drift_rad**2 * seen.age_s
    current = seen.aged(drift_rad)
    climb = _search(model, current, span, previous)
    ratio, freedom = _chi2(model, current, climb)
    misfit, reduced = 0.0, ratio
    if reference is not None:
        distance = np.abs(seen.drives[:, 0] - reference) / model.half_wave
        limit = max(MISFIT_RATIO, 1 + 3 * np.sqrt(2 / freedom))  # chance exceeds it in 0.1 %
        while reduced > limit and misfit < LARGEST_MISFIT:
            misfit = max(FIRST_MISFIT, misfit * MISFIT_GROWTH)
            current = seen.weakened(tilt + (misfit * distance) ** 2)
            climb = _begin(model, current, climb.at)
            _climb(model, current, climb, FINAL_STEPS)
            reduced, _ = _chi2(model, current, climb)
    return replace(
        _laplace(model, climb),
        z_errors=_elsewhere(model, seen),
        chi2_per_dof=ratio,
        misfit=misfit,
        photons=round(float(_counts(model, seen)[0].sum())),
        sifted_share=_sifted_share(model, seen),
        seen=current,
    )


def _counts(model: Interferometer, seen: Observations) -> tuple[Array, Array]:
    """Return counts and errors of the binomials that see the phase, shape ``(M, R)``."""
    rows = list(model.rows)
    return seen.trials[:, rows], seen.errors[:, rows]


def _elsewhere(model: Interferometer, seen: Observations) -> tuple[float, float]:
    """Return errors and counts of the matched basis that does not see the phase."""
    if 0 in model.rows:
        return 0.0, 0.0
    return float(seen.errors[:, ZZ].sum()), float(seen.trials[:, ZZ].sum())


def _sifted_share(model: Interferometer, seen: Observations) -> float:
    """Return the share of the sifted counts whose errors see the phase."""
    sifted = seen.trials.sum(axis=0)[[ZZ, XX]]
    if 0 in model.rows or sifted.sum() == 0:
        return 1.0
    return float(sifted[1] / sifted.sum())


def _begin(model: Interferometer, seen: Observations, at: Phases) -> Climb[Phases]:
    """Evaluate log posterior, gradient and curvature (Fisher information and prior)."""
    trials, errors = _counts(model, seen)
    probability, slope = model.linearise(at, seen.drives[:, 0])
    correct = trials - errors
    fit_ = errors * np.log(probability) + correct * np.log1p(-probability)
    log_prior, pull, precision = model.log_prior(at)
    variance = probability * (1 - probability)
    flat = slope.reshape(len(at), -1, SIZE)
    score = ((errors - trials * probability) / variance).reshape(len(at), 1, -1)
    weight = (trials / variance).reshape(len(at), -1, 1)
    curvature = np.swapaxes(flat, -1, -2) @ (flat * weight) + np.diag(precision)
    curvature[:, 0, 0] += CIRCLE_PRECISION
    return Climb(
        at=at,
        log_posterior=fit_.sum(axis=(1, 2)) + log_prior,
        gradient=(score @ flat)[:, 0] + pull,
        curvature=curvature,
        damping=np.full(len(at), 1e-2),
    )


def _climb(model: Interferometer, seen: Observations, climb: Climb[Phases], steps: int) -> None:
    reach = max(float(np.abs(model.lever(seen.drives[:, 0])).max(initial=0.0)), 1.0)
    largest = np.array([LARGEST_STEP_RAD, LARGEST_STEP_RAD / reach, LARGEST_LOG_STEP])

    def step(at: Phases, tangent: Array) -> Phases:
        share = np.maximum(1, np.abs(tangent / largest).max(axis=-1, keepdims=True))
        return model.step(at, tangent / share)

    ascend(climb, partial(_begin, model, seen), step, steps)


def _search(
    model: Interferometer,
    seen: Observations,
    span: tuple[float, float],
    previous: PhasePosterior | None,
) -> Climb[Phases]:
    """Climb from a grid of starts and keep the distinct modes, best first."""
    climb = _begin(model, seen, _starts(model, seen))
    _climb(model, seen, climb, SCREENING_STEPS)
    climb = climb.keep(np.argsort(-climb.log_posterior)[:KEPT_STARTS])
    if previous is not None:
        climb = _begin(model, seen, Phases.concatenate([climb.at, previous.modes]))
    _climb(model, seen, climb, FINAL_STEPS)
    probes = np.linspace(*span, PROBES)
    return distinct(
        climb, lambda at: model.error_probability(at, probes).reshape(len(at), -1), MOST_MODES
    )


def _starts(model: Interferometer, seen: Observations) -> Phases:
    """Spread starts over all phases, and over the scales that the settings could tell apart."""
    reach = float(np.abs(model.lever(seen.drives[:, 0])).max(initial=0.0))
    width = SCALE_SIGMAS * model.scale_sigma
    count = int(np.clip(1 + 2 * np.ceil(width * reach / SCALE_STEP_RAD), 3, MOST_SCALES))
    phase, scale, sign = np.meshgrid(
        2 * np.pi / PHASE_STARTS * np.arange(PHASE_STARTS),
        np.maximum(model.scale + np.linspace(-width, width, count), -0.8),
        np.array(model.signs, dtype=float),
    )
    floor = np.full(phase.size, np.log(model.floor))
    return Phases(phase.ravel(), scale.ravel(), floor, sign.ravel())


def _laplace(model: Interferometer, climb: Climb[Phases]) -> PhasePosterior:
    order, weights, covariance = laplace(climb.log_posterior, climb.curvature)
    modes = climb.at[order]
    return PhasePosterior(model, replace(modes, phase=wrapped(modes.phase)), covariance, weights)


def _chi2(model: Interferometer, seen: Observations, climb: Climb[Phases]) -> tuple[float, float]:
    """Return chi-square per degree of freedom of the best mode, and the degrees of freedom."""
    best = climb.best
    precision = model.log_prior(best.at)[2] + np.array([CIRCLE_PRECISION, 0, 0])
    fitted = SIZE - np.diagonal(np.linalg.inv(best.curvature[0])) @ precision
    probability = model.error_probability(best.at, seen.drives[:, 0])[0]
    return chi2_per_dof(*_counts(model, seen), probability, fitted)


def _log_proposal(modes: Phases, root: Array, weights: Array, at: Phases) -> Array:
    """Evaluate the log density of the proposals, phases on the circle, shape ``(B,)``."""
    turns = 2 * np.pi * np.arange(-WRAPS, WRAPS + 1)
    total = np.zeros(len(at))
    for mode, factor, weight in zip(range(len(modes)), root, weights, strict=True):
        apart = np.stack(
            [
                wrapped(at.phase - modes.phase[mode]),
                at.scale - modes.scale[mode],
                at.log_floor - modes.log_floor[mode],
            ]
        )
        whitening = np.linalg.inv(factor)
        wound = whitening @ apart  # one turn more shifts it along the first column
        wound = wound[:, None, :] + whitening[:, :1, None] * turns[None, :, None]
        distance = np.sum(wound**2, axis=0)
        constant = gammaln((TAIL + SIZE) / 2) - gammaln(TAIL / 2) - 1.5 * np.log(TAIL * np.pi)
        log_density = constant - np.sum(np.log(np.diagonal(factor)))
        density = np.exp(log_density) * np.sum(
            (1 + distance / TAIL) ** (-(TAIL + SIZE) / 2), axis=0
        )
        total += np.where(at.sign == modes.sign[mode], weight * density, 0.0)
    return np.asarray(np.log(np.maximum(total, 1e-300)))
