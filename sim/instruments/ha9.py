"""Command set of the JDS Uniphase HA9 attenuator: its HA set, as over RS-232.

A message ends in CR (an LF after it is ignored) and may hold several commands with semicolons
between, of which only the last may ask; each is carried out as soon as it is read. Nothing waits
for the filter: ``ATT?`` tells where it is, and ``CNB?`` whether it stands. Nothing but questions is
answered: what was wrong with a command is told by the status register, bit 0 for a parameter and
bit 5 for the syntax. What exceeds the input buffer of 100 characters is lost.

Assumed, for want of the whole manual: the registers' bits and ``IDN?`` (those of the maker's SB
switch), the range of ``CAL`` (that of the SCPI set), and that both block and filter are at their
``RESET`` state after power-up. Not modelled: the power mode, the HP and SCPI sets, and a GPIB that
is held while the filter moves.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.instruments.attenuator import AttenuatorSettings, ShutteredFilter
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.scpi import number
from sim.twin import Twin
from sim.voa import FULL_SPEED_DB_PER_S
from sim.wire import Reply

INPUT_BUFFER: Final = 100
LARGEST_OFFSET_DB: Final = 29.99
SHORTEST_M: Final = 1200e-9
LONGEST_M: Final = 1700e-9
RESET_M: Final = 1310e-9

_PARAMETER: Final = 1 << 0
_SETTLED: Final = 1 << 2
_SYNTAX: Final = 1 << 5
_SERVICE: Final = 1 << 6

_METRES: Final = {"M": 1.0, "UM": 1e-6, "NM": 1e-9}


@dataclass(frozen=True)
class Ha9Settings(AttenuatorSettings):
    """One unit.

    Attributes:
        identity: What ``IDN?`` answers.
        maximum_db: The filter's range, from 0; 60 dB for an HA9W.
        speed_db_per_s: The filter's speed.
        baud_rate: Of the serial line.
        bits_per_byte: Length of a byte on the wire, in bits: 8N1.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    identity: str = "JDS UNIPHASE,HA9X,0,2.100"
    maximum_db: float = 100.0
    speed_db_per_s: float = 50.0
    baud_rate: int = 1200
    bits_per_byte: int = 10
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Ha9":
        """Build the unit, with its own range, in the link or beside it."""
        return Ha9(name, self.optics(twin, self.maximum_db), record, self)


class _RefusedError(Exception):
    """A command sets this bit of the status register."""

    def __init__(self, bit: int) -> None:
        self.bit = bit
        super().__init__(f"status bit {bit}")


