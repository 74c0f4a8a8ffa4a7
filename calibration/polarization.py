"""The polarization stage: turn what arrives until it meets the receiver's bases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from calibration.bench import Bench
from calibration.coordinate_descent import CoordinateDescentSampler, DescentSearch
from calibration.experience import pooled_prior
from calibration.metering import Progress
from calibration.model_search import N_PHOTONS, PHOTONS_ASKED, AdvisedSearch
from calibration.pauses import Pauses
from calibration.polarization_settings import PolarizationSettings
from calibration.recollection import Recollection
from calibration.sampler import RotationSampler
from calibration.searches import (
    Finding,
    Search,
    SearchBuilder,
    Setting,
    StockSearch,
    cma_es,
)
from calibration.stages import StageResult, StageRun
from calibration.trials import Space, TrialLog

__all__ = ["PolarizationSettings", "PolarizationStage", "Progress", "StageResult"]

STAGE = "polarization"


class ModelSearch(AdvisedSearch[RotationSampler]):
    """The model-based search: estimates both fibres and the controller from all counts."""

    misfit_settings = 9
    whose_reach = "controller"

    def assess(self, study: Study, at: Finding | None = None) -> Finding:
        """Judge by the posterior the best setting, or that of a finding."""
        if at is None:
            advice = self.sampler.advice(study)
        else:
            advice = self.sampler.advice_on(study, at.setting, at.inverted)
        return replace(self.judge(advice), inverted=advice.inverted)


class PolarizationStage:
    """Aligns the polarization with the receiver.

    Args:
        settings: What it turns and may spend.
        seed: Fixes every suggestion.
        drift_rad: Drift of the fibre per axis in one second, rad.
        elapsed_s: Time since the ``warm`` of a run was known, s.
        past: Posteriors of this bench's accepted calibrations, as stored, one each.

    Attributes:
        result: How the latest run ended, also if ``run`` raised; None before.
    """

    def __init__(
        self,
        settings: PolarizationSettings,
        seed: int = 0,
        *,
        drift_rad: float = 0.0,
        elapsed_s: float = 0.0,
        past: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._drift_rad = drift_rad
        self._elapsed_s = elapsed_s
        self._past = past
        self.result: StageResult | None = None

    async def run(
        self,
        bench: Bench,
        log: TrialLog,
        on_progress: Callable[[Progress], None],
        start_setting: Setting,
        *,
        warm: Mapping[str, Any] | None = None,
        study: str = STAGE,
        resume: bool = False,
        pauses: Pauses | None = None,
    ) -> StageResult:
        """Measure, search, verify by a fresh window, compare with before.

        Args:
            bench: Knobs and receiver.
            log: The record of trials.
            on_progress: Told after every window.
            start_setting: Setting in force; put back if the stage does not end well.
            warm: ``posterior`` of an earlier result or of a tracker, which must not rest on trials
                of this study: what it knew of both fibres and of the controller is believed as far
                as the time since allows, and no longer than counts agree with it. Ignored if it is
                of another controller or cannot be read.
            study: Name of the study in the record.
            resume: Whether past trials of that study are fed to the sampler; right at any age if
                the drift is known, else only while the fibre has not turned.
            pauses: What may hold the run up between two windows, or have it end with what it has.

        Raises:
            KeyError: A knob is missing in ``start_setting``.
            asyncio.CancelledError: The run was cancelled; the start setting is in force again, or
                ``result`` says why not.
        """
        self.result = None
        space = self._space(bench)
        start = {
            name: min(max(start_setting[name], allowed.low), allowed.high)
            for name, allowed in space.items()
        }
        run = StageRun(
            STAGE,
            study,
            bench,
            log,
            on_progress,
            start,
            self._settings.rules(),
            seed=self._seed,
            resume=resume,
            pauses=pauses,
        )
        try:
            return await run.run(self._searches(space, warm))
        finally:
            self.result = run.result

    def _space(self, bench: Bench) -> dict[str, FloatDistribution]:
        return {name: FloatDistribution(*bench.limits(name)) for name in self._settings.knobs}

    def _searches(
        self, space: Mapping[str, FloatDistribution], warm: Mapping[str, Any] | None
    ) -> Sequence[SearchBuilder]:
        """Put the searches in the order in which they are tried."""
        period = self._settings.period
        has_room = all(each.high - each.low >= (period or 0.0) for each in space.values())

        def model(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            return self._model(space, warm)

        def descent(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            sampler = CoordinateDescentSampler(
                space, setting, periods=period or 1.0, seed=self._seed
            )
            return DescentSearch(sampler, space, self._settings.target_excess)

        def evolution(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            return self._stock("cma-es", cma_es(self._seed, past), space)

        def tpe(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            return self._stock("tpe", TPESampler(seed=self._seed), space)

        # The descent needs a whole period of a sinusoid, which a rotating wave plate is not.
        rescue = (descent, evolution) if period is not None and has_room else (evolution,)
        return {"model": (model, *rescue), "tpe": (tpe,), "cma-es": (evolution,)}[
            self._settings.sampler
        ]

    def _model(
        self, space: Mapping[str, FloatDistribution], warm: Mapping[str, Any] | None
    ) -> ModelSearch:
        settings = self._settings
        whole: Space = {**space, N_PHOTONS: PHOTONS_ASKED}
        chain = settings.chain([(each.low + each.high) / 2 for each in space.values()])
        sampler = RotationSampler(
            whole,
            chain=chain,
            learnt=pooled_prior(self._past, chain),
            recalled=Recollection.of_stored(warm, chain, self._elapsed_s, self._drift_rad),
            first_photons=settings.first_dwell,
            most_photons=settings.most_dwell,
            drift_rad=self._drift_rad,
            may_invert=settings.may_invert,
            seed=self._seed,
        )
        return ModelSearch(sampler, whole, settings.target_excess)

    def _stock(
        self, name: str, sampler: BaseSampler, space: Mapping[str, FloatDistribution]
    ) -> StockSearch:
        return StockSearch(name, sampler, space, self._settings.photons_per_trial)
