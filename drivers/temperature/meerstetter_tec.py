"""Meerstetter TEC controllers (TEC-1089 to TEC-1167): temperature of one channel, over MeCom.

Serial 57600 baud 8N1, or TCP port 50000. Frames: ``drivers.temperature.mecom``. Source:
meerstetter/pyMeCom, the vendor's own client.

Setting a temperature switches the output on. The safe state is output off: what is cooled warms up,
which harms nothing. Where warming up would cost the stability of hours, the option
``is_off_when_safe = false`` leaves the controller holding its set point. A controller in its error
state has switched its output off by itself; every question about the temperature then tells the
error.

Weak facts, to be checked on first contact with a unit:

- The text that answers ``?IF`` contains ``TEC``; its CRC is that of the answer.
- Parameters 102 and 103 hold serial number and firmware; they are shown, never relied on.
- Address 0 reaches whatever controller is on the line.
- Parameter 2010 is 0 for off and 1 for on; other values hand the output to another input.
"""

from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import RejectedError, ReplyError
from drivers.limits import check_order, check_whole_steps
from drivers.outputs import unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Identity
from drivers.temperature.mecom import FRAMES, MeCom
from drivers.temperature.set_point import SetPointController
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

SERIAL, FIRMWARE = 102, 103
STATUS, ERROR = 104, 105
OBJECT_TEMPERATURE, SINK_TEMPERATURE = 1000, 1001
CURRENT, VOLTAGE = 1020, 1021
STABILITY = 1200
OUTPUT = 2010
TARGET = 3000

IN_ERROR = 3
STABLE = 2
OFF, ON = 0, 1
DECIMALS = 3
RESOLUTION_C = 10**-DECIMALS
LOWEST_C, HIGHEST_C = -100.0, 200.0


class MeerstetterTecOptions(Options):
    """Options of a ``meerstetter-tec``: one channel of a controller."""

    address: int = Field(0, ge=0, le=254, description="Of the controller; 0: the only one.")
    channel: int = Field(1, ge=1, le=4, description="Channel of the controller.")
    min_temperature_c: float = Field(
        5.0, ge=LOWEST_C, le=HIGHEST_C, description="Lowest set point sent, degrees Celsius."
    )
    max_temperature_c: float = Field(
        50.0, ge=LOWEST_C, le=HIGHEST_C, description="Highest set point sent, degrees Celsius."
    )
    is_off_when_safe: bool = Field(
        True, description="Whether make_safe switches the output off, or leaves it holding."
    )
    baud_rate: int = Field(57600, gt=0, description="As set on the unit, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for an answer, s.")

    @field_validator("min_temperature_c", "max_temperature_c")
    @classmethod
    def _whole_steps(cls, temperature_c: float) -> float:
        check_whole_steps(temperature_c, RESOLUTION_C, "degC")
        return temperature_c

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        check_order(self, "temperature_c")
        return self


@register("meerstetter-tec", MeerstetterTecOptions, "high", ("serial", "tcp"))
class MeerstetterTec(SetPointController):
    """Meerstetter TEC temperature controller, one channel (MeCom over serial or TCP).

    Args:
        name: Name in the testbed file.
        resource: Where the controller is.
        options: Address, channel, limits.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: MeerstetterTecOptions, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, FRAMES, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(
            name,
            transport,
            (options.min_temperature_c, options.max_temperature_c),
            RESOLUTION_C,
            is_off_when_safe=options.is_off_when_safe,
        )
        self._unit = MeCom(options.address, options.channel)

    async def is_stable(self) -> bool:
        """Whether the output is on and the set point is reached and held; raises likewise."""
        async with self._transport.exclusive() as link:
            await self._refuse_error_state(link)
            return await self._unit.read_int(link, STABILITY) == STABLE

    async def read_sink_temperature(self) -> float:
        """Measure the temperature of the heat sink, degrees Celsius."""
        async with self._transport.exclusive() as link:
            return await self._unit.read_float(link, SINK_TEMPERATURE)

    async def read_output(self) -> tuple[float, float]:
        """Measure current, A, and voltage, V, of the output."""
        async with self._transport.exclusive() as link:
            current_a = await self._unit.read_float(link, CURRENT)
            return current_a, await self._unit.read_float(link, VOLTAGE)

    async def output_enable(self, *, is_on: bool) -> bool:
        """Switch the output on or off; return what was read back.

        Raises:
            RejectedError: The controller refused.
            ReplyError: It did not switch.
            TransportError: Link lost; whether it is on is unknown.
        """
        async with self._transport.exclusive() as link:
            await self._write_output(link, is_on=is_on)
        return is_on

    async def _identify(self, link: Dialogue) -> Identity:
        model = (await self._unit.exchange(link, "?IF")).strip()
        if "TEC" not in model.upper():
            raise self._another_model("TEC controller", sent="?IF", received=model)
        serial, firmware = await self._describe(link, SERIAL), await self._describe(link, FIRMWARE)
        return Identity("Meerstetter", model, serial, firmware)

    async def _describe(self, link: Dialogue, parameter: int) -> str:
        try:
            return str(await self._unit.read_int(link, parameter))
        except RejectedError:
            return "unknown"

    async def _refuse_error_state(self, link: Dialogue) -> None:
        if await self._unit.read_int(link, STATUS) == IN_ERROR:
            number = await self._unit.read_int(link, ERROR)
            raise RejectedError(
                self.name,
                f"the controller is in its error state, error {number}: see its manual, then reset",
                received=str(number),
            )

    async def _prepare(self, link: Dialogue, temperature_degc: float) -> None:
        await self._refuse_error_state(link)

    async def _set(self, link: Dialogue, temperature_degc: float) -> float:
        wanted_degc = round(temperature_degc, DECIMALS)
        with unknown_if_lost(self.name, "the set point"):
            await self._unit.write_float(link, TARGET, wanted_degc)
            read_degc = await self._read_set_point(link)
        if read_degc != wanted_degc:
            raise ReplyError(
                self.name, f"the set point was set to {wanted_degc:g} and reads {read_degc:g}"
            )
        return read_degc

    async def _read_set_point(self, link: Dialogue) -> float:
        return round(await self._unit.read_float(link, TARGET), DECIMALS)

    async def _measure(self, link: Dialogue) -> float:
        await self._refuse_error_state(link)
        return await self._unit.read_float(link, OBJECT_TEMPERATURE)

    async def _switch_on(self, link: Dialogue) -> None:
        if await self._unit.read_int(link, OUTPUT) != ON:
            await self._write_output(link, is_on=True)

    async def _switch_off(self, link: Dialogue) -> None:
        await self._write_output(link, is_on=False)

    async def _write_output(self, link: Dialogue, *, is_on: bool) -> None:
        wanted = ON if is_on else OFF
        with unknown_if_lost(self.name, "the output"):
            await self._unit.write_int(link, OUTPUT, wanted)
            read = await self._unit.read_int(link, OUTPUT)
        if read != wanted:
            raise ReplyError(self.name, f"the output was set to {wanted} and reads {read}")
