"""Optuna sampler that aligns polarization with a physical model of the controller.

Black-box search pays for every comparison of two settings; this sampler instead estimates the two
unknown fibres and the controller's errors from all counts so far, and measures where the next
counts tell most. It needs nothing of qkdctl but this package: drives go out, counts come back.

    space = {f"v{k}": FloatDistribution(-5, 5) for k in range(1, 5)}
    space["n_photons"] = IntDistribution(100, 20_000, log=True)
    sampler = RotationSampler(space, half_wave_v=2.5, seed=1)
    study = optuna.create_study(sampler=sampler)

    def objective(trial):
        voltages = [trial.suggest_float(f"v{k}", -5, 5) for k in range(1, 5)]
        photons = trial.suggest_int("n_photons", 100, 20_000, log=True)
        clicks = count(voltages, photons)  # 4 x 4: sent state by detector, both H, V, D, A
        trial.set_user_attr("clicks", clicks)
        return qber(clicks)

    study.optimize(objective, n_trials=30, callbacks=[StopWhenAligned(sampler, 0.002)])
    print(sampler.advice(study).setting)  # not study.best_trial: that is the luckiest, not the best
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from calibration import design
from calibration.chain import Chain
from calibration.clicks import Clicks
from calibration.parameters import Prior
from calibration.posterior import Observations, RotationPosterior, fit
from calibration.retarders import DEFAULT_AZIMUTH_DEG, RetarderChain, prior_of_widths

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]

CLICKS_ATTRIBUTE = "clicks"
"""User attribute of a complete trial: counts, 4 x 4, sent state by detector (H, V, D, A)."""

TIME_ATTRIBUTE = "time_s"
"""User attribute of a trial, needed only with a drift: when it was measured, s, any clock."""

FIRST_SETTINGS = 3
GROWTH = 0.3
"""Photons of the next setting as a share of all before: settings grow as a logarithm only."""

FRESH_START_EVERY = 32
"""Complete trials after which the search for modes starts anew, so that resuming is bounded."""

_FITTING, _DESIGNING = 1, 2


@dataclass(frozen=True)
class Advice:
    """What the counts so far recommend, and how good it is expected to be.

    Attributes:
        setting: Drive of each channel: voltages of squeezers, angles of wave plates.
        predicted_qber: Expected QBER there, mean of both bases, 0 to 1.
        floor: Expected QBER at perfect alignment.
        excess_mean: Expected QBER above the floor.
        excess_q90: Bound on it that holds with a probability of 90 %, if the model fits.
        excess_q10: The excess is above this with a probability of 90 %.
        reachable: Excess that the drives' limits leave at the best setting, wherever that is.
        photons: Detections that this rests on.
        settings: Settings measured.
        modes: Explanations of the counts that still compete.
        chi2_per_dof: Misfit of the model; near 1 if it fits, and no claim is worth much above 4.
        misfit: Angle error per half turn assumed to explain a misfit, rad; 0 if the model fits.
        posterior: All that is known, JSON-able; ``RotationPosterior.from_dict`` restores it.
    """

    setting: dict[str, float]
    predicted_qber: float
    floor: float
    excess_mean: float
    excess_q90: float
    excess_q10: float
    reachable: float
    photons: int
    settings: int
    modes: int
    chi2_per_dof: float
    misfit: float
    posterior: dict[str, Any]

    def is_within(self, target_excess: float) -> bool:
        """Tell whether the excess is below a target with a probability of 90 %."""
        return self.excess_q90 < target_excess

    def is_out_of_reach(self, target_excess: float) -> bool:
        """Tell whether a target is missed although the excess is known well.

        Limits of the drives, or wave plates of the wrong retardance, can keep a controller from
        undoing a fibre; further measurements do not help.
        """
        is_known = self.excess_q90 - self.excess_q10 < 0.5 * target_excess
        is_best = self.excess_mean - self.reachable < 0.5 * target_excess
        return self.reachable > 0.5 * target_excess and is_known and is_best


@dataclass(frozen=True)
class _Belief:
    """What is known after some trials; never changed, so that threads may share it."""

    study_name: str
    numbers: tuple[int, ...]
    posterior: RotationPosterior
    best: design.Recommendation

    def is_part_of(self, study: Study, numbers: tuple[int, ...]) -> bool:
        """Tell whether a study only went on since."""
        known = numbers[: len(self.numbers)] == self.numbers
        return known and self.study_name == study.study_name


class RotationSampler(BaseSampler):
    """Suggests drives of a polarization controller, and how many photons to count there.

    A trial's counts go into its user attribute ``clicks``; the value told is for the record only.
    Failed trials are ignored. Everything is worked out from the study's complete trials: a new
    sampler on an old study goes on exactly where the former one stopped.

    Args:
        space: One ``FloatDistribution`` per channel, in the order in which light passes them, and
            optionally one ``IntDistribution``: detections to collect.
        half_wave_v: Nominal half-wave voltage of squeezers, one for all or one per channel, V.
        chain: Model of a controller of another kind, such as ``WavePlateChain``; it replaces
            ``half_wave_v`` and everything up to ``prior``.
        azimuth_deg: Nominal Stokes azimuth of each retarder's axis, degrees.
        scale_sigma: Relative uncertainty of the half-wave voltages; 0.15 if not characterised.
        azimuth_sigma_deg: Uncertainty of the azimuths, Stokes degrees; 20 if not characterised.
        floor: QBER to expect at perfect alignment, 0 to 0.5.
        floor_log_sigma: Uncertainty of its natural logarithm.
        prior: Beliefs about the controller that replace those, for instance
            ``RotationPosterior.controller_prior()`` of an earlier alignment.
        first_photons: Detections at each of the first settings. About half of what arrives while a
            setting settles makes neither dominate.
        most_photons: Detections at any setting, at most.
        drift_rad: Drift of the fibre per axis in one second, rad; trials then need ``time_s``.
        start: Setting to measure first; by default the middle of all ranges.
        seed: Fixes all suggestions.

    Raises:
        ValueError: The space is not of that kind.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        *,
        half_wave_v: ArrayLike | None = None,
        chain: Chain | None = None,
        azimuth_deg: Sequence[float] = DEFAULT_AZIMUTH_DEG,
        scale_sigma: float = 0.06,
        azimuth_sigma_deg: float = 6.0,
        floor: float = 0.008,
        floor_log_sigma: float = 0.6,
        prior: Prior | None = None,
        first_photons: int = 100,
        most_photons: int = 20_000,
        drift_rad: float = 0.0,
        start: Mapping[str, float] | None = None,
        seed: int | None = None,
    ) -> None:
        self._space = dict(space)
        self._drives, self._dwell = _split(self._space)
        self._span = np.array(
            [[d.low for d in self._drives.values()], [d.high for d in self._drives.values()]]
        )
        if (chain is None) == (half_wave_v is None):
            raise ValueError("give either half_wave_v or the chain that models the controller")
        if chain is None:
            widths = prior_of_widths(
                len(azimuth_deg),
                scale=scale_sigma,
                azimuth_deg=azimuth_sigma_deg,
                floor=floor,
                floor_log_sigma=floor_log_sigma,
            )
            chain = RetarderChain.nominal(
                np.asarray(half_wave_v),
                azimuth_deg=azimuth_deg,
                centre_v=self._span.mean(axis=0),
                prior=widths,
            )
        self._chain = chain if prior is None else chain.with_prior(prior)
        if len(self._drives) != self._chain.channels:
            raise ValueError(f"{len(self._drives)} channels for {self._chain.channels} retarders")
        self._first_photons, self._most_photons = first_photons, most_photons
        self._drift_rad = drift_rad
        self._start = self._span.mean(axis=0)
        if start is not None:
            self._start = np.array([start[name] for name in self._drives])
        entropy = np.random.SeedSequence(seed).entropy
        self._seed = entropy if isinstance(entropy, int) else 0
        self._independent = RandomSampler(seed=seed)
        self._belief: _Belief | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Give the space that the sampler was made for."""
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest where to measure next and how many photons to count.

        Raises:
            ValueError: A complete trial lacks its counts or a drive.
        """
        rng = np.random.default_rng([self._seed, _DESIGNING, trial.number])
        seen, _ = self._observe(study)
        photons = self._next_photons(float(seen.trials.sum()))
        belief = self._believe(study)
        if len(seen) >= FIRST_SETTINGS and belief is not None:
            setting = design.next_setting(
                belief.posterior, belief.best, rng, self._span, photons * seen.shares
            )
        elif trial.number == 0:
            setting = self._start
        else:
            setting = design.first_setting(
                self._chain, seen.drives, rng, self._span, photons * seen.shares
            )
        suggestion: dict[str, Any] = self._named(setting)
        if self._dwell is not None:
            suggestion[self._dwell] = photons
        return suggestion

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Suggest parameters that are not in the sampler's space: at random."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Reseed what suggests foreign parameters; our own numbers come from the trial's number."""
        self._independent.reseed_rng()

    def advice(self, study: Study) -> Advice:
        """Recommend a setting from all complete trials; the next suggestion shares the work.

        Raises:
            ValueError: There is no complete trial with counts, or one is malformed.
        """
        belief = self._believe(study)
        if belief is None:
            raise ValueError("no complete trial with counts yet")
        posterior, best = belief.posterior, belief.best
        floor, mean = float(best.floor.mean()), float(best.excess.mean())
        return Advice(
            setting=self._named(best.setting),
            predicted_qber=floor + mean,
            floor=floor,
            excess_mean=mean,
            excess_q90=float(np.quantile(best.excess, 0.9)),
            excess_q10=float(np.quantile(best.excess, 0.1)),
            reachable=best.reachable,
            photons=posterior.photons,
            settings=len(belief.numbers),
            modes=len(posterior.weights),
            chi2_per_dof=posterior.chi2_per_dof,
            misfit=posterior.misfit,
            posterior=posterior.to_dict(),
        )

    def _observe(self, study: Study) -> tuple[Observations, tuple[int, ...]]:
        """Collect the counts of the complete trials that saw light, and these trials' numbers."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        read = [(trial, *_read(trial, self._drives)) for trial in complete]
        lit = [(trial, values, n, k) for trial, values, n, k in read if n.sum() > 0]
        times = [self._time_s(trial) for trial, *_ in lit]
        shape = (len(lit), 2, 2)
        observations = Observations(
            drives=np.array([v for _, v, _, _ in lit]).reshape(len(lit), len(self._drives)),
            trials=np.array([n for _, _, n, _ in lit], dtype=float).reshape(shape),
            errors=np.array([k for _, _, _, k in lit], dtype=float).reshape(shape),
            age_s=max(times, default=0.0) - np.array(times),
        )
        return observations, tuple(trial.number for trial, *_ in lit)

    def _time_s(self, trial: FrozenTrial) -> float:
        if self._drift_rad == 0:
            return 0.0
        try:
            return float(trial.user_attrs[TIME_ATTRIBUTE])
        except KeyError:
            raise ValueError(f"trial {trial.number} lacks user attribute 'time_s'") from None

    def _believe(self, study: Study) -> _Belief | None:
        """Bring the belief up to date, trial by trial, as an uninterrupted run would have."""
        seen, numbers = self._observe(study)
        if not numbers:
            return None
        belief = self._belief
        if belief is not None and not belief.is_part_of(study, numbers):
            belief = None
        done = len(belief.numbers) if belief is not None else 0
        fresh = max(len(numbers) // FRESH_START_EVERY * FRESH_START_EVERY, FIRST_SETTINGS)
        for count in range(max(min(fresh, len(numbers)), done + 1), len(numbers) + 1):
            anew = count <= FIRST_SETTINGS or count % FRESH_START_EVERY == 0
            former = None if anew else belief
            belief = self._update(study.study_name, seen, numbers[:count], former)
        self._belief = belief
        return belief

    def _update(
        self, study_name: str, seen: Observations, numbers: tuple[int, ...], former: _Belief | None
    ) -> _Belief:
        count = len(numbers)
        rng = np.random.default_rng([self._seed, _FITTING, count])
        newest = seen.age_s[:count].min()
        then = Observations(
            drives=seen.drives[:count],
            trials=seen.trials[:count],
            errors=seen.errors[:count],
            age_s=seen.age_s[:count] - newest,
        )
        posterior = fit(
            self._chain,
            then,
            rng,
            span=self._span,
            previous=former.posterior if former is not None else None,
            drift_rad=self._drift_rad,
            reference=former.best.setting if former is not None else None,
        )
        previous_setting = former.best.setting if former is not None else None
        best = design.recommend(posterior, rng, self._span, previous_setting)
        return _Belief(study_name, numbers, posterior, best)

    def _next_photons(self, photons: float) -> int:
        wanted = np.clip(GROWTH * photons, self._first_photons, self._most_photons)
        if self._dwell is not None:
            allowed = self._space[self._dwell]
            if isinstance(allowed, IntDistribution):
                wanted = np.clip(wanted, allowed.low, allowed.high)
        return round(float(wanted))

    def _named(self, setting: Array) -> dict[str, float]:
        """Round to each channel's resolution and name the channels."""
        named = {}
        for (name, allowed), value in zip(self._drives.items(), setting, strict=True):
            drive = float(value)
            if allowed.step is not None:
                drive = allowed.low + round((drive - allowed.low) / allowed.step) * allowed.step
            named[name] = min(max(drive, allowed.low), allowed.high)
        return named


class StopWhenAligned:
    """Optuna callback that ends ``study.optimize`` once the advice is good enough.

    Args:
        sampler: The study's sampler.
        target_excess: QBER above the floor that must be undercut with a probability of 90 %.
    """

    def __init__(self, sampler: RotationSampler, target_excess: float) -> None:
        self._sampler = sampler
        self._target_excess = target_excess

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Look at the advice after a trial."""
        if trial.state != TrialState.COMPLETE:
            return
        advice = self._sampler.advice(study)
        if advice.settings >= FIRST_SETTINGS and advice.is_within(self._target_excess):
            study.stop()


def _split(
    space: Mapping[str, BaseDistribution],
) -> tuple[dict[str, FloatDistribution], str | None]:
    """Tell drives from the number of photons."""
    drives = {name: d for name, d in space.items() if isinstance(d, FloatDistribution)}
    dwell = [name for name, d in space.items() if isinstance(d, IntDistribution)]
    if len(drives) + len(dwell) != len(space) or len(dwell) > 1:
        raise ValueError("the space must be drives (float) and at most one number of photons")
    if any(d.log for d in drives.values()):
        raise ValueError("drives cannot be on a logarithmic scale")
    return drives, dwell[0] if dwell else None


def _read(
    trial: FrozenTrial, drives: Mapping[str, FloatDistribution]
) -> tuple[list[float], NDArray[np.int64], NDArray[np.int64]]:
    """Read a trial's drives and its four binomials."""
    missing = [name for name in drives if name not in trial.params]
    if missing:
        raise ValueError(f"trial {trial.number} has no value for {', '.join(missing)}")
    if CLICKS_ATTRIBUTE not in trial.user_attrs:
        raise ValueError(f"trial {trial.number} is complete but lacks user attribute 'clicks'")
    clicks = Clicks(np.asarray(trial.user_attrs[CLICKS_ATTRIBUTE], dtype=np.int64))
    n, k = clicks.by_basis()
    return [float(trial.params[name]) for name in drives], n, k
