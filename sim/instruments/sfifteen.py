r"""The command line of S-Fifteen's USB units: ``\r\n``, ``\n`` or ``;`` end a command.

What comes while a unit counts is kept, and obeyed afterwards.
"""

from abc import abstractmethod
from collections import deque
from typing import Final

from sim.command_lines import EndedLines
from sim.line_unit import LineUnit
from sim.record import Record
from sim.wire import MAIN, Reply

LONGEST_LINE: Final = 256


class SFifteenUnit(LineUnit):
    """A command set of this line.

    Args:
        name: What the record calls the unit.
        record: Where commands are noted.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    def __init__(self, name: str, record: Record, boot_s: float) -> None:
        super().__init__(name, record, EndedLines(rb"\r\n|\n|;", LONGEST_LINE), boot_s)
        self._heard: deque[str] = deque()

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the serial line; obey what it is free for."""
        if self._is_deaf(now_s):
            return []
        self._heard += self._lines.feed(data)
        return self._obey_heard(now_s)

    def power_cycle(self, now_s: float) -> None:
        """Start again from power-up settings; what was heard is forgotten."""
        self._heard.clear()
        super().power_cycle(now_s)

    @abstractmethod
    def _is_free(self) -> bool:
        """Whether it obeys now."""

    def _obey_heard(self, now_s: float) -> list[Reply]:
        replies: list[Reply] = []
        while self._heard and self._is_free():
            replies += self._converse(self._heard.popleft(), now_s)
        return replies


def answer_line(text: str) -> Reply:
    """Return an answer on the wire."""
    return Reply(text.encode() + b"\r\n")
