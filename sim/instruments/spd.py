r"""Command set of the S-Fifteen SPD, a cooled single-photon avalanche diode with its own counter.

Commands end in ``\r\n``, ``\n`` or ``;``. Commands answer nothing, questions one line, ``counts?``
when the window is over; until then nothing else is heard. What ``save`` stored is there again at
power-up.

Assumed, for want of a manual: the text of ``*idn?``; the digits of the numbers; what it comes up
with; that values out of range and unknown commands are ignored without a word; that ``hvolt?``
answers what was set. The diode follows its temperature at a steady pace, without a regulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.instruments.sfifteen import SFifteenUnit, answer_line
from sim.record import Limits, Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

AMBIENT_DEGC: Final = 22.0
MAX_TIME_MS: Final = 65535
QUANTITIES: Final = MappingProxyType(
    {
        "hvolt": ("bias voltage", "V", Limits(0.0, 300.0), 1),
        "threshvolt": ("threshold", "V", Limits(-2.0, 2.0), 3),
        "settemp": ("temperature", "degC", Limits(-60.0, 60.0), 1),
        "constp": ("proportional share", "", Limits(0.0, 100.0), 3),
        "consti": ("integral share", "", Limits(0.0, 100.0), 3),
        "pvolt": ("Peltier voltage", "V", Limits(0.0, 5.0), 2),
        "delay": ("delay", "", Limits(0.0, 1000.0), 0),
    }
)
"""What is set with a number: name in the record, unit, range, decimals."""

_DEFAULTS: Final = MappingProxyType(
    {
        "hvolt": 150.0,
        "threshvolt": 0.1,
        "settemp": -20.0,
        "constp": 0.1,
        "consti": 0.01,
        "pvolt": 0.0,
        "delay": 0.0,
    }
)


class Detectors(Protocol):
    """The receiver's detectors, of which the unit is one."""

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Counts of a window that is over, shape ``(4,)``."""
        ...


@dataclass(frozen=True)
class SpdSettings:
    """One unit.

    Attributes:
        serial: Serial number.
        detector: Which of the receiver's detectors it is, 1 to 4.
        breakdown_v: Below this bias it counts nothing, V.
        pulse_v: Height of its pulses, V: from this threshold on it counts nothing.
        pace_degc_per_s: How fast the diode changes its temperature, degrees Celsius a second.
        boot_s: Time after power-up in which it hears nothing, s.
        saved: What was stored before.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    serial: str = "0042"
    detector: int = 1
    breakdown_v: float = 130.0
    pulse_v: float = 0.5
    pace_degc_per_s: float = 1.0
    boot_s: float = 0.3
    saved: Mapping[str, float] = field(default_factory=dict)

    def front_end(self, name: str, twin: Twin, record: Record) -> "Spd":
        """Build the unit in the place of one of the link's detectors."""
        return Spd(name, twin, record, self)


class Spd(SFifteenUnit):
    """One detector; at power-up it is biased, as it was saved.

    Args:
        name: What the record calls it.
        detectors: The receiver's detectors.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self,
        name: str,
        detectors: Detectors,
        record: Record,
        settings: SpdSettings | None = None,
    ) -> None:
        self._settings = settings or SpdSettings()
        super().__init__(name, record, self._settings.boot_s)
        self._detectors = detectors
        self._window_s: tuple[float, float] | None = None
        self._saved = {**_DEFAULTS, **self._settings.saved}
        self._was_degc = (0.0, AMBIENT_DEGC)  # when, and how warm the diode was then
        self._set_defaults()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return bias and threshold, V, the temperature set point, and whether it is held."""
        return {
            "bias": self._set["hvolt"],
            "threshold": self._set["threshvolt"],
            "temperature": self._set["settemp"],
            "loop": self._is_regulated,
        }

    def due_s(self) -> float | None:
        """When the window is over."""
        return self._window_s[1] if self._window_s else None

    def tick(self, now_s: float) -> list[Reply]:
        """Answer for a window that is over, and obey what was heard since."""
        replies: list[Reply] = []
        if self._window_s is not None and self._window_s[1] <= now_s:
            replies.append(answer_line(str(self._counted(*self._window_s))))
            self._window_s = None
        return replies + self._obey_heard(now_s)

    def _start(self, now_s: float) -> None:
        """Come up with what was saved."""
        self._was_degc = now_s, self._temperature_degc(now_s)
        self._set_defaults()

    def _set_defaults(self) -> None:
        self._set = dict(self._saved)
        self._is_regulated = True
        self._time_ms = 1000
        self._window_s = None

    def _is_free(self) -> bool:
        return self._window_s is None

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        answer = self._obey(line, now_s)
        return [] if answer is None else [answer_line(answer)]

    def _obey(self, line: str, now_s: float) -> str | None:
        match line.lower().split():
            case []:
                return None
            case ["counts?"]:
                self._window_s = now_s, now_s + self._time_ms / 1000
                return None
            case [question] if question.endswith("?"):
                return self._answer(line, question[:-1], now_s)
            case [command, text] if command in QUANTITIES and _is_number(text):
                self._set_quantity(line, command, float(text), now_s)
            case ["time", text] if text.isdigit() and 0 < int(text) <= MAX_TIME_MS:
                self._record.tell(now_s, self._name, "integration time", int(text), "ms")
                self._time_ms = int(text)
            case ["loop", ("0" | "1") as flag]:
                self._record.tell(now_s, self._name, "loop", flag)
                self._was_degc = now_s, self._temperature_degc(now_s)
                self._is_regulated = flag == "1"
            case ["save"]:
                self._record.tell(now_s, self._name, "save", "settings")
                self._saved = dict(self._set)
                return "saved"
            case _:
                self._record.reject(now_s, self._name, line)
        return None

    def _answer(self, line: str, asked: str, now_s: float) -> str | None:
        if asked in QUANTITIES:
            return f"{self._set[asked]:.{QUANTITIES[asked][3]}f}"
        answers = {
            "*idn": f"S-Fifteen Instruments SPD-{self._settings.serial}",
            "temp": f"{self._temperature_degc(now_s):.2f}",
            "time": str(self._time_ms),
            "loop": str(int(self._is_regulated)),
        }
        if asked not in answers:
            self._record.reject(now_s, self._name, line)
        return answers.get(asked)

    def _set_quantity(self, line: str, command: str, value: float, now_s: float) -> None:
        what, unit, limits, decimals = QUANTITIES[command]
        self._record.tell(now_s, self._name, what, value, unit)
        if not limits.allow(value):
            self._record.reject(now_s, self._name, line)
            return
        self._was_degc = now_s, self._temperature_degc(now_s)
        self._set[command] = round(value, decimals)

    def _temperature_degc(self, now_s: float) -> float:
        since_s, was_degc = self._was_degc
        goal_degc = self._set["settemp"] if self._is_regulated else AMBIENT_DEGC
        passed_degc = self._settings.pace_degc_per_s * (now_s - since_s)
        return was_degc + min(passed_degc, abs(goal_degc - was_degc)) * (
            1 if goal_degc > was_degc else -1
        )

    def _counted(self, start_s: float, end_s: float) -> int:
        is_biased = self._set["hvolt"] >= self._settings.breakdown_v
        if not is_biased or not self._set["threshvolt"] < self._settings.pulse_v:
            return 0
        counts = self._detectors.counts(start_s, end_s - start_s)
        return int(counts[self._settings.detector - 1])


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
