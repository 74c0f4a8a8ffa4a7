"""What a QKD stack may post: the counts of one of its windows, a JSON object per line, no key bits.

A line is read strictly. An unknown field is refused, and what looks like key bits is refused in
words of its own; no text of a refusal repeats what was sent.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration.clicks import STATES

VERSION = 1

MAX_LINE = 8192
"""Longest line, bytes; a table of counts takes some hundred."""

MAX_COUNT = 10**12
MAX_SEQUENCE = 2**53
"""Whole numbers up to here survive every JSON library."""

MAX_WINDOW_S = 3600.0

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Row = Annotated[list[Count], Field(min_length=4, max_length=4)]
Time = Annotated[float, Field(ge=0, le=1e11)]

Origin = Literal["calibration", "mismatched", "sampled", "error-correction"]

Reason = Literal[
    "too-long",
    "not-json",
    "key-bits",
    "malformed",
    "pooled",
    "duplicate",
    "too-late",
    "in-the-future",
]
"""Why a line is refused."""

_KEY_WORDS = frozenset({"bit", "bits", "key", "keys", "secret", "seed", "parity", "syndrome"})
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_ -]{0,31}$")
_DIGITS = re.compile(r"(0[xb])?[0-9A-Fa-f]{8,}$")
_ENCODED = re.compile(r"[0-9A-Za-z+/=_-]{16,}$")
"""Text that may stand for bits: binary or hexadecimal digits, base64."""

LONGEST_PLAIN_TEXT = 40
FEWEST_BITS = 8


class FeedError(ValueError):
    """A line is refused.

    Attributes:
        reason: The kind of mistake, one word.
        sequence: The window's number, where it could be read.
    """

    def __init__(self, reason: Reason, text: str, sequence: int | None = None) -> None:
        self.reason = reason
        self.sequence = sequence
        super().__init__(text)


class Part(BaseModel):
    """A part of a message: unknown fields are refused, no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Errors(Part):
    """Counts of alike bases, and the wrong ones among them."""

    sifted: Count
    errors: Count

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.errors > self.sifted:
            raise ValueError("there are more errors than sifted counts")
        return self


class Bases(Part):
    """Errors of each basis, or of both taken together where the stack does not tell them apart."""

    Z: Errors | None = None
    X: Errors | None = None
    both: Errors | None = None

    @model_validator(mode="after")
    def _are_there(self) -> Self:
        if self.both is not None and (self.Z is not None or self.X is not None):
            raise ValueError("'both' stands alone: give Z and X, or both together")
        if self.both is None and self.Z is None and self.X is None:
            raise ValueError("there are no counts: give Z and X, or both together")
        return self


class FeedMessage(Part):
    """The counts of one window of the QKD stack."""

    version: Literal[1] = Field(description="Of this format.")
    sequence: int = Field(
        ge=0,
        le=MAX_SEQUENCE,
        description="Number of the window; the next one has the next number.",
    )
    stream: str = Field(
        "",
        pattern=r"^[a-z][a-z0-9-]{0,19}$|^$",
        description="Name of the sequence of numbers, where several clients count for themselves.",
    )
    start_s: Time = Field(description="Start of the window by the stack's clock, s.")
    duration_s: float = Field(gt=0, le=MAX_WINDOW_S, description="Its length, s.")
    posted_s: Time | None = Field(
        None,
        description="The stack's clock when the message was posted, s. With it the offset of that "
        "clock is told; without it the clock is taken to be that of the daemon's machine.",
    )
    in_force_s: Time | None = Field(
        None,
        description="A time by the daemon's clock (now_s of qkdctl status) at which the setting "
        "was in force that the window was measured with; else that follows from the window's time.",
    )
    origin: Origin = Field(
        description="What these counts were before they were counted: calibration (frames that "
        "make no key), mismatched (bases differ), sampled (compared in public, then discarded), "
        "error-correction (of a key that is corrected already)."
    )
    sampled_share: float | None = Field(
        None, gt=0, le=1, description="Share of the sifted events that was sampled; with sampled."
    )
    counts: Annotated[list[Row], Field(min_length=4, max_length=4)] | None = Field(
        None, description="Sent state by detector, both in the order H, V, D, A."
    )
    bases: Bases | None = Field(None, description="Error counts, in place of the table.")
    singles: Row | None = Field(
        None, description="All clicks of each detector in this time, H, V, D, A, if known."
    )

    received_s: Time | None = Field(
        None,
        description="Written into a record by the daemon: its clock when the message came; nothing "
        "is done with it when it is posted.",
    )

    @property
    def end_s(self) -> float:
        """End of the window by the stack's clock, s."""
        return self.start_s + self.duration_s

    @property
    def is_pooled(self) -> bool:
        """Whether the errors of both bases are told together only."""
        return self.bases is not None and self.bases.both is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.counts is None) == (self.bases is None):
            raise ValueError("give counts (4 x 4) or bases (error counts), one of them")
        if (self.origin == "sampled") != (self.sampled_share is not None):
            raise ValueError("sampled_share goes with origin 'sampled', and with no other")
        if self.origin == "mismatched" and (self.counts is None or _matched(self.counts)):
            raise ValueError(
                "origin 'mismatched' needs counts with zeros where the bases are alike"
            )
        return self


