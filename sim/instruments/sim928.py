"""Command set of a SIM900 mainframe with one SIM928 isolated voltage source in it.

Lines end in LF. ``SNDT n,"text"`` passes text to a module, which takes its time to answer into a
buffer; ``GETN? n,m`` fetches up to m bytes of it as a definite-length block ``#3ddd``, followed by
the mainframe's own terminator. Nobody waits: asked too early, the block is empty.

Assumed, for want of a manual: codes of command errors, and that the output is off after power-up.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from sim.command_lines import EndedLines
from sim.levels import Electrode
from sim.line_unit import LineUnit
from sim.record import Record
from sim.scpi import number
from sim.twin import Twin
from sim.wire import MAIN, Reply

REACH_V: Final = 20.0
LONGEST_LINE: Final = 1024
ILLEGAL_VALUE: Final = 1
UNKNOWN_COMMAND: Final = 2

_SEND: Final = re.compile(r'SNDT (\d),"(.*)"')
_FETCH: Final = re.compile(r"GETN\? (\d),(\d{1,3})")
_FLUSH: Final = re.compile(r"FLSH(?: (\d))?")


@dataclass(frozen=True)
class Sim928Settings:
    """One mainframe and its module.

    Attributes:
        slot: Where the module is.
        serial: Serial number of the module.
        firmware: Its firmware version.
        answer_s: Time until a module has answered, s.
        level: The drive of Alice's source that its voltage is, such as ``state V``; None: none.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    slot: int = 1
    serial: str = "s/n003109"
    firmware: str = "ver2.2"
    answer_s: float = 0.03
    level: str | None = None

    @property
    def acts_on(self) -> str | None:
        """The drive of Alice's source that its voltage is, if any."""
        return self.level

    def front_end(self, name: str, twin: Twin, record: Record) -> "Sim900":
        """Build the mainframe in front of what its module drives."""
        return Sim900(name, record, self, twin.electrode(self.level))


class Sim900(LineUnit):
    """One mainframe.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The mainframe and its module.
        electrode: What the module's voltage goes to, if that is simulated.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        settings: Sim928Settings | None = None,
        electrode: Electrode | None = None,
    ) -> None:
        super().__init__(name, record, EndedLines(b"\n", LONGEST_LINE))
        self._settings = settings or Sim928Settings()
        self._electrode = electrode
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage at the terminals, V."""
        return {"voltage": self._module.voltage_v if self._module.is_on else 0.0}

    def _start(self, now_s: float) -> None:
        """Come up with the output off."""
        self._module = _Module(self._name, self._record, self._settings)
        self._waiting: list[tuple[float, bytes]] = []  # the module's answers, and when they come
        self._drive(now_s)

    def _drive(self, now_s: float) -> None:
        """Put the module's voltage on what it goes to."""
        if self._electrode is not None:
            self._electrode.set_bias(float(self.outputs(now_s)["voltage"]), now_s)

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line.strip(), now_s)
        return [] if answer is None else [Reply(answer + b"\n")]

    def _obey(self, line: str, now_s: float) -> bytes | None:
        if line == "*IDN?":
            return b"Stanford_Research_Systems,SIM900,s/n152741,ver3.6"
        if line == "CTCR?":
            return str(1 << self._settings.slot).encode()
        if match := _SEND.fullmatch(line):
            self._pass_on(int(match[1]), match[2], now_s)
        elif match := _FETCH.fullmatch(line):
            return self._fetch(int(match[1]), int(match[2]), now_s)
        elif _FLUSH.fullmatch(line):
            self._waiting.clear()
        elif line:
            self._record.reject(now_s, self._name, line)
        return None

    def _pass_on(self, slot: int, text: str, now_s: float) -> None:
        if slot != self._settings.slot:
            return
        answer = self._module.obey(text, now_s)
        self._drive(now_s)
        if answer is not None:
            self._waiting.append((now_s + self._settings.answer_s, f"{answer}\n".encode()))

    def _fetch(self, slot: int, longest: int, now_s: float) -> bytes:
        has_come = slot == self._settings.slot
        arrived = b"".join(data for at_s, data in self._waiting if has_come and at_s <= now_s)
        later = [(at_s, data) for at_s, data in self._waiting if at_s > now_s]
        block, rest = arrived[:longest], arrived[longest:]
        if has_come:
            self._waiting = [(now_s, rest), *later] if rest else later
        return f"#3{len(block):03d}".encode() + block


class _Module:
    """The voltage source itself."""

    def __init__(self, name: str, record: Record, settings: Sim928Settings) -> None:
        self._name = name
        self._record = record
        self._settings = settings
        self.voltage_v = 0.0
        self.is_on = False
        self._execution_error = 0
        self._command_error = 0
        self._commands: dict[str, Callable[[], str | None]] = {
            "*IDN?": self._identify,
            "VOLT?": lambda: f"{self.voltage_v:+.3f}",
            "EXON?": lambda: str(int(self.is_on)),
            "LEXE?": self._last_execution_error,
            "LCME?": self._last_command_error,
        }

    def obey(self, text: str, now_s: float) -> str | None:
        if text in self._commands:
            return self._commands[text]()
        head, _, argument = text.partition(" ")
        match head:
            case "VOLT":
                self._set_voltage(argument, text, now_s)
            case "OPON" | "OPOF":
                self._record.tell(now_s, self._name, "output", head)
                self.is_on = head == "OPON"
            case "TERM":
                pass
            case _:
                self._command_error = UNKNOWN_COMMAND
                self._record.reject(now_s, self._name, text)
        return None

    def _set_voltage(self, argument: str, text: str, now_s: float) -> None:
        voltage_v = number(argument)
        if voltage_v is not None:
            self._record.tell(now_s, self._name, "voltage", voltage_v, "V")
        if voltage_v is None or abs(voltage_v) > REACH_V:
            self._execution_error = ILLEGAL_VALUE
            self._record.reject(now_s, self._name, text)
        else:
            self.voltage_v = round(voltage_v, 3)

    def _identify(self) -> str:
        unit = self._settings
        return f"Stanford_Research_Systems,SIM928,{unit.serial},{unit.firmware}"

    def _last_execution_error(self) -> str:
        code, self._execution_error = self._execution_error, 0
        return str(code)

    def _last_command_error(self) -> str:
        code, self._command_error = self._command_error, 0
        return str(code)
