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

A receiver that shows no more than a QBER tells what that is made of, in place of ``clicks``:

        trial.set_user_attr("errors", errors)  # of both bases together, or [of Z, of X]
        trial.set_user_attr("sifted", sifted)
        trial.set_user_attr("photons", photons)  # detections that it took, all counted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from calibration import design, recollection
from calibration.advice import AdvisingSampler, ModelAdvice, StopWhenWithin
from calibration.chain import Chain
from calibration.inversion import BOTH_ALIKE, EVERY, NOTHING, Inverted
from calibration.model_sampler import Belief
from calibration.observations import Observations
from calibration.parameters import Prior, TangentPrior
from calibration.posterior import RotationPosterior
from calibration.recollection import Recollection
from calibration.retarders import DEFAULT_AZIMUTH_DEG, RetarderChain, prior_of_widths
from calibration.trial_counts import observe

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]

FIRST_SETTINGS = 3
GROWTH = 0.35
"""Photons of the next setting as a share of all before: settings grow as a logarithm only. Less by
the square root where a setting tells fewer than four numbers: then more settings are needed."""

PAUSE_S = 600.0
"""Time between two trials, of a fibre that drifts, from which what came before is summed up."""

FRESH_START_EVERY = 32
"""Complete trials after which the search for modes starts anew, so that resuming is bounded: not
where fewer than four numbers are told of a setting, since the mode of many such is too narrow to be
found but by following it from the first few."""

_FITTING, _DESIGNING, _JUDGING = 1, 2, 3


@dataclass(frozen=True)
class Advice(ModelAdvice):
    """What the counts so far recommend; ``RotationPosterior.from_dict`` restores the posterior.

    Attributes:
        reachable: Excess that the drives' limits leave at the best setting, wherever that is.
        inverted: Bases, of "Z" and "X", whose bits have to be inverted for that QBER; only with
            ``may_invert``. The posterior describes the link with these bits inverted.
    """

    reachable: float
    inverted: Inverted = NOTHING

    def is_out_of_reach(self, target_excess: float) -> bool:
        """Tell whether a target is missed although the excess is known well.

        Limits of the drives, or wave plates of the wrong retardance, can keep a controller from
        undoing a fibre; further measurements do not help.
        """
        is_known = self.excess_q90 - self.excess_q10 < 0.5 * target_excess
        is_best = self.excess_mean - self.reachable < 0.5 * target_excess
        return self.reachable > 0.5 * target_excess and is_known and is_best


@dataclass(frozen=True)
class _Belief(Belief):
    model: int
    is_recalled: bool
    posterior: RotationPosterior
    best: design.Recommendation


@dataclass(frozen=True)
class _Session:
    """The trials since the last long pause.

    Attributes:
        models: The controller under what was known before, strictest belief first.
        seen: Counts of these trials.
        numbers: Their numbers.
    """

    models: tuple[Chain, ...]
    seen: Observations
    numbers: tuple[int, ...]


