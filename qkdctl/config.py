"""The testbed file: one TOML file that says what a link is made of."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration.delay import DelaySettings
from calibration.phase_settings import PhaseSettings
from calibration.polarization import PolarizationSettings
from drivers.calibration_curve import CalibrationCurve
from drivers.registry import Options, driver_entry
from qkdctl.feed_config import FeedConfig
from qkdctl.names import Name, State
from qkdctl.pause_config import PausingConfig, WatchConfig
from qkdctl.side_config import BiasTrackingConfig, DelayTrackingConfig, side_mistakes
from qkdctl.signal_config import (
    AttenuationConfig,
    BiasConfig,
    DetectorConfig,
    KeyRateConfig,
    ModulationConfig,
    signal_mistakes,
)


@dataclass(frozen=True)
class Problem:
    """One mistake in a testbed file.

    Attributes:
        where: File, and the key in it where there is one.
        what: What is wrong.
        cure: How to mend it.
    """

    where: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.cure}"


class TestbedFileError(Exception):
    """A testbed file cannot be used; carries every mistake found in it."""

    __test__ = False

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class Model(BaseModel):
    """A part of the testbed file: unknown keys are refused, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PatternConfig(Model):
    """Alice's repeating pattern: slot k carries ``states[k mod n]``, ``intensities[k mod m]``."""

    states: str = Field("HVDA", pattern=r"^[HVDA]+$", max_length=4096)
    intensities: tuple[Name, ...] = Field(min_length=1, max_length=4096)


class LinkConfig(Model):
    """What Alice sends."""

    name: Name
    encoding: Literal["polarization", "time-bin", "four-phase"] = Field(
        "polarization",
        description="What H, V, D and A stand for: linear polarizations; early, late, phase 0 and "
        "pi; or phases 0, pi, pi/2 and 3 pi/2.",
    )
    clock_hz: float = Field(gt=0, le=1e11, description="Pulse rate, Hz.")
    intensities: dict[Name, Annotated[float, Field(ge=0, le=10)]] = Field(
        min_length=1,
        description="Mean photon number per pulse leaving Alice; the first one is the signal.",
    )
    pattern: PatternConfig


