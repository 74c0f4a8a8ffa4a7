"""The table of verbs: what may be asked of a daemon, whatever carries the question."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

import qkdctl

Json = Mapping[str, Any]
"""What JSON calls an object."""

SHOWN_PROBLEMS = 3
"""Mistakes that one refusal names, so that its text stays one readable line."""

SHOWN_CHARACTERS = 60
"""Length to which a caller's own words are cut when they are repeated to the caller."""


class ErrorCode(IntEnum):
    """Why a request failed; those of JSON-RPC 2.0, then our own."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_VERB = -32601
    BAD_PARAMETERS = -32602
    INTERNAL = -32603
    BUSY = -32001
    """Something else is under way, or too much is."""
    REFUSED = -32002
    """Not possible in this state, or outside limits; nothing was changed."""
    INSTRUMENT = -32003
    """An instrument failed; what it was told may or may not have arrived."""
    CANCELLED = -32004
    """Ended on request; what it had changed was put back."""
    STOPPING = -32005
    """The daemon ends."""


class OperationError(Exception):
    """An operation failed or was refused, in words for the operator.

    Attributes:
        code: Why; one of ErrorCode.
        message: What is wrong, without a full stop.
        cure: What the operator can do, or None.
    """

    def __init__(self, code: int, message: str, cure: str | None = None) -> None:
        self.code = code
        self.message = message
        self.cure = cure
        super().__init__(f"{message}; {cure}" if cure else message)


class Operations(Protocol):
    """What a daemon does for its operators; every result is JSON-able.

    The models named in the table describe the results. A method raises OperationError, or lets an
    InstrumentError through. A cancelled method puts back what it had changed and only then lets
    the cancellation out; where that fails it raises instead, saying what is now unknown.
    """

    async def status(self) -> Json:
        """Return a Status."""
        ...

    async def instruments(self) -> Sequence[Json]:
        """Return one InstrumentStatus per instrument."""
        ...

    async def knobs(self) -> Sequence[Json]:
        """Return one KnobStatus per knob."""
        ...

    async def knob_set(self, name: str, value: float) -> Json:
        """Set one knob through its limits and interlock; return a KnobValue as read back."""
        ...

    async def safe(self) -> Json:
        """Shut the light, take voltages to rest, stay there; return a StateChange."""
        ...

    async def resume(self) -> Json:
        """Leave the safe state, or go on with a paused calibration; return a StateChange."""
        ...

    async def pause(self, *, keeps_light: bool) -> Json:
        """Pause the calibration before its next window; return a StateChange."""
        ...

    async def finish(self) -> Json:
        """End the calibration with the best point known; return a StateChange."""
        ...

    def calibrate(self, stages: Sequence[str], *, is_continued: bool) -> AsyncIterator[Json]:
        """Run stages (what is needed, if none is named); yield Progress, then the report."""
        ...

    async def history(self, kind: str, limit: int, since_s: float) -> Json:
        """Return Rows, oldest first: the newest ``limit`` rows since a time."""
        ...

    def events(self) -> AsyncIterator[Json]:
        """Yield what happens from now on, one flat object each, for as long as it is asked."""
        ...

    async def stop(self) -> Json:
        """Make the bench safe and let the daemon end; return a StateChange once light is off."""
        ...


class Parameters(BaseModel):
    """Parameters of a verb: given by name, unknown ones refused, nothing converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NoParameters(Parameters):
    """No parameters."""


class KnobSet(Parameters):
    """Which knob goes where."""

    name: str = Field(max_length=100)
    value: float = Field(description="Setting wanted, in the knob's own unit.")


class Calibrate(Parameters):
    """Which stages to run."""

    stages: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="In order; if empty all that the link has, those left out that are still good.",
    )
    is_continued: bool = Field(
        False,
        description="Whether the latest unfinished run of the one stage named is gone on with.",
    )


class Pause(Parameters):
    """How to pause."""

    keeps_light: bool = Field(False, description="Whether the light stays on meanwhile.")


class Cancel(Parameters):
    """What to cancel."""

    request: int | str | None = Field(
        None,
        description="Id of a request on this connection; null: whatever calibration is under way.",
    )


class ReadHistory(Parameters):
    """Which part of the record."""

    kind: Literal["windows", "trials", "events", "calibrations"]
    limit: int = Field(100, ge=1, le=10_000, description="Newest rows only.")
    since_s: float = Field(0.0, description="Earliest time, seconds since the epoch.")


class Result(BaseModel):
    """What a verb answers."""

    model_config = ConfigDict(extra="forbid")


class Interval(Result):
    """A number with its 90 % interval; the value is null where nothing was seen."""

    value: float | None
    low: float
    high: float


class LinkHealth(Result):
    """Whether one instrument can be talked to."""

    ok: bool
    error: str | None


