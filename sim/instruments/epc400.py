"""Command set of the OZ Optics EPC-400 / EPC04 four-squeezer polarization controller.

Lines end in CR LF both ways. The unit echoes each command, prints zero or more reply lines and ends
with ``Done`` or ``Error!``. Everything takes its time on the wire: ten bits a byte.

Assumed, for want of a manual: the texts that answer ``M?``, ``F?``, ``WF?``, ``VF?``, ``BR?`` and
``?``, the rates behind ``BR0`` to ``BR3``, the time to reboot, and that ``V?`` keeps showing what
was set while a channel is scrambling or the drive is off.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol

from sim.command_lines import EndedLines
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

CHANNELS: Final = (1, 2, 3, 4)
FULL_SCALE_MV: Final = 5000
MAXIMUM_SCRAMBLING_HZ: Final = 100
BAUD_RATES: Final = (9600, 19200, 57600, 115200)
LONGEST_LINE: Final = 64

_END: Final = b"\r\n"
_DONE: Final = "Done"
_ERROR: Final = "Error!"
_HELP: Final = [
    "V? Vn,mV VHn VLn VZn",
    "M? MDC MAC VF? VFn F? Fn,Hz WF? WF1 WF2",
    "ENABLE0 ENABLE1 ENVF0 ENVF1 BR? BRn SN? VER? SAVE RESET",
]


class Squeezers(Protocol):
    """The optics behind the four drives."""

    def set_voltage(self, channel: int, voltage_v: float, now_s: float) -> None:
        """Send one drive towards a voltage, V."""
        ...

    def voltage_v(self, channel: int, now_s: float) -> float:
        """Return where a drive is, V."""
        ...


@dataclass(frozen=True)
class Epc400Settings:
    """One unit.

    Attributes:
        serial: Serial number.
        firmware: Version that ``VER?`` prints.
        baud_rate: At power-up.
        scrambles_at_power_up: The unit comes up in AC mode, until ``MDC``.
        boot_s: Time after ``RESET`` or power-up in which it hears nothing, s.
        bits_per_byte: Length of a byte on the wire, in bits: 8N1.
    """

    acts_on: ClassVar[str | None] = "polarization"
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    serial: str = "18070042"
    firmware: str = "EPC-400 V2.03"
    baud_rate: int = BAUD_RATES[0]
    scrambles_at_power_up: bool = False
    boot_s: float = 0.5
    bits_per_byte: int = 10

    def front_end(self, name: str, twin: Twin, record: Record) -> "Epc400":
        """Build the unit in front of the link's squeezers."""
        return Epc400(name, twin.squeezers, record, self)


