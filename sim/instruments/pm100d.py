"""Command set of the Thorlabs PM100D power meter, in front of the twin's monitor tap.

SCPI lines end in LF both ways; over USB the same text is carried by USBTMC. The unit of readings
survives a power cycle, wavelength, averaging and range do not. Readings carry noise that averaging
reduces; above the range they are 9.9E37.

Assumed, for want of a unit: the numbers of the sensor, how long zeroing takes, and that settings
other than the unit come up at their defaults.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log10
from typing import ClassVar, Final, Protocol

import numpy as np

from sim.record import Record
from sim.scpi import boolean
from sim.scpi_unit import Answer, LateAnswer, RefusedError, ScpiUnit, required_number, within
from sim.twin import Twin
from sim.wire import MAIN

POWER_SENSOR_FLAGS: Final = 1 + 32 + 256
ENERGY_SENSOR_FLAGS: Final = 2 + 32

WAVELENGTHS_NM: Final = (800.0, 1700.0)
LARGEST_POWER_W: Final = 20e-3
SMALLEST_RANGE_W: Final = 100e-9
MOST_AVERAGES: Final = 300_000
SAMPLE_S: Final = 0.3e-3
NOISE_FLOOR_W: Final = 50e-12
"""Noise of one sample, W."""

RELATIVE_NOISE: Final = 0.002
"""Noise of one sample as a share of the power."""

DARK_OFFSET_W: Final = 100e-12
"""What the sensor shows in the dark before it is zeroed, W."""

OVER_RANGE: Final = 9.9e37


class Light(Protocol):
    """What falls on the sensor."""

    def monitor_power_w(self, now_s: float) -> float:
        """Return the power, W."""
        ...


@dataclass(frozen=True)
class Pm100dSettings:
    """One meter with its sensor.

    Attributes:
        model: As ``*IDN?`` tells it.
        serial: Serial number.
        firmware: Firmware version.
        sensor: Name of the sensor.
        sensor_flags: What the sensor is; 0: none is plugged in.
        unit: Unit of readings as somebody left it, ``W`` or ``DBM``.
        zeroing_s: How long zeroing takes, s.
        seed: Of the noise.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    model: str = "PM100D"
    serial: str = "P0012345"
    firmware: str = "2.6.0"
    sensor: str = "S154C"
    sensor_flags: int = POWER_SENSOR_FLAGS
    unit: str = "W"
    zeroing_s: float = 2.0
    seed: int = 0

    def front_end(self, name: str, twin: Twin, record: Record) -> "Pm100d":
        """Build the meter at the twin's monitor tap."""
        return Pm100d(name, twin, record, self)


