"""Command set of the Single Quantum WebSQ (Atlas driver): JSON on one socket, counts on another.

Clients send bare JSON objects; the unit ends each of its messages with the byte 0x17 and now and
then glues two objects into one. A set is not acknowledged: every client gets the label's new value
after a change, and nothing where nothing has changed. Lines of counts are pushed to whoever has the
other socket open, one per measurement period.

Assumed, for want of a manual: what a refused command says (``ErrorMessage``), the state at power-up
(detectors off, currents as stored), that a changed period begins at once, and the time that an
automatic calibration takes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

COUNTS: Final = "counts"
END: Final = b"\x17"
DETECTORS: Final = (1, 2, 3, 4)
MINIMUM_PERIOD_MS: Final = 10
MAXIMUM_PERIOD_MS: Final = 60_000
LONGEST_REQUEST: Final = 1 << 16
MOST_LINES: Final = 1000
"""Lines of counts made up at most after a time in which nobody looked."""

BROADCAST_S: Final = 0.002
"""From a change to its broadcast, s."""

_DECODER: Final = json.JSONDecoder()


class Nanowires(Protocol):
    """The bias of the detectors."""

    def set_bias(self, detector: int, current_ua: float, now_s: float) -> None:
        """Set the bias current of one detector."""
        ...


class Clicks(Protocol):
    """What the detectors see."""

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Draw the counts of a window that is over, shape ``(4,)``."""
        ...


@dataclass(frozen=True)
class WebSqSettings:
    """One unit with four detectors.

    Attributes:
        bias_ua: Stored bias current of each detector, uA.
        trigger_mv: Stored trigger level of each detector, mV.
        bias_bounds_ua: Currents that it takes, uA.
        trigger_bounds_mv: Trigger levels that it takes, mV.
        period_ms: Measurement period at power-up, ms.
        epoch_s: Its clock when the bench starts, s since 1970.
        calibration_s: How long an automatic bias calibration takes, s.
        found_ua: Bias that a calibration in the dark finds, uA.
    """

    acts_on: ClassVar[str | None] = "detector bias"
    ports: ClassVar[tuple[str, ...]] = (MAIN, COUNTS)

    bias_ua: tuple[float, ...] = (15.0, 15.0, 15.0, 15.0)
    trigger_mv: tuple[float, ...] = (100.0, 100.0, 100.0, 100.0)
    bias_bounds_ua: tuple[float, float] = (-90.9, 90.9)
    trigger_bounds_mv: tuple[float, float] = (-500.0, 500.0)
    period_ms: int = 100
    epoch_s: float = 1.7e9
    calibration_s: float = 3.0
    found_ua: float = 16.0

    def front_end(self, name: str, twin: Twin, record: Record) -> "WebSq":
        """Build the unit around the twin's detectors."""
        return WebSq(name, twin, twin.nanowires, record, self)


class _RefusedError(Exception):
    """A command is not obeyed; the text is what the unit says."""


