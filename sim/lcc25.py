"""Command set of the Thorlabs LCC25 liquid-crystal controller.

Commands end in CR. The unit echoes each of them with a CR, prints its answer, if any, with a CR,
and then ``> ``: as the prompt has no line end, it stands before the next echo. What it does not
take is answered ``Command error CMD_…`` with LF and CR, as an empty line is.

Assumed, for want of a manual: the text of ``*idn?``, which error is which, whole numbers without
decimals and others with three, and that everything but the frequency is forgotten at power-up.
Not modelled: presets, ``test``, the TTL input.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from sim.command_lines import CommandLines
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

MAXIMUM_V: Final = 25.0
ALTERNATING, VOLTAGE_1, VOLTAGE_2 = 0, 1, 2

_PROMPT: Final = "> "
_NUMBER: Final = r"=([+-]?[0-9]+\.?[0-9]*)"
# Name, smallest, largest, whether it is a whole number.
_SETTINGS: Final = {
    "volt1": (0.0, MAXIMUM_V, False),
    "volt2": (0.0, MAXIMUM_V, False),
    "freq": (5.0, 150.0, False),
    "mode": (0.0, 2.0, True),
    "enable": (0.0, 1.0, True),
    "extern": (0.0, 1.0, True),
    "remote": (0.0, 1.0, True),
    "min": (0.0, MAXIMUM_V, False),
    "max": (0.0, MAXIMUM_V, False),
    "dwell": (1.0, 5000.0, True),
    "increment": (0.001, MAXIMUM_V, False),
}


@dataclass(frozen=True)
class Lcc25Settings:
    """One unit.

    Attributes:
        identity: What ``*idn?`` answers.
        mode: At power-up.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "THORLABS LCC25 VERSION 1.02"
    mode: int = ALTERNATING
    latency_s: float = 0.003
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Lcc25":
        """Build the unit; its retarder is on no path of the link."""
        return Lcc25(name, record, self)


@dataclass
class _State:
    """What the unit is set to, by command."""

    values: dict[str, float] = field(
        default_factory=lambda: {name: minimum for name, (minimum, _, _) in _SETTINGS.items()}
    )


class Lcc25:
    """One controller.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(self, name: str, record: Record, settings: Lcc25Settings | None = None) -> None:
        self._name = name
        self._record = record
        self._settings = settings or Lcc25Settings()
        names = "|".join(_SETTINGS)
        self._commands: list[tuple[re.Pattern[str], Callable[..., str]]] = [
            (re.compile(r"\*idn\?"), self._identify),
            (re.compile(rf"({names})\?"), self._read),
            (re.compile(rf"({names}){_NUMBER}"), self._set),
        ]
        self._deaf_until_s = -inf
        self._lines = CommandLines()
        self._start()

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Take bytes from the line."""
        if now_s < self._deaf_until_s:
            return []
        return [
            Reply(self._converse(line, now_s).encode("latin-1"), self._settings.latency_s)
            for line in self._lines.feed(data)
        ]

    def reset_line(self, now_s: float) -> None:
        """Forget half a received line."""
        self._lines.clear()

    def power_cycle(self, now_s: float) -> None:
        """Come up with the output off."""
        self._deaf_until_s = now_s + self._settings.boot_s
        self._lines.clear()
        self._start()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the two voltages, V, which of them is out, and whether the output is on."""
        values = self._state.values
        out = {ALTERNATING: "both", VOLTAGE_1: "volt1", VOLTAGE_2: "volt2"}[int(values["mode"])]
        return {
            "volt1": values["volt1"],
            "volt2": values["volt2"],
            "out": out,
            "is on": values["enable"] == 1,
        }

    def _start(self) -> None:
        self._state = _State()
        self._state.values["mode"] = self._settings.mode

    def _converse(self, line: str, now_s: float) -> str:
        return f"{line}\r{self._obey(line, now_s)}{_PROMPT}"

    def _obey(self, line: str, now_s: float) -> str:
        for pattern, command in self._commands:
            if match := pattern.fullmatch(line):
                return command(now_s, *match.groups())
        return self._refuse(now_s, line, "CMD_NOT_DEFINED")

    def _refuse(self, now_s: float, line: str, error: str) -> str:
        self._record.reject(now_s, self._name, line)
        return f"Command error {error}\n\r"

    def _identify(self, now_s: float) -> str:
        return f"{self._settings.identity}\r"

    def _read(self, now_s: float, name: str) -> str:
        value = self._state.values[name]
        return f"{value:.0f}\r" if _SETTINGS[name][2] else f"{value:.3f}\r"

    def _set(self, now_s: float, name: str, text: str) -> str:
        minimum, maximum, is_whole = _SETTINGS[name]
        value = float(text)
        what, channel = (name[:4], int(name[4])) if name.startswith("volt") else (name, 0)
        what = {"volt": "voltage"}.get(what, what)
        unit = "V" if what == "voltage" else ""
        self._record.tell(now_s, self._name, what, value, unit, channel)
        if not minimum <= value <= maximum or (is_whole and not value.is_integer()):
            return self._refuse(now_s, f"{name}={text}", "CMD_ARG_RANGE_ERR")
        self._state.values[name] = round(value, 3)
        return ""
