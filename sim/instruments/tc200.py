"""Command set of the Thorlabs TC200 heater temperature controller.

It has the prompt of ``sim.instruments.thorlabs_prompt``. Answers end in CR, but that to ``stat?``
in a space; ``mode=normal`` is answered with an error although it is taken. ``ens`` toggles the
output.

Assumed, for want of a manual: the text of ``*idn?``, that set points and limits survive a power
cycle and the output does not come on by itself, that readings are printed in the display's unit,
and which error is which. The heater brings its load to the set point with one time constant.
Not modelled: gains, tuning, cycles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from typing import ClassVar, Final, Literal

from sim.instruments.thorlabs_prompt import NUMBER, PromptUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN

LOWEST_DEGC: Final = 20.0
HIGHEST_DEGC: Final = 205.0
HIGHEST_SET_POINT_DEGC: Final = 200.0
AMBIENT_DEGC: Final = 23.5

Unit = Literal["c", "f", "k"]
_UNIT_BITS: Final = {"k": 0x00, "c": 0x10, "f": 0x20}
_SENSOR_ALARM: Final = 0x40


@dataclass(frozen=True)
class Tc200Settings:
    """One unit.

    Attributes:
        identity: What ``*idn?`` answers.
        has_sensor: Whether a sensor is connected; without one the output does not come on.
        unit: Unit of the display: ``c``, ``f`` or ``k``.
        tmax_degc: The unit's own limit, degC.
        cycles: Whether it is in its cycle mode at power-up.
        time_constant_s: Of heater and load, s.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "THORLABS TC200 VERSION 2.1"
    has_sensor: bool = True
    unit: Unit = "c"
    tmax_degc: float = 200.0
    cycles: bool = False
    time_constant_s: float = 30.0
    latency_s: float = 0.003
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Tc200":
        """Build the unit; what it heats is on no path of the link."""
        return Tc200(name, record, self)


@dataclass(frozen=True)
class _Approach:
    """A temperature on its exponential way."""

    start_s: float
    start_degc: float
    target_degc: float
    time_constant_s: float

    def at(self, now_s: float) -> float:
        left = exp(-max(0.0, now_s - self.start_s) / self.time_constant_s)
        return self.target_degc + (self.start_degc - self.target_degc) * left


class Tc200(PromptUnit):
    """One controller.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(self, name: str, record: Record, settings: Tc200Settings | None = None) -> None:
        self._settings = settings or Tc200Settings()
        super().__init__(
            name,
            record,
            self._command_table(),
            self._settings.latency_s,
            self._settings.boot_s,
        )
        self._set_degc = LOWEST_DEGC
        self._tmax_degc = self._settings.tmax_degc
        self._unit = self._settings.unit
        self._load = _Approach(0.0, AMBIENT_DEGC, AMBIENT_DEGC, self._settings.time_constant_s)
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return set point and temperature, degC, and whether the heater is on."""
        return {
            "temperature": self._set_degc,
            "actual temperature": self._load.at(now_s),
            "heats": self._heats,
        }

    def _start(self, now_s: float) -> None:
        """Come up with the output off."""
        self._cycles = self._settings.cycles
        self._heats = False
        self._head_for_target(now_s)

    def _command_table(self) -> tuple[tuple[str, Callable[..., str]], ...]:
        """Return each command as a pattern, and what carries it out with the pattern's groups."""
        return (
            (r"\*idn\?|id\?", self._identify),
            (r"stat\?", self._read_status),
            (r"tact\?", self._read_actual),
            (r"tset\?", self._read_set_point),
            (rf"tset{NUMBER}", self._set_set_point),
            (r"tmax\?", self._read_tmax),
            (rf"tmax{NUMBER}", self._set_tmax),
            (r"mode=(normal|cycle)", self._set_mode),
            (r"unit=(c|f|k)", self._set_unit),
            (r"ens", self._toggle),
        )

    def _head_for_target(self, now_s: float) -> None:
        target_degc = max(self._set_degc, AMBIENT_DEGC) if self._heats else AMBIENT_DEGC
        here_degc = self._load.at(now_s)
        self._load = _Approach(now_s, here_degc, target_degc, self._settings.time_constant_s)

    def _printed(self, temperature_degc: float) -> str:
        match self._unit:
            case "f":
                return f"{temperature_degc * 1.8 + 32:.1f} F"
            case "k":
                return f"{temperature_degc + 273.15:.1f} K"
        return f"{temperature_degc:.1f} C"

    def _identify(self, now_s: float) -> str:
        return f"{self._settings.identity}\r"

    def _read_status(self, now_s: float) -> str:
        status = int(self._heats) | (int(self._cycles) << 1) | _UNIT_BITS[self._unit]
        return f"{status | (0 if self._settings.has_sensor else _SENSOR_ALARM):x} "

    def _read_actual(self, now_s: float) -> str:
        return f"{self._printed(self._load.at(now_s))}\r"

    def _read_set_point(self, now_s: float) -> str:
        return f"{self._printed(self._set_degc).replace(' C', ' Celsius')}\r"

    def _set_set_point(self, now_s: float, text: str) -> str:
        temperature_degc = round(float(text), 1)
        self._record.tell(now_s, self._name, "temperature", temperature_degc, "degC")
        if not LOWEST_DEGC <= temperature_degc <= min(self._tmax_degc, HIGHEST_SET_POINT_DEGC):
            return self._refuse(now_s, f"tset={text}", "CMD_ARG_RANGE_ERR")
        self._set_degc = temperature_degc
        self._head_for_target(now_s)
        return ""

    def _read_tmax(self, now_s: float) -> str:
        return f"{self._tmax_degc:.1f}\r"

    def _set_tmax(self, now_s: float, text: str) -> str:
        tmax_degc = round(float(text), 1)
        self._record.tell(now_s, self._name, "tmax", tmax_degc, "degC")
        if not LOWEST_DEGC <= tmax_degc <= HIGHEST_DEGC:
            return self._refuse(now_s, f"tmax={text}", "CMD_ARG_RANGE_ERR")
        self._tmax_degc = tmax_degc
        return ""

    def _set_mode(self, now_s: float, mode: str) -> str:
        self._record.tell(now_s, self._name, "mode", mode)
        self._cycles = mode == "cycle"
        return "" if self._cycles else "Command error CMD_ARG_RANGE_ERR\n\r"

    def _set_unit(self, now_s: float, unit: Unit) -> str:
        self._record.tell(now_s, self._name, "unit", unit)
        self._unit = unit
        return ""

    def _toggle(self, now_s: float) -> str:
        if not (self._heats or self._settings.has_sensor):
            return self._refuse(now_s, "ens", "CMD_ARG_RANGE_ERR")
        self._heats = not self._heats
        self._record.tell(now_s, self._name, "heater", float(self._heats))
        self._head_for_target(now_s)
        return ""
