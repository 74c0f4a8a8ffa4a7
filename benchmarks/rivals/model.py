"""Ours: the model-based sampler by itself, and the whole stage with verification and fall-back."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.tasks.link import Link
from calibration.clicks import Clicks, Window
from calibration.polarization import PolarizationSettings, PolarizationStage, StageResult
from calibration.posterior import RotationPosterior
from calibration.recollection import Recollection
from calibration.sampler import FIRST_SETTINGS, Advice, RotationSampler
from calibration.trials import MemoryTrialLog

SETTINGS, PHOTONS = 18, 25_000
"""The sampler goes on until it has had both, long after it claims the target, so that it shows
whether it stays there; but never beyond MOST_SETTINGS."""

POOLED_PHOTONS = 60_000
"""The same where only a pooled QBER is told: it takes more."""

MOST_SETTINGS = 60
MOST_PHOTONS = 20_000
TARGET_EXCESS = 0.002

SCALE_SIGMA, AZIMUTH_SIGMA_DEG = 0.15, 20.0
"""What the sampler's documentation advises for a controller that is not characterised."""


def sampler_alone(link: Link, seed: int) -> None:
    """Align with the model-based sampler; its claims are the posterior's, not verified."""
    recalled = None
    if link.earlier is not None:
        learnt = RotationPosterior.from_dict(_align(link.earlier.link, seed, None).posterior)
        recalled = Recollection(learnt, link.earlier.elapsed_s, link.earlier.drift_rad)
    _align(link, seed, recalled)


def _align(link: Link, seed: int, recalled: Recollection | None) -> Advice:
    first_photons = link.told.cheap_photons
    space: dict[str, BaseDistribution] = {
        **{name: FloatDistribution(*limits) for name, limits in _limits(link).items()},
        "n_photons": IntDistribution(first_photons, MOST_PHOTONS, log=True),
    }
    sampler = RotationSampler(
        space,
        chain=_controller(link).chain(link.middle.tolist()),
        recalled=recalled,
        first_photons=first_photons,
        most_photons=MOST_PHOTONS,
        drift_rad=link.told.drift_rad,
        seed=seed,
    )
    study = optuna.create_study(sampler=sampler)
    enough = PHOTONS
    while _goes_on(link, enough):
        trial = study.ask(space)
        drives = {name: trial.params[name] for name in _limits(link)}
        before = link.photons
        reading = link.count(list(drives.values()), trial.params["n_photons"])
        if reading.table is None:
            enough = POOLED_PHOTONS
            trial.set_user_attr("sifted", reading.sifted)
            trial.set_user_attr("errors", reading.errors)
        else:
            trial.set_user_attr("clicks", reading.table.tolist())
        trial.set_user_attr("photons", link.photons - before)
        trial.set_user_attr("time_s", reading.time_s)
        study.tell(trial, reading.qber)
        advice = sampler.advice(study)
        claims = advice.settings >= FIRST_SETTINGS
        link.recommend(
            list(advice.setting.values()), excess_q90=advice.excess_q90 if claims else np.nan
        )
    return sampler.advice(study)


def whole_stage(link: Link, seed: int) -> None:
    """Run the polarization stage: search, verify, fall back; it recommends when it ends.

    What it claims has withstood a fresh window that no choice rests on.
    """
    if link.earlier is None:
        _run_stage(link, seed)
        return
    learnt = _run_stage(link.earlier.link, seed)
    _run_stage(link, seed, learnt)


def _run_stage(link: Link, seed: int, learnt: StageResult | None = None) -> StageResult:
    """Run the stage, from what it left in force some time ago if that is given."""
    settings = _controller(link).model_copy(
        update={
            "target_excess": TARGET_EXCESS,
            "first_dwell": link.told.cheap_photons,
            "most_dwell": MOST_PHOTONS,
            "max_photons": link.photons_left,
        }
    )
    drift_rad, elapsed_s = link.told.drift_rad, 0.0
    if link.earlier is not None:
        drift_rad, elapsed_s = link.earlier.drift_rad, link.earlier.elapsed_s
    stage = PolarizationStage(settings, seed, drift_rad=drift_rad, elapsed_s=elapsed_s)
    start, warm = dict(zip(_limits(link), link.middle.tolist(), strict=True)), None
    if learnt is not None:
        start, warm = dict(learnt.setting), learnt.posterior
    bench = _StageBench(link)
    log = MemoryTrialLog(lambda: bench.time_s)
    result = asyncio.run(stage.run(bench, log, lambda _: None, start, warm=warm))
    claim = np.nan if result.excess_q90 is None else result.excess_q90
    link.recommend([result.setting[name] for name in start], excess_q90=claim)
    return result


class _StageBench:
    """The link as a stage sees a bench."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._setting = link.middle
        self.time_s = 0.0

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        """Remember the setting for the next window."""
        self._setting = np.array([setting[name] for name in _limits(self._link)])
        return dict(setting)

    async def measure(self, photons: int) -> Window:
        """Take one window."""
        before = self._link.photons
        reading = self._link.count(self._setting, photons)
        if reading.table is None:
            raise ValueError("the stage cannot use a pooled QBER")
        self.time_s = reading.time_s
        looked_at = self._link.photons - before
        return Window(
            start_s=reading.time_s,
            duration_s=0.0,
            source="pattern",
            disclosure="calibration",
            intensities=("signal",),
            clicks=Clicks(reading.table).table[None],
            singles=np.array([looked_at, 0, 0, 0]),
        )

    def limits(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a drive."""
        return _limits(self._link)[name]


def _limits(link: Link) -> dict[str, tuple[float, float]]:
    low, high = link.limits.tolist()
    return {f"drive{k}": limits for k, limits in enumerate(zip(low, high, strict=True), start=1)}


def _goes_on(link: Link, photons: int) -> bool:
    is_short = link.settings < SETTINGS or link.photons < photons
    return is_short and link.settings < MOST_SETTINGS


def _controller(link: Link) -> PolarizationSettings:
    """Describe the controller as its data sheet does."""
    actuator = link.told.actuator
    said: dict[str, Any] = {"knobs": tuple(_limits(link)), "actuator": actuator}
    if actuator == "squeezers":
        said["half_wave_v"] = float(link.half_turn[0])
        if not link.told.is_characterised:
            said |= {"scale_sigma": SCALE_SIGMA, "azimuth_sigma_deg": AZIMUTH_SIGMA_DEG}
    if actuator == "retarders":
        said["azimuth_deg"] = (0.0, 90.0, 0.0, 90.0)[: len(link.half_turn)]
    return PolarizationSettings.model_validate(said)
