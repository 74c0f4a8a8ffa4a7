"""What a sampler with a model of the optics recommends, and when that is good enough."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from calibration.model_sampler import ModelSampler


@dataclass(frozen=True)
class ModelAdvice(ABC):
    """What the counts so far recommend, and how good it is expected to be.

    Attributes:
        setting: Value of each knob, such as the voltages of squeezers or the angles of wave plates.
        predicted_qber: Expected QBER there, both bases taken together as they are counted, 0 to 1.
        floor: The same at the best conceivable setting.
        excess_mean: Expected QBER above that, mean of both bases.
        excess_q90: Bound on the excess that holds with a probability of 90 %, if the model fits.
        excess_q10: The excess is above this with a probability of 90 %.
        photons: Detections that this rests on.
        settings: Settings measured.
        modes: Explanations of the counts that still compete.
        chi2_per_dof: Misfit of the model; near 1 if it fits, and no claim is worth much above 4.
        misfit: Angle error per half turn assumed to explain a misfit, rad; 0 if the model fits.
        posterior: All that is known, JSON-able.
    """

    setting: dict[str, float]
    predicted_qber: float
    floor: float
    excess_mean: float
    excess_q90: float
    excess_q10: float
    photons: int
    settings: int
    modes: int
    chi2_per_dof: float
    misfit: float
    posterior: dict[str, Any]

    def is_within(self, target_excess: float) -> bool:
        """Tell whether the excess is below a target with a probability of 90 %."""
        return self.excess_q90 < target_excess

    @abstractmethod
    def is_out_of_reach(self, target_excess: float) -> bool:
        """Tell whether a target is missed although the excess is known well."""


class AdvisingSampler(ModelSampler):
    """A sampler that recommends a setting, and says how good that is expected to be."""

    @property
    @abstractmethod
    def settings_to_claim(self) -> int:
        """Settings after which the advice's claims mean something."""

    @abstractmethod
    def advice(self, study: Study) -> ModelAdvice:
        """Recommend a setting from all complete trials."""

    @abstractmethod
    def advice_on(self, study: Study, setting: Mapping[str, float]) -> ModelAdvice:
        """Tell what all complete trials say of a setting, whatever they recommend."""


class StopWhenWithin:
    """Optuna callback that ends ``study.optimize`` once the advice is good enough.

    Args:
        sampler: The study's sampler.
        target_excess: QBER above the floor that must be undercut with a probability of 90 %.
    """

    def __init__(self, sampler: AdvisingSampler, target_excess: float) -> None:
        self._sampler = sampler
        self._target_excess = target_excess

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Look at the advice after a trial."""
        if trial.state != TrialState.COMPLETE:
            return
        advice = self._sampler.advice(study)
        enough = advice.settings >= self._sampler.settings_to_claim
        if enough and advice.is_within(self._target_excess):
            study.stop()
