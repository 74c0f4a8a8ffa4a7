"""Command set of the HP / Agilent 8156A attenuator: SCPI lines that end in LF.

The filter moves at finite speed: bit 1 of the operation condition register tells that it does, and
``INP:ATT?`` tells where it is. The calibration factor ``INP:OFFS`` shifts what is told and shown;
in the absolute power mode a power is set instead, until anything is said about the attenuation.

Assumed: 0 dB, no offset, 1310 nm after power-up and ``*RST``, with the shutter as ``APOW`` says.
Not modelled: sweeps, the back reflector and the user's calibration of wavelengths.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from sim.record import Record
from sim.scpi import Command, CommandTable, boolean, commands, number
from sim.twin import Twin
from sim.voa import FULL_SPEED_DB_PER_S, AttenuatorModel
from sim.wire import MAIN, Reply

LARGEST_OFFSET_DB: Final = 99.999
SHORTEST_M: Final = 1200e-9
LONGEST_M: Final = 1650e-9
RESET_M: Final = 1310e-9
QUEUE_LENGTH: Final = 30
LONGEST_LINE: Final = 4096

ERRORS: Final = {
    0: "No error",
    -109: "Missing parameter",
    -113: "Undefined header",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}

_SETTLING: Final = 1 << 1
_METRES: Final = {"M": 1.0, "UM": 1e-6, "NM": 1e-9, "PM": 1e-12}
_DECIBELS: Final = {"DB": 1.0}


class Attenuator(Protocol):
    """The optics: a filter and a shutter."""

    maximum_db: float

    def move_to(self, attenuation_db: float, now_s: float) -> None:
        """Send the filter towards an attenuation."""
        ...

    def set_speed(self, speed_db_per_s: float) -> None:
        """Set the speed of what begins to move from now on."""
        ...

    def set_shutter(self, is_open: bool, now_s: float) -> None:
        """Shut at once, or begin to open."""
        ...

    def actual_db(self, now_s: float) -> float:
        """Where the filter is, dB."""
        ...

    def shutter_open(self, now_s: float) -> bool:
        """Whether the shutter is open or opening."""
        ...

    def time_left_s(self, now_s: float) -> float:
        """How long filter and shutter still move, s."""
        ...


@dataclass(frozen=True)
class Hp8156aSettings:
    """One unit.

    Attributes:
        identity: What ``*IDN?`` answers; the unit does not know its serial number.
        maximum_db: The filter's range, from 0.
        speed_db_per_s: The filter's speed.
        is_on_link: Whether the light of the link passes it.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "HEWLETT-PACKARD, HP8156A, 0, 1.02"
    maximum_db: float = 60.0
    speed_db_per_s: float = 60.0
    is_on_link: bool = True

    @property
    def acts_on(self) -> str | None:
        """The attenuation of the link, if it is in it."""
        return "attenuation" if self.is_on_link else None

    def front_end(self, name: str, twin: Twin, record: Record) -> "Hp8156a":
        """Build the unit, with its own range, in the link or beside it."""
        optics = twin.attenuator if self.is_on_link else AttenuatorModel()
        optics.maximum_db = self.maximum_db
        return Hp8156a(name, optics, record, self)


