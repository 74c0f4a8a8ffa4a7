"""Ours: the tracker with its bank of filters, told nothing of the drift but its order."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.tracking_loop import Given, Move
from benchmarks.tasks.tracking_start import CHANNELS
from calibration.clicks import Clicks
from calibration.tracking.polarization import PolarizationTracker

Array = NDArray[np.float64]

DECADES_OFF = 1.0
"""By how much the first guess of the drift may be wrong, either way."""

GUESS_WITHOUT_DRIFT_RAD = 0.003
"""About what is guessed of a link that does not drift."""


class ModelFollower:
    """The tracker as a method of the task.

    Attributes:
        tracker: The tracker.
    """

    def __init__(self, tracker: PolarizationTracker) -> None:
        self.tracker = tracker

    def next_move(self, now_s: float) -> Move:
        """Set what it proposes."""
        proposal = self.tracker.next_setting(now_s)
        drives = np.array([proposal.setting[name] for name in CHANNELS])
        dither = np.square(proposal.dither_rad).sum() / 8
        return Move(drives, proposal.window_s, float(dither))

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Let it read the counts."""
        setting = dict(zip(CHANNELS, drives.tolist(), strict=True))
        return self.tracker.update(Clicks(table), setting, now_s, dark=is_dark).lost


def tracker(given: Given) -> ModelFollower:
    """Begin with a drift that is wrong by up to a decade, drawn for the seed."""
    rng = np.random.default_rng([given.seed, 0x3D])
    drift_rad = given.case.twin.drift_rad or GUESS_WITHOUT_DRIFT_RAD
    return ModelFollower(
        PolarizationTracker(
            given.start.posterior,
            given.start.setting,
            given.start.limits,
            now_s=given.now_s,
            drift_rad=drift_rad * 10 ** rng.uniform(-DECADES_OFF, DECADES_OFF),
            window_s=given.case.loop_s,
        )
    )
