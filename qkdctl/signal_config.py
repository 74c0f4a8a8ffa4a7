"""The stages before the alignment in the testbed file, and what they need of the rest of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from calibration.attenuation import AttenuationSettings
from calibration.bias import BiasSettings
from calibration.clicks import STATES
from calibration.detector import DetectorSettings
from calibration.key_rate_stage import KeyRateSettings
from qkdctl.names import Name, State

if TYPE_CHECKING:
    from qkdctl.config import Testbed

Mistake = tuple[str, str, str]
"""Key in the file, what is wrong with it, and the cure."""


class AttenuationConfig(AttenuationSettings):
    """The attenuation stage, and its power meter."""

    power_meter: Name


class BiasConfig(BiasSettings):
    """The bias stage, and what sets the bias: a knob, or a controller that locks by itself."""

    knob: Name | None = None
    controller: Name | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.knob is None) == (self.controller is None):
            raise ValueError("name either the knob of the bias voltage or a bias controller")
        return self


class DetectorConfig(DetectorSettings):
    """The detector stage, and the knob of each detector's bias."""

    knobs: dict[State, Name]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if set(self.knobs) != set(STATES):
            raise ValueError("knobs must name one for each of H, V, D and A")
        if len(set(self.knobs.values())) != len(STATES):
            raise ValueError("two detectors share a knob; give each its own")
        return self


class KeyRateConfig(KeyRateSettings):
    """The outer loop for the key rate, and its knobs."""

    knobs: list[Name] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.knobs)) != len(self.knobs):
            raise ValueError("a knob is named twice")
        if self.least_photons >= self.most_photons:
            raise ValueError("least_photons must be below most_photons")
        return self


def signal_mistakes(testbed: "Testbed") -> Iterator[Mistake]:
    """Find what these stages name and need that is not there."""
    stages = testbed.stages
    if stages.attenuation is not None:
        meter = stages.attenuation.power_meter
        yield from _missing(
            "stages.attenuation.power_meter", "instrument", [meter], testbed.instruments
        )
    if stages.bias is not None:
        yield from _bias_mistakes(testbed, stages.bias)
    if stages.delay is not None:
        yield from _pattern_only("stages.delay", testbed)
        if len(set(testbed.receiver.inputs.values())) < len(STATES):
            what = "needs an input of its own for each detector"
            yield "stages.delay", what, "remove it, and give receiver.delays_ps by hand"
    if stages.detector is not None:
        named = list(stages.detector.knobs.values())
        yield from _missing("stages.detector.knobs", "knob", named, testbed.knobs)
    if stages.key_rate is not None:
        yield from _key_rate_mistakes(testbed, stages.key_rate)


def _key_rate_mistakes(testbed: "Testbed", key_rate: KeyRateConfig) -> Iterator[Mistake]:
    yield from _pattern_only("stages.key-rate", testbed)
    yield from _missing("stages.key-rate.knobs", "knob", key_rate.knobs, testbed.knobs)
    for name in key_rate.knobs:
        if name in testbed.alignment.knobs:
            what = f"knob {name!r} aligns the link, and the tracker moves it"
            yield "stages.key-rate.knobs", what, "remove it"


def _bias_mistakes(testbed: "Testbed", bias: BiasConfig) -> Iterator[Mistake]:
    yield from _pattern_only("stages.bias", testbed)
    if bias.knob is not None:
        yield from _missing("stages.bias.knob", "knob", [bias.knob], testbed.knobs)
    if bias.controller is not None:
        yield from _missing(
            "stages.bias.controller", "instrument", [bias.controller], testbed.instruments
        )
    signal, sent = next(iter(testbed.link.intensities)), testbed.link.pattern.intensities
    if bias.vacuum == signal or bias.vacuum not in sent:
        what = f"the pattern sends no intensity {bias.vacuum!r} beside the signal"
        yield "stages.bias.vacuum", what, "name the intensity whose pulses should be empty"


def _pattern_only(key: str, testbed: "Testbed") -> Iterator[Mistake]:
    if testbed.receiver.source != "pattern":
        what = f"tells slots apart, which receiver.source = {testbed.receiver.source!r} does not"
        yield key, what, 'remove it, or use a time tagger and source = "pattern"'


def _missing(
    key: str, what: str, names: Sequence[str], known: Mapping[str, object]
) -> Iterator[Mistake]:
    for name in names:
        if name not in known:
            offered = ", ".join(sorted(known)) or "(none defined)"
            yield key, f"there is no {what} {name!r}", f"name one of {offered}"
