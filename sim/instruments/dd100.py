"""Command set of the OZ Optics DD-100 attenuator: echo, then reply lines, then ``Done``.

Each line comes when it has crossed the serial line, and ``Done`` when the motor stands; what is
sent meanwhile waits. After power-up the position is unknown and a move is refused until homing,
which runs to the insertion loss, on to the other end and back. There is no shutter: what passes is
light.

Assumed: how ``CD`` and an unknown position are printed, ``Error-2`` for whatever is refused, and a
unit that was homed before the bench came up. A real unit's homing takes up to 40 s; this one's
motor is quicker. Not modelled: I2C, SPI, several wavelengths, and stepping.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.command_lines import EndedLines
from sim.instruments.attenuator import AttenuatorSettings, Filter
from sim.line_unit import CommandPatterns, LineUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

STEPS_PER_DB: Final = 100
LONGEST_LINE: Final = 64
BAUD_RATE: Final = 9600
# As good as at once.
OPEN_SPEED_DB_PER_S: Final = 1e9

_END: Final = b"\r\n"
_DONE: Final = "Done"
_BAD_COMMAND: Final = "Error-2"


@dataclass(frozen=True)
class Dd100Settings(AttenuatorSettings):
    """One unit.

    Attributes:
        insertion_loss_db: Smallest attenuation.
        maximum_db: Largest attenuation.
        speed_db_per_s: The motor's speed.
        echoes: Whether commands are echoed.
        is_homed: Whether it knows its position when the bench comes up.
        bits_per_byte: Length of a byte on the wire, in bits: 8N1.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    insertion_loss_db: float = 0.8
    maximum_db: float = 60.0
    speed_db_per_s: float = 60.0
    echoes: bool = True
    is_homed: bool = True
    bits_per_byte: int = 10
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Dd100":
        """Build the unit, with its own range, in the link or beside it."""
        return Dd100(name, self.optics(twin, self.maximum_db), record, self)


@dataclass(frozen=True)
class _Move:
    """The motor sets out for an attenuation at a time."""

    start_s: float
    target_db: float


@dataclass(frozen=True)
class _Answer:
    """Lines of a reply, and how long the motor moves before the last of them."""

    lines: list[str]
    moves_s: float = 0.0


