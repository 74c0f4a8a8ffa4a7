"""What a run of holding a link begins with: an alignment, and what it has learnt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.tracking_twin import TrackingTwin
from benchmarks.twin import HALF_WAVE_V
from calibration import kinematics
from calibration.clicks import Clicks
from calibration.parameters import Parameters
from calibration.posterior import RotationPosterior
from calibration.recollection import Recollection
from calibration.retarders import RetarderChain
from calibration.sampler import Advice, RotationSampler

Array = NDArray[np.float64]

CHANNELS = ("v1", "v2", "v3", "v4")

PHOTONS = 4000
"""Detections at which the alignment before a run ends."""

FIRST_PHOTONS, MOST_PHOTONS = 100, 20_000

KNOWN_SCALE = 0.05
KNOWN_RAD = 0.03
"""Errors of a controller that is known: of its gains, and of the fibre in front of it."""

TINY_VARIANCE = 1e-8
FLOOR_SIFTED = 10_000
"""Sifted counts by which the floor is known then."""


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        posterior: What is known.
        drives: Setting that is in force, shape ``(4,)``, V.
        limits: Lowest and highest voltage of each channel.
    """

    posterior: RotationPosterior
    drives: Array
    limits: Mapping[str, tuple[float, float]]

    @property
    def setting(self) -> dict[str, float]:
        """The setting by channel."""
        return dict(zip(CHANNELS, self.drives.tolist(), strict=True))


def limits_of(twin: TrackingTwin) -> dict[str, tuple[float, float]]:
    """Give the lowest and highest voltage of each channel."""
    low, high = twin.limits.tolist()
    return dict(zip(CHANNELS, zip(low, high, strict=True), strict=True))


def exposures(
    twin: TrackingTwin, seed: int, recalled: Recollection | None = None
) -> Iterator[Advice]:
    """Align with the model-based sampler, as long as it is asked to go on.

    Args:
        twin: The link; counting takes its time and, if it drifts, moves it.
        seed: Of the sampler's chances.
        recalled: What is known beforehand, or None.

    Yields:
        What is recommended after each exposure.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(*span) for name, span in limits_of(twin).items()
    }
    space["n_photons"] = IntDistribution(FIRST_PHOTONS, MOST_PHOTONS, log=True)
    drift_rad = twin.options.drift_rad if twin.is_drifting else 0.0
    sampler = RotationSampler(
        space, half_wave_v=HALF_WAVE_V, recalled=recalled, drift_rad=drift_rad, seed=seed
    )
    study = optuna.create_study(sampler=sampler)
    while True:
        trial = study.ask(space)
        drives = np.array([trial.params[name] for name in CHANNELS])
        table = twin.measure(drives, trial.params["n_photons"])
        trial.set_user_attr("clicks", table.tolist())
        trial.set_user_attr("time_s", twin.elapsed_s)
        study.tell(trial, Clicks(table).qber.value)
        yield sampler.advice(study)


def learned(twin: TrackingTwin, seed: int) -> Start:
    """Align a link at rest with a few thousand photons."""
    advice = next(a for a in exposures(twin, seed) if a.photons >= PHOTONS)
    return start_from(twin, advice)


def start_from(twin: TrackingTwin, advice: Advice) -> Start:
    """Begin where an alignment has ended."""
    drives = np.array([advice.setting[name] for name in CHANNELS])
    return Start(RotationPosterior.from_dict(advice.posterior), drives, limits_of(twin))


def known(twin: TrackingTwin, seed: int) -> Start:
    """Begin aligned, with a controller whose gains are wrong by a few percent.

    Retardances at the setting are right, as an alignment there leaves them: only what a change of
    the voltages does is wrong.
    """
    rng = np.random.default_rng([seed, 0x57])
    chain, truth = RetarderChain.nominal(HALF_WAVE_V), truth_of(twin)
    low, high = twin.limits
    here = rng.uniform(low, high, size=(1, chain.channels))
    drives, _ = kinematics.align(chain, truth, here, twin.limits)
    by_scale = _at_rest(chain, truth, drives[0])
    error = by_scale @ (KNOWN_SCALE * rng.normal(size=chain.channels))
    error[:3] += KNOWN_RAD * rng.normal(size=3)
    covariance = TINY_VARIANCE * np.eye(chain.size) + KNOWN_SCALE**2 * by_scale @ by_scale.T
    covariance[:3, :3] += KNOWN_RAD**2 * np.eye(3)
    covariance[-1, -1] = (1 - twin.floor) / (twin.floor * FLOOR_SIFTED)
    posterior = RotationPosterior(
        chain, chain.step(truth, error[None]), covariance[None], np.ones(1)
    )
    aligned, _ = kinematics.align(chain, posterior.modes, drives, twin.limits)
    return Start(posterior, aligned[0], limits_of(twin))


def truth_of(twin: TrackingTwin) -> Parameters:
    """Describe the bench by the model's parameters."""
    truth = twin.truth
    return Parameters(
        fibre=truth.fibre[None],
        receiver=truth.receiver[None],
        errors=np.concatenate([truth.scale, truth.offset_rad, truth.azimuth_rad])[None],
        log_floor=np.log([twin.floor]),
    )


def _at_rest(chain: RetarderChain, truth: Parameters, drives: Array) -> Array:
    """Find what scales may change without a change at this setting, shape ``(P, 4)``.

    Offsets make up for it; for those of the first and the last retarder, the two fibres do.
    """
    lever = chain.azimuth_and_retardance(truth, drives[None])[1][0, 0]
    lever = lever - truth.errors[0, 4:8]
    lever /= 1 + truth.errors[0, :4]
    azimuth = chain.azimuth_rad + truth.errors[0, 8:]
    axis = np.column_stack([np.cos(azimuth), np.sin(azimuth), np.zeros(4)])
    change = np.zeros((chain.size, 4))
    change[6:10] = np.eye(4)
    change[:3, 0] = -lever[0] * axis[0]
    change[10, 1], change[11, 2] = -lever[1], -lever[2]
    change[3:6, 3] = -lever[3] * axis[3]
    return change


STARTS = {"learned": learned, "known": known}