class WebSq:
    """One unit.

    Args:
        name: What the record calls it.
        clicks: What the detectors see.
        nanowires: Their bias.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        clicks: Clicks,
        nanowires: Nanowires,
        record: Record,
        settings: WebSqSettings | None = None,
    ) -> None:
        self._name = name
        self._clicks = clicks
        self._nanowires = nanowires
        self._record = record
        self._settings = settings or WebSqSettings()
        self._commands: dict[str, Callable[[Any, float], None]] = {
            "SetAllBiasCurrents": self._set_bias,
            "SetAllTriggerLevels": self._set_trigger,
            "SetMeasurementPeriod": self._set_period,
            "DetectorEnable": self._set_enabled,
            "DarkCountsAutoIV": self._set_dark_counts,
            "AutoCaliBiasCurrents": self._calibrate,
        }
        self._start(0.0)

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes of the control socket; whatever comes on the other one is not listened to."""
        if port != MAIN:
            return []
        self._received += data.decode("latin-1")
        replies: list[Reply] = []
        while request := self._next_request(now_s):
            replies += self._answer(request, now_s)
        return replies

    def due_s(self) -> float | None:
        """When the next period ends, a broadcast goes out or a calibration is over."""
        times_s = [self._period_start_s + self._period_s]
        times_s += [due_s for due_s, _ in self._broadcasts[:1]]
        if self._calibrated_s is not None:
            times_s.append(self._calibrated_s)
        return min(times_s)

    def tick(self, now_s: float) -> list[Reply]:
        """Push lines of counts and broadcasts."""
        if self._calibrated_s is not None and self._calibrated_s <= now_s:
            self._finish_calibration(self._calibrated_s)
        replies = [Reply(line, port=COUNTS) for line in self._lines(now_s)]
        while self._broadcasts and self._broadcasts[0][0] <= now_s:
            _, text = self._broadcasts.pop(0)
            replies.append(Reply(text.encode() + END))
        return replies

    def reset_line(self, now_s: float) -> None:
        """Forget half an object."""
        self._received = ""

    def power_cycle(self, now_s: float) -> None:
        """Come up with the detectors off and the stored currents."""
        self._start(now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return currents and levels that are set, and whether the detectors are on."""
        biases = {f"bias-{n}": ua for n, ua in zip(DETECTORS, self._bias_ua, strict=True)}
        levels = {f"trigger-{n}": mv for n, mv in zip(DETECTORS, self._trigger_mv, strict=True)}
        return {**biases, **levels, "enabled": self._is_enabled}

    def _start(self, now_s: float) -> None:
        self._received = ""
        self._broadcasts: list[tuple[float, str]] = []
        self._bias_ua = list(self._settings.bias_ua)
        self._trigger_mv = list(self._settings.trigger_mv)
        self._period_ms = float(self._settings.period_ms)
        self._period_start_s = now_s
        self._is_enabled = False
        self._dark_counts: list[float] = [100.0] * len(DETECTORS)
        self._calibrated_s: float | None = None
        self._drive(now_s)

    @property
    def _period_s(self) -> float:
        return self._period_ms / 1000

    def _next_request(self, now_s: float) -> dict[str, Any] | None:
        """Cut the next whole object out of what came; what cannot become one is dropped."""
        self._received = self._received.lstrip()
        if not self._received:
            return None
        try:
            request, end = _DECODER.raw_decode(self._received)
        except (ValueError, RecursionError):
            # Nothing marks an end: more bytes may still make it an object.
            if self._received[0] != "{" or len(self._received) > LONGEST_REQUEST:
                self._refuse(self._received, "no JSON", now_s)
                self._received = ""
            return None
        text, self._received = self._received[:end], self._received[end:]
        if isinstance(request, dict):
            return request or {"": None}
        self._refuse(text, "no object", now_s)
        return self._next_request(now_s)

    def _answer(self, request: dict[str, Any], now_s: float) -> list[Reply]:
        match request:
            case {"request": "labelProps"}:
                return self._all_labels()
            case {"request": str(name)} if name in (labels := self._labels()):
                return [Reply(_object(name, labels[name]["value"]).encode() + END)]
            case {"command": str(command), "value": value} if command in self._commands:
                try:
                    self._commands[command](value, now_s)
                except _RefusedError as refusal:
                    self._refuse(json.dumps(request), str(refusal), now_s)
            case _:
                self._refuse(json.dumps(request), "unknown request", now_s)
        return []

    def _labels(self) -> dict[str, dict[str, Any]]:
        settings = self._settings
        is_calibrating = self._calibrated_s is not None
        return {
            "StartAutoIV": _properties(is_calibrating),
            "DarkCountsAutoIV": _properties(self._dark_counts),
            "BiasCurrentAutoIV": _properties(self._bias_ua, settings.bias_bounds_ua, "uA"),
            "ErrorMessage": _properties(""),
            "NumberOfDetectors": _properties(len(DETECTORS)),
            "BiasCurrent": _properties(self._bias_ua, settings.bias_bounds_ua, "uA"),
            "TriggerLevel": _properties(self._trigger_mv, settings.trigger_bounds_mv, "mV"),
            "InptMeasurementPeriod": _properties(
                self._period_ms, (MINIMUM_PERIOD_MS, MAXIMUM_PERIOD_MS), "ms"
            ),
            "DetectorEnable": _properties(self._is_enabled),
        }

    def _all_labels(self) -> list[Reply]:
        """One message each, but for the first two, which are glued."""
        texts = [_object(name, properties) for name, properties in self._labels().items()]
        texts[:2] = ["".join(texts[:2])]
        return [Reply(text.encode() + END) for text in texts]

    def _lines(self, now_s: float) -> list[bytes]:
        """One line for each period that has ended."""
        ended = int((now_s - self._period_start_s) / self._period_s + 1e-6)
        self._period_start_s += max(ended - MOST_LINES, 0) * self._period_s
        lines = []
        for _ in range(min(ended, MOST_LINES)):
            counts = self._clicks.counts(self._period_start_s, self._period_s)
            self._period_start_s += self._period_s
            stamp = f"{self._settings.epoch_s + self._period_start_s:.6f}"
            lines.append(",".join([stamp, *(f"{n:.1f}" for n in counts)]).encode() + b"\n")
        return lines

    def _set_bias(self, value: Any, now_s: float) -> None:
        wanted = self._checked(value, self._bias_ua, "bias current", "uA", now_s)
        _refuse_outside(wanted, self._settings.bias_bounds_ua, "BiasCurrent")
        if wanted != self._bias_ua:
            self._bias_ua = wanted
            self._drive(now_s)
            self._broadcast("BiasCurrent", wanted, now_s)

    def _set_trigger(self, value: Any, now_s: float) -> None:
        wanted = self._checked(value, self._trigger_mv, "trigger level", "mV", now_s)
        _refuse_outside(wanted, self._settings.trigger_bounds_mv, "TriggerLevel")
        if wanted != self._trigger_mv:
            self._trigger_mv = wanted
            self._broadcast("TriggerLevel", wanted, now_s)

    def _set_period(self, value: Any, now_s: float) -> None:
        if not _is_number(value):
            raise _RefusedError("InptMeasurementPeriod needs a number")
        self._record.tell(now_s, self._name, "measurement period", value, "ms")
        _refuse_outside([value], (MINIMUM_PERIOD_MS, MAXIMUM_PERIOD_MS), "InptMeasurementPeriod")
        if value != self._period_ms:
            self._period_ms = float(value)
            self._period_start_s = now_s
            self._broadcast("InptMeasurementPeriod", value, now_s)

    def _set_enabled(self, value: Any, now_s: float) -> None:
        if not isinstance(value, bool):
            raise _RefusedError("DetectorEnable needs true or false")
        self._record.tell(now_s, self._name, "detectors", "on" if value else "off")
        if value != self._is_enabled:
            self._is_enabled = value
            self._drive(now_s)
            self._broadcast("DetectorEnable", value, now_s)

    def _set_dark_counts(self, value: Any, now_s: float) -> None:
        self._dark_counts = self._checked(value, self._dark_counts, "dark counts", "", now_s)

    def _calibrate(self, value: Any, now_s: float) -> None:
        if value is not True:
            raise _RefusedError("AutoCaliBiasCurrents needs true")
        self._record.tell(now_s, self._name, "bias calibration", "start")
        self._calibrated_s = now_s + self._settings.calibration_s
        self._broadcast("StartAutoIV", True, now_s)

    def _finish_calibration(self, now_s: float) -> None:
        """Take the bias for found; light is taken for dark counts, and the bias lands too low."""
        self._calibrated_s = None
        seen = self._clicks.counts(now_s - self._period_s, self._period_s)
        pairs = zip(seen, self._dark_counts, strict=True)
        found_ua = self._settings.found_ua
        self._bias_ua = [found_ua if n <= most else found_ua / 2 for n, most in pairs]
        self._drive(now_s)
        self._broadcast("BiasCurrent", self._bias_ua, now_s)
        self._broadcast("StartAutoIV", False, now_s)

    def _drive(self, now_s: float) -> None:
        """Pass the currents on to the nanowires: none flows while the detectors are off."""
        for detector, current_ua in zip(DETECTORS, self._bias_ua, strict=True):
            self._nanowires.set_bias(detector, current_ua if self._is_enabled else 0.0, now_s)

    def _checked(
        self, value: Any, before: list[float], what: str, unit: str, now_s: float
    ) -> list[float]:
        """Return one number per detector, after noting those that differ."""
        if not (isinstance(value, list) and len(value) == len(DETECTORS)):
            raise _RefusedError(f"{what} needs {len(DETECTORS)} numbers")
        if not all(_is_number(each) for each in value):
            raise _RefusedError(f"{what} needs numbers")
        wanted = [float(each) for each in value]
        told = [n for n in DETECTORS if wanted[n - 1] != before[n - 1]] or DETECTORS[:1]
        for n in told:
            self._record.tell(now_s, self._name, what, wanted[n - 1], unit, n)
        return wanted

    def _broadcast(self, label: str, value: Any, now_s: float) -> None:
        self._broadcasts.append((now_s + BROADCAST_S, _object(label, value)))

    def _refuse(self, text: str, why: str, now_s: float) -> None:
        self._record.reject(now_s, self._name, text)
        self._broadcast("ErrorMessage", why, now_s)


def _properties(
    value: Any, bounds: tuple[float, float] | None = None, units: str = ""
) -> dict[str, Any]:
    return {"value": value, "bounds": list(bounds) if bounds else None, "units": units}


def _object(label: str, value: Any) -> str:
    return json.dumps({"label": label, "value": value})


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and isfinite(value)


def _refuse_outside(values: list[float], bounds: tuple[float, float], label: str) -> None:
    low, high = bounds
    for value in values:
        if not low <= value <= high:
            raise _RefusedError(f"{label} {value:g} is outside {low:g} to {high:g}")
