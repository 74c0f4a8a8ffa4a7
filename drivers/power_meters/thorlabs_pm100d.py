"""Thorlabs optical power meters with SCPI: PM100D, PM100A, PM100USB, PM400, PM101 to PM103, PM16x.

By USB (USBTMC, vendor 0x1313) through VISA; the PM103E also by a raw socket, port 2000. Sources:
the PM100D and PM400 manuals' SCPI chapters; pymeasure (``thorlabspm100usb``); InstrumentKit.

What decides about the meaning of a reading (its unit, wavelength, correction for loss) is looked at
before each one: the unit survives a power cycle, and anybody may change all of them at the front
panel. Readings are averaged by the meter. A reading of 9.9E37 means over-range; everything from
1E12 on is no power, and is never returned. A PM103E closes its socket after 120 s without traffic:
questions are asked once more on a new connection, after the set-up.

There is no light and no voltage here. What the safe state ends is a zeroing in progress, whose
result would be wrong once light comes back.

Weak facts, to be checked on first contact with a unit:

- Without a sensor the flags are 0, or the sensor is not described at all.
- ``MEAS:POW?`` keeps the configured range; with ``range_w`` given it is set before each reading.
- One sample takes 0.3 ms, on whatever model.
"""

import asyncio
import csv
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import Field

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Identity
from drivers.scpi import (
    ensure_value,
    pop_errors,
    query_identity,
    query_int,
    refuse_errors,
    tell,
)
from drivers.transport.connect import Connector
from drivers.transport.framing import LINES
from drivers.transport.transport import Dialogue

MAKER, MODELS = "THORLABS", "PM"
NO_POWER_W = 1e12
SAMPLE_S = 0.3e-3
POLL_S = 0.1
NEXT_ERROR = "SYST:ERR?"
SENSOR = "SYST:SENS:IDN?"
ZERO = "SENS:CORR:COLL:ZERO"
IS_POWER_SENSOR, IS_ENERGY_SENSOR = 1, 2

_T = TypeVar("_T")


class Pm100dOptions(Options):
    """Options of a ``thorlabs-pm100d``."""

    wavelength_nm: float = Field(1550.0, ge=185, le=20000, description="Of the light, nm.")
    averages: int = Field(
        100, ge=1, le=300_000, description="Samples in a reading; one takes 0.3 ms."
    )
    range_w: float | None = Field(
        None, gt=0, le=1e5, description="Power that the range must hold, W; default: automatic."
    )
    loss_db: float = Field(
        0.0, ge=-60, le=60, description="Loss before the sensor that readings include, dB."
    )
    zero_timeout_s: float = Field(60.0, gt=0, le=600, description="Longest zeroing, s.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")


@dataclass(frozen=True)
class Sensor:
    """The sensor that is plugged in.

    Attributes:
        name: Model, as ``S155C``.
        serial: Serial number.
        flags: What it is and can.
    """

    name: str
    serial: str
    flags: int


def parse_sensor(instrument: str, reply: str) -> Sensor:
    """Read the reply to ``SYST:SENS:IDN?``, and see that the sensor measures power.

    Raises:
        ReplyError: Not six fields, or not a power sensor.
    """
    fields = next(csv.reader([reply], skipinitialspace=True), [])
    match [field.strip() for field in fields]:
        case [name, serial, _, _, _, flags] if flags.isdecimal():
            sensor = Sensor(name, serial, int(flags))
        case _:
            raise ReplyError(instrument, "no sensor", sent=SENSOR, received=reply)
    if sensor.flags & IS_POWER_SENSOR:
        return sensor
    what = "an energy sensor" if sensor.flags & IS_ENERGY_SENSOR else "no power sensor"
    raise ReplyError(
        instrument,
        f"{what} is plugged in: connect a power sensor",
        sent=SENSOR,
        received=reply,
    )


def parse_power_w(instrument: str, question: str, reply: str) -> float:
    """Read a power, W.

    Raises:
        RejectedError: Over-range.
        ReplyError: Not a number.
    """
    try:
        power_w = float(reply)
    except ValueError:
        power_w = math.nan
    if math.isnan(power_w):
        raise ReplyError(instrument, "not a power", sent=question, received=reply)
    if abs(power_w) >= NO_POWER_W:
        raise RejectedError(
            instrument,
            "over-range: attenuate the light, or choose a larger range_w",
            sent=question,
            received=reply,
        )
    return power_w


