"""The phase stage: move an interferometer until Bob's phase meets Alice's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from calibration.bench import Bench
from calibration.coordinate_descent import CoordinateDescentSampler, DescentSearch
from calibration.interferometer import Encoding, Interferometer
from calibration.metering import Progress
from calibration.model_search import N_PHOTONS, PHOTONS_ASKED, AdvisedSearch
from calibration.pauses import Pauses
from calibration.phase_posterior import PhasePosterior
from calibration.phase_sampler import PhaseSampler
from calibration.phase_settings import PhaseSettings
from calibration.searches import Finding, Search, SearchBuilder, Setting, StockSearch
from calibration.stages import StageResult, StageRun
from calibration.trials import Space, TrialLog

__all__ = ["PhaseSettings", "PhaseStage", "Progress", "StageResult"]

STAGE = "phase"

SLOPES = {
    1: ", the phase rises with the voltage",
    -1: ", the phase falls with the voltage",
    0: "",
}
"""What is said of the slope; error counts alone do not tell it."""


class PhaseSearch(AdvisedSearch[PhaseSampler]):
    """The model-based search: estimates phase, half-wave voltage and visibility from all counts."""

    misfit_settings = 5
    whose_reach = "knob"

    def assess(self, study: Study, at: Finding | None = None) -> Finding:
        """Judge by the posterior, and say what was learnt of the device."""
        if at is None:
            advice = self.sampler.advice(study)
        else:
            advice = self.sampler.advice_on(study, at.setting)
        finding = self.judge(advice)
        learnt = (
            f"half-wave voltage {advice.half_wave:.4g} +- {advice.half_wave_sigma:.2g} V, "
            f"visibility {advice.visibility:.3f}{SLOPES[advice.slope]}"
        )
        remark = finding.remark or (learnt if finding.is_final else None)
        return replace(finding, excess_bound=advice.excess_bound, remark=remark)


class PhaseStage:
    """Brings the interferometers of Alice and Bob into phase.

    Args:
        settings: What it turns and may spend.
        encoding: Which counts see the phase.
        seed: Fixes every suggestion.

    Attributes:
        result: How the latest run ended, also if ``run`` raised; None before.
    """

    def __init__(self, settings: PhaseSettings, encoding: Encoding, seed: int = 0) -> None:
        self._settings = settings
        self._encoding = encoding
        self._seed = seed
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
            warm: ``posterior`` of an earlier result: what it knew of half-wave voltage and
                visibility (not of the phase, which has drifted since) becomes the prior. Ignored if
                it is of another device or cannot be read.
            study: Name of the study in the record.
            resume: Whether past trials of that study are fed to the sampler: only right while the
                phase has not drifted, as after a short interruption.
            pauses: What may hold the run up between two windows, or have it end with what it has.

        Raises:
            KeyError: The knob is missing in ``start_setting``.
            asyncio.CancelledError: The run was cancelled; the start setting is in force again, or
                ``result`` says why not.
        """
        self.result = None
        knob = self._settings.knob
        low, high = bench.limits(knob)
        start = {knob: min(max(start_setting[knob], low), high)}
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
            return await run.run(self._searches(FloatDistribution(low, high), warm))
        finally:
            self.result = run.result

    def _searches(
        self, drive: FloatDistribution, warm: Mapping[str, Any] | None
    ) -> Sequence[SearchBuilder]:
        """Put the searches in the order in which they are tried."""
        settings = self._settings
        space = {settings.knob: drive}

        def model(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            return self._model(drive, warm)

        def descent(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            sampler = CoordinateDescentSampler(
                space, setting, periods=2 * settings.half_wave_v, seed=self._seed
            )
            return DescentSearch(sampler, space, settings.target_excess)

        def tpe(setting: Setting, past: Sequence[FrozenTrial]) -> Search:
            sampler = TPESampler(seed=self._seed)
            return StockSearch("tpe", sampler, space, settings.photons_per_trial)

        return {"model": (model, descent, tpe), "descent": (descent, tpe), "tpe": (tpe,)}[
            settings.sampler
        ]

    def _model(self, drive: FloatDistribution, warm: Mapping[str, Any] | None) -> PhaseSearch:
        settings = self._settings
        space: Space = {settings.knob: drive, N_PHOTONS: PHOTONS_ASKED}
        model = settings.interferometer(self._encoding, (drive.low, drive.high))
        sampler = PhaseSampler(
            space,
            model=_informed(model, warm),
            first_photons=settings.first_dwell,
            most_photons=settings.most_dwell,
            seed=self._seed,
        )
        return PhaseSearch(sampler, space, settings.target_excess)


def _informed(model: Interferometer, warm: Mapping[str, Any] | None) -> Interferometer:
    """Add what an earlier calibration knew of the device, where that can be used."""
    if warm is None:
        return model
    try:
        posterior = PhasePosterior.from_dict(warm)
    except (KeyError, TypeError, ValueError):
        return model
    if not posterior.model.is_like(model):
        return model
    known = posterior.interferometer_prior()
    return replace(known, scale_sigma=min(known.scale_sigma, model.scale_sigma))
