"""Command set of the Keysight 33500B as a DC source: functions, offset, load and output.

SCPI lines end in LF both ways. The offset is refused (-222) beyond 4.995 V into 50 ohm, twice that
into an open end; a new load rescales the offset. Other functions than ``DC`` can be chosen, but the
waveform itself is not modelled.

Assumed, for want of a manual: that rescaling doubles and halves the offset, and the texts of the
error queue.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from sim.record import Record
from sim.scpi import Command, CommandTable, boolean, commands, number
from sim.twin import Twin
from sim.wire import MAIN, Reply

FUNCTIONS: Final = {
    "SIN": "SIN",
    "SINUSOID": "SIN",
    "SQU": "SQU",
    "SQUARE": "SQU",
    "RAMP": "RAMP",
    "NOIS": "NOIS",
    "NOISE": "NOIS",
    "DC": "DC",
}
REACH_V: Final = 4.995
STEP_V: Final = 1e-4
LONGEST_LINE: Final = 1024
QUEUE_LENGTH: Final = 20


@dataclass(frozen=True)
class Keysight33500Settings:
    """One unit.

    Attributes:
        model: Model that ``*IDN?`` names.
        serial: Serial number.
        firmware: Firmware version.
        channel: The output that the bench looks at.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "33522B"
    serial: str = "MY57400123"
    firmware: str = "4.00-1.19-2.00-52-00"
    channel: int = 1

    def front_end(self, name: str, twin: Twin, record: Record) -> "Keysight33500":
        """Build the unit; it is on its own."""
        return Keysight33500(name, record, self)


@dataclass
class _Output:
    """One channel; the offset is the one shown for its load."""

    function: str = "SIN"
    offset_v: float = 0.0
    load_ohm: float = 50.0
    is_on: bool = False

    @property
    def reach_v(self) -> float:
        return REACH_V if self.load_ohm == 50 else 2 * REACH_V


@dataclass
class _State:
    outputs: dict[int, _Output] = field(default_factory=lambda: {1: _Output(), 2: _Output()})
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=QUEUE_LENGTH))


class Keysight33500:
    """One generator.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self, name: str, record: Record, settings: Keysight33500Settings | None = None
    ) -> None:
        self._name = name
        self._record = record
        self._settings = settings or Keysight33500Settings()
        self._state = _State()
        self._received = bytearray()
        self._unit_table = CommandTable(
            {"*IDN?": self._identify, "SYSTem:ERRor[:NEXT]?": self._next_error}
        )
        self._channel_table = CommandTable(
            {
                "SOURce#:FUNCtion": self._set_function,
                "SOURce#:FUNCtion?": self._read_function,
                "SOURce#:VOLTage:OFFSet": self._set_offset,
                "SOURce#:VOLTage:OFFSet?": self._read_offset,
                "OUTPut#[:STATe]": self._set_output,
                "OUTPut#[:STATe]?": self._read_output,
                "OUTPut#:LOAD": self._set_load,
                "OUTPut#:LOAD?": self._read_load,
            }
        )

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the link."""
        received = bytes(self._received) + data
        *lines, rest = received.split(b"\n")
        self._received = bytearray(rest[-LONGEST_LINE:])
        answers = []
        for line in lines:
            for command in commands(line.decode("latin-1")):
                answer = self._obey(command, now_s)
                answers += [] if answer is None else [answer]
        return [Reply(f"{answer}\n".encode()) for answer in answers]

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._received.clear()

    def power_cycle(self, now_s: float) -> None:
        """Come up with a sine wave and the outputs off."""
        self._received.clear()
        self._state = _State()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage at the terminals of the channel in use, V; a waveform counts as 0."""
        each = self._state.outputs[self._settings.channel]
        return {"voltage": each.offset_v if each.is_on and each.function == "DC" else 0.0}

    def _obey(self, command: Command, now_s: float) -> str | None:
        if found := self._unit_table.find(command.header):
            return found[0](command, now_s)
        found_channel = self._channel_table.find(command.header)
        number_ = (found_channel[1] or (None,))[0] if found_channel else None
        each = self._state.outputs.get(1 if number_ is None else number_)
        if found_channel is None or each is None:
            self._refuse(command.text, '-113,"Undefined header"', now_s)
            return None
        return found_channel[0](each, command, now_s)

    def _identify(self, command: Command, now_s: float) -> str:
        unit = self._settings
        return f"Agilent Technologies,{unit.model},{unit.serial},{unit.firmware}"

    def _next_error(self, command: Command, now_s: float) -> str:
        errors = self._state.errors
        return errors.popleft() if errors else '+0,"No error"'

    def _set_function(self, each: _Output, command: Command, now_s: float) -> None:
        self._record.tell(now_s, self._name, "function", command.argument)
        function = FUNCTIONS.get(command.argument.upper())
        if function is None:
            self._refuse(command.text, '-224,"Illegal parameter value"', now_s)
        else:
            each.function = function

    def _read_function(self, each: _Output, command: Command, now_s: float) -> str:
        return each.function

    def _set_offset(self, each: _Output, command: Command, now_s: float) -> None:
        offset_v = number(command.argument, {"V": 1.0, "MV": 1e-3})
        if offset_v is None:
            self._refuse(command.text, '-104,"Data type error"', now_s)
            return
        self._record.tell(now_s, self._name, "voltage", offset_v, "V")
        if abs(offset_v) > each.reach_v:
            self._refuse(command.text, '-222,"Data out of range"', now_s)
        else:
            each.offset_v = round(offset_v / STEP_V) * STEP_V

    def _read_offset(self, each: _Output, command: Command, now_s: float) -> str:
        return f"{each.offset_v:+.15E}"

    def _set_output(self, each: _Output, command: Command, now_s: float) -> None:
        is_on = boolean(command.argument)
        self._record.tell(now_s, self._name, "output", command.argument)
        if is_on is None:
            self._refuse(command.text, '-224,"Illegal parameter value"', now_s)
        else:
            each.is_on = is_on

    def _read_output(self, each: _Output, command: Command, now_s: float) -> str:
        return str(int(each.is_on))

    def _set_load(self, each: _Output, command: Command, now_s: float) -> None:
        is_open = command.argument.upper() in ("INF", "INFINITY")
        load_ohm = inf if is_open else number(command.argument)
        self._record.tell(now_s, self._name, "load", command.argument)
        if load_ohm is None or load_ohm <= 0:
            self._refuse(command.text, '-222,"Data out of range"', now_s)
            return
        before_v = each.reach_v
        each.load_ohm = load_ohm
        each.offset_v *= each.reach_v / before_v

    def _read_load(self, each: _Output, command: Command, now_s: float) -> str:
        return "9.9E+37" if each.load_ohm == inf else f"{each.load_ohm:+.15E}"

    def _refuse(self, text: str, error: str, now_s: float) -> None:
        self._record.reject(now_s, self._name, text)
        self._state.errors.append(error)