class ReceiverConfig(Model):
    """Where windows come from."""

    source: Literal["pattern", "scan", "feed"] = "pattern"
    calibrate_by: Literal["pattern", "scan"] | None = Field(
        None, description="Where calibrations take windows from, where tracking has the feed."
    )
    tagger: Name | None = Field(
        None, description="Instrument that stamps or counts detections; needed but for the feed."
    )
    alice: Name | None = Field(
        None, description="Instrument that selects what Alice sends; needed but for the feed."
    )
    inputs: dict[State, Annotated[int, Field(ge=1, le=64)]] = Field(default_factory=dict)
    delays_ps: dict[State, float] = Field(default_factory=dict)
    gate_ps: float | None = Field(None, gt=0, description="Accepted width about a slot's centre.")
    expected_rate_hz: float = Field(gt=0, description="Detections per second, all inputs.")
    max_rate_hz: float = Field(gt=0, description="Above this rate the light is shut.")
    min_window_s: float = Field(1e-3, gt=0)
    max_window_s: float = Field(2.0, gt=0)

    @property
    def calibration_source(self) -> Literal["pattern", "scan", "feed"]:
        """Where calibrations take windows from."""
        return self.calibrate_by or self.source

    @model_validator(mode="after")
    def _has_what_it_reads(self) -> Self:
        if self.calibrate_by is not None and self.source != "feed":
            raise ValueError('calibrate_by goes with source = "feed"; remove it, or set source')
        if self.calibration_source == "feed":
            return self
        for name in ("tagger", "alice"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing; name the instrument")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.calibration_source == "feed" and not self.inputs:
            return self._ordered()
        if set(self.inputs) != set("HVDA"):
            raise ValueError("inputs must name all of H, V, D and A")
        if self._overlapping():
            raise ValueError(
                "two detectors share an input; give each its own, or tell early from late pulses "
                "by delays_ps and gate_ps"
            )
        return self._ordered()

    def _ordered(self) -> Self:
        if self.min_window_s > self.max_window_s:
            raise ValueError("min_window_s is above max_window_s; swap them")
        if self.expected_rate_hz > self.max_rate_hz:
            raise ValueError("expected_rate_hz is above max_rate_hz; raise the ceiling")
        return self

    def _overlapping(self) -> bool:
        """Whether two detectors share an input and nothing tells their clicks apart."""
        sharing = [
            (one, other)
            for one, other in combinations(self.inputs, 2)
            if self.inputs[one] == self.inputs[other]
        ]
        if not sharing:
            return False
        if self.calibration_source == "scan" or self.gate_ps is None:
            return True
        apart_ps = [abs(self._delay_ps(one) - self._delay_ps(other)) for one, other in sharing]
        return min(apart_ps) < self.gate_ps

    def _delay_ps(self, state: State) -> float:
        return self.delays_ps.get(state, 0.0)


class LightConfig(Model):
    """How the light is let in and shut."""

    attenuator: Name
    attenuation_db: float = Field(ge=0, description="Attenuation while light is on, dB.")


class CurveConfig(Model):
    """What an output brings about, from a data sheet or a measurement, point by point."""

    unit: str = Field(min_length=1, description="Unit of the values, and of the knob.")
    drive: tuple[float, ...] = Field(description="In the instrument's unit, rising.")
    value: tuple[float, ...] = Field(description="As many, rising or falling.")

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        self.curve()
        return self

    def curve(self) -> CalibrationCurve:
        """Give the curve itself."""
        return CalibrationCurve(self.drive, self.value, self.unit)


class KnobConfig(Model):
    """One scalar that an optimiser may set."""

    instrument: Name
    channel: str
    curve: CurveConfig | None = Field(
        None, description="Puts the knob in another unit than the instrument's."
    )
    minimum: float
    maximum: float
    resolution: float = Field(0.0, ge=0)
    slew_per_s: float | None = Field(None, gt=0)
    settle_s: float | None = Field(
        None, ge=0, le=600, description="Wait after a write, s; else what the driver knows."
    )
    hysteresis: float = Field(0.0, ge=0)
    approach: Literal["any", "from-below", "play-inverse"] = "any"
    period: float | None = Field(None, gt=0)
    rest: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError(
                f"minimum {self.minimum:g} is not below maximum {self.maximum:g}; swap them"
            )
        if self.rest is not None and not self.minimum <= self.rest <= self.maximum:
            raise ValueError(
                f"rest {self.rest:g} is outside {self.minimum:g} to {self.maximum:g}; "
                "choose a rest value within the limits"
            )
        return self


class PolarizationConfig(PolarizationSettings):
    """The polarization stage, and the seed of its searches."""

    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.knobs)) != len(self.knobs):
            raise ValueError("a knob is named twice; name each once")
        return self


class PhaseConfig(PhaseSettings):
    """The phase stage, and the seed of its searches."""

    seed: int = Field(0, ge=0)


class StagesConfig(Model):
    """Calibration stages, in dependency order; one of them aligns what the encoding needs."""

    attenuation: AttenuationConfig | None = None
    bias: BiasConfig | None = None
    delay: DelaySettings | None = None
    detector: DetectorConfig | None = None
    modulation: ModulationConfig | None = None
    key_rate: KeyRateConfig | None = Field(None, alias="key-rate")
    polarization: PolarizationConfig | None = None
    phase: PhaseConfig | None = None


class TrackingConfig(Model):
    """How a setting is held while key is made."""

    drift_rad_per_sqrt_s: float = Field(
        0.003, gt=0, description="First guess of the fibre's random walk; the tracker learns it."
    )
    window_s: float = Field(0.2, gt=0, description="Shortest exposure of a tracking window.")
    max_realignments_per_hour: int = Field(12, ge=0)
    recalibrate_after_s: float = Field(
        300.0,
        gt=0,
        description="How long the expected excess may stay above the stage's target_excess before "
        "the link is aligned anew, s.",
    )
    max_key_cost: float | None = Field(
        None,
        ge=1e-3,
        le=1,
        description="Share of the key that tracking may cost, 0 to 1; none: whatever holds best.",
    )
    bias: BiasTrackingConfig = BiasTrackingConfig()
    delay: DelayTrackingConfig = DelayTrackingConfig()


