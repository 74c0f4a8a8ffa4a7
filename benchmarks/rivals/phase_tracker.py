"""The phase tracker of this project, as the task ``phase-tracking`` drives it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from benchmarks.phase_drift_twin import Held
from benchmarks.rivals.phase_holding import PhaseTold
from calibration.clicks import Clicks
from calibration.interferometer import Encoding, Interferometer, Phases
from calibration.phase_posterior import PhasePosterior
from calibration.tracking.phase import PhaseTracker

KNOB = "piezo"

SCALE_SIGMA = 0.05
LOG_FLOOR_SIGMA = 0.1
"""What a calibration leaves unknown of the half-wave voltage and of the floor."""

ENCODINGS: Mapping[str, Encoding] = {"four-phase": "four-phase", "errors-only": "time-bin"}


class Ours:
    """A tracker that starts with what a calibration would have left."""

    takes_off_play: ClassVar[bool] = True

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        self._tracker = PhaseTracker(
            _learnt(told),
            {KNOB: told.start_v},
            {KNOB: told.limits_v},
            now_s=told.now_s,
            drift_rad=float(np.sqrt(told.drift_guess)),
            window_s=(told.shortest_s, 10.0),
            latency_windows=told.latency_windows,
            play=told.play_v,
        )
        self._has_sensor = told.has_sensor
        self.lost = False

    def propose(self, now_s: float) -> tuple[float, float]:
        """Ask the tracker."""
        proposal = self._tracker.next_setting(now_s)
        return proposal.setting[KNOB], proposal.window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Hand the counts on."""
        report = self._tracker.update(
            Clicks(held.table),
            {KNOB: drive_v},
            now_s,
            temperature_c=held.temperature_c if self._has_sensor else None,
        )
        self.lost = report.lost


def _learnt(told: PhaseTold) -> PhasePosterior:
    model = Interferometer(
        ENCODINGS[told.encoding],
        half_wave=told.half_wave_v,
        centre=told.start_v,
        floor=told.floor,
        sign=1,
    )
    mode = Phases(np.zeros(1), np.zeros(1), np.log([told.floor]), np.ones(1))
    spread = [told.start_sigma_rad, SCALE_SIGMA, LOG_FLOOR_SIGMA]
    return PhasePosterior(model, mode, np.diag(np.square(spread))[None], np.ones(1))
