"""Calibration stages by name, and their results as JSON-able objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.clicks import Estimate
from calibration.inversion import Inverted
from calibration.phase import PhaseStage
from calibration.polarization import PolarizationStage, Progress, StageResult
from qkdctl.config import Testbed
from qkdctl.events import estimate_dict
from qkdctl.signal_stages import OUTER_LOOPS, SIGNAL_STAGES, field_of

Stage = PolarizationStage | PhaseStage


@dataclass(frozen=True)
class Experience:
    """What the bench knows from before.

    Attributes:
        elapsed_s: Age of the posterior that the stage is given, s.
        past: What accepted calibrations of the stage learnt, oldest first.
    """

    elapsed_s: float = 0.0
    past: Sequence[Mapping[str, Any]] = ()


def _polarization(config: Testbed, experience: Experience) -> PolarizationStage:
    stage = config.stages.polarization
    if stage is None:
        raise ValueError("the link has no polarization stage")
    drift_rad = config.tracking.drift_rad_per_sqrt_s
    return PolarizationStage(
        stage,
        stage.seed,
        drift_rad=drift_rad,
        elapsed_s=experience.elapsed_s,
        past=experience.past,
    )


def _phase(config: Testbed, _: Experience) -> PhaseStage:
    stage, encoding = config.stages.phase, config.link.encoding
    if stage is None or encoding == "polarization":
        raise ValueError("the link has no phase stage")
    return PhaseStage(stage, encoding, seed=stage.seed)


STAGES: dict[str, Callable[[Testbed, Experience], Stage]] = {
    "polarization": _polarization,
    "phase": _phase,
}
"""Every stage that aligns a link."""


def stages_of(config: Testbed) -> tuple[str, ...]:
    """Return the stages that a link has, in dependency order; outer loops last.

    Before polarization is aligned the angles between states are not to be told: what arrives is an
    unknown ellipse. The phase between interferometers turns all states alike.
    """
    named = [*SIGNAL_STAGES, *STAGES]
    if config.link.encoding == "polarization":
        named.remove("modulation")
        named.append("modulation")
    named += OUTER_LOOPS
    return tuple(name for name in named if getattr(config.stages, field_of(name)) is not None)


def whole_course(config: Testbed) -> tuple[str, ...]:
    """Return the stages of a whole calibration, in order.

    The power at Alice's tap is that of the whole pattern: once the modulator's bias is right, it is
    looked at again. So is the polarization once the states that it aligns have been moved.
    """
    stages = [name for name in stages_of(config) if name not in OUTER_LOOPS]
    if "attenuation" in stages and "bias" in stages:
        stages.insert(stages.index("bias") + 1, "attenuation")
    if stages[-1] == "modulation":
        stages.append(config.aligning_stage)
    return tuple(stages)


def make_stage(name: str, config: Testbed, experience: Experience) -> Stage:
    """Build a stage as the testbed file wants it, with what the bench knows from before."""
    return STAGES[name](config, experience)


def progress_dict(progress: Progress) -> dict[str, Any]:
    """Write progress as a JSON-able object."""
    return {
        "stage": progress.stage,
        "phase": progress.phase,
        "settings": progress.settings,
        "photons": progress.photons,
        "qber": _optional(progress.qber),
        "expected_excess": progress.excess_mean,
        "excess_q90": progress.excess_q90,
        "elapsed_s": progress.elapsed_s,
        "setting": dict(progress.setting),
        "note": progress.note,
    }


def result_dict(result: StageResult, inverted: Inverted) -> dict[str, Any]:
    """Write a stage's result as a JSON-able object; the posterior stays in the history.

    Args:
        result: The result.
        inverted: Bases whose bits are inverted from now on.
    """
    return {
        "stage": result.stage,
        "outcome": result.outcome,
        "reason": result.reason,
        "sampler": result.sampler,
        "seed": result.seed,
        "qber_before": _optional(result.before),
        "qber_after": _optional(result.after),
        "predicted_qber": result.predicted_qber,
        "expected_excess": result.excess_mean,
        "excess_q90": result.excess_q90,
        "excess_bound": result.bound_unknown,
        "photons": sum(result.photons.values()),
        "photons_by_phase": dict(result.photons),
        "settings": result.settings,
        "duration_s": result.duration_s,
        "setting": dict(result.setting),
        "inverted": list(inverted),
    }


def _optional(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate_dict(estimate)
