"""The cases of the task ``phase-tracking``, and what no method can undercut."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.phase_drift_twin import HALF_WAVE_V, DriftingPhase, DriftOptions
from benchmarks.rivals.phase_holding import PhaseTold
from calibration.tracking.bounds import TrackingBound, error_counts_bound, four_phase_bound

FILE = Path(__file__).with_name("phase_tracking.toml")
TUNED_FILE = Path(__file__).with_name("phase_tracking_tuned.toml")

SHORTEST_S = 1e-3
DECADES = 2.0
"""By which the drift that methods are told may be wrong, either way."""


@dataclass(frozen=True)
class Scoring:
    """How runs are judged.

    Attributes:
        memory_times: Length of a run, in times in which drift doubles the best estimate's variance.
        burn_in: Of these at the start, not judged.
        patience: After which a phase that has gone counts as lost, in the same unit.
        lost_excess: Excess QBER from which on the phase has gone.
    """

    memory_times: float
    burn_in: float
    patience: float
    lost_excess: float


@dataclass(frozen=True)
class TrackingCase:
    """Circumstances of holding a phase.

    Attributes:
        twin: What the link is like.
        latency_windows: Windows whose counts are not there yet when the next one is chosen.
        shortest_s: Shortest window.
        duration_s: Length of a run.
        burn_in_s: At the start, not judged.
        patience_s: After which a phase that has gone counts as lost.
        bound: What no method undercuts; None without drift.
        memory_s: Time scale of rivals and oracle.
        sigma_rad: Phase scale of rivals and oracle.
    """

    twin: DriftOptions
    latency_windows: int
    shortest_s: float
    duration_s: float
    burn_in_s: float
    patience_s: float
    bound: TrackingBound | None
    memory_s: float
    sigma_rad: float

    def told(self, twin: DriftingPhase, start_v: float, seed: int) -> PhaseTold:
        """Say what a method is told that starts at a voltage."""
        options = self.twin
        guess = np.random.default_rng([seed, 0x6E]).uniform(-DECADES, DECADES)
        return PhaseTold(
            encoding=options.encoding,
            limits_v=twin.limits_v,
            half_wave_v=HALF_WAVE_V,
            start_v=start_v,
            start_sigma_rad=options.first_error_rad,
            floor=options.floor,
            drift_guess=max(options.drift, 1e-5) * 10**guess,
            latency_windows=self.latency_windows,
            play_v=twin.play_v,
            has_sensor=options.rad_per_kelvin != 0,
            shortest_s=self.shortest_s,
            memory_s=self.memory_s,
            sigma_rad=self.sigma_rad,
            drift=options.drift,
            rate_hz=options.rate_hz,
            seed=seed,
            now_s=twin.now_s,
        )


def bound(options: DriftOptions) -> TrackingBound:
    """Compute what a filter that knows the drift can reach, in the bases that see the phase."""
    least = four_phase_bound if options.encoding == "four-phase" else error_counts_bound
    return least(float(np.sqrt(options.drift)), options.rate_hz, floor=options.floor)


def read(
    path: Path = FILE, tuned: Path = TUNED_FILE
) -> tuple[int, Scoring, dict[str, TrackingCase], dict[str, dict[str, dict[str, float]]]]:
    """Read the task: its version, its scoring, its cases, and constants by case and rival."""
    task = tomllib.loads(path.read_text(encoding="utf-8"))
    scoring = Scoring(**task["scoring"])
    cases = {name: _case(scoring, **described) for name, described in task["cases"].items()}
    constants = tomllib.loads(tuned.read_text(encoding="utf-8"))
    return task["version"], scoring, cases, constants


def _case(
    scoring: Scoring,
    twin: Mapping[str, Any],
    latency_windows: int = 0,
    shortest_s: float = SHORTEST_S,
    memory_times: float | None = None,
    duration_s: float | None = None,
    burn_in_s: float | None = None,
) -> TrackingCase:
    options = DriftOptions(**twin)
    best = bound(options) if options.drift > 0 else None
    memory_s = best.variance / options.drift if best is not None else 1.0
    times = scoring.memory_times if memory_times is None else memory_times
    return TrackingCase(
        twin=options,
        latency_windows=latency_windows,
        shortest_s=shortest_s,
        duration_s=times * memory_s if duration_s is None else duration_s,
        burn_in_s=scoring.burn_in * memory_s if burn_in_s is None else burn_in_s,
        patience_s=scoring.patience * memory_s,
        bound=best,
        memory_s=memory_s,
        sigma_rad=float(np.sqrt(best.variance)) if best is not None else options.first_error_rad,
    )
