"""The stages before the alignment: built from the testbed file, their results as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from calibration.account import StageBudget
from calibration.attenuation import AttenuationProcedure
from calibration.bias import LockProcedure, NullProcedure
from calibration.delay import DelayProcedure
from calibration.detector import DetectorProcedure
from calibration.extinction import brightness_in_doubt
from calibration.folding import Pattern
from calibration.key_rate_stage import KeyRateProcedure, PatternKey
from calibration.link_model import link_model
from calibration.modulation import ModulationProcedure
from calibration.modulation_parts import IntensitiesPart, Part, StatesPart
from calibration.pulses import PulseReader
from calibration.signal_run import Figure, Procedure, SignalResult
from calibration.slots import SlotReader
from qkdctl.config import Testbed
from qkdctl.receiver import PatternReceiver, pattern_of
from qkdctl.signal_bench import SignalBench
from qkdctl.testbed import OpenTestbed

Settings = TypeVar("Settings")

DARK_AT_FIRST = frozenset({"attenuation"})
"""Stages that let in the light by themselves, step by step."""


@dataclass(frozen=True)
class Ground:
    """What a stage is built on.

    Attributes:
        bench: The opened testbed.
        start: Knobs in force.
        last: The stage's figure when it was run last, or None.
        is_bias_known: Whether the bias of the intensity modulator was right at some time.
    """

    bench: OpenTestbed
    start: Mapping[str, float]
    last: float | None
    is_bias_known: bool

    @property
    def config(self) -> Testbed:
        """The testbed file."""
        return self.bench.config

    @property
    def pattern(self) -> Pattern:
        """What Alice sends."""
        return pattern_of(self.config.link)

    @property
    def gate_share(self) -> float:
        """Share of a slot within the gate; all of it where nothing is gated."""
        receiver = self.bench.receiver
        if not isinstance(receiver, PatternReceiver):
            return 1.0
        return receiver.gate_ps / receiver.pattern.slot_ps


def budget_of(name: str, config: Testbed) -> StageBudget:
    """Return what a stage may spend."""
    settings: StageBudget = getattr(config.stages, field_of(name))
    return settings


def field_of(stage: str) -> str:
    """Return the field of the testbed file's stages that describes a stage."""
    return stage.replace("-", "_")


def _attenuation(ground: Ground) -> Procedure:
    settings, levels = _present(ground.config.stages.attenuation), ground.config.link.intensities
    is_bias_right = ground.is_bias_known or ground.config.stages.bias is None
    sent = [levels[name] for name in ground.pattern.intensities]
    return AttenuationProcedure(
        settings,
        SignalBench(ground.bench),
        ground.pattern,
        levels,
        _slots(ground) if isinstance(ground.bench.receiver, PatternReceiver) else None,
        doubt=1.0 if is_bias_right else brightness_in_doubt(sent),
    )


def _bias(ground: Ground) -> Procedure:
    settings, bench = _present(ground.config.stages.bias), SignalBench(ground.bench)
    slots, knob = _slots(ground), settings.knob
    if knob is None:
        return LockProcedure(settings, slots, bench.bias_lock())
    return NullProcedure(settings, slots, bench, knob, ground.start[knob])


def _delay(ground: Ground) -> Procedure:
    settings, inputs = _present(ground.config.stages.delay), ground.config.receiver.inputs
    levels = ground.config.link.intensities
    return DelayProcedure(settings, SignalBench(ground.bench), ground.pattern, inputs, levels)


def _slots(ground: Ground) -> SlotReader:
    gate_ps = ground.gate_share * ground.pattern.slot_ps
    source, inputs = SignalBench(ground.bench), ground.config.receiver.inputs
    levels = ground.config.link.intensities
    has_side_peaks = ground.config.link.encoding != "polarization"
    return SlotReader(source, ground.pattern, inputs, gate_ps, levels, has_side_peaks)


def _detector(ground: Ground) -> Procedure:
    settings, share = _present(ground.config.stages.detector), ground.gate_share
    gate_s = share * ground.pattern.slot_ps * 1e-12
    link = link_model(
        ground.pattern, ground.config.link.intensities, gate_s, settings.optical_error
    )
    bench = SignalBench(ground.bench)
    return DetectorProcedure(
        settings, bench, settings.knobs, ground.start, link, share, last=ground.last
    )


def _modulation(ground: Ground) -> Procedure:
    settings, bench = _present(ground.config.stages.modulation), SignalBench(ground.bench)
    pattern, inputs = ground.pattern, ground.config.receiver.inputs
    parts: list[Part] = []
    if settings.states:
        parts.append(StatesPart(settings, bench, settings.states))
    if settings.intensities:
        names, levels = pattern.intensity_names, ground.config.link.intensities
        parts.append(IntensitiesPart(settings, bench, settings.intensities, names, levels))
    gate_ps, inverted = ground.gate_share * pattern.slot_ps, ground.bench.inverted
    reader = PulseReader(bench, pattern, inputs, gate_ps, inverted)
    return ModulationProcedure(settings, reader, bench, ground.start, parts)


def _key_rate(ground: Ground) -> Procedure:
    settings = _present(ground.config.stages.key_rate)
    key = PatternKey(ground.pattern, ground.config.link.intensities)
    bench = SignalBench(ground.bench)
    return KeyRateProcedure(settings, bench, settings.knobs, ground.start, key)


SIGNAL_STAGES: Mapping[str, Callable[[Ground], Procedure]] = {
    "attenuation": _attenuation,
    "bias": _bias,
    "delay": _delay,
    "detector": _detector,
    "modulation": _modulation,
}
"""Every stage but the aligning one, in dependency order."""


OUTER_LOOPS: Mapping[str, Callable[[Ground], Procedure]] = {"key-rate": _key_rate}
"""What is run when it is asked for alone: it tunes together what the stages have set."""


def _present(settings: Settings | None) -> Settings:
    if settings is None:
        raise ValueError("the testbed file does not have this stage")
    return settings


def signal_result_dict(result: SignalResult) -> dict[str, Any]:
    """Write a stage's result as a JSON-able object."""
    return {
        "stage": result.stage,
        "outcome": result.outcome,
        "reason": result.reason,
        "figure": {
            "name": result.figure_name,
            "unit": result.unit,
            "target": result.target,
            "before": _figure_dict(result.before),
            "after": _figure_dict(result.after),
        },
        "photons": sum(result.photons.values()),
        "photons_by_phase": dict(result.photons),
        "settings": result.settings,
        "duration_s": result.duration_s,
        "setting": dict(result.setting),
    }


def _figure_dict(figure: Figure | None) -> dict[str, float] | None:
    return None if figure is None else vars(figure)