@dataclass
class _Drives:
    """What each channel is set to; ``SAVE`` stores it and power-up restores it."""

    voltage_mv: dict[int, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    scrambling_hz: dict[int, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    scrambles: dict[int, bool] = field(default_factory=lambda: dict.fromkeys(CHANNELS, False))

    def copy(self) -> "_Drives":
        return _Drives(dict(self.voltage_mv), dict(self.scrambling_hz), dict(self.scrambles))


Answer = list[str] | None
"""Reply lines of an accepted command, or None for a rejected one."""


class Epc400(LineUnit):
    """One controller; a squeezer follows its voltage while the drive is on and in DC mode.

    A scrambling channel leaves its squeezer at 0 V: the model has no AC drive.

    Args:
        name: What the record calls it.
        squeezers: The optics.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        squeezers: Squeezers,
        record: Record,
        settings: Epc400Settings | None = None,
    ) -> None:
        self._settings = settings or Epc400Settings()
        super().__init__(name, record, EndedLines(_END, LONGEST_LINE), self._settings.boot_s)
        self._squeezers = squeezers
        scrambles = dict.fromkeys(CHANNELS, self._settings.scrambles_at_power_up)
        self._saved = _Drives(scrambles=scrambles)
        self._driven_mv = dict.fromkeys(CHANNELS, 0)
        self._commands = CommandPatterns(self._command_table())
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return each drive's voltage, V, and whether any channel scrambles."""
        voltages_v = {str(n): self._squeezers.voltage_v(n, now_s) for n in CHANNELS}
        return {**voltages_v, "scrambles": any(self._set.scrambles.values())}

    def _start(self, now_s: float) -> None:
        """Come up with what was saved."""
        self._set = self._saved.copy()
        self._waveform = 1
        self._is_enabled = True
        self._baud_rate = self._settings.baud_rate
        self._wire_free_s = 0.0
        self._drive(now_s)

    def _command_table(self) -> tuple[tuple[str, Callable[..., Answer]], ...]:
        """Return each command as a pattern, and what carries it out with the pattern's groups."""
        return (
            (r"V\?", self._read_voltages),
            (r"V([0-9]),([+-]?[0-9]{1,6})", self._set_voltage),
            (r"V([HLZ])([0-9])", self._set_extreme),
            (r"M\?", self._read_mode),
            (r"M(DC|AC)", self._set_mode),
            (r"VF\?", self._read_channel_modes),
            (r"VF([0-9])", self._toggle_channel_mode),
            (r"F\?", self._read_frequencies),
            (r"F([0-9]),([0-9]{1,6})", self._set_frequency),
            (r"WF\?", self._read_waveform),
            (r"WF([12])", self._set_waveform),
            (r"ENABLE([01])", self._set_enabled),
            (r"ENVF([01])", self._set_variable_frequency),
            (r"BR\?", self._read_baud_rate),
            (r"BR([0-3])", self._set_baud_rate),
            (r"SN\?", self._read_serial),
            (r"VER\?", self._read_version),
            (r"\?", self._read_help),
            (r"SAVE", self._save),
            (r"RESET", self._reset),
        )

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        """Echo, obey and answer, and account for the time that all of it spends on the wire."""
        baud_rate = self._baud_rate
        time_s = max(now_s, self._wire_free_s) + self._wire_s(line, baud_rate)
        command = self._commands.find(line)
        answer = command(now_s) if command else None
        self._drive(time_s)
        if answer is None:
            self._record.reject(now_s, self._name, line)
        lines = [line, _ERROR] if answer is None else [line, *answer, _DONE]
        replies = []
        for text in lines:
            time_s += self._wire_s(text, baud_rate)
            replies.append(Reply(text.encode("latin-1") + _END, after_s=time_s - now_s))
        self._wire_free_s = time_s
        return replies

    def _drive(self, now_s: float) -> None:
        """Pass on to the squeezers what has changed for them."""
        for channel in CHANNELS:
            is_driven = self._is_enabled and not self._set.scrambles[channel]
            voltage_mv = self._set.voltage_mv[channel] if is_driven else 0
            if voltage_mv != self._driven_mv[channel]:
                self._driven_mv[channel] = voltage_mv
                self._squeezers.set_voltage(channel, voltage_mv / 1000, now_s)

    def _read_voltages(self, now_s: float) -> Answer:
        return [" ".join(f"CH{n} {mv:+05d}" for n, mv in self._set.voltage_mv.items())]

    def _set_voltage(self, now_s: float, channel: str, voltage: str) -> Answer:
        n, voltage_mv = int(channel), int(voltage)
        self._record.tell(now_s, self._name, "voltage", voltage_mv / 1000, "V", n)
        if n not in CHANNELS or abs(voltage_mv) > FULL_SCALE_MV:
            return None
        self._set.voltage_mv[n] = voltage_mv
        return []

    def _set_extreme(self, now_s: float, which: str, channel: str) -> Answer:
        extreme_mv = {"H": FULL_SCALE_MV, "L": -FULL_SCALE_MV, "Z": 0}[which]
        return self._set_voltage(now_s, channel, str(extreme_mv))

    def _read_mode(self, now_s: float) -> Answer:
        return ["Mode: AC" if any(self._set.scrambles.values()) else "Mode: DC"]

    def _set_mode(self, now_s: float, mode: str) -> Answer:
        self._record.tell(now_s, self._name, "mode", mode)
        self._set.scrambles = dict.fromkeys(CHANNELS, mode == "AC")
        return []

    def _read_channel_modes(self, now_s: float) -> Answer:
        modes = self._set.scrambles.items()
        return [" ".join(f"CH{n} {'AC' if scrambles else 'DC'}" for n, scrambles in modes)]

    def _toggle_channel_mode(self, now_s: float, channel: str) -> Answer:
        n = int(channel)
        if n not in CHANNELS:
            return None
        self._set.scrambles[n] = not self._set.scrambles[n]
        mode = "AC" if self._set.scrambles[n] else "DC"
        self._record.tell(now_s, self._name, "mode", mode, channel=n)
        return []

    def _read_frequencies(self, now_s: float) -> Answer:
        return [" ".join(f"CH{n} {hz:03d}" for n, hz in self._set.scrambling_hz.items())]

    def _set_frequency(self, now_s: float, channel: str, frequency: str) -> Answer:
        n, frequency_hz = int(channel), int(frequency)
        self._record.tell(now_s, self._name, "scrambling frequency", frequency_hz, "Hz", n)
        if n not in CHANNELS or frequency_hz > MAXIMUM_SCRAMBLING_HZ:
            return None
        self._set.scrambling_hz[n] = frequency_hz
        return []

    def _read_waveform(self, now_s: float) -> Answer:
        return [f"Waveform: {'SINE' if self._waveform == 1 else 'TRIANGLE'}"]

    def _set_waveform(self, now_s: float, waveform: str) -> Answer:
        self._record.tell(now_s, self._name, "waveform", waveform)
        self._waveform = int(waveform)
        return []

    def _set_enabled(self, now_s: float, flag: str) -> Answer:
        self._record.tell(now_s, self._name, "drive", float(flag))
        self._is_enabled = flag == "1"
        return []

    def _set_variable_frequency(self, now_s: float, flag: str) -> Answer:
        self._record.tell(now_s, self._name, "variable frequency", float(flag))
        return []

    def _read_baud_rate(self, now_s: float) -> Answer:
        return [f"BR{BAUD_RATES.index(self._baud_rate)}"]

    def _set_baud_rate(self, now_s: float, index: str) -> Answer:
        self._record.tell(now_s, self._name, "baud rate", BAUD_RATES[int(index)])
        self._baud_rate = BAUD_RATES[int(index)]  # this reply still comes at the old rate
        return []

    def _read_serial(self, now_s: float) -> Answer:
        return [self._settings.serial]

    def _read_version(self, now_s: float) -> Answer:
        return [self._settings.firmware]

    def _read_help(self, now_s: float) -> Answer:
        return list(_HELP)

    def _save(self, now_s: float) -> Answer:
        self._record.tell(now_s, self._name, "save", "preset")
        self._saved = self._set.copy()
        return []

    def _reset(self, now_s: float) -> Answer:
        self._record.tell(now_s, self._name, "reset", "reboot")
        self.power_cycle(now_s)
        return []

    def _wire_s(self, text: str, baud_rate: int) -> float:
        """Return the time that a line with its end takes, s."""
        return (len(text) + len(_END)) * self._settings.bits_per_byte / baud_rate