class StateChange(Result):
    """Where the daemon now stands."""

    state: str
    reason: str | None


Basis = Literal["Z", "X"]

INVERTED = (
    "Bases whose bits are inverted in software, as if the two detectors of each were exchanged; "
    "whoever makes key of the clicks has to do the same."
)


class StageFigure(Result):
    """What a stage before the alignment measures, before and after."""

    name: str
    unit: str = Field(description="Empty for a number.")
    target: float | None = Field(description="Value wanted, where there is one.")
    before: Interval | None
    after: Interval | None


class StageResult(Result):
    """What one stage found, measured before and after by fresh windows."""

    stage: str | None = None
    outcome: Literal["accepted", "skipped", "rolled-back", "failed"]
    reason: str | None = None
    figure: StageFigure | None = Field(
        None, description="What the stages before the alignment measure instead of a QBER."
    )
    sampler: str | None = Field(None, description="The search that found the setting.")
    seed: int | None = None
    qber_before: Interval | None = None
    qber_after: Interval | None = None
    predicted_qber: float | None = None
    expected_excess: float | None = Field(
        None, description="Posterior mean of the QBER above the best reachable one."
    )
    excess_q90: float | None = Field(None, description="Its 90 % quantile.")
    excess_bound: float | None = Field(
        None, description="Mean excess that the best design could reach with as many photons."
    )
    photons: int = Field(0, description="Detections spent, whatever for.")
    photons_by_phase: dict[str, int] = Field(default_factory=dict)
    settings: int = Field(0, description="Settings tried.")
    duration_s: float = 0.0
    setting: dict[str, float] = Field(default_factory=dict, description="Left in force.")
    inverted: list[Basis] = Field(default_factory=list, description=INVERTED)


class CalibrationReport(Result):
    """What a calibration came to."""

    results: list[StageResult]


class Progress(Result):
    """How far a calibration is."""

    stage: str
    phase: str
    settings: int = 0
    photons: int = 0
    qber: Interval | None = None
    expected_excess: float | None = None
    excess_q90: float | None = None
    elapsed_s: float = 0.0
    setting: dict[str, float] = Field(default_factory=dict)
    note: str | None = None


class TrackerStatus(BaseModel):
    """One tracker: its state, and figures of its own."""

    model_config = ConfigDict(extra="allow")

    state: str = Field(description="Such as following, frozen, watching or lost.")


class TrackingStatus(Result):
    """What is held while key is made, and at what cost; averages over ten minutes."""

    trackers: dict[str, TrackerStatus]
    disturbance: str | None = Field(description="cut, stray light or jump; null where none is.")
    window_s: float = Field(description="Exposure of the last window, s.")
    drift_rad: float | None = Field(description="Drift per angle in one second, as learnt, rad.")
    looked_at_share: float = Field(description="Share of the detections that are no key for it.")
    dither_qber: float = Field(description="QBER that dither adds to the key.")
    dither_scale: float = Field(description="By how much the budget scales dither down.")
    key_cost: float = Field(description="Share of the key that tracking costs, 0 to 1.")
    max_key_cost: float | None = Field(description="Share that it may cost.")


class LiveKeyRate(Result):
    """Secret key rate of an endless key at the link as it is held, with its 90 % interval."""

    bits_per_pulse: Interval = Field(description="Per pulse of the signal.")
    bits_per_s: Interval


class FeedCounts(Result):
    """What has become of the windows that the QKD stack posted."""

    accepted: int
    refused: dict[str, int] = Field(description="By reason.")
    missing: int = Field(description="Numbers that never came, or came too late.")
    reordered: int = Field(description="Those that came out of order, and were put in order.")
    restarts: int = Field(description="How often a stream of numbers began anew.")
    dropped: int = Field(description="Oldest ones lost because nobody used them.")
    mixed: int = Field(description="Those during which the setting changed: tracking leaves them.")
    heard_s: float | None = Field(description="When the newest came, seconds since the epoch.")
    delay_s: float | None = Field(description="From the end of a window until it came, s.")


class Status(Result):
    """The link at a glance."""

    link: str
    state: str
    reason: str | None
    since_s: float = Field(description="When this state began, seconds since the epoch.")
    now_s: float = Field(description="The daemon's clock, seconds since the epoch.")
    version: str
    qber: Interval | None
    qber_z: Interval | None
    qber_x: Interval | None
    expected_excess: float | None
    excess_q90: float | None = Field(None, description="Its 90 % quantile.")
    limit_excess: float | None = Field(
        None, description="Least mean excess that any tracker could reach at this drift and rate."
    )
    detection_rate_hz: float | None
    light_on: bool | None = Field(description="Null where the shutter's state is unknown.")
    last_run: str | None = Field(description="How the previous run ended, if it did not end well.")
    instruments: dict[str, LinkHealth]
    setting: dict[str, float | None]
    inverted: list[Basis] = Field(default_factory=list, description=INVERTED)
    last_calibration: dict[str, JsonValue] | None
    alarms: dict[str, str] = Field(
        default_factory=dict, description="Those that are up, by name, with what they say."
    )
    key_rate: LiveKeyRate | None = Field(
        None, description="Null while nothing is held, or without two decoys."
    )
    tracking: TrackingStatus | None = Field(None, description="Null while nothing is held.")
    feed: FeedCounts | None = Field(None, description="Null where the stack posts nothing.")