class _RefusedError(Exception):
    """A command ends with this entry in the error queue."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(ERRORS[code])


class Hp8156a:
    """One attenuator.

    Args:
        name: What the record calls it.
        optics: Filter and shutter.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        optics: Attenuator,
        record: Record,
        settings: Hp8156aSettings | None = None,
    ) -> None:
        self._name = name
        self._optics = optics
        self._record = record
        self._settings = settings or Hp8156aSettings()
        optics.set_speed(self._settings.speed_db_per_s)
        self._table = CommandTable(self._command_table())
        self._received = bytearray()
        self._errors: deque[int] = deque()
        self._opens_as_it_was = False
        self._set_defaults()

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes; the parser starts at each line feed."""
        self._received += data
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        replies = [reply for line in lines if (reply := self._answer(line, now_s))]
        if len(self._received) > LONGEST_LINE:
            self._received.clear()
            self._queue(-363)
        return replies

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._received.clear()

    def power_cycle(self, now_s: float) -> None:
        """Come up with empty queue and default settings; ``APOW`` decides about the shutter."""
        self._received.clear()
        self._errors.clear()
        was_open = self._optics.shutter_open(now_s)
        self._restore_defaults(now_s)
        if was_open and self._opens_as_it_was:
            self._move_shutter(True, now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where the filter is, dB, and whether the shutter is open."""
        return {
            "attenuation": self._optics.actual_db(now_s),
            "shutter": self._optics.shutter_open(now_s),
        }

    def _answer(self, line: bytes, now_s: float) -> Reply | None:
        answers: list[str] = []
        for command in commands(line.decode("latin-1").replace("\r", " ")):
            try:
                answer = self._obey(command, now_s)
            except _RefusedError as refusal:
                self._queue(refusal.code)
                self._record.reject(now_s, self._name, command.text)
            else:
                answers += [] if answer is None else [answer]
        return Reply(";".join(answers).encode() + b"\n") if answers else None

    def _obey(self, command: Command, now_s: float) -> str | None:
        if found := self._table.find(command.header):
            return found[0](command.argument, now_s)
        raise _RefusedError(-113)

    def _queue(self, code: int) -> None:
        """Add an error that is not in the queue yet; when it is full its last entry says so."""
        if code in self._errors:
            return
        if len(self._errors) == QUEUE_LENGTH:
            self._errors[-1] = -350
        else:
            self._errors.append(code)

    def _command_table(self) -> dict[str, Callable[[str, float], str | None]]:
        return {
            "*IDN?": self._identify,
            "*OPC?": self._is_complete,
            "*CLS": self._clear_status,
            "*RST": self._reset,
            "INPut:ATTenuation": self._set_attenuation,
            "INPut:ATTenuation?": self._read_attenuation,
            "INPut:OFFSet": self._set_offset,
            "INPut:OFFSet?": self._read_offset,
            "INPut:WAVelength": self._set_wavelength,
            "INPut:WAVelength?": self._read_wavelength,
            "OUTPut[:STATe]": self._set_shutter,
            "OUTPut[:STATe]?": self._read_shutter,
            "OUTPut[:STATe]:APOWeron": self._set_power_on_state,
            "OUTPut[:STATe]:APOWeron?": self._read_power_on_state,
            "OUTPut:APMode": self._set_power_mode,
            "OUTPut:APMode?": self._read_power_mode,
            "OUTPut:POWer": self._set_power,
            "OUTPut:POWer?": self._read_power,
            "STATus:OPERation:CONDition?": self._read_condition,
            "SYSTem:ERRor?": self._next_error,
        }

    def _set_defaults(self) -> None:
        self._offset_db = 0.0
        self._wavelength_m = RESET_M
        # Through power at which the filter would be at 0 dB; None: attenuations are set.
        self._open_power_dbm: float | None = None

    def _restore_defaults(self, now_s: float) -> None:
        self._set_defaults()
        self._optics.set_shutter(False, now_s)
        self._optics.move_to(0.0, now_s)

    def _identify(self, argument: str, now_s: float) -> str:
        return self._settings.identity

    def _is_complete(self, argument: str, now_s: float) -> str:
        return _flag(self._optics.time_left_s(now_s) <= 0)

    def _clear_status(self, argument: str, now_s: float) -> None:
        self._errors.clear()

    def _reset(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "reset", "defaults")
        self._restore_defaults(now_s)

    def _set_attenuation(self, argument: str, now_s: float) -> None:
        self._open_power_dbm = None
        bounds = {"MIN": 0.0, "DEF": 0.0, "MAX": self._optics.maximum_db}
        filter_db = bounds.get(argument.upper())
        if filter_db is None:
            filter_db = _number(argument, _DECIBELS) - self._offset_db
        self._move_filter(filter_db, now_s)

    def _move_filter(self, filter_db: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, "attenuation", filter_db, "dB")
        self._optics.move_to(_within(filter_db, 0.0, self._optics.maximum_db), now_s)

    def _read_attenuation(self, argument: str, now_s: float) -> str:
        self._open_power_dbm = None
        readings = {
            "": self._optics.actual_db(now_s),
            "MIN": 0.0,
            "DEF": 0.0,
            "MAX": self._optics.maximum_db,
        }
        return _real(_choice(argument, readings) + self._offset_db)

    def _set_offset(self, argument: str, now_s: float) -> None:
        self._open_power_dbm = None
        offset_db = _number(argument, _DECIBELS)
        self._record.tell(now_s, self._name, "offset", offset_db, "dB")
        self._offset_db = _within(offset_db, -LARGEST_OFFSET_DB, LARGEST_OFFSET_DB)

    def _read_offset(self, argument: str, now_s: float) -> str:
        self._open_power_dbm = None
        return _real(self._offset_db)

    def _set_wavelength(self, argument: str, now_s: float) -> None:
        wavelength_m = _number(argument, _METRES)
        self._record.tell(now_s, self._name, "wavelength", wavelength_m, "m")
        self._wavelength_m = _within(wavelength_m, SHORTEST_M, LONGEST_M)

    def _read_wavelength(self, argument: str, now_s: float) -> str:
        readings = {"": self._wavelength_m, "MIN": SHORTEST_M, "MAX": LONGEST_M}
        return _real(_choice(argument, readings))

    def _set_shutter(self, argument: str, now_s: float) -> None:
        is_open = _boolean(argument)
        self._record.tell(now_s, self._name, "shutter", float(is_open))
        self._move_shutter(is_open, now_s)

    def _move_shutter(self, is_open: bool, now_s: float) -> None:
        self._optics.set_speed(FULL_SPEED_DB_PER_S)  # it has a drive of its own
        self._optics.set_shutter(is_open, now_s)
        self._optics.set_speed(self._settings.speed_db_per_s)

    def _read_shutter(self, argument: str, now_s: float) -> str:
        return _flag(self._optics.shutter_open(now_s))

    def _set_power_on_state(self, argument: str, now_s: float) -> None:
        words = {"DIS": 0.0, "LAST": 1.0, "OFF": 0.0, "0": 0.0, "1": 1.0}
        self._opens_as_it_was = bool(_choice(argument, words))

    def _read_power_on_state(self, argument: str, now_s: float) -> str:
        return _flag(self._opens_as_it_was)

    def _set_power_mode(self, argument: str, now_s: float) -> None:
        is_on = _boolean(argument)
        self._record.tell(now_s, self._name, "power mode", float(is_on))
        shown_db = self._optics.actual_db(now_s) + self._offset_db
        self._open_power_dbm = shown_db + self._optics.actual_db(now_s) if is_on else None

    def _read_power_mode(self, argument: str, now_s: float) -> str:
        return _flag(self._open_power_dbm is not None)

    def _set_power(self, argument: str, now_s: float) -> None:
        power_dbm = _number(argument, {"DBM": 1.0})
        self._record.tell(now_s, self._name, "power", power_dbm, "dBm")
        if self._open_power_dbm is not None:
            self._move_filter(self._open_power_dbm - power_dbm, now_s)

    def _read_power(self, argument: str, now_s: float) -> str:
        return _real((self._open_power_dbm or 0.0) - self._optics.actual_db(now_s))

    def _read_condition(self, argument: str, now_s: float) -> str:
        return str(_SETTLING * (self._optics.time_left_s(now_s) > 0))

    def _next_error(self, argument: str, now_s: float) -> str:
        code = self._errors.popleft() if self._errors else 0
        return f'{code:+d},"{ERRORS[code]}"'


def _number(text: str, units: Mapping[str, float]) -> float:
    if not text:
        raise _RefusedError(-109)
    value = number(text, units)
    if value is None:
        raise _RefusedError(-224)
    return value


def _boolean(text: str) -> bool:
    if not text:
        raise _RefusedError(-109)
    value = boolean(text)
    if value is None:
        raise _RefusedError(-224)
    return value


def _choice(text: str, words: Mapping[str, float]) -> float:
    if text.upper() not in words:
        raise _RefusedError(-224)
    return words[text.upper()]


def _within(value: float, minimum: float, maximum: float) -> float:
    if not minimum <= value <= maximum:
        raise _RefusedError(-222)
    return value


def _flag(value: bool) -> str:
    return str(int(value))


def _real(value: float) -> str:
    """Format a number: ``+1.2340000E+001``."""
    mantissa, exponent = f"{value:+.7E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"
