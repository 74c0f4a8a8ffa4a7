"""Command set of the Thorlabs MDT693B (three axes) and MDT694B (one) piezo controllers.

Commands end in CR, LF or both; keywords in any case. ``>`` is printed at power-up and after each
command that was taken; what was not is answered ``!``, and an unknown keyword or an empty line
``CMD_NOT_DEFINED``. Readings come in brackets, from an ADC with steps of 3 mV, of what a DAC with
steps of 2.75 mV puts out. With the echo on, each command is sent back first.

Assumed, for want of the whole manual: that ``!`` is followed by CR and ``>``, the lines of ``id?``
(as one unit printed them), that the unit comes up at 0 V with the echo on and forgets everything
else, and the time to boot. Not modelled: knobs, the external input, the compatibility mode.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from sim.command_lines import TypedLines
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.timeline import Ramp
from sim.twin import Twin
from sim.wire import MAIN, Reply

SWITCH_POSITIONS_V: Final = (75.0, 100.0, 150.0)
DAC_STEP_V: Final = 0.00275
ADC_STEP_V: Final = 0.003
ONE_AXIS_MODEL: Final = "MDT694B"

_REFUSED: Final = "!\r>"
_UNKNOWN: Final = "CMD_NOT_DEFINED>"
_NUMBER: Final = r"([+-]?[0-9]+\.?[0-9]*)"


@dataclass(frozen=True)
class Mdt693bSettings:
    """One unit.

    Attributes:
        model: ``MDT693B`` or ``MDT694B``.
        serial: Serial number.
        firmware: Version that ``id?`` prints.
        switch: Position of the switch at the rear: 0, 1, 2 for 75, 100, 150 V.
        echoes: Whether the echo is on at power-up.
        slew_v_per_s: 60 mA into a stack of 1.4 uF.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
        is_on_link: Whether axis X drives the phase shifter of the link.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "MDT693B"
    serial: str = "140421-07"
    firmware: str = "1.09"
    switch: int = 0
    echoes: bool = True
    slew_v_per_s: float = 43e3
    latency_s: float = 0.002
    boot_s: float = 0.5
    is_on_link: bool = False

    @property
    def acts_on(self) -> str | None:
        """The phase of the link, if it drives it."""
        return "phase" if self.is_on_link else None

    def front_end(self, name: str, twin: Twin, record: Record) -> "Mdt693b":
        """Build the unit; what else it drives is on no path of the link."""
        return Mdt693b(name, record, self, twin.phase_shifter if self.is_on_link else None)


class Shifter(Protocol):
    """What axis X drives."""

    def set_voltage(self, voltage_v: float, now_s: float) -> None:
        """Send it towards a voltage, V."""
        ...

    def target_v(self) -> float:
        """Return the voltage that was commanded last, V."""
        ...


class _RefusedError(Exception):
    """A value or a form that the unit does not take."""


