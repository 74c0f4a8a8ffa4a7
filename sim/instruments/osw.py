"""Command set of the Thorlabs OSW 1x2 and 2x2 optical switches.

Commands end in LF, answers in CR LF. ``S 1`` and ``S 2`` answer nothing, nor does anything that the
switch does not understand.

Assumed, for want of a manual: the text that answers ``I?`` and the number that answers ``T?``; bar
after power-up; ``S?`` tells the old path until the new one is made. Not coupled to the optics.
"""

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from sim.command_lines import EndedLines
from sim.line_unit import LineUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

PATHS: Final = ("1", "2")
LONGEST_LINE: Final = 64


@dataclass(frozen=True)
class OswSettings:
    """One switch.

    Attributes:
        identity: What ``I?`` answers.
        board_type: What ``T?`` answers.
        move_s: Time that it takes to switch, s.
        answer_s: Time that it takes over an answer, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "OSW22-1310E v1.2"
    board_type: int = 3
    move_s: float = 0.1
    answer_s: float = 0.002
    boot_s: float = 0.3

    def front_end(self, name: str, twin: Twin, record: Record) -> "Osw":
        """Build the switch; it leads light that the twin knows nothing of."""
        return Osw(name, record, self)


class Osw(LineUnit):
    """One switch.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(self, name: str, record: Record, settings: OswSettings | None = None) -> None:
        self._settings = settings or OswSettings()
        super().__init__(name, record, EndedLines(b"\n", LONGEST_LINE), self._settings.boot_s)
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the path that light takes."""
        return {"path": self._path(now_s)}

    def _start(self, now_s: float) -> None:
        """Come up in bar."""
        self._from = self._to = PATHS[0]
        self._made_s = -inf

    def _path(self, now_s: float) -> str:
        return self._to if now_s >= self._made_s else self._from

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line.strip(), now_s)
        if answer is None:
            return []
        return [Reply(f"{answer}\r\n".encode("latin-1"), self._settings.answer_s)]

    def _obey(self, line: str, now_s: float) -> str | None:
        match line.split():
            case ["S?"]:
                return self._path(now_s)
            case ["I?"]:
                return self._settings.identity
            case ["T?"]:
                return str(self._settings.board_type)
            case ["S", path] if path in PATHS:
                self._record.tell(now_s, self._name, "path", path)
                self._from, self._to = self._path(now_s), path
                self._made_s = now_s + self._settings.move_s
            case _:
                self._record.reject(now_s, self._name, line)
        return None
