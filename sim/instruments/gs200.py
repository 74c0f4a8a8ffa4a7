"""Command set of the Yokogawa GS200, as far as a voltage source on one range needs it.

SCPI lines end in LF both ways. A level beyond 1.2 times the range is refused (-222); so are a
function or a range changed in a way that the level does not fit. The unit comes up with its output
off, in voltage mode, on the 10 V range.

Assumed, for want of a manual: the texts of the error queue; that a level is rounded to the range's
resolution; that each function keeps its range, and begins at level 0 with the output as it was.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from sim.levels import Electrode
from sim.record import Record
from sim.scpi import boolean, number
from sim.scpi_unit import RefusedError, ScpiUnit, flag
from sim.twin import Twin
from sim.wire import MAIN

RESOLUTIONS: Final = {
    "VOLT": {0.01: 1e-7, 0.1: 1e-6, 1.0: 1e-5, 10.0: 1e-4, 30.0: 1e-3},
    "CURR": {0.001: 1e-8, 0.01: 1e-7, 0.1: 1e-6, 0.2: 1e-6},
}
"""Resolution of each range of each function, V or A."""
LIMITS_A: Final = (0.001, 0.2)
OVERRANGE: Final = 1.2


@dataclass(frozen=True)
class Gs200Settings:
    """One unit: what it says it is, and what its voltage goes to.

    Attributes:
        is_on_link: Whether it biases Alice's intensity modulator.
        level: The drive of Alice's source that its voltage is otherwise, such as ``state V``.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "GS210"
    serial: str = "91N345678"
    firmware: str = "2.02"
    is_on_link: bool = False
    level: str | None = None

    @property
    def acts_on(self) -> str | None:
        """The modulator's bias or the drive, if that is what it sets."""
        return "modulator bias" if self.is_on_link else self.level

    def front_end(self, name: str, twin: Twin, record: Record) -> "Gs200":
        """Build the unit."""
        electrode = twin.modulator if self.is_on_link else twin.electrode(self.level)
        return Gs200(name, record, self, electrode)


class Gs200(ScpiUnit):
    """One source.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
        electrode: What its voltage goes to, if that is simulated.
    """

    queue_length: ClassVar[int] = 16
    no_error: ClassVar[str] = '0,"No Error"'

    def __init__(
        self,
        name: str,
        record: Record,
        settings: Gs200Settings | None = None,
        electrode: Electrode | None = None,
    ) -> None:
        super().__init__(
            name,
            record,
            {
                "*IDN?": self._identify,
                "SYSTem:ERRor?": self._next_error,
                "SOURce:FUNCtion": self._set_function,
                "SOURce:FUNCtion?": self._read_function,
                "SOURce:RANGe": self._set_range,
                "SOURce:RANGe?": self._read_range,
                "SOURce:LEVel": self._set_level,
                "SOURce:LEVel?": self._read_level,
                "SOURce:PROTection:CURRent": self._set_limit,
                "SOURce:PROTection:CURRent?": self._read_limit,
                "OUTPut[:STATe]": self._set_output,
                "OUTPut:STATe?": self._read_output,
            },
        )
        self._settings = settings or Gs200Settings()
        self._electrode = electrode
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return what is at the terminals: a voltage, V, or a current, A; the other one is 0."""
        return {"voltage": self._given("VOLT"), "current": self._given("CURR")}

    def _given(self, function: str) -> float:
        return self._level if self._is_on and self._function == function else 0.0

    @property
    def _unit(self) -> str:
        return "V" if self._function == "VOLT" else "A"

    def _drive(self, now_s: float) -> None:
        """Put the voltage on what it goes to."""
        if self._electrode is not None:
            self._electrode.set_bias(self._given("VOLT"), now_s)

    def _start(self, now_s: float) -> None:
        """Come up with the output off."""
        self._function = "VOLT"
        self._ranges = {"VOLT": 10.0, "CURR": 0.01}
        self._level = 0.0
        self._limit_a = 0.2
        self._is_on = False
        self._drive(now_s)

    def _identify(self, argument: str, now_s: float) -> str:
        unit = self._settings
        return f"YOKOGAWA,{unit.model},{unit.serial},{unit.firmware}"

    def _set_function(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "function", argument)
        short = argument.upper()[:4]
        if short not in ("VOLT", "CURR"):
            raise RefusedError(-222)
        self._function, self._level = short, 0.0
        self._drive(now_s)

    def _read_function(self, argument: str, now_s: float) -> str:
        return self._function

    def _set_range(self, argument: str, now_s: float) -> None:
        wanted = number(argument)
        self._record.tell(now_s, self._name, "range", wanted or 0.0, self._unit)
        if wanted not in RESOLUTIONS[self._function] or abs(self._level) > OVERRANGE * wanted:
            raise RefusedError(-222)
        self._ranges[self._function] = wanted

    def _read_range(self, argument: str, now_s: float) -> str:
        return f"{self._ranges[self._function]:.5E}"

    def _set_level(self, argument: str, now_s: float) -> None:
        level = number(argument)
        if level is None:
            raise RefusedError(-222)
        what = "voltage" if self._function == "VOLT" else "current"
        self._record.tell(now_s, self._name, what, level, self._unit)
        in_force = self._ranges[self._function]
        if abs(level) > OVERRANGE * in_force:
            raise RefusedError(-222)
        resolution = RESOLUTIONS[self._function][in_force]
        self._level = round(level / resolution) * resolution
        self._drive(now_s)

    def _read_level(self, argument: str, now_s: float) -> str:
        return f"{self._level:.6E}"

    def _set_limit(self, argument: str, now_s: float) -> None:
        limit_a = number(argument)
        self._record.tell(now_s, self._name, "current limit", limit_a or 0.0, "A")
        if limit_a is None or not LIMITS_A[0] <= limit_a <= LIMITS_A[1]:
            raise RefusedError(-222)
        self._limit_a = limit_a

    def _read_limit(self, argument: str, now_s: float) -> str:
        return f"{self._limit_a:.5E}"

    def _set_output(self, argument: str, now_s: float) -> None:
        is_on = boolean(argument)
        self._record.tell(now_s, self._name, "output", argument)
        if is_on is None:
            raise RefusedError(-222)
        self._is_on = is_on
        self._drive(now_s)

    def _read_output(self, argument: str, now_s: float) -> str:
        return flag(self._is_on)