class SimulationConfig(Model):
    """The optical twin that ``qkdctl simulate`` puts behind the instruments."""

    seed: int = Field(0, ge=0)
    loss_db: float = Field(15.0, ge=0, description="Channel and receiver loss at zero attenuation.")
    efficiencies: dict[State, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: {"H": 0.2, "V": 0.18, "D": 0.21, "A": 0.19}
    )
    dark_hz: float = Field(40.0, ge=0)
    dead_time_s: float = Field(50e-9, ge=0)
    afterpulse_probability: float = Field(0.001, ge=0, lt=1)
    jitter_ps: float = Field(100.0, ge=0)
    visibility: float = Field(0.99, gt=0, le=1)
    drift_rad_per_sqrt_s: float = Field(0.003, ge=0)
    slow_drift_rad: float = Field(0.1, ge=0, description="Amplitude of the slow term.")
    slow_drift_period_s: float = Field(86_400.0, gt=0)
    hysteresis_v: float = Field(0.0, ge=0)
    z_share: float = Field(0.5, gt=0, lt=1, description="Light that goes to basis Z.")
    half_wave_v: float = Field(12.0, gt=0, description="Of the phase shifter, nominal, V.")
    half_wave_spread: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Largest relative error of that, and of the drives of stages.modulation; the "
        "true ones are drawn.",
    )
    state_loss_db: dict[State, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="What a state loses more than the brightest one, dB."
    )
    bins_per_slot: int = Field(5, ge=3, le=101, description="Slot over interferometer delay; odd.")
    delays_ps: dict[State, float] = Field(default_factory=dict)
    laser_offset_db: float = Field(
        0.0, description="How much brighter the laser is than link.intensities want it, dB."
    )
    modulator_null_v: float = Field(0.0, description="Null of the intensity modulator, V.")
    modulator_half_wave_v: float = Field(5.3, gt=0, description="Its half-wave voltage, V.")
    modulator_drift_v_per_hour: float = Field(0.0, description="How fast the null moves, V/h.")
    modulator_drift_v_per_sqrt_s: float = Field(
        0.0, ge=0, description="Random walk of the null beside that."
    )
    modulator_extinction_db: float = Field(35.0, gt=0)
    delay_drift_ps_per_sqrt_s: float = Field(
        0.0, ge=0, description="Random walk of when light arrives at each detector."
    )


class InstrumentConfig(Model):
    """One instrument; ``options`` are validated by the driver that ``kind`` names."""

    kind: str
    resource: str
    options: Options


class Testbed(Model):
    """A whole testbed file."""

    __test__ = False
    model_config = ConfigDict(extra="forbid", frozen=True, title="qkdctl testbed file")

    link: LinkConfig
    instruments: dict[Name, InstrumentConfig]
    receiver: ReceiverConfig
    feed: FeedConfig = FeedConfig()
    light: LightConfig
    knobs: dict[Name, KnobConfig]
    stages: StagesConfig
    tracking: TrackingConfig = TrackingConfig()
    pausing: PausingConfig = PausingConfig()
    watch: dict[Name, WatchConfig] = Field(default_factory=dict)
    simulation: SimulationConfig = SimulationConfig()

    @property
    def aligning_stage(self) -> Literal["polarization", "phase"]:
        """Name of the stage that aligns what the link's encoding needs aligned."""
        return "polarization" if self.link.encoding == "polarization" else "phase"

    @property
    def alignment(self) -> PolarizationConfig | PhaseConfig:
        """Settings of that stage."""
        settings: PolarizationConfig | PhaseConfig | None = getattr(
            self.stages, self.aligning_stage
        )
        if settings is None:
            raise ValueError(f"stages.{self.aligning_stage} is missing")
        return settings