class Mdt693b(LineUnit):
    """One controller.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
        shifter: What axis X drives, or None.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        settings: Mdt693bSettings | None = None,
        shifter: Shifter | None = None,
    ) -> None:
        self._settings = settings or Mdt693bSettings()
        self._shifter = shifter
        super().__init__(name, record, TypedLines(), self._settings.boot_s)
        self._axes = "x" if self._settings.model == ONE_AXIS_MODEL else "xyz"
        self._switch = self._settings.switch
        self._commands = CommandPatterns(self._command_table())
        self._greets_at_s: float | None = None
        self._start(0.0)

    def due_s(self) -> float | None:
        """When the prompt of power-up is printed."""
        return self._greets_at_s

    def tick(self, now_s: float) -> list[Reply]:
        """Print it."""
        self._greets_at_s = None
        return [Reply(b">")]

    def power_cycle(self, now_s: float) -> None:
        """Start again from power-up settings; the switch stays where it is."""
        super().power_cycle(now_s)
        self._greets_at_s = self._deaf_until_s

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage of each axis, V, and whether master scan adds to them."""
        volts = {axis: self._output_v(axis, now_s) for axis in self._axes}
        return {**volts, "master scan": self._scans}

    def move_switch(self, position: int) -> None:
        """Move the switch at the rear: 0, 1, 2 for 75, 100, 150 V."""
        self._switch = position

    def _start(self, now_s: float) -> None:
        """Come up at 0 V."""
        self._drive = {axis: Ramp(0.0, 0.0, 0.0, self._settings.slew_v_per_s) for axis in "xyz"}
        self._lowest_v = dict.fromkeys("xyz", 0.0)
        self._highest_v = dict.fromkeys("xyz", SWITCH_POSITIONS_V[-1])
        self._echoes = self._settings.echoes
        self._scans = False
        self._scan_v = 0.0
        self._drive_shifter(now_s)

    def _drive_shifter(self, now_s: float) -> None:
        """Pass on where axis X is heading."""
        target_v = self._drive["x"].target + (self._scan_v if self._scans else 0.0)
        target_v = min(max(target_v, 0.0), SWITCH_POSITIONS_V[self._switch])
        if self._shifter is not None and target_v != self._shifter.target_v():
            self._shifter.set_voltage(target_v, now_s)

    def _command_table(self) -> tuple[tuple[str, Callable[..., str]], ...]:
        """Return each command as a pattern, and what carries it out with the pattern's groups."""
        axis = f"([{self._axes}])"
        common: tuple[tuple[str, Callable[..., str]], ...] = (
            (r"id\?", self._identify),
            (r"serial\?", self._read_serial),
            (r"friendly\?", self._read_name),
            (r"echo\?", self._read_echo),
            (r"echo=(.*)", self._set_echo),
            (r"vlimit\?", self._read_switch),
            (rf"{axis}voltage\?", self._read_voltage),
            (rf"{axis}voltage=(.*)", self._set_voltage),
            (rf"{axis}(min|max)\?", self._read_limit),
            (rf"{axis}(min|max)=(.*)", self._set_limit),
            (r"allvoltage=(.*)", self._set_all),
            (r"cm\?", self._read_compatibility),
        )
        if self._settings.model == ONE_AXIS_MODEL:
            return common
        return (
            *common,
            (r"xyzvoltage\?", self._read_three),
            (r"xyzvoltage=(.*),(.*),(.*)", self._set_three),
            (r"msenable\?", self._read_scan),
            (r"msenable=(.*)", self._set_scan),
            (r"msvoltage\?", self._read_scan_voltage),
            (r"msvoltage=(.*)", self._set_scan_voltage),
        )

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        echo = f"{line}\r" if self._echoes else ""
        text = echo + self._obey(line, now_s)
        return [Reply(text.encode("latin-1"), self._settings.latency_s)]

    def _obey(self, line: str, now_s: float) -> str:
        command = self._commands.find(line.strip().lower())
        if command is None:
            self._record.reject(now_s, self._name, line)
            return _UNKNOWN
        try:
            answer = command(now_s)
        except _RefusedError:
            self._record.reject(now_s, self._name, line)
            return _REFUSED
        self._drive_shifter(now_s)
        return f"{answer}\r>" if answer else ">"

    def _output_v(self, axis: str, now_s: float) -> float:
        total_v = self._drive[axis].at(now_s) + (self._scan_v if self._scans else 0.0)
        return min(max(total_v, 0.0), SWITCH_POSITIONS_V[self._switch])

    def _reading_v(self, axis: str, now_s: float) -> float:
        return round(self._output_v(axis, now_s) / ADC_STEP_V) * ADC_STEP_V

    def _identify(self, now_s: float) -> str:
        lines = [
            f"Model {self._settings.model} Piezo Control Module",
            f"Firmware Version: {self._settings.firmware}",
            f"Voltage Range: {SWITCH_POSITIONS_V[self._switch]:.0f}V",
            f"Serial#:{self._settings.serial}",
            "Friendly Name:Piezo",
        ]
        return "\r\r" + "\r".join(lines)

    def _read_serial(self, now_s: float) -> str:
        return self._settings.serial

    def _read_name(self, now_s: float) -> str:
        return "Piezo"

    def _read_echo(self, now_s: float) -> str:
        return f"[Echo {'On' if self._echoes else 'Off'}]"

    def _set_echo(self, now_s: float, flag: str) -> str:
        is_on = _flag(flag)
        self._record.tell(now_s, self._name, "echo", float(is_on))
        self._echoes = is_on
        return ""

    def _read_switch(self, now_s: float) -> str:
        return str(self._switch)

    def _read_voltage(self, now_s: float, axis: str) -> str:
        return f"[{self._reading_v(axis, now_s):6.2f}]"

    def _set_voltage(self, now_s: float, axis: str, voltage: str) -> str:
        voltage_v = _number(voltage)
        self._record.tell(now_s, self._name, "voltage", voltage_v, "V", "xyz".index(axis) + 1)
        highest_v = min(self._highest_v[axis], SWITCH_POSITIONS_V[self._switch])
        if not self._lowest_v[axis] <= voltage_v <= highest_v:
            raise _RefusedError
        held_v = round(voltage_v / DAC_STEP_V) * DAC_STEP_V
        self._drive[axis] = self._drive[axis].turned(held_v, now_s)
        return ""

    def _read_limit(self, now_s: float, axis: str, which: str) -> str:
        return f"{(self._lowest_v if which == 'min' else self._highest_v)[axis]:g}"

    def _set_limit(self, now_s: float, axis: str, which: str, voltage: str) -> str:
        voltage_v = _number(voltage)
        self._record.tell(now_s, self._name, which, voltage_v, "V", "xyz".index(axis) + 1)
        if not 0 <= voltage_v <= SWITCH_POSITIONS_V[-1]:
            raise _RefusedError
        (self._lowest_v if which == "min" else self._highest_v)[axis] = voltage_v
        return ""

    def _set_all(self, now_s: float, voltage: str) -> str:
        for axis in self._axes:
            self._set_voltage(now_s, axis, voltage)
        return ""

    def _read_three(self, now_s: float) -> str:
        return f"[{','.join(f'{self._reading_v(axis, now_s):6.2f}' for axis in self._axes)}]"

    def _set_three(self, now_s: float, *voltages: str) -> str:
        for axis, voltage in zip(self._axes, voltages, strict=True):
            self._set_voltage(now_s, axis, voltage)
        return ""

    def _read_scan(self, now_s: float) -> str:
        return str(int(self._scans))

    def _set_scan(self, now_s: float, flag: str) -> str:
        is_on = _flag(flag)
        self._record.tell(now_s, self._name, "master scan", float(is_on))
        self._scans = is_on
        return ""

    def _read_scan_voltage(self, now_s: float) -> str:
        return f"[{self._scan_v:6.2f}]"

    def _set_scan_voltage(self, now_s: float, voltage: str) -> str:
        voltage_v = _number(voltage)
        self._record.tell(now_s, self._name, "master scan voltage", voltage_v, "V")
        if not 0 <= voltage_v <= SWITCH_POSITIONS_V[self._switch]:
            raise _RefusedError
        self._scan_v = voltage_v
        return ""

    def _read_compatibility(self, now_s: float) -> str:
        return "[MDT693A Compatibility Mode Off]"


def _number(text: str) -> float:
    if not (match := re.fullmatch(_NUMBER, text.strip())):
        raise _RefusedError
    return float(match[1])


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise _RefusedError
    return text == "1"