def _matched(counts: Sequence[Sequence[int]]) -> int:
    """Sum the counts of alike bases."""
    size = len(STATES)
    return sum(counts[i][j] for i in range(size) for j in range(size) if i // 2 == j // 2)


def parse_message(line: bytes) -> FeedMessage:
    """Read one line.

    Raises:
        FeedError: It is too long, is not JSON, or is no message of this format.
    """
    if len(line) > MAX_LINE:
        raise FeedError("too-long", f"a line may have {MAX_LINE} bytes, this one has more")
    try:
        return FeedMessage.model_validate_json(line)
    except ValidationError as exc:
        raise _refusal(exc, _sequence_in(line)) from None


def message_line(message: FeedMessage) -> bytes:
    """Write a message as one line, with what it says and nothing else."""
    text = message.model_dump_json(exclude_none=True, exclude_defaults=False)
    return text.encode("ascii") + b"\n"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a line."""
    return FeedMessage.model_json_schema() | {"title": "qkdctl feed message, version 1"}


def looks_like_bits(name: str, value: object) -> bool:
    """Whether a field that is not known may hold key: by its name, or by what it holds."""
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    if _KEY_WORDS.intersection(words) or _DIGITS.match(name):
        return True
    match value:
        case str():
            is_encoded = _DIGITS.match(value) or _ENCODED.match(value)
            return bool(is_encoded) or len(value) > LONGEST_PLAIN_TEXT
        case list():
            return len(value) >= FEWEST_BITS and all(
                isinstance(each, bool | int) and each in (0, 1) for each in value
            )
        case Mapping():
            return any(looks_like_bits(str(inner), each) for inner, each in value.items())
        case int():
            return abs(value) > MAX_SEQUENCE
        case _:
            return False


def _refusal(error: ValidationError, sequence: int | None) -> FeedError:
    """Say what is wrong, the gravest first, without a word of what was sent."""
    mistakes = error.errors(include_url=False, include_context=False)
    for mistake in mistakes:
        name = str(mistake["loc"][-1]) if mistake["loc"] else ""
        if mistake["type"] == "extra_forbidden" and looks_like_bits(name, mistake["input"]):
            where = f"field {name!r}" if _PLAIN_NAME.match(name) else "an unknown field"
            text = f"{where} looks like key bits; never send key here, counts only"
            return FeedError("key-bits", f"{text}. Nothing of it was kept", sequence)
    mistake = mistakes[0]
    if mistake["type"] == "json_invalid":
        return FeedError("not-json", "the line is not a JSON object; send one message per line")
    where = ".".join(_shown(part) for part in mistake["loc"])
    what = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        what = f"there is no such field; known are {', '.join(_known_at(mistake['loc']))}"
    return FeedError("malformed", f"{where}: {what}" if where else what, sequence)


def _shown(part: int | str) -> str:
    """Repeat the name of a field only where it cannot be anything else than a name."""
    return str(part) if isinstance(part, int) or _PLAIN_NAME.match(part) else "(a field)"


def _known_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = FeedMessage
    if location[0] == "bases":
        model = Errors if len(location) > 2 else Bases
    return list(model.model_fields)


def _sequence_in(line: bytes) -> int | None:
    """Read the number of a message that is refused, so that its sender knows which one it is."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"sequence": int(number)} if not isinstance(number, bool):
            return number if 0 <= number <= MAX_SEQUENCE else None
        case _:
            return None
