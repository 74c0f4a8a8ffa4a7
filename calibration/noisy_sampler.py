"""Optuna sampler for values whose counting noise is known: tunes knobs by a Gaussian process.

A trial says how noisy its value is; settings and exposures are chosen by how much they help the
recommendation, and that is the setting of the highest posterior mean, never the luckiest trial. It
needs nothing of qkdctl but this package, for instance with secret key rates from counts:

    space = {name: FloatDistribution(low, high) for name, (low, high) in ranges.items()}
    space["n_photons"] = IntDistribution(500, 50_000, log=True)
    sampler = NoisySampler(space, start=in_force, seed=1)
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def objective(trial):
        setting = {name: trial.suggest_float(name, *ranges[name]) for name in ranges}
        photons = trial.suggest_int("n_photons", 500, 50_000, log=True)
        rate = measured_key_rate(count(setting, photons), mean_photons)
        trial.set_user_attr("variance", rate.variance)
        return rate.value

    study.optimize(objective, n_trials=60)
    print(sampler.recommendation(study))  # not study.best_trial: that is the luckiest, not the best
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from calibration.model_sampler import Belief, ModelSampler
from calibration.noisy_acquisition import most_informative, recommend
from calibration.noisy_gp import Beliefs, GaussianProcess, Hyper, fit, smooth_noise

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]

VARIANCE_ATTRIBUTE = "variance"
"""User attribute of a complete trial: variance of its value."""

PHOTONS_ATTRIBUTE = "photons"
"""User attribute of a trial: its exposure, where the sampler's space has none."""

EXPOSURES = 6
"""Exposures on offer, evenly in the logarithm."""

BEST_TRIALS = 5
"""Trials by whose noise that of the next one is foretold."""

FRESH_FIT_EVERY = 8
"""Complete trials after which hyperparameters are looked for from the beliefs again, so that
resuming is bounded."""

KNEE = 0.2
"""Share of the best values below which the scale turns from logarithmic to linear."""

WIDENING = 2.0
"""The best of many posterior means is too high, by one to two of its standard deviations on
simulated links; intervals are so much wider than the posterior's."""

INTERVAL_SIGMAS = WIDENING * NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Recommendation:
    """The best setting, as far as is known.

    Attributes:
        setting: Value of each knob.
        value: Expected value there.
        low: Lower end of the interval that holds it with 90 % probability, as measured on
            simulated links.
        high: Upper end.
        trials: Complete trials that this rests on.
    """

    setting: dict[str, float]
    value: float
    low: float
    high: float
    trials: int


@dataclass(frozen=True)
class _Belief(Belief):
    process: GaussianProcess
    best: Array
    knee: float
    variance_per_photon: float


