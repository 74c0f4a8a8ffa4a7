"""How a stage looks for the best setting: what a search is, and the ones that need no model."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from calibration.inversion import NOTHING, Inverted
from calibration.trials import Params, Space

Setting = Mapping[str, float]

CMA_SOURCE_TRIALS = 20
"""Past trials from which CMA-ES may take its start: it uses the best tenth, at least two."""


@dataclass(frozen=True)
class Finding:
    """What a search makes of its trials so far.

    Attributes:
        setting: The best setting, as far as is known.
        is_final: Whether the search wants no further trial.
        rivals: Further settings that may be better; fresh windows decide.
        predicted_qber: QBER expected at the setting, or None if nothing is predicted.
        ceiling: Largest QBER there that still agrees with the finding, or None.
        excess_mean: Expected QBER above the best reachable one, or None without a model.
        excess_q90: Bound on it that holds with 90 % probability, or None.
        excess_bound: Least mean excess that the best design could reach with as many photons,
            where the search knows that better than the stage; else None.
        posterior: What the model knows, JSON-able, or None.
        misfit: Why nothing that this search says can be trusted, or None.
        is_strained: Whether the model explains the counts only by trusting some of them less: what
            it says once it knows the verification's counts is better.
        remark: What else is to be said of a final finding, or None.
        inverted: Bases whose bits have to be inverted for all that; trials are told without that.
    """

    setting: Setting
    is_final: bool
    rivals: tuple[Setting, ...] = ()
    predicted_qber: float | None = None
    ceiling: float | None = None
    excess_mean: float | None = None
    excess_q90: float | None = None
    excess_bound: float | None = None
    posterior: Mapping[str, Any] | None = None
    misfit: str | None = None
    is_strained: bool = False
    remark: str | None = None
    inverted: Inverted = NOTHING


class Search(Protocol):
    """One way of looking for the best setting: a sampler, and a judgement of its trials."""

    @property
    def name(self) -> str:
        """Name in records and reports."""
        ...

    @property
    def sampler(self) -> BaseSampler:
        """Proposes the trials."""
        ...

    @property
    def space(self) -> Space:
        """What a trial chooses: every knob of the stage, by name, and whatever else."""
        ...

    @property
    def patience(self) -> int:
        """Refuted findings after which the search is given up."""
        ...

    @property
    def rivals(self) -> int:
        """Number of rivals that a finding may name."""
        ...

    def params(self, setting: Setting, photons: int) -> Params:
        """Write a setting that the search did not propose as a trial of it."""
        ...

    def photons(self, params: Params) -> int:
        """Tell how many detections a proposed trial wants."""
        ...

    def assess(self, study: Study) -> Finding:
        """Judge the study; it has at least one complete trial. Called in a thread."""
        ...

    def review(self, study: Study, finding: Finding) -> Finding:
        """Judge a finding's setting anew, by all trials up to now. Called in a thread.

        Returns:
            The finding with the claims that hold now, final only if it would be found again; what
            had been predicted for the verification stays.
        """
        ...


SearchBuilder = Callable[[Setting, Sequence[FrozenTrial]], Search]
"""Builds a search from the best setting so far and the trials of the search before it."""


class StockSearch:
    """A sampler without a model: runs its budget, then names the best trials as rivals.

    The best trial of a noisy study is the luckiest one, so it claims nothing: fresh windows choose
    among the best few, and another one tells what the chosen one is worth.

    Args:
        name: Name of the sampler in records and reports.
        sampler: The sampler.
        space: Its search space.
        photons_per_trial: Detections at each setting.
    """

    patience = 1
    rivals = 4

    def __init__(
        self, name: str, sampler: BaseSampler, space: Space, photons_per_trial: int
    ) -> None:
        self.name = name
        self.sampler = sampler
        self.space = space
        self._photons_per_trial = photons_per_trial

    def params(self, setting: Setting, photons: int) -> Params:
        """Write a setting as a trial."""
        return dict(setting)

    def photons(self, params: Params) -> int:
        """Tell how many detections each trial gets."""
        return self._photons_per_trial

    def assess(self, study: Study) -> Finding:
        """Name the trials of lowest QBER; the best value sizes the windows that follow."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = sorted(trials, key=_value)[: 1 + self.rivals]
        settings = [dict(trial.params) for trial in best]
        return Finding(
            setting=settings[0],
            is_final=False,
            rivals=tuple(settings[1:]),
            predicted_qber=_value(best[0]),
        )

    def review(self, study: Study, finding: Finding) -> Finding:
        """Leave a finding as it is: it claims nothing."""
        return finding


def cma_es(seed: int, past: Sequence[FrozenTrial]) -> CmaEsSampler:
    """Make a CMA-ES that starts where past trials were good, if there are enough to tell."""
    if len(past) < CMA_SOURCE_TRIALS:
        return CmaEsSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(seed=seed, source_trials=list(past))


def _value(trial: FrozenTrial) -> float:
    return trial.value if trial.value is not None else 1.0
