"""Command set of the Thorlabs MBX modulator bias controller with its VOA.

``SECTION:NAME?`` asks, ``SECTION:NAME: value`` sets; keywords in their short or long form. What is
wrong is answered ``Err: …``. Sets are answered ``1``: all of them, or some, as the settings say.
The bias is set in millivolts and measured in volts. The VOA attenuates least when it is off. Its
loop compares the light before and after it: without light it never reaches its set point.

Assumed, for want of the whole guide: the text of ``*IDN?``, that the unit comes up holding 0 V with
the VOA off and set to its largest attenuation, the modulator's curve, and how long calibration and
locking take: the bias is swept meanwhile. Not modelled: drift, dither, sleep, lamps.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log10
from typing import Final, Protocol

from sim.command_lines import TypedLines
from sim.instruments.attenuator import AttenuatorSettings, Filter
from sim.line_unit import LineUnit
from sim.record import Record
from sim.scpi import CommandTable, number
from sim.twin import Twin
from sim.wire import Reply

SMALLEST_DB: Final = 0.5
LARGEST_DB: Final = 20.0
LARGEST_MV: Final = 10_000
OFF, HOLD_VOLTAGE, LAST_MODE = 0, 7, 9
POINT_V: Final = {1: 0.8, 2: 5.8, 3: 3.3, 4: -1.7, 5: 3.3, 6: -1.7, 8: 2.1, 9: -0.5}
"""Bias of each lock point of the modulator, by mode, V: its half-wave voltage is 5 V."""
NULL_MODE: Final = 2
LOCKING_MODES: Final = (1, 2, 3, 4, 8, 9)
NEAR_DB: Final = 0.1
SWEEP_PERIOD_S: Final = 0.5

_COMMAND: Final = re.compile(r"([A-Za-z_:*]*[A-Za-z_*])(\?|:?\s*([^?]*))")

Do = Callable[[str, float], str]


class Modulator(Protocol):
    """The modulator that it biases."""

    def follow(self, course: Callable[[float], float], now_s: float) -> None:
        """Take a course of the bias over time, from now on."""
        ...

    def null_v(self, now_s: float) -> float:
        """Bias of the null, V."""
        ...


@dataclass(frozen=True)
class MbxSettings(AttenuatorSettings):
    """One unit.

    Attributes:
        identity: What ``*IDN?`` answers.
        answers_all: Whether all sets are answered ``1``, or only those of the VOA's mode and the
            calibration.
        reply_end: What ends a reply.
        has_light: Whether light reaches the VOA.
        input_power_mw: Light before the VOA, for its constant-power mode, mW.
        speed_db_per_s: Of the VOA.
        calibration_s: Duration of a calibration, s.
        lock_s: From there until a point is held, s.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
        biases_link: Whether the modulator that it biases is the link's: its null is followed.
    """

    identity: str = "THORLABS,MBX3,M00512345,1.9.5"
    answers_all: bool = False
    reply_end: bytes = b"\r"
    has_light: bool = True
    input_power_mw: float = 5.0
    speed_db_per_s: float = 5000.0
    calibration_s: float = 4.0
    lock_s: float = 2.0
    latency_s: float = 0.002
    boot_s: float = 0.5
    biases_link: bool = False

    @property
    def acts_on(self) -> str | None:
        """The bias of the link's modulator, or the link's attenuation, or nothing."""
        return "modulator bias" if self.biases_link else super().acts_on

    def front_end(self, name: str, twin: Twin, record: Record) -> "Mbx":
        """Build the unit, its VOA in the link or beside it."""
        modulator = twin.modulator if self.biases_link else None
        return Mbx(name, self.optics(twin, LARGEST_DB), record, self, modulator)


class _RefusedError(Exception):
    """A command is answered with this error."""


class Mbx(LineUnit):
    """One controller.

    Args:
        name: What the record calls it.
        optics: The VOA.
        record: Where commands are noted.
        settings: The unit.
        modulator: What it biases, if that is simulated.
    """

    def __init__(
        self,
        name: str,
        optics: Filter,
        record: Record,
        settings: MbxSettings | None = None,
        modulator: Modulator | None = None,
    ) -> None:
        self._settings = settings or MbxSettings()
        super().__init__(name, record, TypedLines(), self._settings.boot_s)
        self._optics = optics
        self._modulator = modulator
        self._questions = CommandTable[Do](self._question_table())
        self._sets = CommandTable[Do](self._set_table())
        optics.maximum_db = LARGEST_DB
        optics.set_speed(self._settings.speed_db_per_s)
        optics.set_shutter(True, 0.0)
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return bias, V, mode, and what the VOA attenuates, dB."""
        return {
            "bias": self._bias_v(now_s),
            "mode": str(self._mode),
            "attenuation": self._optics.actual_db(now_s),
        }

    def _start(self, now_s: float) -> None:
        """Come up holding 0 V, the VOA off."""
        self._mode = HOLD_VOLTAGE
        self._hold_mv = 0
        self._hold_ratio = 500
        self._calibrated_s = -inf
        self._attenuation_db = LARGEST_DB
        self._power_mw = 1.0
        self._keeps_power = False
        self._is_driven = False
        self._drive(now_s)
        self._bias(now_s)

    def _question_table(self) -> dict[str, Do]:
        """Return what answers each question."""
        return {
            "*IDN": lambda argument, now_s: self._settings.identity,
            "SYSTem:MODEL": lambda argument, now_s: self._settings.identity.split(",")[1],
            "MZM:MODE": lambda argument, now_s: str(self._mode),
            "MZM:CALibrating": lambda argument, now_s: str(int(now_s < self._calibrated_s)),
            "MZM:SETpoint": lambda argument, now_s: str(int(self._is_held(now_s))),
            "MZM:HOLD:VOLTage": lambda argument, now_s: str(self._hold_mv),
            "MZM:HOLD:RATIO": lambda argument, now_s: str(self._hold_ratio),
            "MZM:VOLTage": lambda argument, now_s: f"{self._bias_v(now_s):.2f}",
            "VOA:POWer": lambda argument, now_s: str(int(self._is_driven)),
            "VOA:MODE": lambda argument, now_s: str(int(self._keeps_power)),
            "VOA:ATTen": lambda argument, now_s: f"{self._attenuation_db:.2f}",
            "VOA:MEASured": lambda argument, now_s: f"{self._measured_db(now_s):.2f}",
            "VOA:ERRor": lambda argument, now_s: (
                f"{self._measured_db(now_s) - self._attenuation_db:.2f}"
            ),
            "VOA:SETpoint": lambda argument, now_s: str(int(self._is_settled(now_s))),
            "VOA:OUTput:MW": lambda argument, now_s: f"{self._power_mw:.2f}",
        }

    def _set_table(self) -> dict[str, Do]:
        """Return what carries out each set."""
        return {
            "MZM:MODE": self._set_mode,
            "MZM:RESET": self._calibrate,
            "MZM:HOLD:VOLTage": self._set_hold_voltage,
            "MZM:HOLD:RATIO": self._set_hold_ratio,
            "VOA:POWer": self._set_driven,
            "VOA:MODE": self._set_voa_mode,
            "VOA:ATTen": self._set_attenuation,
            "VOA:OUTput:MW": self._set_power,
        }

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line, now_s) if line.strip() else ""
        data = answer.encode("latin-1") + self._settings.reply_end
        return [Reply(data, self._settings.latency_s)] if answer else []

    def _obey(self, line: str, now_s: float) -> str:
        try:
            return self._carry_out(line.strip(), now_s)
        except _RefusedError as refusal:
            self._record.reject(now_s, self._name, line)
            return f"Err: {refusal}"

    def _carry_out(self, line: str, now_s: float) -> str:
        match = _COMMAND.fullmatch(line)
        if match is None:
            raise _RefusedError("Undefined header")
        table = self._questions if match[2] == "?" else self._sets
        found = table.find(match[1].upper())
        if found is None:
            raise _RefusedError("Undefined header")
        do, _ = found
        return do((match[3] or "").strip(), now_s)

    def _acknowledged(self, *, always: bool = False) -> str:
        return "1" if always or self._settings.answers_all else ""

    def _is_held(self, now_s: float) -> bool:
        if self._mode == OFF:
            return False
        if self._mode in LOCKING_MODES:
            return now_s >= self._calibrated_s + self._settings.lock_s
        return True

    def _bias_v(self, now_s: float) -> float:
        return self._course()(now_s)

    def _course(self) -> Callable[[float], float]:
        """Return the bias over time for as long as nothing else is told, V."""
        mode, hold_v, calibrated_s = self._mode, self._hold_mv / 1000, self._calibrated_s
        modulator = self._modulator
        if mode == OFF:
            return lambda now_s: 0.0
        if mode == HOLD_VOLTAGE:
            return lambda now_s: hold_v

        def course(now_s: float) -> float:
            if now_s < calibrated_s:
                phase = (now_s / SWEEP_PERIOD_S) % 1.0
                return LARGEST_MV / 1000 * (4 * abs(phase - 0.5) - 1)
            drift_v = modulator.null_v(now_s) - POINT_V[NULL_MODE] if modulator else 0.0
            return POINT_V[mode] + drift_v

        return course

    def _bias(self, now_s: float) -> None:
        """Put the bias on the modulator."""
        if self._modulator is not None:
            self._modulator.follow(self._course(), now_s)

    def _measured_db(self, now_s: float) -> float:
        return self._optics.actual_db(now_s) if self._settings.has_light else 0.0

    def _is_settled(self, now_s: float) -> bool:
        is_near = abs(self._optics.actual_db(now_s) - self._attenuation_db) <= NEAR_DB
        return self._settings.has_light and self._is_driven and is_near

    def _drive(self, now_s: float) -> None:
        """Send the VOA where its state wants it."""
        target_db = 0.0
        if self._is_driven and self._keeps_power:
            wanted_db = 10 * log10(self._settings.input_power_mw / self._power_mw)
            target_db = min(max(wanted_db, 0.0), LARGEST_DB)
        elif self._is_driven:
            target_db = self._attenuation_db
        self._optics.move_to(target_db, now_s)

    def _set_mode(self, argument: str, now_s: float) -> str:
        mode = _whole(argument, OFF, LAST_MODE)
        self._record.tell(now_s, self._name, "bias mode", float(mode))
        self._mode = mode
        if mode in LOCKING_MODES:
            self._calibrated_s = now_s + self._settings.calibration_s
        self._bias(now_s)
        return self._acknowledged()

    def _calibrate(self, argument: str, now_s: float) -> str:
        self._record.tell(now_s, self._name, "calibrate", "bias")
        self._calibrated_s = now_s + self._settings.calibration_s
        self._bias(now_s)
        return self._acknowledged(always=True)

    def _set_hold_voltage(self, argument: str, now_s: float) -> str:
        voltage_mv = _number(argument)
        self._record.tell(now_s, self._name, "bias", voltage_mv / 1000, "V")
        self._hold_mv = _whole(argument, -LARGEST_MV, LARGEST_MV)
        self._bias(now_s)
        return self._acknowledged()

    def _set_hold_ratio(self, argument: str, now_s: float) -> str:
        self._record.tell(now_s, self._name, "power ratio", _number(argument))
        self._hold_ratio = _whole(argument, 250, 10_000)
        return self._acknowledged()

    def _set_driven(self, argument: str, now_s: float) -> str:
        is_on = bool(_whole(argument, 0, 1))
        self._record.tell(now_s, self._name, "voa power", float(is_on))
        self._is_driven = is_on
        self._drive(now_s)
        return self._acknowledged()

    def _set_voa_mode(self, argument: str, now_s: float) -> str:
        keeps_power = bool(_whole(argument, 0, 1))
        self._record.tell(now_s, self._name, "voa mode", float(keeps_power))
        self._keeps_power = keeps_power
        self._drive(now_s)
        return self._acknowledged(always=True)

    def _set_attenuation(self, argument: str, now_s: float) -> str:
        attenuation_db = _number(argument)
        self._record.tell(now_s, self._name, "attenuation", attenuation_db, "dB")
        _within(attenuation_db, SMALLEST_DB, LARGEST_DB)
        self._attenuation_db = round(attenuation_db, 2)
        self._drive(now_s)
        return self._acknowledged()

    def _set_power(self, argument: str, now_s: float) -> str:
        power_mw = _number(argument)
        self._record.tell(now_s, self._name, "output power", power_mw, "mW")
        _within(power_mw, 0.01, 100.0)
        self._power_mw = power_mw
        self._drive(now_s)
        return self._acknowledged()


def _number(text: str) -> float:
    value = number(text)
    if value is None:
        raise _RefusedError("Numeric data error")
    return value


def _whole(text: str, minimum: int, maximum: int) -> int:
    value = _number(text)
    if not value.is_integer():
        raise _RefusedError("Data type error")
    return int(_within(value, minimum, maximum))


def _within(value: float, minimum: float, maximum: float) -> float:
    if not minimum <= value <= maximum:
        raise _RefusedError("Parameter error")
    return value
