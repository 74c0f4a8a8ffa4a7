"""Blocks of the ID900 and their registers: what may be set, and how it reads back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.scpi import boolean, header_pattern, number

CHANNELS: Final = (1, 2, 3, 4)
DELAY_BLOCKS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
THRESHOLD_STEP_V: Final = 2.048e-3
THRESHOLD_LIMIT_V: Final = 5.0
INTEGRATION_MS: Final = (1, 65535)
LONGEST_DELAY_PS: Final = 10**12
LONGEST_RECORD_PS: Final = 10**17
DEAD_TIME_PS: Final = 40_000
"""Shortest time between two sub-acquisitions."""

INVALID_COMMAND: Final = "SCPI_ERR_INVALID_CMD"
PARAMETER_TYPE: Final = "SCPI_ERR_PARAM_TYPE"
NO_CONNECTION: Final = "No connection"
REFUSALS: Final = (INVALID_COMMAND, PARAMETER_TYPE, NO_CONNECTION)


def quantised(threshold_v: float) -> float:
    """Return the threshold that the converter makes of a voltage, V."""
    return floor(threshold_v / THRESHOLD_STEP_V) * THRESHOLD_STEP_V


@dataclass
class Input:
    """One input with its counter; number 0 is START.

    Attributes:
        since_s: When counting began afresh.
        total: Events of a running total.
        total_until_s: Time up to which ``total`` goes.
    """

    number: int
    since_s: float
    enabled: bool = False
    coupling: str = "DC"
    edge: str = "RISING"
    threshold_v: float = quantised(1.0)
    select: str = "UNSHAPED"
    resync_policy: str = "AUTO"
    integration_ms: int = 1000
    mode: str = "CYCLE"
    delay_ps: int = 0
    total: int = 0
    total_until_s: float = 0.0

    def __post_init__(self) -> None:
        self.restart(self.since_s)

    def restart(self, now_s: float) -> None:
        """Begin to count afresh."""
        self.since_s = self.total_until_s = now_s
        self.total = 0

    def dump(self) -> str:
        """Describe every register, names in the unit's own mixture of long and short."""
        root = f"INPUt{self.number}" if self.number else "STARt"
        own = f"RESY {self.resync_policy}" if self.number else f"DELA {self.delay_ps}TB"
        return (
            f"ENAB {'ON' if self.enabled else 'OFF'};COUP {self.coupling};EDGE {self.edge};"
            f"THRE {self.threshold_v:.6f}V;SELE {self.select};{own};"
            f"{root}:COUNter:INTEgrationtime {self.integration_ms}TB;MODE {self.mode}"
        )


@dataclass
class Delay:
    """One delay block."""

    number: int
    link: str = "NONE"
    value_ps: int = 0

    def dump(self) -> str:
        """Describe both registers."""
        return f"DELA{self.number}:VALUe {self.value_ps}TB;INPO:LINK {self.link}"


@dataclass
class TimeStamps:
    """One time-stamp block.

    Attributes:
        held: Time stamps drawn but not yet sent.
    """

    number: int
    reference: str = "NONE"
    stop: str = "NONE"
    sends: bool = False
    errors: int = 0
    held: list[NDArray[np.uint64]] = field(default_factory=list)


@dataclass
class Device:
    """The unit as a whole."""

    number: int = 0
    sync: str = "INTERNAL"
    resolution: str = "HIRES"

    def dump(self) -> str:
        """Describe both registers."""
        return f"DEVIce:SYNC {self.sync};RES {self.resolution}"


@dataclass
class Generator:
    """The record generator; a repeat count of 0 goes on until it is stopped."""

    number: int = 0
    arm_mode: str = "AUTO"
    enabled: bool = False
    repeats: int = 1
    width_ps: int = 10**12
    period_ps: int = 10**12 + DEAD_TIME_PS