class _Messages:
    """Cuts messages out of bytes at each CR; what the input buffer does not hold is lost."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> list[str]:
        messages: list[str] = []
        for byte in data:
            if byte == ord("\r"):
                messages.append(self._received.decode("latin-1"))
                self._received.clear()
            elif byte != ord("\n") and len(self._received) < INPUT_BUFFER:
                self._received.append(byte)
        return messages

    def clear(self) -> None:
        self._received.clear()


class Ha9(LineUnit):
    """One attenuator.

    Args:
        name: What the record calls it.
        optics: Filter and beam block.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        optics: ShutteredFilter,
        record: Record,
        settings: Ha9Settings | None = None,
    ) -> None:
        self._settings = settings or Ha9Settings()
        super().__init__(name, record, _Messages(), self._settings.boot_s)
        self._optics = optics
        optics.set_speed(self._settings.speed_db_per_s)
        self._commands = CommandPatterns(self._command_table(), re.IGNORECASE)
        self._set_defaults()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where the filter is, dB, and whether the block is out."""
        return {
            "attenuation": self._optics.actual_db(now_s),
            "shutter": self._optics.shutter_open(now_s),
        }

    def _start(self, now_s: float) -> None:
        """Come up blocked, at 0 dB, without offset, at 1310 nm."""
        self._set_defaults()
        self._optics.set_shutter(False, now_s)
        self._optics.move_to(0.0, now_s)

    def _set_defaults(self) -> None:
        self._status = 0
        self._mask = 0
        self._offset_db = 0.0
        self._wavelength_m = RESET_M
        self._moves_until_s: float | None = None
        self._wire_free_s = 0.0

    def _command_table(self) -> tuple[tuple[str, Callable[..., str | None]], ...]:
        """Return each command as a pattern, and what carries it out with the pattern's groups."""
        return (
            (r"ATT\s+(.+)", self._set_attenuation),
            (r"ATT\?\s*(MIN|MAX|)", self._read_attenuation),
            (r"CAL\s+(.+)", self._set_offset),
            (r"CAL\?", self._read_offset),
            (r"WVL\s+(.+)", self._set_wavelength),
            (r"WVL\?\s*(MIN|MAX|)", self._read_wavelength),
            (r"D\s*([0-9]+)", self._set_block),
            (r"D\?", self._read_block),
            (r"SRE\s+([0-9]+)", self._set_mask),
            (r"SRE\?", self._read_mask),
            (r"CNB\?", self._read_condition),
            (r"STB\?", self._read_status),
            (r"CSB", self._clear_status),
            (r"CLR", self._clear),
            (r"RESET", self._reset),
            (r"IDN\?", self._identify),
            (r"LRN\?", self._learn),
            (r"F\?", self._read_fibre),
        )

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        """Obey a message, and account for the time that all of it spends on the wire."""
        heard_s = max(now_s, self._wire_free_s) + self._wire_s(len(line) + 1)
        self._wire_free_s = heard_s
        answer = self._obey_all(line, heard_s)
        if answer is None:
            return []
        data = answer.encode("ascii") + b"\r\n"
        self._wire_free_s += self._wire_s(len(data))
        return [Reply(data, after_s=self._wire_free_s - now_s)]

    def _obey_all(self, message: str, heard_s: float) -> str | None:
        commands = [text for part in message.split(";") if (text := part.strip())]
        for command in commands:
            try:
                if (answer := self._obey(command, heard_s)) is not None:
                    return answer  # what follows a question is not read
            except _RefusedError as refusal:
                self._status |= refusal.bit
                self._record.reject(heard_s, self._name, command)
        return None

    def _obey(self, command: str, now_s: float) -> str | None:
        do = self._commands.find(command)
        if do is None:
            raise _RefusedError(_SYNTAX)
        return do(now_s)

    def _set_attenuation(self, now_s: float, text: str) -> None:
        filter_db = _number(text, {"DB": 1.0}) - self._offset_db
        self._record.tell(now_s, self._name, "attenuation", filter_db, "dB")
        self._move_to(_within(filter_db, 0.0, self._optics.maximum_db), now_s)

    def _read_attenuation(self, now_s: float, which: str) -> str:
        readings = {"": self._optics.actual_db(now_s), "MIN": 0.0, "MAX": self._optics.maximum_db}
        return f"{readings[which.upper()] + self._offset_db:13.4f}"

    def _set_offset(self, now_s: float, text: str) -> None:
        offset_db = _number(text, {"DB": 1.0})
        self._record.tell(now_s, self._name, "offset", offset_db, "dB")
        self._offset_db = _within(offset_db, -LARGEST_OFFSET_DB, LARGEST_OFFSET_DB)

    def _read_offset(self, now_s: float) -> str:
        return f"{self._offset_db:13.4f}"

    def _set_wavelength(self, now_s: float, text: str) -> None:
        wavelength_m = _number(text, _METRES)
        self._record.tell(now_s, self._name, "wavelength", wavelength_m, "m")
        self._wavelength_m = _within(wavelength_m, SHORTEST_M, LONGEST_M)

    def _read_wavelength(self, now_s: float, which: str) -> str:
        readings = {"": self._wavelength_m, "MIN": SHORTEST_M, "MAX": LONGEST_M}
        return f"{readings[which.upper()]:16.4e}"

    def _set_block(self, now_s: float, flag: str) -> None:
        if flag not in ("0", "1"):
            raise _RefusedError(_PARAMETER)
        self._record.tell(now_s, self._name, "shutter", float(flag == "0"))
        self._optics.set_speed(FULL_SPEED_DB_PER_S)  # the block has a drive of its own
        self._optics.set_shutter(flag == "0", now_s)
        self._optics.set_speed(self._settings.speed_db_per_s)
        self._note_motion(now_s)

    def _read_block(self, now_s: float) -> str:
        return str(int(not self._optics.shutter_open(now_s)))

    def _set_mask(self, now_s: float, text: str) -> None:
        self._mask = int(_within(float(text), 0, 255))

    def _read_mask(self, now_s: float) -> str:
        return str(self._mask)

    def _read_condition(self, now_s: float) -> str:
        return str(_SETTLED * (self._optics.time_left_s(now_s) <= 0))

    def _read_status(self, now_s: float) -> str:
        """Return the events so far, which stay unless they have asked for service."""
        if self._moves_until_s is not None and now_s >= self._moves_until_s:
            self._status |= _SETTLED
            self._moves_until_s = None
        status = self._status | _SERVICE * bool(self._status & self._mask)
        if status & _SERVICE:
            self._status = 0
        return f"{status:03d}"

    def _clear_status(self, now_s: float) -> None:
        self._status = 0

    def _clear(self, now_s: float) -> None:
        self._status = self._mask = 0

    def _reset(self, now_s: float) -> None:
        self._record.tell(now_s, self._name, "reset", "defaults")
        wire_free_s = self._wire_free_s
        self._set_defaults()
        self._wire_free_s = wire_free_s
        self._optics.set_shutter(False, now_s)
        self._move_to(0.0, now_s)

    def _identify(self, now_s: float) -> str:
        return self._settings.identity

    def _learn(self, now_s: float) -> str:
        block = int(not self._optics.shutter_open(now_s))
        return (
            f"{1:4d}{block:4d}{self._mask:8d}{self._read_offset(now_s)}"
            f"{self._read_attenuation(now_s, '')}{self._read_wavelength(now_s, '')}"
        )

    def _read_fibre(self, now_s: float) -> str:
        return "1"

    def _move_to(self, filter_db: float, now_s: float) -> None:
        self._optics.move_to(filter_db, now_s)
        self._note_motion(now_s)

    def _note_motion(self, now_s: float) -> None:
        self._moves_until_s = now_s + self._optics.time_left_s(now_s)

    def _wire_s(self, n_bytes: int) -> float:
        """Return the time that bytes take on the line, s."""
        return n_bytes * self._settings.bits_per_byte / self._settings.baud_rate


def _number(text: str, units: dict[str, float]) -> float:
    value = number(text, units)
    if value is None:
        raise _RefusedError(_SYNTAX)
    return value


def _within(value: float, minimum: float, maximum: float) -> float:
    if not minimum <= value <= maximum:
        raise _RefusedError(_PARAMETER)
    return value
