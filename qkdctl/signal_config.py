"""The stages before the alignment in the testbed file, and what they need of the rest of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from calibration.attenuation import AttenuationSettings
from calibration.bias import BiasSettings
from calibration.clicks import STATES
from calibration.crowds import EARLY, LATE, MOST_OF_SLOT, crowds_of
from calibration.delay import DelaySettings
from calibration.detector import DetectorSettings
from calibration.key_rate_stage import KeyRateSettings
from calibration.modulation_settings import ModulationSettings
from qkdctl.names import Name, State

if TYPE_CHECKING:
    from qkdctl.config import Testbed

Mistake = tuple[str, str, str]
"""Key in the file, what is wrong with it, and the cure."""

LEAST_LEVEL = 0.01
"""Level, over the signal, below which a drive has no say: extinction and bias make it."""


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


class ModulationConfig(ModulationSettings):
    """The modulation stage, and the knobs of the drives of states and of intensities."""

    states: dict[State, Name] = Field(default_factory=dict)
    intensities: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.states or self.intensities):
            raise ValueError("name the knobs of states, of intensities, or of both")
        if "H" in self.states:
            raise ValueError("states must not name H: it is the reference and stays where it is")
        if self.states and self.half_wave_v is None:
            raise ValueError("states need half_wave_v: the drive for half the circle, nominal")
        if self.intensities and self.intensity_half_wave_v is None:
            raise ValueError(
                "intensities need intensity_half_wave_v: the drive from null to peak, nominal"
            )
        knobs = [*self.states.values(), *self.intensities.values()]
        if len(set(knobs)) < len(knobs):
            raise ValueError("a knob drives two of the states and intensities; give each its own")
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
        yield from _delay_mistakes(testbed, stages.delay)
    if stages.detector is not None:
        if testbed.link.encoding != "polarization":
            what = "takes the light beside the gates of an interferometer for afterpulses"
            yield "stages.detector", what, "remove it"
        named = list(stages.detector.knobs.values())
        yield from _missing("stages.detector.knobs", "knob", named, testbed.knobs)
    if stages.modulation is not None:
        yield from _modulation_mistakes(testbed, stages.modulation)
    if stages.key_rate is not None:
        yield from _key_rate_mistakes(testbed, stages.key_rate)


def _delay_mistakes(testbed: "Testbed", delay: DelaySettings) -> Iterator[Mistake]:
    yield from _pattern_only("stages.delay", testbed)
    key, delay_ps = "stages.delay.interferometer_ps", delay.interferometer_ps
    if testbed.link.encoding == "polarization":
        if delay_ps is not None:
            yield key, "a link of polarization has no interferometer", "remove it"
    elif delay_ps is None:
        yield key, "is missing", "give the delay between the arms of the interferometers, ps"
    elif delay_ps > (longest_ps := MOST_OF_SLOT * 1e12 / testbed.link.clock_hz):
        yield key, f"is more than a third of a slot, {longest_ps:g} ps", "correct it"
    inputs, by_hand = testbed.receiver.inputs, "remove it, and give receiver.delays_ps by hand"
    if testbed.link.encoding == "time-bin" and inputs[EARLY] != inputs[LATE]:
        what = f"tells early from late at one input only, {EARLY} and {LATE} have two"
        yield "stages.delay", what, by_hand
    try:
        crowds_of(inputs, delay_ps)
    except ValueError as exc:
        yield "stages.delay", str(exc), by_hand


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


def _modulation_mistakes(testbed: "Testbed", modulation: ModulationConfig) -> Iterator[Mistake]:
    yield from _pattern_only("stages.modulation", testbed)
    for part, knobs in (("states", modulation.states), ("intensities", modulation.intensities)):
        key = f"stages.modulation.{part}"
        yield from _missing(key, "knob", list(knobs.values()), testbed.knobs)
    if modulation.states and testbed.link.encoding == "time-bin":
        what = "time-bin makes H and V by intensity: there is no angle between the states to drive"
        yield "stages.modulation.states", what, "remove it"
    for name in modulation.intensities:
        if mistake := _level_mistake(testbed, name):
            yield f"stages.modulation.intensities.{name}", *mistake


def _level_mistake(testbed: "Testbed", name: str) -> tuple[str, str] | None:
    """Tell what keeps an intensity's level from being driven: problem and cure."""
    levels, sent = testbed.link.intensities, testbed.link.pattern.intensities
    signal = next(iter(levels))
    if name == signal:
        return "the signal is what levels are compared with", "set it by stages.attenuation"
    if name not in sent:
        return (
            f"the pattern sends no intensity {name!r}",
            f"name one of {', '.join(dict.fromkeys(sent))}",
        )
    if levels[name] < LEAST_LEVEL * levels[signal]:
        return "its pulses are as empty as the modulator's null", "leave it to stages.bias"
    if levels[name] >= levels[signal]:
        return f"it is no darker than {signal!r}, the peak", "correct link.intensities"
    return None


def _pattern_only(key: str, testbed: "Testbed") -> Iterator[Mistake]:
    source = testbed.receiver.calibration_source
    if source != "pattern":
        what = f"tells slots apart, which receiver.source = {source!r} does not"
        yield key, what, 'remove it, or use a time tagger and source = "pattern"'


def _missing(
    key: str, what: str, names: Sequence[str], known: Mapping[str, object]
) -> Iterator[Mistake]:
    for name in names:
        if name not in known:
            offered = ", ".join(sorted(known)) or "(none defined)"
            yield key, f"there is no {what} {name!r}", f"name one of {offered}"
