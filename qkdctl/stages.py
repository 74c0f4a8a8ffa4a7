"""Calibration stages by name, and their results as JSON-able objects."""

from collections.abc import Callable
from typing import Any

from calibration.polarization import (
    PolarizationSettings,
    PolarizationStage,
    Progress,
    StageResult,
)
from qkdctl.config import Testbed
from qkdctl.events import estimate_dict


def _polarization(config: Testbed) -> PolarizationStage:
    stage = config.stages.polarization
    settings = PolarizationSettings(**stage.model_dump(exclude={"seed"}))
    return PolarizationStage(settings, seed=stage.seed)


STAGES: dict[str, Callable[[Testbed], PolarizationStage]] = {"polarization": _polarization}
"""Every stage, in dependency order."""


def make_stage(name: str, config: Testbed) -> PolarizationStage:
    """Build a stage as the testbed file wants it."""
    return STAGES[name](config)


def progress_dict(progress: Progress) -> dict[str, Any]:
    """Write progress as a JSON-able object."""
    raise NotImplementedError


def result_dict(result: StageResult) -> dict[str, Any]:
    """Write a stage's result as a JSON-able object."""
    raise NotImplementedError