class RotationSampler(AdvisingSampler):
    """Suggests drives of a polarization controller, and how many photons to count there.

    A trial's counts go into its user attributes (see :mod:`calibration.trial_counts`): ``clicks``,
    or ``sifted`` and ``errors`` of Z and X or of both together; and into ``photons``, where some
    detections are not told, how many there were. The value told is for the record only.
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
        recalled: What an earlier alignment with the same controller learnt, fibres included. While
            counts agree with it, every setting is designed, the first one too.
        learnt: Beliefs about the controller from its own past, such as
            :func:`~calibration.experience.pooled_prior`; given up once counts refute them.
        first_photons: Detections at each of the first settings. About half of what arrives while a
            setting settles makes neither dominate.
        most_photons: Detections at any setting, at most.
        drift_rad: Drift of the fibre per axis in one second, rad; trials then need ``time_s``.
        start: Setting to measure first; by default the middle of all ranges, or a designed one if
            there is something to recall.
        z_share: Share of the sifted counts that are of basis Z, where trials tell both together.
        may_invert: Whether the bits of a basis may be inverted in software, so that a setting is as
            good where all bits of Z, X or both are wrong. Trials tell counts that are not inverted.
        seed: Fixes all suggestions.

    Raises:
        ValueError: The space is not of that kind, or an argument is out of range.
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
        recalled: Recollection | None = None,
        learnt: Prior | None = None,
        first_photons: int = 100,
        most_photons: int = 20_000,
        drift_rad: float = 0.0,
        start: Mapping[str, float] | None = None,
        z_share: float = 0.5,
        may_invert: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
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
        if not 0 < z_share < 1:
            raise ValueError(f"z_share is {z_share}, but must lie between 0 and 1")
        chain = chain if prior is None else chain.with_prior(prior)
        if len(self._knobs) != chain.channels:
            raise ValueError(f"{len(self._knobs)} channels for {chain.channels} retarders")
        self._learnt = learnt
        self._models = recollection.models(chain, recalled, learnt)
        self._first_photons, self._most_photons = first_photons, most_photons
        self._drift_rad, self._z_share, self._may_invert = drift_rad, z_share, may_invert
        self._start = None if start is None else np.array([start[name] for name in self._knobs])
        self._belief: _Belief | None = None
        self._summed_up: tuple[tuple[str, tuple[int, ...]], tuple[Chain, ...]] = (("", ()), ())

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest where to measure next and how many photons to count.

        Raises:
            ValueError: A complete trial lacks its counts or a drive.
        """
        rng = np.random.default_rng([self._seed, _DESIGNING, trial.number])
        seen = self._observe(study).seen
        photons = self._next_photons(seen)
        belief = self._believe(study)
        if trial.number == 0 and self._start is not None:
            setting = self._start
        elif belief is not None and (len(seen) >= FIRST_SETTINGS or belief.is_recalled):
            setting = design.next_setting(
                belief.posterior,
                belief.best,
                rng,
                self._span,
                photons * seen.shares,
                seen.reading,
            )
        elif trial.number == 0:
            setting = self._span.mean(axis=0)
        else:
            setting = design.first_setting(
                self._models[-1],
                seen.drives,
                rng,
                self._span,
                photons * seen.shares,
                seen.reading,
            )
        return self._suggestion(setting, photons)

    @property
    def settings_to_claim(self) -> int:
        """Settings after which the advice's claims mean something."""
        return FIRST_SETTINGS

    def advice(self, study: Study) -> Advice:
        """Recommend a setting from all complete trials; the next suggestion shares the work.

        Raises:
            ValueError: There is no complete trial with counts, or one is malformed.
        """
        belief = self._informed(study)
        return self._advice(belief, belief.best)

    def advice_on(
        self, study: Study, setting: Mapping[str, float], inverted: Inverted = NOTHING
    ) -> Advice:
        """Tell what all complete trials say of a setting, whatever they recommend.

        Args:
            study: The study.
            setting: Value of every drive, by name.
            inverted: Bases whose bits are inverted there.

        Raises:
            ValueError: There is no complete trial with counts, or one is malformed.
        """
        belief = self._informed(study)
        rng = np.random.default_rng([self._seed, _JUDGING, len(belief.numbers)])
        drives = np.array([setting[name] for name in self._knobs])
        best = design.expected_at(belief.posterior, belief.best, rng, drives, inverted)
        return self._advice(belief, best)

    def _informed(self, study: Study) -> _Belief:
        belief = self._believe(study)
        if belief is None or not belief.numbers:
            raise ValueError("no complete trial with counts yet")
        return belief

    def _advice(self, belief: _Belief, best: design.Recommendation) -> Advice:
        posterior = belief.posterior
        floor, mean = float(best.floor.mean()), float(best.excess.mean())
        return Advice(
            setting=self.named(best.setting),
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
            posterior=posterior.inverted(best.inverted).to_dict(),
            inverted=best.inverted,
        )

    def _observe(self, study: Study) -> _Session:
        """Collect the counts of the complete trials that saw light since the last long pause."""
        seen, numbers = observe(
            study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)),
            tuple(self._knobs),
            z_share=self._z_share,
            is_dated=self._drift_rad != 0,
        )
        begins = (1 + np.flatnonzero(-np.diff(seen.age_s) > PAUSE_S)).tolist()
        last = begins[-1] if begins else 0
        models = self._models
        if begins:
            models = self._models_after(study.study_name, seen, numbers, begins)
        return _Session(models, seen.part(slice(last, None)), numbers[last:])

    def _models_after(
        self,
        study_name: str,
        seen: Observations,
        numbers: tuple[int, ...],
        begins: Sequence[int],
    ) -> tuple[Chain, ...]:
        """Sum up what was measured before the last pause.

        In a pause the fibre turns for all counts before it alike: as so many independent errors of
        the settings they would claim too much. Together with what was known of the controller they
        are a recollection.
        """
        past = study_name, numbers[: begins[-1]]
        if past != self._summed_up[0]:
            models = self._models
            for first, end in zip((0, *begins), begins, strict=False):
                rng = np.random.default_rng([self._seed, _FITTING, end])
                then = seen.part(slice(first, end))
                _, posterior = recollection.fit_believed(
                    models, then, rng, span=self._span, drift_rad=self._drift_rad
                )
                paused_s = float(seen.age_s[end - 1] - seen.age_s[end])
                recalled = Recollection(posterior, paused_s, self._drift_rad)
                if recalled.is_usable:
                    models = recollection.models(self._models[-1], recalled, self._learnt)
            self._summed_up = past, models
        return self._summed_up[1]

    def _believe(self, study: Study) -> _Belief | None:
        """Bring the belief up to date, trial by trial, as an uninterrupted run would have."""
        session = self._observe(study)
        numbers = session.numbers
        belief = self._belief
        if belief is not None and not belief.is_part_of(study, numbers):
            belief = None
        if not numbers and belief is None and isinstance(session.models[0].prior, TangentPrior):
            belief = self._update(study.study_name, session, 0, None)
        done = len(belief.numbers) if belief is not None else 0
        every = FRESH_START_EVERY if len(session.seen.reading) >= 4 else len(numbers) + 1
        fresh = max(len(numbers) // every * every, FIRST_SETTINGS)
        for count in range(max(min(fresh, len(numbers)), done + 1), len(numbers) + 1):
            anew = count <= FIRST_SETTINGS or count % every == 0
            former = None if anew else belief
            belief = self._update(study.study_name, session, count, former)
        self._belief = belief
        return belief

    def _update(
        self, study_name: str, session: _Session, count: int, former: _Belief | None
    ) -> _Belief:
        numbers, models = session.numbers[:count], session.models
        rng = np.random.default_rng([self._seed, _FITTING, count])
        then = session.seen.part(slice(count))
        previous_setting = former.best.setting if former is not None else None
        model, posterior = recollection.fit_believed(
            models[former.model :] if former is not None else models,
            then,
            rng,
            span=self._span,
            previous=former.posterior if former is not None else None,
            drift_rad=self._drift_rad,
            reference=previous_setting,
        )
        model += former.model if former is not None else 0
        targets = self._targets(then)
        best = design.recommend(posterior, rng, self._span, previous_setting, targets)
        is_recalled = isinstance(models[model].prior, TangentPrior)
        return _Belief(study_name, numbers, model, is_recalled, posterior, best)

    def _targets(self, seen: Observations) -> tuple[Inverted, ...]:
        if not self._may_invert:
            return (NOTHING,)
        return BOTH_ALIKE if seen.hides_turns else EVERY

    def _next_photons(self, seen: Observations) -> int:
        growth = GROWTH * np.sqrt(min(len(seen.reading) / 4, 1))
        wanted = np.clip(growth * seen.cost, self._first_photons, self._most_photons)
        return self._allowed(float(wanted))


StopWhenAligned = StopWhenWithin
"""Optuna callback that ends ``study.optimize`` once the advice is good enough."""
