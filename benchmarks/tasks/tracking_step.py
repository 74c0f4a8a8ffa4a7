"""A step of the fibre to anywhere: how it is noticed, and what leads back."""

from dataclasses import dataclass

import numpy as np

from benchmarks.tasks.tracking_cases import TrackingScoring
from benchmarks.tasks.tracking_loop import Holding
from benchmarks.tasks.tracking_start import CHANNELS, exposures
from benchmarks.tracking_twin import TrackingTwin
from calibration.posterior import RotationPosterior
from calibration.recollection import Recollection

ANYWHERE_RAD = np.pi
"""Turn of the fibre that an alarm takes for possible: it may be anything by then."""

EXPOSURES = 12
"""Exposures after which an alignment is judged."""


@dataclass(frozen=True)
class Found:
    """What a step took.

    Attributes:
        photons_to_find: Detections from the step to the alarm; infinite where there is none.
        settings_to_find: Windows of that.
        photons_to_back: Detections from there to a setting that stays good; infinite likewise.
        settings_to_back: Exposures of that.
    """

    photons_to_find: float
    settings_to_find: float
    photons_to_back: float
    settings_to_back: float


NEVER = Found(np.inf, np.inf, np.inf, np.inf)


def step_and_find(holding: Holding, scoring: TrackingScoring, seed: int) -> Found:
    """Replace the fibre by any other, wait for the alarm and align anew.

    Args:
        holding: A link that is being held.
        scoring: Says which excess counts as aligned.
        seed: Of the alignment's chances.
    """
    holding.twin.turn_anywhere()
    photons = 0
    for window in range(1, scoring.patience + 1):
        _, window_photons, is_lost = holding.step(is_judged=False)
        photons += window_photons
        if is_lost:
            back = _back(holding.twin, holding.start.posterior, scoring.back, seed)
            return Found(photons, window, *back)
    return NEVER


def _back(
    twin: TrackingTwin, known: RotationPosterior, within: float, seed: int
) -> tuple[float, float]:
    """Align a link whose controller is known; give the cost of what stays within an excess."""
    advised = exposures(twin, seed, Recollection(known, 1.0, ANYWHERE_RAD))
    back = np.inf, np.inf
    for settings in range(1, EXPOSURES + 1):
        advice = next(advised)
        excess = twin.excess(np.array([advice.setting[name] for name in CHANNELS]))
        if excess >= within:
            back = np.inf, np.inf
        elif np.isinf(back[0]):
            back = float(advice.photons), float(settings)
    return back
