"""The model-based search of a stage: a sampler that knows the optics, and when it is believed."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

from optuna.distributions import IntDistribution
from optuna.study import Study

from calibration.advice import AdvisingSampler, ModelAdvice
from calibration.searches import Finding, Setting
from calibration.trials import Params, Space

N_PHOTONS = "n_photons"
"""Parameter of a trial by which the model's sampler asks for a number of detections."""

MOST_PHOTONS_ASKED = 1_000_000_000
"""Largest number of detections that a trial's parameter can hold."""

PHOTONS_ASKED = IntDistribution(1, MOST_PHOTONS_ASKED, log=True)

MISFIT_CHI2 = 4.0
"""Chi-square per degree of freedom above which the model does not fit."""

S = TypeVar("S", bound=AdvisingSampler)


class AdvisedSearch(ABC, Generic[S]):
    """A search by a sampler that advises.

    Its finding is final when the excess is below the target with 90 % probability, or known to be
    out of reach; a fresh window refutes it if the QBER is above what is expected, or above the
    expected floor by more than the target.

    Args:
        sampler: The sampler.
        space: Its search space.
        target_excess: Wanted QBER above the best reachable one.

    Attributes:
        misfit_settings: Settings after which a misfit counts: a wrong mode of the posterior has
            had time to die.
        whose_reach: What cannot do better where the target is out of reach.
    """

    name = "model"
    patience = 2
    rivals = 0
    misfit_settings: int
    whose_reach: str

    def __init__(self, sampler: S, space: Space, target_excess: float) -> None:
        self.sampler = sampler
        self.space = space
        self._target_excess = target_excess

    def params(self, setting: Setting, photons: int) -> Params:
        """Write a setting as a trial."""
        return {**setting, N_PHOTONS: min(max(photons, 1), MOST_PHOTONS_ASKED)}

    def photons(self, params: Params) -> int:
        """Tell how many detections the sampler asked for."""
        return int(params[N_PHOTONS])

    @abstractmethod
    def assess(self, study: Study, at: Finding | None = None) -> Finding:
        """Judge by the posterior the best setting, or that of a finding."""

    def review(self, study: Study, finding: Finding) -> Finding:
        """Claim of a setting what all counts say, those that verified it included."""
        anew = self.assess(study, finding)
        return replace(
            finding,
            is_final=anew.is_final,
            excess_mean=anew.excess_mean,
            excess_q90=anew.excess_q90,
            posterior=anew.posterior,
            is_strained=anew.is_strained,
        )

    def judge(self, advice: ModelAdvice) -> Finding:
        """Turn the sampler's advice into a finding."""
        misfit = None
        if advice.chi2_per_dof > MISFIT_CHI2 and advice.settings >= self.misfit_settings:
            misfit = (
                f"the model does not fit (chi-square per degree of freedom "
                f"{advice.chi2_per_dof:.1f} after {advice.settings} settings)"
            )
        enough = advice.settings >= self.sampler.settings_to_claim
        is_within = advice.is_within(self._target_excess)
        remark = None
        if enough and not is_within and advice.is_out_of_reach(self._target_excess):
            remark = f"nothing better is within the {self.whose_reach}'s reach"
        return Finding(
            setting=advice.setting,
            is_final=enough and (is_within or remark is not None),
            predicted_qber=advice.predicted_qber,
            ceiling=min(max(advice.predicted_qber, advice.floor + self._target_excess), 1.0),
            excess_mean=advice.excess_mean,
            excess_q90=advice.excess_q90,
            posterior=advice.posterior,
            misfit=misfit,
            is_strained=advice.misfit > 0,
            remark=remark,
        )
