"""Command set of the Siglent SDG generators, as far as a DC source needs it.

Lines end in LF both ways. The channel is a prefix: ``C1:OUTP ON``, ``C1:BSWV OFST,0.5``. Several
keys may be set at once; an answer lists the keys that its waveform has. What is out of range is
ignored without a word.

Assumed, for want of a manual: that an offset out of range is ignored, not clipped.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from sim.command_lines import EndedLines
from sim.levels import Electrode
from sim.line_unit import LineUnit
from sim.record import Record
from sim.scpi import number
from sim.twin import Twin
from sim.wire import MAIN, Reply

WAVEFORMS: Final = ("SINE", "SQUARE", "RAMP", "PULSE", "NOISE", "ARB", "DC")
REACH_50_OHM_V: Final = 5.0
STEP_V: Final = 0.001
AMPLITUDE_V: Final = 2.0
LONGEST_LINE: Final = 1024

_COMMAND: Final = re.compile(r"C([12]):(OUTP|BSWV)(\?| .*)?", re.IGNORECASE)


@dataclass(frozen=True)
class SdgSettings:
    """One unit.

    Attributes:
        model: Model that ``*IDN?`` names.
        serial: Serial number.
        firmware: Firmware version.
        channel: The output that the bench looks at.
        level: The drive of Alice's source that its voltage is, such as ``state V``; None: none.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "SDG2042X"
    serial: str = "SDG2XCAX4R0123"
    firmware: str = "2.01.01.35R3B2"
    channel: int = 1
    level: str | None = None

    @property
    def acts_on(self) -> str | None:
        """The drive of Alice's source that its voltage is, if any."""
        return self.level

    def front_end(self, name: str, twin: Twin, record: Record) -> "Sdg":
        """Build the unit in front of what it drives."""
        return Sdg(name, record, self, twin.electrode(self.level))


@dataclass
class _Channel:
    waveform: str = "SINE"
    offset_v: float = 0.0
    load: str = "HZ"
    is_on: bool = False

    @property
    def reach_v(self) -> float:
        return REACH_50_OHM_V if self.load == "50" else 2 * REACH_50_OHM_V


class Sdg(LineUnit):
    """One generator.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
        electrode: What the voltage of the channel in use goes to, if that is simulated.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        settings: SdgSettings | None = None,
        electrode: Electrode | None = None,
    ) -> None:
        super().__init__(name, record, EndedLines(b"\n", LONGEST_LINE))
        self._settings = settings or SdgSettings()
        self._electrode = electrode
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage at the terminals of the channel in use, V.

        ``voltage`` is its mean, ``amplitude`` how far a waveform goes to either side of that.
        """
        each = self._channels[self._settings.channel]
        if not each.is_on:
            return {"voltage": 0.0, "amplitude": 0.0}
        return {
            "voltage": each.offset_v,
            "amplitude": 0.0 if each.waveform == "DC" else AMPLITUDE_V,
        }

    def _start(self, now_s: float) -> None:
        """Come up with a sine wave and the outputs off."""
        self._channels = {1: _Channel(), 2: _Channel()}
        self._drive(now_s)

    def _drive(self, now_s: float) -> None:
        """Put the voltage on what it goes to."""
        if self._electrode is not None:
            self._electrode.set_bias(float(self.outputs(now_s)["voltage"]), now_s)

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line.strip(), now_s)
        return [] if answer is None else [Reply(f"{answer}\n".encode("latin-1"))]

    def _obey(self, line: str, now_s: float) -> str | None:
        if line.upper() == "*IDN?":
            unit = self._settings
            return f"Siglent Technologies,{unit.model},{unit.serial},{unit.firmware}"
        match = _COMMAND.fullmatch(line)
        if match is None:
            if line:
                self._record.reject(now_s, self._name, line)
            return None
        number_, node, rest = int(match[1]), match[2].upper(), match[3] or ""
        each = self._channels[number_]
        if rest == "?":
            return self._tell(number_, each, node)
        words = [word.strip().upper() for word in rest.split(",")]
        if node == "OUTP":
            self._set_output(each, words, now_s)
        else:
            self._set_waveform(each, words, line, now_s)
        self._drive(now_s)
        return None

    def _tell(self, number_: int, each: _Channel, node: str) -> str:
        if node == "OUTP":
            state = "ON" if each.is_on else "OFF"
            return f"C{number_}:OUTP {state},LOAD,{each.load},PLRT,NOR"
        if each.waveform == "DC":
            return f"C{number_}:BSWV WVTP,DC,OFST,{each.offset_v:g}V"
        return (
            f"C{number_}:BSWV WVTP,{each.waveform},FRQ,1000HZ,PERI,0.001S,AMP,{2 * AMPLITUDE_V:g}V,"
            f"OFST,{each.offset_v:g}V,HLEV,{each.offset_v + AMPLITUDE_V:g}V,"
            f"LLEV,{each.offset_v - AMPLITUDE_V:g}V,PHSE,0"
        )

    def _set_output(self, each: _Channel, words: list[str], now_s: float) -> None:
        self._record.tell(now_s, self._name, "output", ",".join(words))
        if words[0] in ("ON", "OFF"):
            each.is_on = words[0] == "ON"
            words = words[1:]
        for key, value in zip(words[::2], words[1::2], strict=False):
            if key == "LOAD" and value in ("50", "HZ"):
                each.load = value

    def _set_waveform(self, each: _Channel, words: list[str], line: str, now_s: float) -> None:
        for key, value in zip(words[::2], words[1::2], strict=False):
            if key == "WVTP" and value in WAVEFORMS:
                self._record.tell(now_s, self._name, "waveform", value)
                each.waveform = value
            elif key == "OFST":
                self._set_offset(each, value, line, now_s)

    def _set_offset(self, each: _Channel, text: str, line: str, now_s: float) -> None:
        offset_v = number(text, {"V": 1.0})
        if offset_v is None:
            self._record.reject(now_s, self._name, line)
            return
        self._record.tell(now_s, self._name, "voltage", offset_v, "V")
        if abs(offset_v) <= each.reach_v:
            each.offset_v = round(offset_v / STEP_V) * STEP_V
