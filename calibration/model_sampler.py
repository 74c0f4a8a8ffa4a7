"""What the samplers of this package have in common: a space of their own, exposures, a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from optuna.study import Study


@dataclass(frozen=True)
class Belief:
    """What is known after some trials; never changed, so that threads may share it.

    Attributes:
        study_name: Name of the study.
        numbers: Numbers of the trials, in order.
    """

    study_name: str
    numbers: tuple[int, ...]

    def is_part_of(self, study: Study, numbers: tuple[int, ...]) -> bool:
        """Tell whether a study only went on since."""
        known = numbers[: len(self.numbers)] == self.numbers
        return known and self.study_name == study.study_name


class ModelSampler(BaseSampler):
    """Suggests all of one space together, from the study's trials; foreign parameters at random.

    Args:
        space: One ``FloatDistribution`` per knob, and at most one ``IntDistribution``: detections
            to collect.
        seed: Fixes all suggestions.

    Raises:
        ValueError: The space is not of that kind.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], *, seed: int | None) -> None:
        self._space = dict(space)
        self._knobs = {n: d for n, d in space.items() if isinstance(d, FloatDistribution)}
        dwells = [(n, d) for n, d in space.items() if isinstance(d, IntDistribution)]
        if not self._knobs or len(self._knobs) + len(dwells) != len(space) or len(dwells) > 1:
            raise ValueError(
                "the space must be one or more FloatDistribution, the knobs, and at most one "
                "IntDistribution, the number of photons"
            )
        for name, knob in self._knobs.items():
            if knob.log:
                raise ValueError(f"{name} cannot be on a logarithmic scale")
        self._dwell = dwells[0] if dwells else None
        knobs = self._knobs.values()
        self._span = np.array([[knob.low for knob in knobs], [knob.high for knob in knobs]])
        entropy = np.random.SeedSequence(seed).entropy
        self._seed = entropy if isinstance(entropy, int) else 0
        self._independent = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Give the space that the sampler was made for."""
        return dict(self._space)

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
        """Reseed what suggests foreign parameters; our own numbers come from the trials."""
        self._independent.reseed_rng()

    def named(self, setting: ArrayLike) -> dict[str, float]:
        """Round a setting, shape ``(K,)``, to what the knobs can be set to, and name them."""
        named = {}
        values = np.asarray(setting, dtype=float).tolist()
        for (name, allowed), value in zip(self._knobs.items(), values, strict=True):
            if allowed.step is not None:
                value = allowed.low + round((value - allowed.low) / allowed.step) * allowed.step
            named[name] = min(max(value, allowed.low), allowed.high)
        return named

    def _suggestion(self, setting: ArrayLike, photons: int) -> dict[str, Any]:
        dwell = {} if self._dwell is None else {self._dwell[0]: photons}
        return {**self.named(setting), **dwell}

    def _allowed(self, photons: float) -> int:
        """Bring an exposure to whole detections that the space allows."""
        if self._dwell is not None:
            _, allowed = self._dwell
            photons = min(max(photons, allowed.low), allowed.high)
        return round(photons)
