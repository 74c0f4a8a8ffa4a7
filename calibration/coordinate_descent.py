"""Coordinate descent by sinusoid fits: the model-free way down when the optics defy the model.

With all other retarders held, the QBER is exactly ``a + b cos phi + c sin phi`` in one retarder's
angle, so three readings a third of a period apart give its minimum in closed form. It needs the
nominal period only: near the minimum the readings lie symmetrically about it and an error of the
period no longer shifts the result.

Source: M. Ostaszewski et al., Quantum 5, 391 (2021) ("Rotosolve").
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from calibration.clicks import Clicks, Estimate
from calibration.model_sampler import ModelSampler
from calibration.searches import Finding, Setting
from calibration.trials import CLICKS, Params, Space

THIRDS = (0.0, 1.0, -1.0)
"""Where a knob is read, in thirds of its period from the point."""

LEAST_PHOTONS = 1000
"""Fewest detections per reading; with fewer the descent reaches a minimum but does not stay."""

PHOTONS_TIMES_TARGET = 9.0
"""Detections per reading, times the target: then noise alone moves a sweep's four fits by a
quarter of the target (variance ``2/3 p (1 - p) / n`` of each fitted coefficient, amplitude 1/4)."""

SIGNIFICANT_SIGMAS = 2.0
"""Amplitude of a fit, in its standard deviations, below which the knob is left where it is."""

MOST_SWEEPS = 8
"""Sweeps after which a descent that still gains is handed on."""


class CoordinateDescent:
    """Where to read next, given the readings so far; knows nothing of instruments.

    A sweep reads three values of each knob in turn, moves the knob to the fitted minimum, and ends
    with one reading at the point reached.

    Args:
        start: Point to start from.
        limits: Lowest and highest value of each knob, same length.
        periods: Nominal period of the QBER in each knob, same length.
    """

    def __init__(
        self,
        start: Sequence[float],
        limits: Sequence[tuple[float, float]],
        periods: Sequence[float],
    ) -> None:
        self._limits = list(limits)
        self._periods = list(periods)
        self._knob = 0
        self._readings: list[tuple[float, float]] = []
        self._gain = 0.0
        self.point = tuple(start)
        self.sweeps = 0
        self.last_gain = math.inf
        """Fitted decrease of the QBER over the latest whole sweep."""
        self._move_into_reach()

    def next_point(self) -> tuple[float, ...]:
        """Tell where the next reading is wanted."""
        if self._knob == len(self.point):
            return self.point
        shift = THIRDS[len(self._readings)] / 3 * self._periods[self._knob]
        return self._with_knob(self._wrap(self.point[self._knob] + shift))

    def tell(self, qber: float, variance: float) -> None:
        """Take in the reading at ``next_point()``.

        Args:
            qber: The reading, 0 to 1.
            variance: Its variance.
        """
        if self._knob == len(self.point):
            self.sweeps += 1
            self.last_gain, self._gain = self._gain, 0.0
            self._knob = 0
            self._move_into_reach()
            return
        self._readings.append((qber, variance))
        if len(self._readings) == len(THIRDS):
            self._move_to_minimum()
            self._readings = []
            self._knob += 1
            self._move_into_reach()

    def _move_to_minimum(self) -> None:
        """Fit the sinusoid through three readings a third of a period apart."""
        qbers, variances = np.array(self._readings).T
        angle = 2 * np.pi / 3 * np.array(THIRDS)
        cosine, sine = 2 / 3 * (np.cos(angle) @ qbers), 2 / 3 * (np.sin(angle) @ qbers)
        amplitude = math.hypot(cosine, sine)
        if amplitude <= SIGNIFICANT_SIGMAS * math.sqrt(2 / 3 * float(np.mean(variances))):
            return
        turn = (math.atan2(sine, cosine) + 2 * np.pi) % (2 * np.pi) - np.pi
        self._gain += cosine + amplitude
        shift = turn / (2 * np.pi) * self._periods[self._knob]
        self.point = self._with_knob(self._wrap(self.point[self._knob] + shift))

    def _move_into_reach(self) -> None:
        """Move the knob by whole periods until all three readings fit its limits, if they can."""
        if self._knob == len(self.point):
            return
        (low, high), period = self._limits[self._knob], self._periods[self._knob]
        value = self.point[self._knob]
        if low + period / 3 <= value <= high - period / 3:
            return
        middle = (low + high) / 2
        closest = value - round((value - middle) / period) * period
        if low <= closest <= high:
            self.point = self._with_knob(closest)

    def _wrap(self, value: float) -> float:
        """Bring a knob's value within its limits, by whole periods where that is possible."""
        (low, high), period = self._limits[self._knob], self._periods[self._knob]
        if value > high:
            value -= math.ceil((value - high) / period) * period
        elif value < low:
            value += math.ceil((low - value) / period) * period
        return min(max(value, low), high)

    def _with_knob(self, value: float) -> tuple[float, ...]:
        return (*self.point[: self._knob], value, *self.point[self._knob + 1 :])