def load_testbed(path: Path) -> Testbed:
    """Read and validate a testbed file.

    Raises:
        TestbedFileError: With every mistake found, each naming file, key and cure.
    """
    return parse_testbed(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise TestbedFileError where it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what, cure = "there is no such file", "check the path"
    except IsADirectoryError:
        what, cure = "this is a folder", "name the testbed file inside it"
    except PermissionError:
        what, cure = "may not be read", "check its permissions"
    except UnicodeDecodeError as exc:
        what, cure = f"is not UTF-8 text (byte {exc.start})", "save it as UTF-8"
    except tomllib.TOMLDecodeError as exc:
        what, cure = f"is not TOML: {exc}", "see https://toml.io for the format"
    raise TestbedFileError([Problem(str(path), what, cure)])


def parse_testbed(document: Mapping[str, Any], where: str) -> Testbed:
    """Validate the content of a testbed file; ``where`` names the file in errors."""
    instruments, problems = _parse_instruments(document.get("instruments", {}), where)
    try:
        testbed = Testbed.model_validate({**document, "instruments": instruments})
    except ValidationError as exc:
        raise TestbedFileError(problems + _problems(exc, where, Testbed)) from None
    if not problems:  # a name may be missing only because its own table is wrong
        problems = _cross_check(testbed, where)
    if problems:
        raise TestbedFileError(problems)
    return testbed


def _parse_instruments(
    section: object, where: str
) -> tuple[dict[str, InstrumentConfig], list[Problem]]:
    parsed: dict[str, InstrumentConfig] = {}
    problems: list[Problem] = []
    if not isinstance(section, Mapping):
        return parsed, [Problem(f"{where}: instruments", "is not a table", "write [instruments.x]")]
    for name, entry in section.items():
        try:
            parsed[name] = _parse_instrument(entry, f"{where}: instruments.{name}")
        except TestbedFileError as exc:
            problems += exc.problems
    return parsed, problems


def _parse_instrument(entry: object, where: str) -> InstrumentConfig:
    if not isinstance(entry, Mapping):
        raise TestbedFileError([Problem(where, "is not a table", "give it a kind and a resource")])
    kind, resource = entry.get("kind"), entry.get("resource")
    for key, value in (("kind", kind), ("resource", resource)):
        if not isinstance(value, str):
            raise TestbedFileError([Problem(f"{where}.{key}", "is missing", f'add {key} = "…"')])
    try:
        driver = driver_entry(str(kind))
    except KeyError as exc:
        cure = "choose one of those, or install the distribution that brings it"
        raise TestbedFileError([Problem(f"{where}.kind", str(exc.args[0]), cure)]) from None
    options = {key: value for key, value in entry.items() if key not in {"kind", "resource"}}
    try:
        validated = driver.options.model_validate(options)
    except ValidationError as exc:
        raise TestbedFileError(_problems(exc, where, driver.options)) from None
    return InstrumentConfig.model_construct(
        kind=str(kind), resource=str(resource), options=validated
    )


def _problems(error: ValidationError, where: str, model: type[BaseModel]) -> list[Problem]:
    separator = "." if ": " in where else ": "
    return [
        Problem(
            where + separator + ".".join(map(str, details["loc"])) if details["loc"] else where,
            details["msg"].removeprefix("Value error, ").replace("Extra inputs", "Unknown keys"),
            _cure(details["type"], [str(part) for part in details["loc"]], model),
        )
        for details in error.errors()
    ]


def _cure(kind: str, location: list[str], model: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            known = _known_keys(model, location[:-1])
            close = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            return f"remove it; {hint}"
        case "missing":
            return "add it"
        case "string_pattern_mismatch":
            return "names are small letters, digits and hyphens; states are H, V, D or A"
        case _:
            return "correct the value"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Keys that the model knows at ``path``; names of free tables are skipped over."""
    current: Any = model
    for part in path:
        fields = getattr(current, "model_fields", {})
        annotation = fields[part].annotation if part in fields else current
        current = _inner_model(annotation)
    return sorted(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    """Find the model behind ``Model``, ``dict[str, Model]`` and the like."""
    for argument in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return annotation


def _cross_check(testbed: Testbed, where: str) -> list[Problem]:
    """Check what spans several tables: every name exists, no channel is driven twice."""
    problems = [
        Problem(
            f"{where}: {key}",
            f"there is no instrument {name!r}",
            f"name one of {', '.join(sorted(testbed.instruments)) or '(none defined)'}",
        )
        for key, name in _instrument_references(testbed)
        if name not in testbed.instruments
    ]
    problems += _check_alignment(testbed, where) + _check_feed(testbed, where)
    mistakes = [*signal_mistakes(testbed), *side_mistakes(testbed)]
    problems += [Problem(f"{where}: {key}", *rest) for key, *rest in mistakes]
    owners: dict[tuple[str, str], str] = {}
    for name, knob in testbed.knobs.items():
        other = owners.setdefault((knob.instrument, knob.channel), name)
        if other != name:
            problems.append(
                Problem(
                    f"{where}: knobs.{name}",
                    f"channel {knob.channel!r} of {knob.instrument!r} already belongs to knob "
                    f"{other!r}",
                    "give each channel to one knob only",
                )
            )
    unknown = set(testbed.link.pattern.intensities) - set(testbed.link.intensities)
    problems += [
        Problem(
            f"{where}: link.pattern.intensities",
            f"there is no intensity {name!r}",
            f"define it under link.intensities or use {', '.join(testbed.link.intensities)}",
        )
        for name in sorted(unknown)
    ]
    return problems


def _check_feed(testbed: Testbed, where: str) -> list[Problem]:
    """Check that what is said of the feed is of use."""
    if testbed.feed != FeedConfig() and testbed.receiver.source != "feed":
        what, cure = "is not read", 'set receiver.source = "feed", or remove it'
        return [Problem(f"{where}: feed", what, cure)]
    if testbed.feed.alice_state is not None and testbed.receiver.calibrate_by is None:
        what, cure = "has no calibration to take turns with", "add receiver.calibrate_by"
        return [Problem(f"{where}: feed.alice_state", what, cure)]
    return []


def _check_alignment(testbed: Testbed, where: str) -> list[Problem]:
    """Check that the link has the one stage that its encoding needs, and that its knobs exist."""
    needed, encoding = testbed.aligning_stage, testbed.link.encoding
    other = "phase" if needed == "polarization" else "polarization"
    if getattr(testbed.stages, needed) is None:
        what, cure = f"is missing: encoding {encoding!r} needs it", f"add [stages.{needed}]"
        return [Problem(f"{where}: stages.{needed}", what, cure)]
    if getattr(testbed.stages, other) is not None:
        what = f"has no place in a link of encoding {encoding!r}"
        return [Problem(f"{where}: stages.{other}", what, "remove it, or correct link.encoding")]
    key = "stages.polarization.knobs" if needed == "polarization" else "stages.phase.knob"
    return _check_retarders(testbed, where) + [
        Problem(
            f"{where}: {key}",
            f"there is no knob {name!r}",
            f"name one of {', '.join(sorted(testbed.knobs)) or '(none defined)'}",
        )
        for name in testbed.alignment.knobs
        if name not in testbed.knobs
    ]


def _check_retarders(testbed: Testbed, where: str) -> list[Problem]:
    """Check that the knobs of variable retarders say how much they retard."""
    stage = testbed.stages.polarization
    if stage is None or stage.actuator != "retarders":
        return []
    knobs = {name: testbed.knobs[name] for name in stage.knobs if name in testbed.knobs}
    return [
        Problem(
            f"{where}: knobs.{name}",
            "drives a variable retarder and does not say its retardance",
            f'add [knobs.{name}.curve] with unit = "waves", the cell\'s voltages as drive and its '
            "retardances as value; limits are in waves too",
        )
        for name, knob in knobs.items()
        if knob.curve is None or knob.curve.unit != "waves"
    ]


def _instrument_references(testbed: Testbed) -> list[tuple[str, str]]:
    return [
        *(
            (f"receiver.{key}", name)
            for key, name in (
                ("tagger", testbed.receiver.tagger),
                ("alice", testbed.receiver.alice),
            )
            if name is not None
        ),
        ("light.attenuator", testbed.light.attenuator),
        *((f"knobs.{name}.instrument", knob.instrument) for name, knob in testbed.knobs.items()),
        *(
            (f"watch.{name}.instrument", watch.instrument)
            for name, watch in testbed.watch.items()
            if watch.instrument is not None
        ),
    ]
