"""Optuna sampler that finds the phase of an interferometer with a physical model of it.

Unlike a search for the least QBER, it estimates the phase, the half-wave voltage and the visibility
from all counts so far, and measures where the next counts tell most: far from the optimum, where
fringes are steep. It needs nothing of qkdctl but this package: voltages go out, counts come back.

    space = {"piezo": FloatDistribution(0, 75), "n_photons": IntDistribution(50, 20_000, log=True)}
    sampler = PhaseSampler(space, half_wave_v=12, encoding="time-bin", seed=1)
    study = optuna.create_study(sampler=sampler)

    def objective(trial):
        voltage_v = trial.suggest_float("piezo", 0, 75)
        photons = trial.suggest_int("n_photons", 50, 20_000, log=True)
        clicks = count(voltage_v, photons)  # 4 x 4: sent state by detector
        trial.set_user_attr("clicks", clicks)
        return qber(clicks)

    study.optimize(objective, n_trials=20, callbacks=[StopWhenInPhase(sampler, 0.002)])
    print(sampler.advice(study).setting)  # not study.best_trial: that is the luckiest, not the best

The states, and the detectors, are in the order H, V, D, A: for ``time-bin`` these are early, late,
phase 0 and phase pi; for ``four-phase`` the phases 0, pi, pi/2 and 3 pi/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from calibration import phase_design
from calibration.advice import AdvisingSampler, ModelAdvice, StopWhenWithin
from calibration.clicks import Clicks
from calibration.interferometer import Encoding, Interferometer
from calibration.model_sampler import Belief
from calibration.observations import Observations
from calibration.phase_posterior import PhasePosterior, fit
from calibration.trial_counts import CLICKS_ATTRIBUTE, drives_of, time_s_of

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]

FIRST_SETTINGS = 2
"""Settings at the start, a quarter of a period apart: together they see cosine and sine."""

SETTINGS_TO_CLAIM: Mapping[Encoding, int] = {"time-bin": 3, "four-phase": 2}
"""Settings after which the counts could have contradicted the model."""

GROWTH = 0.35
"""Photons of the next setting as a share of all before: settings grow as a logarithm only."""


def least_excess(encoding: Encoding, counts: float, visibility: float) -> float:
    """Return the least mean excess that the best design can reach with so many counts.

    Each count carries at most ``V^2`` of Fisher information on the phase where one binomial sees
    it, at half contrast, and ``V^2 / (2 - V^2)`` where sine and cosine are seen alike (45 degrees).
    The excess is ``share V <phase^2> / 4``. An unknown half-wave voltage costs nothing in the end:
    settings on both sides of the optimum leave it out.

    Args:
        encoding: Which counts see the phase.
        counts: Number of counts that see it.
        visibility: Of the interference.

    Returns:
        QBER above the floor, mean of both bases.
    """
    squared = visibility**2
    information = squared if encoding == "time-bin" else squared / (2 - squared)
    share = 0.5 if encoding == "time-bin" else 1.0
    return 0.25 * share * visibility / (counts * information)


_JUDGING = 1
"""Sets the samples behind a judgement apart from those behind a recommendation."""


@dataclass(frozen=True)
class PhaseAdvice(ModelAdvice):
    """What the counts so far recommend; ``PhasePosterior.from_dict`` restores the posterior.

    Attributes:
        excess_bound: Least mean excess that the best design could reach with as many counts.
        half_wave: Drive for a phase of pi, as learnt.
        half_wave_sigma: Its standard deviation.
        visibility: Of the interference, as learnt.
        slope: 1 where the phase rises with the drive, -1 where it falls, 0 where that is not known:
            error counts alone never tell.
    """

    excess_bound: float
    half_wave: float
    half_wave_sigma: float
    visibility: float
    slope: int

    def is_out_of_reach(self, target_excess: float) -> bool:
        """Tell whether a target is missed although the excess is known well."""
        spread = self.excess_q90 - self.excess_q10
        return self.excess_q10 > 0.5 * target_excess and spread < 0.5 * target_excess


@dataclass(frozen=True)
class _Belief(Belief):
    posterior: PhasePosterior
    best: phase_design.PhaseRecommendation


class PhaseSampler(AdvisingSampler):
    """Suggests the drive of an interferometer's phase, and how many photons to count there.

    A trial's counts go into its user attribute ``clicks``; the value told is for the record only.
    Failed trials are ignored. Everything is worked out from the study's complete trials.

    Args:
        space: One ``FloatDistribution``, the drive, and optionally one ``IntDistribution``:
            detections to collect.
        encoding: Which counts see the phase.
        half_wave_v: Nominal change of the drive for a phase of pi.
        scale_sigma: Relative uncertainty of that.
        floor: Error probability to expect at phase zero, 0 to 0.5.
        floor_log_sigma: Uncertainty of its natural logarithm.
        model: Beliefs that replace all those, for instance
            ``PhasePosterior.interferometer_prior()`` of an earlier calibration.
        first_photons: Detections at each of the first settings. About half of what arrives while a
            setting settles makes neither dominate.
        most_photons: Detections at any setting, at most.
        drift_rad: Drift of the phase in one second, rad; trials then need ``time_s``.
        start: Drive to measure first; by default the middle of its range.
        seed: Fixes all suggestions.

    Raises:
        ValueError: The space is not of that kind.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        encoding: Encoding = "time-bin",
        half_wave_v: float | None = None,
        scale_sigma: float = 0.1,
        floor: float = 0.01,
        floor_log_sigma: float = 0.6,
        model: Interferometer | None = None,
        first_photons: int = 100,
        most_photons: int = 20_000,
        drift_rad: float = 0.0,
        start: float | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
        if len(self._knobs) != 1:
            raise ValueError(f"the phase has one drive, but the space has {len(self._knobs)}")
        ((self._name, drive),) = self._knobs.items()
        self._limits = drive.low, drive.high
        middle = sum(self._limits) / 2
        if (model is None) == (half_wave_v is None):
            raise ValueError("give either half_wave_v or the model of the interferometer")
        if model is None:
            model = Interferometer(
                encoding=encoding,
                half_wave=float(half_wave_v or 0.0),
                centre=middle,
                scale_sigma=scale_sigma,
                floor=floor,
                floor_log_sigma=floor_log_sigma,
            )
        self._model = model
        self._first_photons, self._most_photons = first_photons, most_photons
        self._drift_rad = drift_rad
        self._start = middle if start is None else start
        self._belief: _Belief | None = None

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest where to measure next and how many photons to count.

        Raises:
            ValueError: A complete trial lacks its counts or the drive.
        """
        seen, _ = self._observe(study)
        photons = self._next_photons(seen.cost)
        belief = self._believe(study)
        if len(seen) >= FIRST_SETTINGS and belief is not None:
            rows = list(self._model.rows)
            counts = photons * seen.shares[rows]
            drive = phase_design.next_drive(belief.posterior, belief.best, self._limits, counts)
        elif len(seen) == 0:
            drive = self._start
        else:
            drive = self._quarter_away(float(seen.drives[0, 0]))
        return self._suggestion([drive], photons)

    def advice(self, study: Study) -> PhaseAdvice:
        """Recommend a drive from all complete trials; the next suggestion shares the work.

        Raises:
            ValueError: There is no complete trial with counts, or one is malformed.
        """
        belief = self._informed(study)
        return self._advice(belief, belief.best)

    def advice_on(self, study: Study, setting: Mapping[str, float]) -> PhaseAdvice:
        """Tell what all complete trials say of a drive, whatever they recommend.

        Raises:
            ValueError: There is no complete trial with counts, or one is malformed.
        """
        belief = self._informed(study)
        rng = np.random.default_rng([self._seed, len(belief.numbers), _JUDGING])
        drive = setting[self._name]
        return self._advice(
            belief, phase_design.expected_at(belief.posterior, belief.best, rng, drive)
        )

    def _informed(self, study: Study) -> _Belief:
        belief = self._believe(study)
        if belief is None:
            raise ValueError("no complete trial with counts yet")
        return belief

    def _advice(self, belief: _Belief, best: phase_design.PhaseRecommendation) -> PhaseAdvice:
        posterior = belief.posterior
        scale, sigma = posterior.modes.scale[0], np.sqrt(posterior.covariance[0, 1, 1])
        half_wave = self._model.half_wave / (1 + scale)
        share, mean = posterior.sifted_share, float(best.excess.mean())
        floor = share * float(best.floor.mean()) + (1 - share) * posterior.floor_elsewhere
        visibility = float(posterior.modes.visibility[0])
        rows = max(posterior.photons, 1)
        return PhaseAdvice(
            setting=self.named([best.drive]),
            predicted_qber=floor + share / self._model.share_of_bases * mean,
            floor=floor,
            excess_mean=mean,
            excess_q90=float(np.quantile(best.excess, 0.9)),
            excess_q10=float(np.quantile(best.excess, 0.1)),
            excess_bound=least_excess(self._model.encoding, rows, visibility),
            half_wave=float(half_wave),
            half_wave_sigma=float(half_wave * sigma / (1 + scale)),
            visibility=visibility,
            slope=posterior.slope,
            photons=posterior.photons,
            settings=len(belief.numbers),
            modes=len(posterior.weights),
            chi2_per_dof=posterior.chi2_per_dof,
            misfit=posterior.misfit,
            posterior=posterior.to_dict(),
        )

    @property
    def settings_to_claim(self) -> int:
        """Settings after which the advice's claims mean something."""
        return SETTINGS_TO_CLAIM[self._model.encoding]

    def _quarter_away(self, drive: float) -> float:
        """Return a drive a quarter of a period away, on the side with more room."""
        quarter = 0.5 * self._model.half_wave
        side = 1 if drive <= sum(self._limits) / 2 else -1
        return float(np.clip(drive + side * quarter, *self._limits))

    def _observe(self, study: Study) -> tuple[Observations, tuple[int, ...]]:
        """Collect the counts of the complete trials that saw light, and these trials' numbers."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        read = [(trial, *_read(trial, self._name)) for trial in complete]
        lit = [(trial, drive, n, k) for trial, drive, n, k in read if n.sum() > 0]
        times = [time_s_of(trial) if self._drift_rad else 0.0 for trial, *_ in lit]
        shape = (len(lit), 4)
        observations = Observations(
            drives=np.array([drive for _, drive, _, _ in lit], dtype=float).reshape(-1, 1),
            trials=np.array([n for _, _, n, _ in lit], dtype=float).reshape(shape),
            errors=np.array([k for _, _, _, k in lit], dtype=float).reshape(shape),
            age_s=max(times, default=0.0) - np.array(times),
        )
        return observations, tuple(trial.number for trial, *_ in lit)

    def _believe(self, study: Study) -> _Belief | None:
        """Bring the belief up to date; it depends on the trials alone."""
        seen, numbers = self._observe(study)
        if not numbers:
            return None
        belief = self._belief
        if belief is not None and belief.numbers == numbers and belief.is_part_of(study, numbers):
            return belief
        previous = belief if belief is not None and belief.is_part_of(study, numbers) else None
        posterior = fit(
            self._model,
            seen,
            span=self._limits,
            previous=previous.posterior if previous is not None else None,
            drift_rad=self._drift_rad,
            reference=previous.best.drive if previous is not None else None,
        )
        best = phase_design.recommend(
            posterior,
            np.random.default_rng([self._seed, len(numbers)]),
            self._limits,
            previous.best.drive if previous is not None else None,
        )
        self._belief = _Belief(study.study_name, numbers, posterior, best)
        return self._belief

    def _next_photons(self, photons: float) -> int:
        wanted = np.clip(GROWTH * photons, self._first_photons, self._most_photons)
        return self._allowed(float(wanted))


StopWhenInPhase = StopWhenWithin
"""Optuna callback that ends ``study.optimize`` once the advice is good enough."""


def _read(trial: FrozenTrial, name: str) -> tuple[float, NDArray[np.int64], NDArray[np.int64]]:
    """Read a trial's drive and its four binomials."""
    (drive,) = drives_of(trial, (name,))
    if CLICKS_ATTRIBUTE not in trial.user_attrs:
        raise ValueError(f"trial {trial.number} is complete but lacks user attribute 'clicks'")
    clicks = Clicks(np.asarray(trial.user_attrs[CLICKS_ATTRIBUTE], dtype=np.int64))
    n, k = clicks.by_basis()
    return drive, n, k
