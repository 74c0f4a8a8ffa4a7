"""What a WebSQ driver electronics says on its control socket: JSON objects, and what they tell.

The unit ends each message with the byte 0x17 and may glue several objects into one message; what
it is sent has no end mark at all. A label is broadcast with its bare value after any change, by
whatever client; asked for all labels, it gives each one with value, bounds and unit.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drivers.errors import ReplyError
from drivers.transport.framing import Framing

MESSAGES = Framing(write_terminator=b"", read_terminator=b"\x17")
ALL_LABELS = json.dumps({"request": "labelProps", "value": "None"})

DETECTORS = "NumberOfDetectors"
BIAS = "BiasCurrent"
TRIGGER = "TriggerLevel"
PERIOD = "InptMeasurementPeriod"
ENABLE = "DetectorEnable"
NEEDED = frozenset({DETECTORS, BIAS, TRIGGER, PERIOD, ENABLE})

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Label:
    """One label and its value.

    Attributes:
        name: What the unit calls it.
        value: As it came.
        is_broadcast: Whether it came bare, as after a change, and not as an answer to ALL_LABELS.
        bounds: Smallest and largest value if the unit says so.
    """

    name: str
    value: Any
    is_broadcast: bool
    bounds: tuple[float, float] | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong, if this label reports a fault."""
        return str(self.value) if "Error" in self.name and self.value else None


@dataclass(frozen=True)
class State:
    """What the unit holds.

    Attributes:
        bias_ua: Bias current of each detector, switched on or not, uA.
        trigger_mv: Trigger level of each detector, mV.
        period_ms: Measurement period, ms.
        is_on: Whether the detectors are biased.
        bounds: Smallest and largest value by label, where the unit says so.
    """

    bias_ua: tuple[float, ...]
    trigger_mv: tuple[float, ...]
    period_ms: float
    is_on: bool
    bounds: Mapping[str, tuple[float, float]]

    @property
    def detectors(self) -> int:
        """Number of detectors."""
        return len(self.bias_ua)


def parse_message(instrument: str, text: str) -> list[Label]:
    """Read the objects of one message; those without label tell nothing.

    Raises:
        ReplyError: Not JSON objects one behind the other.
    """
    labels = []
    rest = text.strip()
    while rest:
        try:
            found, end = _DECODER.raw_decode(rest)
        except (ValueError, RecursionError) as exc:
            raise ReplyError(instrument, "not JSON", received=text[:200]) from exc
        if not isinstance(found, dict):
            raise ReplyError(instrument, "not a JSON object", received=text[:200])
        if isinstance(found.get("label"), str) and "value" in found:
            labels.append(_label(found["label"], found["value"]))
        rest = rest[end:].lstrip()
    return labels


def parse_state(instrument: str, labels: Mapping[str, Label]) -> State:
    """Make one picture of the labels in NEEDED.

    Raises:
        ReplyError: One is missing, or they do not fit together.
    """
    if missing := sorted(NEEDED - labels.keys()):
        raise ReplyError(
            instrument,
            f"no label {', '.join(missing)}: is this the instrument you configured?",
            sent=ALL_LABELS,
            received=", ".join(sorted(labels)),
        )
    n_detectors = number(instrument, labels[DETECTORS])
    state = State(
        numbers(instrument, labels[BIAS]),
        numbers(instrument, labels[TRIGGER]),
        number(instrument, labels[PERIOD]),
        truth(instrument, labels[ENABLE]),
        {name: label.bounds for name, label in labels.items() if label.bounds is not None},
    )
    if not n_detectors == len(state.bias_ua) == len(state.trigger_mv) or state.period_ms <= 0:
        raise ReplyError(
            instrument,
            "these labels contradict each other: is this the instrument you configured?",
            received=f"{n_detectors:g} detectors, {state}",
        )
    return state


def numbers(instrument: str, label: Label) -> tuple[float, ...]:
    """Read one number per detector.

    Raises:
        ReplyError: Something else.
    """
    values: list[Any] = label.value if isinstance(label.value, list) else [None]
    if not all(_is_finite(each) for each in values):
        raise _not_a(instrument, "list of numbers", label)
    return tuple(float(each) for each in values)


def number(instrument: str, label: Label) -> float:
    """Read a number.

    Raises:
        ReplyError: Something else.
    """
    if not _is_finite(label.value):
        raise _not_a(instrument, "number", label)
    return float(label.value)


def truth(instrument: str, label: Label) -> bool:
    """Read true or false, which may be written 1 or 0.

    Raises:
        ReplyError: Something else.
    """
    if label.value not in (True, False):
        raise _not_a(instrument, "truth value", label)
    return bool(label.value)


def _label(name: str, value: Any) -> Label:
    if not (isinstance(value, dict) and "value" in value):
        return Label(name, value, is_broadcast=True)
    bounds = None
    match value.get("bounds"):
        case [low, high] if _is_finite(low) and _is_finite(high):
            bounds = float(low), float(high)
    return Label(name, value["value"], is_broadcast=False, bounds=bounds)


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _not_a(instrument: str, what: str, label: Label) -> ReplyError:
    return ReplyError(instrument, f"{label.name} is no {what}", received=repr(label.value)[:200])
