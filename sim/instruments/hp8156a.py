"""Command set of the HP / Agilent 8156A attenuator: SCPI lines that end in LF.

The filter moves at finite speed: bit 1 of the operation condition register tells that it does, and
``INP:ATT?`` tells where it is. The calibration factor ``INP:OFFS`` shifts what is told and shown;
in the absolute power mode a power is set instead, until anything is said about the attenuation.

Assumed: 0 dB, no offset, 1310 nm after power-up and ``*RST``, with the shutter as ``APOW`` says.
Not modelled: sweeps, the back reflector and the user's calibration of wavelengths.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.instruments.attenuator import AttenuatorSettings, ShutteredFilter
from sim.record import Record
from sim.scpi_unit import (
    Answer,
    ScpiUnit,
    chosen,
    flag,
    real,
    required_boolean,
    required_number,
    within,
)
from sim.twin import Twin
from sim.voa import FULL_SPEED_DB_PER_S

LARGEST_OFFSET_DB: Final = 99.999
SHORTEST_M: Final = 1200e-9
LONGEST_M: Final = 1650e-9
RESET_M: Final = 1310e-9

_SETTLING: Final = 1 << 1
_METRES: Final = {"M": 1.0, "UM": 1e-6, "NM": 1e-9, "PM": 1e-12}
_DECIBELS: Final = {"DB": 1.0}


@dataclass(frozen=True)
class Hp8156aSettings(AttenuatorSettings):
    """One unit.

    Attributes:
        identity: What ``*IDN?`` answers; the unit does not know its serial number.
        maximum_db: The filter's range, from 0.
        speed_db_per_s: The filter's speed.
    """

    identity: str = "HEWLETT-PACKARD, HP8156A, 0, 1.02"
    maximum_db: float = 60.0
    speed_db_per_s: float = 60.0

    def front_end(self, name: str, twin: Twin, record: Record) -> "Hp8156a":
        """Build the unit, with its own range, in the link or beside it."""
        return Hp8156a(name, self.optics(twin, self.maximum_db), record, self)


class Hp8156a(ScpiUnit):
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
        optics: ShutteredFilter,
        record: Record,
        settings: Hp8156aSettings | None = None,
    ) -> None:
        super().__init__(name, record, self._commands())
        self._optics = optics
        self._settings = settings or Hp8156aSettings()
        optics.set_speed(self._settings.speed_db_per_s)
        self._opens_as_it_was = False
        self._set_defaults()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where the filter is, dB, and whether the shutter is open."""
        return {
            "attenuation": self._optics.actual_db(now_s),
            "shutter": self._optics.shutter_open(now_s),
        }

    def _start(self, now_s: float) -> None:
        """Come up with default settings; ``APOW`` decides about the shutter."""
        was_open = self._optics.shutter_open(now_s)
        self._restore_defaults(now_s)
        if was_open and self._opens_as_it_was:
            self._move_shutter(True, now_s)

    def _queue(self, code: int) -> None:
        if code not in self._errors:
            super()._queue(code)

    def _commands(self) -> dict[str, Callable[..., Answer]]:
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
        return flag(self._optics.time_left_s(now_s) <= 0)

    def _reset(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "reset", "defaults")
        self._restore_defaults(now_s)

    def _set_attenuation(self, argument: str, now_s: float) -> None:
        self._open_power_dbm = None
        bounds = {"MIN": 0.0, "DEF": 0.0, "MAX": self._optics.maximum_db}
        filter_db = bounds.get(argument.upper())
        if filter_db is None:
            filter_db = required_number(argument, _DECIBELS) - self._offset_db
        self._move_filter(filter_db, now_s)

    def _move_filter(self, filter_db: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, "attenuation", filter_db, "dB")
        self._optics.move_to(within(filter_db, 0.0, self._optics.maximum_db), now_s)

    def _read_attenuation(self, argument: str, now_s: float) -> str:
        self._open_power_dbm = None
        readings = {
            "": self._optics.actual_db(now_s),
            "MIN": 0.0,
            "DEF": 0.0,
            "MAX": self._optics.maximum_db,
        }
        return real(chosen(argument, readings) + self._offset_db, 7)

    def _set_offset(self, argument: str, now_s: float) -> None:
        self._open_power_dbm = None
        offset_db = required_number(argument, _DECIBELS)
        self._record.tell(now_s, self._name, "offset", offset_db, "dB")
        self._offset_db = within(offset_db, -LARGEST_OFFSET_DB, LARGEST_OFFSET_DB)

    def _read_offset(self, argument: str, now_s: float) -> str:
        self._open_power_dbm = None
        return real(self._offset_db, 7)

    def _set_wavelength(self, argument: str, now_s: float) -> None:
        wavelength_m = required_number(argument, _METRES)
        self._record.tell(now_s, self._name, "wavelength", wavelength_m, "m")
        self._wavelength_m = within(wavelength_m, SHORTEST_M, LONGEST_M)

    def _read_wavelength(self, argument: str, now_s: float) -> str:
        readings = {"": self._wavelength_m, "MIN": SHORTEST_M, "MAX": LONGEST_M}
        return real(chosen(argument, readings), 7)

    def _set_shutter(self, argument: str, now_s: float) -> None:
        is_open = required_boolean(argument)
        self._record.tell(now_s, self._name, "shutter", float(is_open))
        self._move_shutter(is_open, now_s)

    def _move_shutter(self, is_open: bool, now_s: float) -> None:
        self._optics.set_speed(FULL_SPEED_DB_PER_S)  # it has a drive of its own
        self._optics.set_shutter(is_open, now_s)
        self._optics.set_speed(self._settings.speed_db_per_s)

    def _read_shutter(self, argument: str, now_s: float) -> str:
        return flag(self._optics.shutter_open(now_s))

    def _set_power_on_state(self, argument: str, now_s: float) -> None:
        words = {"DIS": 0.0, "LAST": 1.0, "OFF": 0.0, "0": 0.0, "1": 1.0}
        self._opens_as_it_was = bool(chosen(argument, words))

    def _read_power_on_state(self, argument: str, now_s: float) -> str:
        return flag(self._opens_as_it_was)

    def _set_power_mode(self, argument: str, now_s: float) -> None:
        is_on = required_boolean(argument)
        self._record.tell(now_s, self._name, "power mode", float(is_on))
        shown_db = self._optics.actual_db(now_s) + self._offset_db
        self._open_power_dbm = shown_db + self._optics.actual_db(now_s) if is_on else None

    def _read_power_mode(self, argument: str, now_s: float) -> str:
        return flag(self._open_power_dbm is not None)

    def _set_power(self, argument: str, now_s: float) -> None:
        power_dbm = required_number(argument, {"DBM": 1.0})
        self._record.tell(now_s, self._name, "power", power_dbm, "dBm")
        if self._open_power_dbm is not None:
            self._move_filter(self._open_power_dbm - power_dbm, now_s)

    def _read_power(self, argument: str, now_s: float) -> str:
        return real((self._open_power_dbm or 0.0) - self._optics.actual_db(now_s), 7)

    def _read_condition(self, argument: str, now_s: float) -> str:
        return str(_SETTLING * (self._optics.time_left_s(now_s) > 0))