@register("thorlabs-pm100d", Pm100dOptions, "high", ("visa", "tcp"))
class Pm100d(LinkedInstrument):
    """Thorlabs PM100D, PM100A, PM100USB, PM400, PM10x optical power meter (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where the meter is.
        options: Wavelength, averaging, range.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Pm100dOptions, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, LINES, timeout_s=options.timeout_s)
        super().__init__(name, transport)
        self._options = options
        self._interruption = asyncio.Event()

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        return await self._ask(self._identify)

    async def read_power(self) -> float:
        """Measure the power once, averaged as configured.

        Returns:
            Power, W; may be slightly negative in the dark.

        Raises:
            RejectedError: Over-range, zeroing, or a setting was refused.
            ReplyError: The reply does not parse, or there is no power sensor.
            TransportError: Link lost, twice in a row.
        """
        return await self._ask(self._measure)

    async def zero(self) -> None:
        """Take what the sensor shows now for no light; the caller blocks the light before.

        Raises:
            RejectedError: The meter could not zero, as with too much light.
            TransportError: Link lost, not done in time, or cut short by ``make_safe``.
        """
        interruption = self._interruption = asyncio.Event()
        command = f"{ZERO}:INIT"
        async with self._transport.exclusive() as link:
            with unknown_if_lost(self.name, "the zero"):
                await self._command(link, command)
        await self._wait_until_zeroed()
        if interruption.is_set():
            raise TransportError(self.name, "the zeroing was cut short by make_safe or a lost link")
        async with self._transport.exclusive() as link:
            await refuse_errors(link, command, NEXT_ERROR)

    async def make_safe(self) -> None:
        """Break off a zeroing; nothing else here could be unsafe."""
        self._interruption.set()

        async def stop_zeroing(link: Dialogue) -> None:
            await link.write(f"{ZERO}:ABOR")
            if await query_int(link, f"{ZERO}:STAT?"):
                raise ReplyError(self.name, "still zeroing", sent=f"{ZERO}:ABOR")

        await carry_out_all(self._transport, [stop_zeroing])

    async def close(self) -> None:
        """Close the link; leaves the meter as it is."""
        self._interruption.set()
        await super().close()

    async def _ask(self, question: Callable[[Dialogue], Awaitable[_T]]) -> _T:
        """Ask what may be asked again where the first try is lost."""
        try:
            async with self._transport.exclusive() as link:
                return await question(link)
        except TransportError:
            async with self._transport.exclusive() as link:
                return await question(link)

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        is_known = identity.manufacturer.upper().startswith(MAKER)
        if not is_known or not identity.model.upper().startswith(MODELS):
            raise self._another_model("Thorlabs power meter", sent="*IDN?", received=identity)
        return identity

    async def _identify_anew(self, link: Dialogue) -> Identity:
        self._interruption.set()
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """Check the sensor, set unit, wavelength, averaging and range."""
        await pop_errors(link, NEXT_ERROR)  # what others left there
        await self._check_sensor(link)
        await self._set_meaning(link)
        await self._ensure(link, "SENS:AVER:COUN", self._options.averages)
        if self._options.range_w is None:
            await self._ensure(link, "SENS:POW:RANG:AUTO", 1)

    async def _check_sensor(self, link: Dialogue) -> None:
        parse_sensor(self.name, await link.query(SENSOR))

    async def _set_meaning(self, link: Dialogue) -> None:
        """Set what a number would mean something else without."""
        unit = await link.query("SENS:POW:UNIT?")
        if unit.strip().upper() != "W":
            await self._command(link, "SENS:POW:UNIT W")
            unit = await link.query("SENS:POW:UNIT?")
            if unit.strip().upper() != "W":
                raise ReplyError(self.name, "does not read W", sent="SENS:POW:UNIT W")
        await self._ensure(link, "SENS:CORR:WAV", self._options.wavelength_nm)
        await self._ensure(link, "SENS:CORR:LOSS", self._options.loss_db)

    async def _measure(self, link: Dialogue) -> float:
        await self._check_sensor(link)
        await self._refuse_while_zeroing(link)
        await self._set_meaning(link)
        if self._options.range_w is not None:
            await self._command(link, f"SENS:POW:RANG {self._options.range_w:g}")
        question = "MEAS:POW?"
        # Up to a whole average is under way already when the question comes.
        averaging_s = 2 * self._options.averages * SAMPLE_S
        reply = await link.query(question, timeout_s=self._options.timeout_s + averaging_s)
        return parse_power_w(self.name, question, reply)

    async def _refuse_while_zeroing(self, link: Dialogue) -> None:
        question = f"{ZERO}:STAT?"
        if state := await query_int(link, question):
            raise RejectedError(
                self.name,
                "it takes its zero: measure when that is over, or break it off with make_safe",
                sent=question,
                received=str(state),
            )

    async def _wait_until_zeroed(self) -> None:
        longest_s = self._options.zero_timeout_s
        give_up_s = asyncio.get_running_loop().time() + longest_s
        is_zeroing = True
        while is_zeroing:
            if asyncio.get_running_loop().time() > give_up_s:
                raise TransportError(self.name, f"not zeroed within {longest_s:g} s")
            await asyncio.sleep(POLL_S)
            async with self._transport.exclusive() as link:  # others may ask in between
                is_zeroing = bool(await query_int(link, f"{ZERO}:STAT?"))

    async def _ensure(self, link: Dialogue, header: str, value: float) -> None:
        text = f"{value:.10g}"
        await ensure_value(link, header, text, value, self._command, tolerance=1e-6)

    async def _command(self, link: Dialogue, command: str) -> None:
        await tell(link, command, NEXT_ERROR)
