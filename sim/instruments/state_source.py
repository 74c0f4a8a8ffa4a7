"""Command set of a plain state source: Alice's encoder behind a line protocol.

ASCII lines end in LF both ways. ``STATE H|V|D|A|PATTERN`` answers nothing; ``ERR?`` tells, once,
what went wrong.
"""

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from sim.command_lines import EndedLines
from sim.line_unit import LineUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

STATES: Final = ("H", "V", "D", "A", "PATTERN")
QUEUE_LENGTH: Final = 10
LONGEST_LINE: Final = 256

_NO_ERROR: Final = '0,"No error"'
_UNDEFINED: Final = '-113,"Undefined header"'
_OUT_OF_RANGE: Final = '-222,"Data out of range"'
_OVERFLOW: Final = '-350,"Queue overflow"'


class Encoder(Protocol):
    """The optics that make the states."""

    def set_state(self, state: str, now_s: float) -> None:
        """Send one state in every slot, or the pattern."""
        ...


@dataclass(frozen=True)
class StateSourceSettings:
    """One unit: what it says it is."""

    acts_on: ClassVar[str | None] = "source"
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "Example,StateSource,0001,1.0"

    def front_end(self, name: str, twin: Twin, record: Record) -> "StateSource":
        """Build the unit in front of Alice's encoder."""
        return StateSource(name, twin.source, record, self)


class StateSource(LineUnit):
    """One source; it comes up sending the pattern.

    Args:
        name: What the record calls it.
        encoder: The optics.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        record: Record,
        settings: StateSourceSettings | None = None,
    ) -> None:
        super().__init__(name, record, EndedLines(b"\n", LONGEST_LINE))
        self._encoder = encoder
        self._settings = settings or StateSourceSettings()
        self._state = "PATTERN"
        self._errors: deque[str] = deque()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return what is sent."""
        return {"state": self._state}

    def _start(self, now_s: float) -> None:
        """Come up sending the pattern."""
        self._errors.clear()
        self._send("PATTERN", now_s)

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line.strip(), now_s)
        return [] if answer is None else [Reply(answer.encode() + b"\n")]

    def _obey(self, line: str, now_s: float) -> str | None:
        match line.split():
            case ["STATE", state]:
                self._record.tell(now_s, self._name, "state", state)
                if state in STATES:
                    self._send(state, now_s)
                else:
                    self._refuse(line, _OUT_OF_RANGE, now_s)
            case ["STATE?"]:
                return self._state
            case ["ERR?"]:
                return self._errors.popleft() if self._errors else _NO_ERROR
            case ["*IDN?"]:
                return self._settings.identity
            case []:
                pass
            case _:
                self._refuse(line, _UNDEFINED, now_s)
        return None

    def _send(self, state: str, now_s: float) -> None:
        self._state = state
        self._encoder.set_state(state, now_s)

    def _refuse(self, line: str, error: str, now_s: float) -> None:
        self._record.reject(now_s, self._name, line)
        if len(self._errors) == QUEUE_LENGTH:
            self._errors[-1] = _OVERFLOW
        else:
            self._errors.append(error)
