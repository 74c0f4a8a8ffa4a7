"""Command set of the Yokogawa GS200, as far as a voltage source on one range needs it.

SCPI lines end in LF both ways. A level beyond 1.2 times the range is refused (-222); so are a
function or a range changed in a way that the level does not fit. The unit comes up with its output
off, in voltage mode, on the 10 V range.

Assumed, for want of a manual: the texts of the error queue, and that a level is rounded to the
range's resolution.
"""

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Final

from sim.record import Record
from sim.scpi import Command, CommandTable, boolean, commands, number
from sim.twin import Twin
from sim.wire import MAIN, Reply

RESOLUTIONS: Final = {0.01: 1e-7, 0.1: 1e-6, 1.0: 1e-5, 10.0: 1e-4, 30.0: 1e-3}
LIMITS_A: Final = (0.001, 0.2)
OVERRANGE: Final = 1.2
LONGEST_LINE: Final = 1024
QUEUE_LENGTH: Final = 16


@dataclass(frozen=True)
class Gs200Settings:
    """One unit: what it says it is."""

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "GS210"
    serial: str = "91N345678"
    firmware: str = "2.02"

    def front_end(self, name: str, twin: Twin, record: Record) -> "Gs200":
        """Build the unit; it is on its own."""
        return Gs200(name, record, self)


class Gs200:
    """One source.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(self, name: str, record: Record, settings: Gs200Settings | None = None) -> None:
        self._name = name
        self._record = record
        self._settings = settings or Gs200Settings()
        self._table = CommandTable(
            {
                "*IDN?": self._identify,
                "SYSTem:ERRor?": self._next_error,
                "SOURce:FUNCtion": self._set_function,
                "SOURce:FUNCtion?": self._read_function,
                "SOURce:RANGe": self._set_range,
                "SOURce:RANGe?": self._read_range,
                "SOURce:LEVel": self._set_level,
                "SOURce:LEVel?": self._read_level,
                "SOURce:PROTection:CURRent": self._set_limit,
                "SOURce:PROTection:CURRent?": self._read_limit,
                "OUTPut:STATe": self._set_output,
                "OUTPut[:STATe]": self._set_output,
                "OUTPut:STATe?": self._read_output,
            }
        )
        self._received = bytearray()
        self._start()

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the link."""
        received = bytes(self._received) + data
        *lines, rest = received.split(b"\n")
        self._received = bytearray(rest[-LONGEST_LINE:])
        answers = []
        for line in lines:
            for command in commands(line.decode("latin-1")):
                answers += self._obey(command, now_s)
        return [Reply(f"{answer}\n".encode()) for answer in answers]

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._received.clear()

    def power_cycle(self, now_s: float) -> None:
        """Come up with the output off."""
        self._start()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage at the terminals, V."""
        return {"voltage": self._level_v if self._is_on and self._function == "VOLT" else 0.0}

    def _start(self) -> None:
        self._received.clear()
        self._errors: deque[str] = deque(maxlen=QUEUE_LENGTH)
        self._function = "VOLT"
        self._range_v = 10.0
        self._level_v = 0.0
        self._limit_a = 0.2
        self._is_on = False

    def _obey(self, command: Command, now_s: float) -> list[str]:
        found = self._table.find(command.header)
        if found is None:
            self._refuse(command.text, '-113,"Undefined header"', now_s)
            return []
        answer = found[0](command, now_s)
        return [] if answer is None else [answer]

    def _identify(self, command: Command, now_s: float) -> str:
        unit = self._settings
        return f"YOKOGAWA,{unit.model},{unit.serial},{unit.firmware}"

    def _next_error(self, command: Command, now_s: float) -> str:
        return self._errors.popleft() if self._errors else '0,"No Error"'

    def _set_function(self, command: Command, now_s: float) -> None:
        self._record.tell(now_s, self._name, "function", command.argument)
        short = command.argument.upper()[:4]
        if short in ("VOLT", "CURR"):
            self._function, self._level_v = short, 0.0
        else:
            self._out_of_range(command, now_s)

    def _read_function(self, command: Command, now_s: float) -> str:
        return self._function

    def _set_range(self, command: Command, now_s: float) -> None:
        range_v = number(command.argument)
        self._record.tell(now_s, self._name, "range", range_v or 0.0, "V")
        if range_v in RESOLUTIONS and abs(self._level_v) <= OVERRANGE * range_v:
            self._range_v = range_v
        else:
            self._out_of_range(command, now_s)

    def _read_range(self, command: Command, now_s: float) -> str:
        return f"{self._range_v:.5E}"

    def _set_level(self, command: Command, now_s: float) -> None:
        level_v = number(command.argument)
        if level_v is None:
            self._out_of_range(command, now_s)
            return
        self._record.tell(now_s, self._name, "voltage", level_v, "V")
        if abs(level_v) > OVERRANGE * self._range_v:
            self._out_of_range(command, now_s)
        else:
            resolution_v = RESOLUTIONS[self._range_v]
            self._level_v = round(level_v / resolution_v) * resolution_v

    def _read_level(self, command: Command, now_s: float) -> str:
        return f"{self._level_v:.6E}"

    def _set_limit(self, command: Command, now_s: float) -> None:
        limit_a = number(command.argument)
        self._record.tell(now_s, self._name, "current limit", limit_a or 0.0, "A")
        if limit_a is not None and LIMITS_A[0] <= limit_a <= LIMITS_A[1]:
            self._limit_a = limit_a
        else:
            self._out_of_range(command, now_s)

    def _read_limit(self, command: Command, now_s: float) -> str:
        return f"{self._limit_a:.5E}"

    def _set_output(self, command: Command, now_s: float) -> None:
        is_on = boolean(command.argument)
        self._record.tell(now_s, self._name, "output", command.argument)
        if is_on is None:
            self._out_of_range(command, now_s)
        else:
            self._is_on = is_on

    def _read_output(self, command: Command, now_s: float) -> str:
        return str(int(self._is_on))

    def _out_of_range(self, command: Command, now_s: float) -> None:
        self._refuse(command.text, '-222,"Data out of range"', now_s)

    def _refuse(self, text: str, error: str, now_s: float) -> None:
        self._record.reject(now_s, self._name, text)
        self._errors.append(error)
