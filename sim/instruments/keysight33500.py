"""Command set of the Keysight 33500B as a DC source: functions, offset, load and output.

SCPI lines end in LF both ways. The offset is refused (-222) beyond 4.995 V into 50 ohm, twice that
into an open end; a new load rescales the offset. Other functions than ``DC`` can be chosen; their
amplitude is the one that the unit comes up with.

Assumed, for want of a manual: that rescaling doubles and halves the offset, and the texts of the
error queue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import ClassVar, Final

from sim.levels import Electrode
from sim.record import Record
from sim.scpi import boolean, number
from sim.scpi_unit import Answer, RefusedError, ScpiUnit, flag
from sim.twin import Twin
from sim.wire import MAIN

FUNCTIONS: Final = {
    "SIN": "SIN",
    "SINUSOID": "SIN",
    "SQU": "SQU",
    "SQUARE": "SQU",
    "RAMP": "RAMP",
    "NOIS": "NOIS",
    "NOISE": "NOIS",
    "DC": "DC",
}
REACH_V: Final = 4.995
STEP_V: Final = 1e-4
AMPLITUDE_50_OHM_V: Final = 0.05


@dataclass(frozen=True)
class Keysight33500Settings:
    """One unit.

    Attributes:
        model: Model that ``*IDN?`` names.
        serial: Serial number.
        firmware: Firmware version.
        channel: The output that the bench looks at.
        level: The drive of Alice's source that its voltage is, such as ``state V``; None: none.
    """

    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "33522B"
    serial: str = "MY57400123"
    firmware: str = "4.00-1.19-2.00-52-00"
    channel: int = 1
    level: str | None = None

    @property
    def acts_on(self) -> str | None:
        """The drive of Alice's source that its voltage is, if any."""
        return self.level

    def front_end(self, name: str, twin: Twin, record: Record) -> "Keysight33500":
        """Build the unit in front of what it drives."""
        return Keysight33500(name, record, self, twin.electrode(self.level))


@dataclass
class _Output:
    """One channel; the offset is the one shown for its load."""

    function: str = "SIN"
    offset_v: float = 0.0
    load_ohm: float = 50.0
    is_on: bool = False

    @property
    def amplitude_v(self) -> float:
        return 0.0 if self.function == "DC" else AMPLITUDE_50_OHM_V * self.reach_v / REACH_V

    @property
    def reach_v(self) -> float:
        return REACH_V if self.load_ohm == 50 else 2 * REACH_V


class Keysight33500(ScpiUnit):
    """One generator.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
        electrode: What the voltage of the channel in use goes to, if that is simulated.
    """

    queue_length: ClassVar[int] = 20

    def __init__(
        self,
        name: str,
        record: Record,
        settings: Keysight33500Settings | None = None,
        electrode: Electrode | None = None,
    ) -> None:
        super().__init__(name, record, self._commands())
        self._settings = settings or Keysight33500Settings()
        self._electrode = electrode
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the voltage at the terminals of the channel in use, V.

        ``voltage`` is its mean, ``amplitude`` how far a waveform goes to either side of that.
        """
        each = self._outputs[self._settings.channel]
        if not each.is_on:
            return {"voltage": 0.0, "amplitude": 0.0}
        return {"voltage": each.offset_v, "amplitude": each.amplitude_v}

    def _start(self, now_s: float) -> None:
        """Come up with a sine wave and the outputs off."""
        self._outputs = {1: _Output(), 2: _Output()}
        self._drive(now_s)

    def _drive(self, now_s: float) -> None:
        """Put the voltage on what it goes to."""
        if self._electrode is not None:
            self._electrode.set_bias(float(self.outputs(now_s)["voltage"]), now_s)

    def _commands(self) -> dict[str, Callable[..., Answer]]:
        of_outputs: dict[str, Callable[[_Output, str, float], str | None]] = {
            "SOURce#:FUNCtion": self._set_function,
            "SOURce#:FUNCtion?": self._read_function,
            "SOURce#:VOLTage:OFFSet": self._set_offset,
            "SOURce#:VOLTage:OFFSet?": self._read_offset,
            "OUTPut#[:STATe]": self._set_output,
            "OUTPut#[:STATe]?": self._read_output,
            "OUTPut#:LOAD": self._set_load,
            "OUTPut#:LOAD?": self._read_load,
        }
        return {
            "*IDN?": self._identify,
            "SYSTem:ERRor[:NEXT]?": self._next_error,
            **{header: partial(self._at_output, do) for header, do in of_outputs.items()},
        }

    def _at_output(
        self,
        do: Callable[[_Output, str, float], str | None],
        argument: str,
        now_s: float,
        n: int | None,
    ) -> str | None:
        each = self._outputs.get(1 if n is None else n)
        if each is None:
            raise RefusedError(-113)
        answer = do(each, argument, now_s)
        self._drive(now_s)
        return answer

    def _identify(self, argument: str, now_s: float) -> str:
        unit = self._settings
        return f"Agilent Technologies,{unit.model},{unit.serial},{unit.firmware}"

    def _set_function(self, each: _Output, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "function", argument)
        function = FUNCTIONS.get(argument.upper())
        if function is None:
            raise RefusedError(-224)
        each.function = function

    def _read_function(self, each: _Output, argument: str, now_s: float) -> str:
        return each.function

    def _set_offset(self, each: _Output, argument: str, now_s: float) -> None:
        offset_v = number(argument, {"V": 1.0, "MV": 1e-3})
        if offset_v is None:
            raise RefusedError(-104)
        self._record.tell(now_s, self._name, "voltage", offset_v, "V")
        if abs(offset_v) > each.reach_v:
            raise RefusedError(-222)
        each.offset_v = round(offset_v / STEP_V) * STEP_V

    def _read_offset(self, each: _Output, argument: str, now_s: float) -> str:
        return f"{each.offset_v:+.15E}"

    def _set_output(self, each: _Output, argument: str, now_s: float) -> None:
        is_on = boolean(argument)
        self._record.tell(now_s, self._name, "output", argument)
        if is_on is None:
            raise RefusedError(-224)
        each.is_on = is_on

    def _read_output(self, each: _Output, argument: str, now_s: float) -> str:
        return flag(each.is_on)

    def _set_load(self, each: _Output, argument: str, now_s: float) -> None:
        is_open = argument.upper() in ("INF", "INFINITY")
        load_ohm = inf if is_open else number(argument)
        self._record.tell(now_s, self._name, "load", argument)
        if load_ohm is None or load_ohm <= 0:
            raise RefusedError(-222)
        before_v = each.reach_v
        each.load_ohm = load_ohm
        each.offset_v *= each.reach_v / before_v

    def _read_load(self, each: _Output, argument: str, now_s: float) -> str:
        return "9.9E+37" if each.load_ohm == inf else f"{each.load_ohm:+.15E}"
