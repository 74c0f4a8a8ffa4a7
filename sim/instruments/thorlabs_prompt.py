"""The command prompt that Thorlabs' LCC25 and TC200 share.

Commands end in CR. The unit echoes each of them with a CR, prints its answer, if any, and then
``> ``: as the prompt has no line end, it stands before the next echo. What it does not take is
answered ``Command error CMD_…`` with LF and CR, as an empty line is.
"""

from collections.abc import Callable, Iterable
from typing import Final

from sim.command_lines import TypedLines
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.wire import Reply

NUMBER: Final = r"=([+-]?[0-9]+\.?[0-9]*)"
"""What sets something to a number, as a pattern."""

_PROMPT: Final = "> "


class PromptUnit(LineUnit):
    """A command set behind this prompt.

    Args:
        name: What the record calls the unit.
        record: Where commands are noted.
        commands: Each command as a pattern, and what carries it out and returns the answer.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        commands: Iterable[tuple[str, Callable[..., str]]],
        latency_s: float,
        boot_s: float,
    ) -> None:
        super().__init__(name, record, TypedLines(), boot_s)
        self._commands = CommandPatterns(commands)
        self._latency_s = latency_s

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        command = self._commands.find(line)
        answer = command(now_s) if command else self._refuse(now_s, line, "CMD_NOT_DEFINED")
        return [Reply(f"{line}\r{answer}{_PROMPT}".encode("latin-1"), self._latency_s)]

    def _refuse(self, now_s: float, line: str, error: str) -> str:
        self._record.reject(now_s, self._name, line)
        return f"Command error {error}\n\r"