class Dd100(LineUnit):
    """One attenuator.

    Args:
        name: What the record calls it.
        optics: The filter.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self, name: str, optics: Filter, record: Record, settings: Dd100Settings | None = None
    ) -> None:
        self._settings = settings or Dd100Settings()
        super().__init__(name, record, EndedLines(_END, LONGEST_LINE), self._settings.boot_s)
        self._optics = optics
        optics.set_speed(OPEN_SPEED_DB_PER_S)
        optics.set_shutter(True, 0.0)
        start_db = max(optics.actual_db(0.0), self._settings.insertion_loss_db)
        optics.move_to(start_db, 0.0)
        optics.set_speed(self._settings.speed_db_per_s)
        self._commands = CommandPatterns(self._command_table())
        self._start(0.0)
        self._is_homed = self._settings.is_homed

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the serial line."""
        self._move_on(now_s)
        return super().handle(data, now_s, port)

    def power_cycle(self, now_s: float) -> None:
        """Stop where the motor is, and forget where that is."""
        self._move_on(now_s)
        super().power_cycle(now_s)
        self._optics.move_to(self._stands_db, now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where the filter is, dB."""
        self._move_on(now_s)
        return {"attenuation": self._optics.actual_db(now_s)}

    def due_s(self) -> float | None:
        """Return when the motor next sets out, or None."""
        return self._plan[0].start_s if self._plan else None

    def tick(self, now_s: float) -> list[Reply]:
        """Set the motor going where that is due."""
        self._move_on(now_s)
        return []

    def _start(self, now_s: float) -> None:
        """Come up without knowing the position."""
        self._plan: deque[_Move] = deque()
        self._stands_db = self._optics.actual_db(now_s)  # once all that is planned is done
        self._busy_until_s = now_s
        self._is_homed = False

    def _command_table(self) -> tuple[tuple[str, Callable[..., _Answer | None]], ...]:
        """Return each command as a pattern, and what carries it out with the pattern's groups."""
        return (
            (r"A([0-9]+(?:\.[0-9]{0,2})?)", self._attenuate),
            (r"D", self._display),
            (r"CD", self._configuration),
            (r"H", self._home),
            (r"RST", self._restart),
        )

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        """Echo, obey and answer, and account for the time that all of it takes."""
        time_s = max(now_s, self._busy_until_s) + self._wire_s(line)
        command = self._commands.find(line)
        answer = command(time_s) if command else None
        if answer is None:
            self._record.reject(now_s, self._name, line)
            answer = _Answer([_BAD_COMMAND])
        replies = []
        if self._settings.echoes:
            time_s += self._wire_s(line)
            replies.append(Reply(line.encode("latin-1") + _END, after_s=time_s - now_s))
        time_s += answer.moves_s
        for text in answer.lines:
            time_s += self._wire_s(text)
            replies.append(Reply(text.encode() + _END, after_s=time_s - now_s))
        self._busy_until_s = time_s
        return replies

    def _attenuate(self, heard_s: float, text: str) -> _Answer | None:
        target_db = float(text)
        self._record.tell(heard_s, self._name, "attenuation", target_db, "dB")
        is_possible = self._settings.insertion_loss_db <= target_db <= self._settings.maximum_db
        if not (self._is_homed and is_possible):
            return None
        moves_s = self._go(target_db, heard_s)
        return _Answer([f"Pos:{self._steps()}", _DONE], moves_s)

    def _display(self, heard_s: float) -> _Answer:
        shown = f"{self._stands_db:.2f}" if self._is_homed else "unknown"
        steps = self._steps() if self._is_homed else 0
        return _Answer([f"DPos:{steps}", f"ATTEN:{shown}", _DONE])

    def _configuration(self, heard_s: float) -> _Answer:
        settings = self._settings
        return _Answer(
            [f"IL:{settings.insertion_loss_db:.2f}", f"MAX ATTEN:{settings.maximum_db:.2f}", _DONE]
        )

    def _home(self, heard_s: float) -> _Answer:
        """Run to both ends of the range and back to its beginning, where home is."""
        self._record.tell(heard_s, self._name, "home", "sweep")
        moves_s = 0.0
        least_db = self._settings.insertion_loss_db
        for target_db in (least_db, self._settings.maximum_db, least_db):
            moves_s += self._go(target_db, heard_s + moves_s)
        self._is_homed = True
        return _Answer(["Diff=0", _DONE], moves_s)

    def _restart(self, heard_s: float) -> _Answer:
        self._record.tell(heard_s, self._name, "reset", "reboot")
        self._is_homed = False
        return _Answer([_DONE], self._settings.boot_s)

    def _go(self, target_db: float, start_s: float) -> float:
        """Plan a move from where the motor will then stand; return how long it takes, s."""
        self._plan.append(_Move(start_s, target_db))
        moves_s = abs(target_db - self._stands_db) / self._settings.speed_db_per_s
        self._stands_db = target_db
        return moves_s

    def _move_on(self, now_s: float) -> None:
        """Set the motor going for what was planned up to now."""
        while self._plan and self._plan[0].start_s <= now_s:
            move = self._plan.popleft()
            self._optics.move_to(move.target_db, move.start_s)

    def _steps(self) -> int:
        return round(STEPS_PER_DB * (self._stands_db - self._settings.insertion_loss_db))

    def _wire_s(self, text: str) -> float:
        """Return the time that a line with its end takes, s."""
        return (len(text) + len(_END)) * self._settings.bits_per_byte / BAUD_RATE