class NoisySampler(ModelSampler):
    """Suggests knob settings, and how long to look, by a Gaussian process that knows the noise.

    A trial's variance goes into its user attribute ``variance``. Failed trials are ignored.
    Everything is worked out from the study's complete trials. Values are compared on a scale that
    is logarithmic well above zero and below (losses multiply), linear about it: zero should mean
    something, such as no key.

    Args:
        space: One ``FloatDistribution`` per knob, at most some ten, and optionally one
            ``IntDistribution``: detections to collect. Its limits are never left.
        start: Setting to measure first; by default the middle of all ranges.
        first_trials: Settings before the model is asked, the start among them.
        first_photons: Detections at each of them.
        setting_photons: Detections that changing the setting is worth.
        beliefs: What is believed of the function.
        seed: Fixes all suggestions.

    Raises:
        ValueError: The space or the start is not of that kind.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        start: Mapping[str, float] | None = None,
        first_trials: int | None = None,
        first_photons: int = 4000,
        setting_photons: int = 20_000,
        beliefs: Beliefs | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
        self._low, high = self._span
        self._range = high - self._low
        if not self._range.all():
            raise ValueError("a knob cannot have a single value")
        self._start = np.full(len(self._knobs), 0.5)
        if start is not None:
            self._start = self._scaled(start)
            if self._start.min() < 0 or self._start.max() > 1:
                raise ValueError("the start is outside of the space")
        self._first_trials = len(self._knobs) + 1 if first_trials is None else first_trials
        self._first_photons, self._setting_photons = first_photons, setting_photons
        self._beliefs = beliefs if beliefs is not None else Beliefs()
        self._belief: _Belief | None = None

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest where to look next, and for how long.

        Raises:
            ValueError: A complete trial lacks its variance or a knob.
        """
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        photons = float(self._first_photons)
        if trial.number == 0:
            point = self._start
        elif trial.number < self._first_trials or not complete:
            point = self._sobol(trial.number)
        else:
            belief = self._believe(study, complete)
            rng = np.random.default_rng([self._seed, trial.number])
            offered = self._exposures()
            point, number = most_informative(
                belief.process,
                belief.best,
                [belief.variance_per_photon / each for each in offered],
                [self._setting_photons + each for each in offered],
                rng,
            )
            photons = offered[number]
        return self._suggestion(self._setting(point), self._allowed(photons))

    def recommendation(self, study: Study) -> Recommendation:
        """Recommend the setting of the best posterior mean; the next suggestion shares the work.

        Raises:
            ValueError: There is no complete trial, or one is malformed.
        """
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        belief = self._believe(study, complete)
        sign = _sign(study)
        (mean,), (sigma,) = belief.process.predict(belief.best[None])
        ends = mean + np.array([0.0, -1.0, 1.0]) * INTERVAL_SIGMAS * sigma
        value, low, high = sign * _expand(ends, belief.knee)
        setting = self.named(self._setting(belief.best))
        low, high = min(low, high), max(low, high)
        return Recommendation(setting, float(value), float(low), float(high), len(complete))

    def _believe(self, study: Study, complete: list[FrozenTrial]) -> _Belief:
        """Bring the belief up to date, trial by trial, as an uninterrupted run would have."""
        numbers = tuple(trial.number for trial in complete)
        belief = self._belief
        if belief is not None and not belief.is_part_of(study, numbers):
            belief = None
        done = 0 if belief is None else len(belief.numbers)
        fresh = max(len(numbers) // FRESH_FIT_EVERY * FRESH_FIT_EVERY, 1)
        for count in range(max(done + 1, fresh), len(numbers) + 1):
            is_anew = belief is None or count % FRESH_FIT_EVERY == 0
            hyper = None if belief is None or is_anew else belief.process.hyper
            belief = self._update(study, complete[:count], hyper)
        if belief is None:
            raise ValueError("no complete trial yet")
        self._belief = belief
        return belief

    def _update(
        self,
        study: Study,
        complete: list[FrozenTrial],
        hyper: Hyper | None,
    ) -> _Belief:
        points = np.array([self._scaled(trial.params) for trial in complete])
        values = _sign(study) * np.array([trial.value for trial in complete])
        photons = np.array([self._photons(trial) for trial in complete])
        variances = np.array([_variance(trial) for trial in complete])
        knee = _knee(values)
        per_photon = variances * photons / (knee + np.abs(values)) ** 2
        if hyper is None:
            hyper = Hyper(self._beliefs.spread(points.shape[1])[0])
        noise = smooth_noise(points, per_photon, hyper.lengths)
        process = fit(
            points, _compress(values, knee), noise / photons, beliefs=self._beliefs, start=hyper
        )
        means, _ = process.predict(points)
        best = recommend(process)
        foretold = float(np.median(noise[np.argsort(-means)[:BEST_TRIALS]]))
        numbers = tuple(trial.number for trial in complete)
        return _Belief(study.study_name, numbers, process, best, knee, foretold)

    def _photons(self, trial: FrozenTrial) -> float:
        if self._dwell is not None:
            return float(trial.params[self._dwell[0]])
        return float(trial.user_attrs.get(PHOTONS_ATTRIBUTE, self._first_photons))

    def _exposures(self) -> list[float]:
        """Return the exposures on offer, in photons."""
        if self._dwell is None:
            return [float(self._first_photons)]
        _, allowed = self._dwell
        return [float(each) for each in np.geomspace(allowed.low, allowed.high, EXPOSURES)]

    def _sobol(self, number: int) -> Array:
        sequence = qmc.Sobol(len(self._knobs), rng=np.random.default_rng(self._seed))
        sequence.fast_forward(number)
        return np.asarray(sequence.random(1)[0])

    def _scaled(self, setting: Mapping[str, Any]) -> Array:
        missing = [name for name in self._knobs if name not in setting]
        if missing:
            raise ValueError(f"a setting has no value for {', '.join(missing)}")
        values = np.array([setting[name] for name in self._knobs])
        return np.asarray((values - self._low) / self._range)

    def _setting(self, point: Array) -> Array:
        """Turn shares of the ranges into values of the knobs, shape ``(K,)``."""
        return np.asarray(self._low + point * self._range)


def _variance(trial: FrozenTrial) -> float:
    variance = trial.user_attrs.get(VARIANCE_ATTRIBUTE)
    if not isinstance(variance, int | float) or not 0 <= variance < np.inf:
        raise ValueError(
            f"trial {trial.number} is complete but its user attribute 'variance' is {variance!r}"
        )
    return float(variance)


def _sign(study: Study) -> float:
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0


def _knee(values: Array) -> float:
    """Return the value at which the scale turns from linear to logarithmic."""
    best = float(np.sort(values)[-3:].mean())
    return KNEE * (best if best > 0 else max(float(np.abs(values).mean()), 1e-300))


def _compress(values: Array, knee: float) -> Array:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values) / knee))


def _expand(values: Array, knee: float) -> Array:
    return np.asarray(np.sign(values) * knee * np.expm1(np.abs(values)))