@dataclass(frozen=True)
class Register:
    """How a register's argument is read (None: not understood) and how its value reads back."""

    attribute: str
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str
    refusal: str = PARAMETER_TYPE


def _switch(attribute: str) -> Register:
    return Register(attribute, boolean, lambda is_on: "ON" if is_on else "OFF")


def _word(attribute: str, *words: str) -> Register:
    """A register for one of some words, in short or long form; it reads back long."""
    return Register(attribute, _one_of({word.upper(): word for word in words}))


def _link(attribute: str, *sources: str) -> Register:
    """A register for the name of another block; it reads back short."""
    numbers = {"INPUt": CHANNELS, "DELAy": DELAY_BLOCKS}
    names = [f"{each}{n}" for each in sources for n in numbers.get(each, ("",))]
    short = {"".join(c for c in name if not c.islower()): name for name in names}
    return Register(attribute, _one_of(short), refusal=NO_CONNECTION)


def _one_of(words: Mapping[str, str]) -> Callable[[str], str | None]:
    patterns = {shown: header_pattern(word) for shown, word in words.items()}

    def read(text: str) -> str | None:
        known = (shown for shown, each in patterns.items() if each.fullmatch(text.upper()))
        return next(known, None)

    return read


def _ticks(attribute: str, maximum_ps: int) -> Register:
    """A register in units of the time base, 1 ps."""
    return Register(attribute, _whole(0, maximum_ps), lambda ticks: f"{ticks}TB")


def _whole(minimum: int, maximum: int) -> Callable[[str], int | None]:
    def read(text: str) -> int | None:
        value = number(text, {"TB": 1.0})
        return round(value) if value is not None and minimum <= value <= maximum else None

    return read


def _read_threshold(text: str) -> float | None:
    value = number(text, {"V": 1.0, "MV": 1e-3})
    return quantised(value) if value is not None and abs(value) <= THRESHOLD_LIMIT_V else None


def _read_repeats(text: str) -> int | None:
    return 0 if text.upper() in ("INF", "INFINITE") else _whole(0, 10**9)(text)


INPUT_REGISTERS: Final = {
    "ENABle": _switch("enabled"),
    "COUPling": _word("coupling", "AC", "DC"),
    "EDGE": _word("edge", "RISIng", "FALLing"),
    "THREshold": Register("threshold_v", _read_threshold, lambda volts: f"{volts:.3f}V"),
    "SELEct": _word("select", "UNSHaped", "SHAPed", "OUTPut", "LOOP"),
    "COUNter:MODE": _word("mode", "CYCLe", "ACCUm"),
    "COUNter:INTEgrationtime": Register(
        "integration_ms", _whole(*INTEGRATION_MS), lambda count: f"{count}TB"
    ),
}
"""Registers that inputs and START share."""

RESYNC: Final = _word("resync_policy", "AUTO", "MANUal")
START_DELAY: Final = _ticks("delay_ps", LONGEST_DELAY_PS)
DELAY_LINK: Final = _link("link", "NONE", "STARt", "INPUt")
DELAY_VALUE: Final = _ticks("value_ps", LONGEST_DELAY_PS)
DEVICE_SYNC: Final = _word("sync", "INTErnal", "EXTErnal")
DEVICE_RESOLUTION: Final = _word("resolution", "HIREs", "LOWRes")
REFERENCE: Final = _link("reference", "NONE", "STARt", "DELAy")
STOP: Final = _link("stop", "NONE", "INPUt", "DELAy")
SENDS: Final = _switch("sends")
ARM_MODE: Final = _word("arm_mode", "AUTO", "MANUal")
GENERATOR_ENABLED: Final = _switch("enabled")
REPEATS: Final = Register("repeats", _read_repeats, lambda n: str(n) if n else "INF")
WIDTH: Final = _ticks("width_ps", LONGEST_RECORD_PS)
PERIOD: Final = _ticks("period_ps", LONGEST_RECORD_PS)