class InstrumentStatus(Result):
    """One instrument."""

    name: str
    kind: str
    resource: str
    identity: str | None
    ok: bool
    health: dict[str, JsonValue]


class KnobStatus(Result):
    """One knob and its limits."""

    name: str
    value: float | None = Field(description="Last confirmed setting; null where it is unknown.")
    unit: str
    minimum: float
    maximum: float
    instrument: str
    channel: str


class KnobValue(Result):
    """A setting as read back."""

    name: str
    value: float
    unit: str


class Rows(Result):
    """Part of the record, oldest first; what a row holds depends on the kind."""

    rows: list[dict[str, JsonValue]]


class Cancelled(Result):
    """How many requests were cancelled; each of them has been answered by now."""

    cancelled: int


class Ended(Result):
    """A subscription ended because the daemon closed it."""

    ended: bool


Call = Callable[[Operations, Any], Awaitable[Json | Sequence[Json]]]
Stream = Callable[[Operations, Any], AsyncIterator[Json]]


@dataclass(frozen=True)
class Verb:
    """One thing that may be asked.

    Attributes:
        doc: What it does, for the operator.
        parameters: Model of its parameters.
        result: Validates the result; the daemon's tests hold it against this.
        changes: Whether it may change the bench or the daemon: such requests are logged.
        call: Answers at once, or None.
        stream: Tells its progress before it answers, or None.
        notification: Method of the messages that a stream sends before its response.
        is_result: Tells the item of a stream that is its result.
        at_end: Result of a stream that has none of its own.
        lives_with_client: Whether it ends when its client goes away.
        failures: Codes of our own that its errors may have.
    """

    doc: str
    parameters: type[Parameters]
    result: TypeAdapter[Any]
    changes: bool = False
    call: Call | None = None
    stream: Stream | None = None
    notification: str | None = None
    is_result: Callable[[Json], bool] = lambda _: False
    at_end: Json | None = None
    lives_with_client: bool = False
    failures: tuple[ErrorCode, ...] = ()

    def parse(self, name: str, parameters: object) -> Any:
        """Validate parameters; raise OperationError in one clear sentence."""
        try:
            return self.parameters.model_validate({} if parameters is None else parameters)
        except ValidationError as exc:
            problems = "; ".join(self._sentence(error) for error in exc.errors()[:SHOWN_PROBLEMS])
            known = ", ".join(self.parameters.model_fields) or "none"
            raise OperationError(
                ErrorCode.BAD_PARAMETERS, f"{name}: {problems}", f"its parameters are: {known}"
            ) from None

    def _sentence(self, error: Any) -> str:
        where = shown(".".join(map(str, error["loc"])))
        match error["type"]:
            case "extra_forbidden":
                return f"there is no parameter {where}"
            case "missing":
                return f"parameter {where} is missing"
            case "model_type":
                return "parameters are given by name"
            case _:
                return f"parameter {where}: {error['msg']}"


