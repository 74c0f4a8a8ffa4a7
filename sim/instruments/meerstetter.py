"""Command set of a Meerstetter TEC controller: MeCom frames, and a body that takes time to cool.

Assumed, for want of a unit: frames with a wrong CRC or another address are not answered, ``?IF``
is answered with 20 characters and the CRC of that answer, and power-up restores what was stored.
"""

import binascii
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isfinite
from typing import ClassVar, Final

from sim.command_lines import EndedLines
from sim.line_unit import LineUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

BAUD_RATE: Final = 57600
BITS_PER_BYTE: Final = 10
LONGEST_FRAME: Final = 64

RANGE_C: Final = (-50.0, 150.0)
STABLE_WITHIN_C: Final = 0.05
AMPERES_PER_DEGREE: Final = 0.05
VOLTS_PER_AMPERE: Final = 2.0

READY, RUNNING, IN_ERROR = 1, 2, 3

UNKNOWN_COMMAND, FORMAT, NO_PARAMETER, READ_ONLY, OUT_OF_RANGE, NO_INSTANCE = 1, 4, 5, 6, 7, 8

_QUERY = re.compile(r"#([0-9A-F]{2})([0-9A-F]{4})(.*)([0-9A-F]{4})", re.DOTALL)
_READ = re.compile(r"\?VR([0-9A-F]{4})([0-9A-F]{2})")
_WRITE = re.compile(r"VS([0-9A-F]{4})([0-9A-F]{2})([0-9A-F]{8})")


@dataclass(frozen=True)
class MeerstetterSettings:
    """One controller with one channel.

    Attributes:
        model: What ``?IF`` tells, 20 characters at most.
        serial: Serial number.
        firmware: Firmware version.
        address: On the line.
        target_c: Stored set point, degrees Celsius.
        is_enabled: Whether the output is stored as on.
        ambient_c: Temperature of the object without cooling, degrees Celsius.
        time_constant_s: Of the object, s.
        error: Number of an error that it is in; 0: none.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "1161-TEC SW G01"
    serial: int = 20481
    firmware: int = 510
    address: int = 2
    target_c: float = 25.0
    is_enabled: bool = False
    ambient_c: float = 22.0
    time_constant_s: float = 5.0
    error: int = 0
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Meerstetter":
        """Build the controller; what it cools is no part of the link."""
        return Meerstetter(name, record, self)


class _RefusedError(Exception):
    """A query is answered with an error."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"error {number}")


