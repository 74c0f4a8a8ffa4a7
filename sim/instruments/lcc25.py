"""Command set of the Thorlabs LCC25 liquid-crystal controller.

It has the prompt of ``sim.instruments.thorlabs_prompt``; answers end in CR.

Assumed, for want of a manual: the text of ``*idn?``, which error is which, whole numbers without
decimals and others with three, and that everything but the frequency is forgotten at power-up.
Not modelled: presets, ``test``, the TTL input. A cell that is driven by two voltages in turn is
taken to follow their root mean square, as one does that is slower than the alternation.
"""

from dataclasses import dataclass
from math import hypot, sqrt
from typing import ClassVar, Final, Protocol

from sim.instruments.thorlabs_prompt import NUMBER, PromptUnit
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN

MAXIMUM_V: Final = 25.0
ALTERNATING, VOLTAGE_1, VOLTAGE_2 = 0, 1, 2

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


class Cells(Protocol):
    """The optics behind the output."""

    def set_voltage(self, cell: int, voltage_v: float, now_s: float) -> None:
        """Send one cell towards a voltage, V rms."""
        ...


@dataclass(frozen=True)
class Lcc25Settings:
    """One unit.

    Attributes:
        cell: Which of the link's cells it drives, from 1; None is a retarder on no path of it.
        identity: What ``*idn?`` answers.
        mode: At power-up.
        latency_s: From a command to its reply, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    identity: str = "THORLABS LCC25 VERSION 1.02"
    mode: int = ALTERNATING
    latency_s: float = 0.003
    boot_s: float = 0.5
    cell: int | None = None

    @property
    def acts_on(self) -> str | None:
        """The cell, if it is one of the link's."""
        return None if self.cell is None else f"polarization, cell {self.cell}"

    def front_end(self, name: str, twin: Twin, record: Record) -> "Lcc25":
        """Build the unit in front of the link's cell, if it drives one."""
        return Lcc25(name, record, self, None if self.cell is None else twin.liquid_crystals)


class Lcc25(PromptUnit):
    """One controller.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
        cells: The optics, if they are simulated.
    """

    def __init__(
        self,
        name: str,
        record: Record,
        settings: Lcc25Settings | None = None,
        cells: Cells | None = None,
    ) -> None:
        self._settings = settings or Lcc25Settings()
        self._cells = cells
        names = "|".join(_SETTINGS)
        commands = (
            (r"\*idn\?", self._identify),
            (rf"({names})\?", self._read),
            (rf"({names}){NUMBER}", self._set),
        )
        super().__init__(name, record, commands, self._settings.latency_s, self._settings.boot_s)
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the two voltages, V, which of them is out, and whether the output is on."""
        values = self._values
        out = {ALTERNATING: "both", VOLTAGE_1: "volt1", VOLTAGE_2: "volt2"}[int(values["mode"])]
        return {
            "volt1": values["volt1"],
            "volt2": values["volt2"],
            "out": out,
            "is on": values["enable"] == 1,
        }

    def _start(self, now_s: float) -> None:
        """Come up with the output off."""
        self._values = {name: minimum for name, (minimum, _, _) in _SETTINGS.items()}
        self._values["mode"] = self._settings.mode
        self._drive(now_s)

    def _identify(self, now_s: float) -> str:
        return f"{self._settings.identity}\r"

    def _read(self, now_s: float, name: str) -> str:
        value = self._values[name]
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
        self._values[name] = round(value, 3)
        self._drive(now_s)
        return ""

    def _drive(self, now_s: float) -> None:
        """Let the cell follow what is out now."""
        cell, values = self._settings.cell, self._values
        if self._cells is None or cell is None:
            return
        both = hypot(values["volt1"], values["volt2"]) / sqrt(2)
        out = {ALTERNATING: both, VOLTAGE_1: values["volt1"], VOLTAGE_2: values["volt2"]}
        voltage_v = out[int(values["mode"])] if values["enable"] == 1 else 0.0
        self._cells.set_voltage(cell, voltage_v, now_s)