def shown(text: str) -> str:
    """Quote a caller's own words, cut to a length that a log line bears."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"


_CHANGE_FAILURES = (ErrorCode.BUSY, ErrorCode.REFUSED, ErrorCode.INSTRUMENT)

VERBS: Mapping[str, Verb] = {
    "status": Verb(
        "Tell state, QBER, light, instruments and setting at a glance.",
        NoParameters,
        TypeAdapter(Status),
        call=lambda daemon, _: daemon.status(),
    ),
    "instruments": Verb(
        "List instruments with their identity and how their links fare.",
        NoParameters,
        TypeAdapter(list[InstrumentStatus]),
        call=lambda daemon, _: daemon.instruments(),
    ),
    "knobs": Verb(
        "List knobs with their last confirmed setting and their limits.",
        NoParameters,
        TypeAdapter(list[KnobStatus]),
        call=lambda daemon, _: daemon.knobs(),
    ),
    "knob_set": Verb(
        "Set one knob, within its limits, and tell what was read back.",
        KnobSet,
        TypeAdapter(KnobValue),
        changes=True,
        call=lambda daemon, wanted: daemon.knob_set(wanted.name, wanted.value),
        failures=_CHANGE_FAILURES,
    ),
    "safe": Verb(
        "Shut the light, take voltages to rest and stay there.",
        NoParameters,
        TypeAdapter(StateChange),
        changes=True,
        call=lambda daemon, _: daemon.safe(),
        failures=(ErrorCode.INSTRUMENT,),
    ),
    "resume": Verb(
        "Leave the safe state, or go on with a paused calibration.",
        NoParameters,
        TypeAdapter(StateChange),
        changes=True,
        call=lambda daemon, _: daemon.resume(),
        failures=_CHANGE_FAILURES,
    ),
    "calibrate": Verb(
        "Run calibration stages, telling progress; goes on when its client goes away.",
        Calibrate,
        TypeAdapter(CalibrationReport),
        changes=True,
        stream=lambda daemon, wanted: daemon.calibrate(
            wanted.stages, is_continued=wanted.is_continued
        ),
        notification="progress",
        is_result=lambda item: "results" in item,
        failures=(*_CHANGE_FAILURES, ErrorCode.CANCELLED, ErrorCode.STOPPING),
    ),
    "pause": Verb(
        "Pause the calibration before its next window, and shut the light.",
        Pause,
        TypeAdapter(StateChange),
        changes=True,
        call=lambda daemon, wanted: daemon.pause(keeps_light=wanted.keeps_light),
        failures=(ErrorCode.REFUSED,),
    ),
    "finish": Verb(
        "End the calibration's search; fresh windows decide whether its best point is kept.",
        NoParameters,
        TypeAdapter(StateChange),
        changes=True,
        call=lambda daemon, _: daemon.finish(),
        failures=(ErrorCode.REFUSED,),
    ),
    "cancel": Verb(
        "Cancel a request that is under way; answered once what it had changed was put back.",
        Cancel,
        TypeAdapter(Cancelled),
        changes=True,
        failures=(ErrorCode.REFUSED,),
    ),
    "history": Verb(
        "Read the record: windows, trials, events or calibrations.",
        ReadHistory,
        TypeAdapter(Rows),
        call=lambda daemon, part: daemon.history(part.kind, part.limit, part.since_s),
    ),
    "subscribe": Verb(
        "Tell events as they happen until the client closes the connection or cancels.",
        NoParameters,
        TypeAdapter(Ended),
        stream=lambda daemon, _: daemon.events(),
        notification="event",
        at_end={"ended": True},
        lives_with_client=True,
        failures=(ErrorCode.CANCELLED, ErrorCode.STOPPING),
    ),
    "stop": Verb(
        "Make the bench safe and end the daemon.",
        NoParameters,
        TypeAdapter(StateChange),
        changes=True,
        call=lambda daemon, _: daemon.stop(),
        failures=(ErrorCode.INSTRUMENT,),
    ),
}
"""Every verb by its name; ``cancel`` alone is carried out by whatever carries the requests."""


def openrpc() -> dict[str, Any]:
    """Describe the control API as an OpenRPC document.

    Source: the OpenRPC specification 1.3.2, https://spec.open-rpc.org. Notifications, for which
    it has no place, stand beside their method as ``x-notification``.
    """
    schemas: dict[str, Any] = {}
    methods = [_method(name, verb, schemas) for name, verb in VERBS.items()]
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "qkdctl control API",
            "version": qkdctl.__version__,
            "description": (
                "JSON-RPC 2.0 on a Unix socket, one object per line. Every request has an id; "
                "there are no batches. The notification 'lost' tells how many earlier "
                "notifications a slow client has missed."
            ),
        },
        "methods": methods,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _method(name: str, verb: Verb, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = verb.parameters.model_json_schema(ref_template=_REFERENCE)
    required = parameters.get("required", [])
    method: dict[str, Any] = {
        "name": name,
        "summary": verb.doc,
        "paramStructure": "by-name",
        "params": [
            {"name": field, "required": field in required, "schema": schema}
            for field, schema in parameters.get("properties", {}).items()
        ],
        "result": {"name": f"{name}_result", "schema": _schema(verb.result, schemas)},
        "errors": [{"code": int(code), "message": code.name.lower()} for code in verb.failures],
    }
    if verb.notification:
        method["x-notification"] = {
            "method": verb.notification,
            "params": _NOTIFICATIONS[verb.notification](schemas),
        }
    return method


_REFERENCE = "#/components/schemas/{model}"


def _schema(adapter: TypeAdapter[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Write the schema, moving what it refers to into ``schemas``."""
    schema = adapter.json_schema(ref_template=_REFERENCE)
    schemas |= schema.pop("$defs", {})
    return schema


_NOTIFICATIONS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "progress": lambda schemas: _schema(TypeAdapter(Progress), schemas),
    "event": lambda _: {
        "type": "object",
        "properties": {"time_s": {"type": "number"}, "kind": {"type": "string"}},
        "required": ["time_s", "kind"],
    },
}