class CoordinateDescentSampler(ModelSampler):
    """Optuna sampler that goes down one knob after the other.

    It is deterministic and keeps no state: the descent is replayed from the study's complete
    trials, of which those that it did not ask for are passed over.

    Args:
        space: One ``FloatDistribution`` per knob, in the order in which they are turned.
        start: Point to start from.
        periods: Nominal period of the QBER in each knob, one for all or by name.
        seed: Fixes what is suggested for foreign parameters.
    """

    def __init__(
        self,
        space: Mapping[str, FloatDistribution],
        start: Setting,
        periods: float | Mapping[str, float],
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed)
        self._start = [start[name] for name in space]
        self._limits = [(allowed.low, allowed.high) for allowed in space.values()]
        self._periods = [
            periods[name] if isinstance(periods, Mapping) else periods for name in space
        ]

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest the next reading."""
        return self.named(self.replay(study)[0].next_point())

    def replay(self, study: Study) -> tuple[CoordinateDescent, Estimate | None]:
        """Work out where the descent stands.

        Returns:
            The descent, and the latest reading at the end of a sweep, or None.
        """
        descent = CoordinateDescent(self._start, self._limits, self._periods)
        confirmed: Estimate | None = None
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            point = descent.next_point()
            if not self._is_at(trial, point):
                continue
            clicks = Clicks(np.asarray(trial.user_attrs[CLICKS], dtype=np.int64))
            share = (clicks.errors + 0.5) / (clicks.sifted + 1)
            sweeps = descent.sweeps
            descent.tell(clicks.qber.value, share * (1 - share) / clicks.sifted)
            if descent.sweeps > sweeps:
                confirmed = clicks.qber
        return descent, confirmed

    def _is_at(self, trial: FrozenTrial, point: Sequence[float]) -> bool:
        wanted = self.named(point)
        return all(
            name in trial.params and math.isclose(trial.params[name], value, abs_tol=1e-9)
            for name, value in wanted.items()
        )


@dataclass
class DescentSearch:
    """Coordinate descent as a search of a stage.

    It claims nothing of the best reachable QBER; a fresh window refutes it if the QBER is above
    the interval of the last sweep's own reading.

    Args:
        sampler: The descent.
        space: Its search space.
        target_excess: A sweep that gains less than half of it is the last one.
    """

    sampler: CoordinateDescentSampler
    space: Space
    target_excess: float
    name: str = "coordinate-descent"
    patience: int = 1
    rivals: int = 0

    def params(self, setting: Setting, photons: int) -> Params:
        """Write a setting as a trial."""
        return dict(setting)

    def photons(self, params: Params) -> int:
        """Tell how many detections a reading wants."""
        return max(LEAST_PHOTONS, math.ceil(PHOTONS_TIMES_TARGET / self.target_excess))

    def assess(self, study: Study) -> Finding:
        """Judge the descent: final when a sweep gained little, or after MOST_SWEEPS."""
        descent, confirmed = self.sampler.replay(study)
        is_converged = descent.last_gain < self.target_excess / 2
        return Finding(
            setting=self.sampler.named(descent.point),
            is_final=is_converged or descent.sweeps >= MOST_SWEEPS,
            predicted_qber=None if confirmed is None else confirmed.value,
            ceiling=None if confirmed is None else confirmed.high,
        )

    def review(self, study: Study, finding: Finding) -> Finding:
        """Leave a finding as it is: it claims nothing."""
        return finding