class Pm100d(ScpiUnit):
    """One power meter.

    Args:
        name: What the record calls it.
        light: What falls on the sensor.
        record: Where commands are noted.
        settings: The meter.
    """

    def __init__(
        self,
        name: str,
        light: Light,
        record: Record,
        settings: Pm100dSettings | None = None,
    ) -> None:
        super().__init__(name, record, self._commands())
        self._light = light
        self._settings = settings or Pm100dSettings()
        self._noise = np.random.default_rng(self._settings.seed)
        self._unit = self._settings.unit
        self._zero_w = 0.0
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return whether it is zeroing: it has no outputs."""
        return {"zeroing": self._is_zeroing(now_s)}

    def _start(self, now_s: float) -> None:
        """Come up with defaults, but for unit and zero."""
        self._wavelength_nm = WAVELENGTHS_NM[1]
        self._averages = 1
        self._loss_db = 0.0
        self._range_w = LARGEST_POWER_W
        self._is_auto = True
        self._zeroed_s = -inf
        self._is_zero_pending = False

    def _commands(self) -> dict[str, Callable[..., Answer]]:
        power = "[SENSe:]POWer"
        zero = "[SENSe:]CORRection:COLLect:ZERO"
        return {
            "*IDN?": self._identify,
            "*CLS": self._clear_status,
            "*RST": self._reset,
            "SYSTem:ERRor[:NEXT]?": self._next_error,
            "SYSTem:SENSor:IDN?": self._describe_sensor,
            "MEASure[:SCALar]:POWer?": self._measure,
            "READ?": self._measure,
            "CONFigure:POWer": self._configure,
            f"{power}:UNIT": self._set_unit,
            f"{power}:UNIT?": lambda _argument, _now_s: self._unit,
            f"{power}:RANGe[:UPPer]": self._set_range,
            f"{power}:RANGe[:UPPer]?": lambda _argument, _now_s: f"{self._range_w:.8E}",
            f"{power}:RANGe:AUTO": self._set_auto,
            f"{power}:RANGe:AUTO?": lambda _argument, _now_s: f"{self._is_auto:d}",
            "[SENSe:]AVERage[:COUNt]": self._set_averages,
            "[SENSe:]AVERage[:COUNt]?": lambda _argument, _now_s: f"{self._averages}",
            "[SENSe:]CORRection:WAVelength": self._set_wavelength,
            "[SENSe:]CORRection:WAVelength?": self._read_wavelength,
            "[SENSe:]CORRection:LOSS": self._set_loss,
            "[SENSe:]CORRection:LOSS?": lambda _argument, _now_s: f"{self._loss_db:.8E}",
            f"{zero}[:INITiate]": self._start_zeroing,
            f"{zero}:ABORt": self._abort_zeroing,
            f"{zero}:STATe?": lambda _argument, now_s: f"{self._is_zeroing(now_s):d}",
            f"{zero}:MAGNitude?": self._read_zero,
        }

    def _identify(self, argument: str, now_s: float) -> str:
        meter = self._settings
        return f"Thorlabs,{meter.model},{meter.serial},{meter.firmware}"

    def _describe_sensor(self, argument: str, now_s: float) -> str:
        sensor = self._settings
        if not sensor.sensor_flags:
            return '"no sensor","","",0,0,0'
        return f'"{sensor.sensor}","13020611","28-Feb-2025",1,2,{sensor.sensor_flags}'

    def _reset(self, argument: str, now_s: float) -> None:
        self._clear_status(argument, now_s)
        self._start(now_s)

    def _configure(self, argument: str, now_s: float) -> None:
        """Power is all that is measured here."""

    def _measure(self, argument: str, now_s: float) -> LateAnswer:
        if not self._settings.sensor_flags & 1:
            raise RefusedError(-241)
        return LateAnswer(f"{self._reading(now_s):.8E}", self._averages * SAMPLE_S)

    def _reading(self, now_s: float) -> float:
        shown_w = self._sensed_w(now_s) - self._finished_zero_w(now_s)
        limit_w = LARGEST_POWER_W if self._is_auto else self._range_w
        if shown_w > limit_w:
            return OVER_RANGE
        power_w = shown_w * 10 ** (self._loss_db / 10)
        if self._unit == "W":
            return power_w
        return 10 * log10(max(power_w, 1e-15) / 1e-3)

    def _sensed_w(self, now_s: float) -> float:
        power_w = self._light.monitor_power_w(now_s)
        sigma_w = np.hypot(NOISE_FLOOR_W, RELATIVE_NOISE * power_w) / np.sqrt(self._averages)
        return float(power_w + DARK_OFFSET_W + self._noise.normal(0.0, sigma_w))

    def _finished_zero_w(self, now_s: float) -> float:
        """Return the zero; one that is over by now takes what the sensor showed when it ended."""
        if self._is_zero_pending and now_s >= self._zeroed_s:
            self._is_zero_pending = False
            self._zero_w = self._light.monitor_power_w(self._zeroed_s) + DARK_OFFSET_W
        return self._zero_w

    def _is_zeroing(self, now_s: float) -> bool:
        self._finished_zero_w(now_s)
        return self._is_zero_pending

    def _start_zeroing(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "zero", "start")
        self._is_zero_pending = True
        self._zeroed_s = now_s + self._settings.zeroing_s

    def _abort_zeroing(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "zero", "abort")
        self._finished_zero_w(now_s)
        self._is_zero_pending = False

    def _read_zero(self, argument: str, now_s: float) -> str:
        return f"{self._finished_zero_w(now_s):.8E}"

    def _set_unit(self, argument: str, now_s: float) -> None:
        self._record.tell(now_s, self._name, "unit", argument.upper())
        if argument.upper() not in ("W", "DBM"):
            raise RefusedError(-224)
        self._unit = argument.upper()

    def _set_range(self, argument: str, now_s: float) -> None:
        wanted_w = self._told(argument, now_s, "range", "W", SMALLEST_RANGE_W, LARGEST_POWER_W)
        range_w = SMALLEST_RANGE_W
        while range_w < wanted_w * (1 - 1e-9):
            range_w *= 10
        self._range_w = min(range_w, LARGEST_POWER_W)
        self._is_auto = False

    def _set_auto(self, argument: str, now_s: float) -> None:
        is_auto = boolean(argument)
        self._record.tell(now_s, self._name, "automatic range", argument)
        if is_auto is None:
            raise RefusedError(-224)
        self._is_auto = is_auto

    def _set_averages(self, argument: str, now_s: float) -> None:
        self._averages = round(self._told(argument, now_s, "averages", "", 1, MOST_AVERAGES))

    def _set_wavelength(self, argument: str, now_s: float) -> None:
        self._wavelength_nm = self._told(argument, now_s, "wavelength", "nm", *WAVELENGTHS_NM)

    def _read_wavelength(self, argument: str, now_s: float) -> str:
        least_nm, most_nm = WAVELENGTHS_NM
        limits_nm = {"MIN": least_nm, "MAX": most_nm, "": self._wavelength_nm}
        if argument.upper()[:3] not in limits_nm:
            raise RefusedError(-224)
        return f"{limits_nm[argument.upper()[:3]]:.8E}"

    def _set_loss(self, argument: str, now_s: float) -> None:
        self._loss_db = self._told(argument, now_s, "loss", "dB", -60, 60)

    def _told(
        self, argument: str, now_s: float, what: str, unit: str, least: float, most: float
    ) -> float:
        """Note and return a number that the meter was told."""
        units = {unit.upper(): 1.0} if unit else None
        value = required_number(argument, units, otherwise=-104)
        self._record.tell(now_s, self._name, what, value, unit)
        return within(value, least, most)
