"""What SCPI instruments have in common: messages in, answers and an error queue out.

Source: IEEE 488.2, chapters 6 and 7; SCPI-99, volume 2, chapter 21.8 (``SYSTem:ERRor``).
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from sim.command_lines import EndedLines
from sim.line_unit import LineUnit
from sim.record import Record
from sim.scpi import Command, CommandTable, boolean, commands, number
from sim.wire import Reply

LONGEST_LINE: Final = 4096

ERRORS: Final = {
    -104: "Data type error",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -241: "Hardware missing",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}


class RefusedError(Exception):
    """A command ends with this entry in the error queue."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(ERRORS[code])


@dataclass(frozen=True)
class LateAnswer:
    """An answer that takes its time.

    Attributes:
        text: The answer.
        after_s: From the question to it, s.
    """

    text: str
    after_s: float


Answer = str | LateAnswer | None
"""What a command says; None: nothing."""


class ScpiUnit(LineUnit):
    """A SCPI command set of one port.

    A message ends in LF. The answers to its questions go out together, with semicolons between
    them, once the last of them is there. What is refused is noted and queued.

    Args:
        name: What the record calls the unit.
        record: Where commands are noted.
        command_table: Header as the manual prints it, to what is called with the argument, the
            time, s, and the numbers in the header.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    end: ClassVar[bytes] = b"\n"
    queue_length: ClassVar[int] = 30
    no_error: ClassVar[str] = '+0,"No error"'

    def __init__(
        self,
        name: str,
        record: Record,
        command_table: Mapping[str, Callable[..., Answer]],
        boot_s: float = 0.0,
    ) -> None:
        super().__init__(name, record, EndedLines(b"\n", LONGEST_LINE), boot_s)
        self._table = CommandTable(command_table)
        self._errors: deque[int] = deque()
        self._answers: list[str] = []  # to the message being obeyed

    def power_cycle(self, now_s: float) -> None:
        """Start again from power-up settings, with an empty error queue."""
        self._errors.clear()
        super().power_cycle(now_s)

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        if len(line) > LONGEST_LINE:
            self._refuse(-363, line, now_s)
            return []
        self._answers = []
        after_s = 0.0
        for command in commands(line):
            try:
                answer = self._obey(command, now_s)
            except RefusedError as refusal:
                self._refuse(refusal.code, command.text, now_s)
                continue
            if isinstance(answer, LateAnswer):
                after_s = max(after_s, answer.after_s)
                answer = answer.text
            if answer is not None:
                self._answers.append(answer)
        data = ";".join(self._answers).encode("latin-1") + self.end
        return [Reply(data, after_s)] if self._answers else []

    def _obey(self, command: Command, now_s: float) -> Answer:
        found = self._table.find(command.header)
        if found is None:
            raise RefusedError(-113)
        do, numbers = found
        return do(command.argument, now_s, *numbers)

    def _refuse(self, code: int, text: str, now_s: float) -> None:
        self._record.reject(now_s, self._name, text)
        self._queue(code)

    def _queue(self, code: int) -> None:
        """Add an error; when the queue is full its last entry says so."""
        if len(self._errors) == self.queue_length:
            self._errors[-1] = -350
        else:
            self._errors.append(code)

    def _next_error(self, argument: str, now_s: float) -> str:
        return error_text(self._errors.popleft()) if self._errors else self.no_error

    def _clear_status(self, argument: str, now_s: float) -> None:
        self._errors.clear()


def error_text(code: int) -> str:
    """Return an error as the queue tells it."""
    return f'{code},"{ERRORS[code]}"'


def required_number(
    text: str, units: Mapping[str, float] | None = None, *, otherwise: int = -224
) -> float:
    """Read a number.

    Args:
        text: The argument.
        units: Upper-case unit to its size in the base unit.
        otherwise: The error if there is something else.

    Raises:
        RefusedError: It is missing, or no number.
    """
    if not text:
        raise RefusedError(-109)
    value = number(text, units)
    if value is None:
        raise RefusedError(otherwise)
    return value


def required_boolean(text: str) -> bool:
    """Read a switch.

    Raises:
        RefusedError: It is missing, or neither on nor off.
    """
    if not text:
        raise RefusedError(-109)
    value = boolean(text)
    if value is None:
        raise RefusedError(-224)
    return value


def chosen(text: str, words: Mapping[str, float]) -> float:
    """Return what a word, in any case, stands for.

    Raises:
        RefusedError: It is none of the words.
    """
    if text.upper() not in words:
        raise RefusedError(-224)
    return words[text.upper()]


def within(value: float, minimum: float, maximum: float) -> float:
    """Return a value that lies in a closed interval.

    Raises:
        RefusedError: It lies outside.
    """
    if not minimum <= value <= maximum:
        raise RefusedError(-222)
    return value


def flag(value: bool) -> str:
    """Print a switch: ``1`` or ``0``."""
    return str(int(value))


def real(value: float, decimals: int) -> str:
    """Print a number with sign and three digits of exponent: ``+1.2340000E+001``."""
    mantissa, exponent = f"{value:+.{decimals}E}".split("E")
    return f"{mantissa}E{int(exponent):+04d}"
