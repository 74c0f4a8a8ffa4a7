"""Quantities that must stay within their bands while a calibration measures."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from drivers.errors import InstrumentError, SettingError
from drivers.roles import Instrument, PowerMeter, TemperatureController
from qkdctl.pause_config import WatchConfig

READ_EVERY_S = 1.0
"""Least time between two readings while all is well; windows are often much shorter."""

READ_TIMEOUT_S = 10.0
"""How long one reading may take."""

UNITS = {"temperature": "degC", "power": "W", "detection-rate": "detections/s"}

Read = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Outside:
    """A quantity that is outside of its band, or is not known to be within.

    Attributes:
        name: Of the quantity.
        text: What is wrong, with the value.
    """

    name: str
    text: str


@dataclass(frozen=True)
class _Reading:
    """A quantity that an instrument reads."""

    name: str
    config: WatchConfig
    instrument: str
    read: Read

    async def outside(self) -> str | None:
        """Read; say how the value is outside of its band, or nothing.

        Raises:
            InstrumentError: It could not be read.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                value = await self.read()
        except TimeoutError:
            text = f"no {self.config.quantity} within {READ_TIMEOUT_S:g} s"
            raise InstrumentError(self.instrument, text) from None
        return _told(f"{self.name} ({self.instrument})", self.config, value)


class WatchedQuantities:
    """What the ``[watch]`` tables of a testbed file name.

    Args:
        watch: The tables, by name.
        instruments: Those of the testbed, by name.

    Raises:
        SettingError: An instrument cannot read what is wanted of it.
    """

    def __init__(
        self, watch: Mapping[str, WatchConfig], instruments: Mapping[str, Instrument]
    ) -> None:
        self._rates = {n: each for n, each in watch.items() if each.instrument is None}
        self._readings = [
            _Reading(name, each, each.instrument, _reader(name, each, instruments[each.instrument]))
            for name, each in watch.items()
            if each.instrument is not None
        ]
        self._read_s = -math.inf

    @property
    def needs_light(self) -> bool:
        """Whether something is watched that may be dark while the light is shut."""
        return any(reading.config.quantity == "power" for reading in self._readings)

    async def outside(self) -> Outside | None:
        """Read what has not been read just now; return the first outside of its band, if any.

        Raises:
            InstrumentError: A quantity could not be read.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_s < READ_EVERY_S:
            return None
        for reading in self._readings:
            if (text := await reading.outside()) is not None:
                return Outside(reading.name, text)
        self._read_s = now_s
        return None

    def rate_outside(self, rate_hz: float) -> str | None:
        """Say how a detection rate is outside of its band, or nothing."""
        told = (_told(name, each, rate_hz) for name, each in self._rates.items())
        return next((text for text in told if text is not None), None)


def _told(name: str, config: WatchConfig, value: float) -> str | None:
    if config.contains(value):
        return None
    unit = UNITS[config.quantity]
    return f"{name}: {config.quantity} {value:.4g} {unit} is {config.band} {unit}"


def _reader(name: str, config: WatchConfig, instrument: Instrument) -> Read:
    if config.quantity == "temperature" and isinstance(instrument, TemperatureController):
        return instrument.read_temperature
    if config.quantity == "power" and isinstance(instrument, PowerMeter):
        return instrument.read_power
    raise SettingError(
        instrument.name,
        f"watch.{name}: this instrument does not read {config.quantity}; name another one",
    )