class Meerstetter(LineUnit):
    """One controller.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The controller.
    """

    def __init__(
        self, name: str, record: Record, settings: MeerstetterSettings | None = None
    ) -> None:
        self._settings = settings or MeerstetterSettings()
        super().__init__(name, record, EndedLines(b"\r", LONGEST_FRAME), self._settings.boot_s)
        self._temperature_c = self._settings.ambient_c
        self._changed_s = 0.0
        self._start(0.0)
        self._readable: dict[int, Callable[[float], float | int]] = {
            102: lambda _now_s: self._settings.serial,
            103: lambda _now_s: self._settings.firmware,
            104: self._status,
            105: lambda _now_s: self._settings.error,
            1000: self._object_c,
            1001: lambda _now_s: self._settings.ambient_c,
            1020: self._current_a,
            1021: lambda now_s: VOLTS_PER_AMPERE * self._current_a(now_s),
            1200: self._stability,
            2010: lambda _now_s: int(self._is_enabled),
            3000: lambda _now_s: self._target_c,
        }

    def power_cycle(self, now_s: float) -> None:
        """Start again from what is stored."""
        self._settle(now_s)
        super().power_cycle(now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the set point and whether the output is on."""
        return {"temperature": self._target_c, "enabled": self._is_enabled}

    def _start(self, now_s: float) -> None:
        """Come up with what is stored."""
        self._target_c: float = self._settings.target_c
        self._is_enabled: bool = self._settings.is_enabled

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        """Answer a frame."""
        found = _QUERY.fullmatch(line)
        if found is None or int(found[4], 16) != _check_sum(line[:-4]):
            self._record.reject(now_s, self._name, line)
            return []
        if int(found[1], 16) not in (0, self._settings.address):
            return []
        try:
            payload = self._obey(found[3], now_s)
        except _RefusedError as refusal:
            self._record.reject(now_s, self._name, line)
            payload = f"+{refusal.number:02X}"
        text = f"!{self._settings.address:02X}{found[2]}{payload or ''}"
        check = int(found[4], 16) if payload is None else _check_sum(text)
        data = f"{text}{check:04X}\r".encode("latin-1")
        return [Reply(data, (len(line) + 1 + len(data)) * BITS_PER_BYTE / BAUD_RATE)]

    def _obey(self, payload: str, now_s: float) -> str | None:
        """Return the payload of the answer; None for an acknowledgement."""
        if payload == "?IF":
            return f"{self._settings.model:<20.20}"
        if payload == "RS":
            self._record.tell(now_s, self._name, "reset", "reboot")
            self.power_cycle(now_s)
            return None
        if found := _READ.fullmatch(payload):
            return self._read(int(found[1], 16), int(found[2], 16), now_s)
        if found := _WRITE.fullmatch(payload):
            self._write(int(found[1], 16), int(found[2], 16), bytes.fromhex(found[3]), now_s)
            return None
        raise _RefusedError(FORMAT if payload.startswith(("?VR", "VS")) else UNKNOWN_COMMAND)

    def _read(self, parameter: int, instance: int, now_s: float) -> str:
        self._check(parameter, instance)
        value = self._readable[parameter](now_s)
        return struct.pack(">i" if isinstance(value, int) else ">f", value).hex().upper()

    def _write(self, parameter: int, instance: int, word: bytes, now_s: float) -> None:
        self._check(parameter, instance)
        match parameter:
            case 3000:
                target_c = struct.unpack(">f", word)[0]
                self._set_target(round(target_c, 4) if isfinite(target_c) else target_c, now_s)
            case 2010:
                self._set_enabled(struct.unpack(">i", word)[0], now_s)
            case _:
                raise _RefusedError(READ_ONLY)

    def _check(self, parameter: int, instance: int) -> None:
        if parameter not in self._readable:
            raise _RefusedError(NO_PARAMETER)
        if instance != 1:
            raise _RefusedError(NO_INSTANCE)

    def _set_target(self, target_c: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, "temperature", target_c, "degC")
        if not RANGE_C[0] <= target_c <= RANGE_C[1]:
            raise _RefusedError(OUT_OF_RANGE)
        self._settle(now_s)
        self._target_c = target_c

    def _set_enabled(self, value: int, now_s: float) -> None:
        self._record.tell(now_s, self._name, "output", value)
        if value not in (0, 1):
            raise _RefusedError(OUT_OF_RANGE)
        self._settle(now_s)
        self._is_enabled = value == 1

    def _settle(self, now_s: float) -> None:
        """Take the temperature of now as the start of what follows."""
        self._temperature_c, self._changed_s = self._object_c(now_s), now_s

    @property
    def _is_running(self) -> bool:
        return self._is_enabled and not self._settings.error

    def _object_c(self, now_s: float) -> float:
        end_c = self._target_c if self._is_running else self._settings.ambient_c
        left = exp(-(now_s - self._changed_s) / self._settings.time_constant_s)
        return end_c + (self._temperature_c - end_c) * left

    def _current_a(self, now_s: float) -> float:
        if not self._is_running:
            return 0.0
        return AMPERES_PER_DEGREE * (self._settings.ambient_c - self._object_c(now_s))

    def _status(self, now_s: float) -> int:
        if self._settings.error:
            return IN_ERROR
        return RUNNING if self._is_enabled else READY

    def _stability(self, now_s: float) -> int:
        if not self._is_running:
            return 0
        return 2 if abs(self._object_c(now_s) - self._target_c) <= STABLE_WITHIN_C else 1


def _check_sum(text: str) -> int:
    return binascii.crc_hqx(text.encode("latin-1"), 0)
