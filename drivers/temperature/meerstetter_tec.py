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

from collections.abc import Mapping
from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import RejectedError, ReplyError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Actuator, Health, Identity
from drivers.temperature.mecom import FRAMES, MeCom
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
        if abs(temperature_c - round(temperature_c, DECIMALS)) > 1e-9:
            raise ValueError(f"{temperature_c} degrees is no multiple of {RESOLUTION_C}")
        return temperature_c

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        if not self.min_temperature_c < self.max_temperature_c:
            raise ValueError(
                f"min_temperature_c {self.min_temperature_c:g} must be below "
                f"max_temperature_c {self.max_temperature_c:g}"
            )
        return self


@register("meerstetter-tec", MeerstetterTecOptions, "high", ("serial", "tcp"))
class MeerstetterTec:
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
        self.name = name
        self._options = options
        self._unit = MeCom(options.address, options.channel)
        self._transport = connector.transport(
            name, resource, FRAMES, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the link and check the model; sets nothing.

        Raises:
            ReplyError: Not a TEC controller.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        return await self.identify()

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    async def set_temperature(self, temperature_c: float) -> float:
        """Set the set point, switch the output on; does not wait for the temperature.

        Args:
            temperature_c: Set point, degrees Celsius; sent with three decimals.

        Returns:
            Set point read back, degrees Celsius.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The controller refused or is in its error state; the old set point
                stands.
            ReplyError: Another set point was read back.
            TransportError: Link lost; the set point is unknown.
        """
        low_c, high_c = self._options.min_temperature_c, self._options.max_temperature_c
        check_within(self.name, "temperature", temperature_c, low_c, high_c, "degrees Celsius")
        wanted_c = round(temperature_c, DECIMALS)
        async with self._transport.exclusive() as link:
            await self._refuse_error_state(link)
            with unknown_if_lost(self.name, "the set point"):
                await self._unit.write_float(link, TARGET, wanted_c)
                read_c = await self._target(link)
            if read_c != wanted_c:
                raise ReplyError(
                    self.name, f"the set point was set to {wanted_c:g} and reads {read_c:g}"
                )
            await self._switch(link, is_on=True)
        return read_c

    async def read_set_point(self) -> float:
        """Read the set point, degrees Celsius."""
        async with self._transport.exclusive() as link:
            return await self._target(link)

    async def read_temperature(self) -> float:
        """Measure the temperature of the object, degrees Celsius.

        Raises:
            RejectedError: The controller is in its error state; the text tells the error.
            ReplyError: The answer does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            await self._refuse_error_state(link)
            return await self._unit.read_float(link, OBJECT_TEMPERATURE)

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

    async def make_safe(self) -> None:
        """Switch the output off, unless ``is_off_when_safe`` says no."""
        if not self._options.is_off_when_safe:
            return

        async def switch_off(link: Dialogue) -> None:
            await self._write_output(link, is_on=False)

        await carry_out_all(self._transport, [switch_off])

    async def close(self) -> None:
        """Close the link; the controller goes on holding its set point."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """The set point, ``temperature``, degrees Celsius."""
        return {
            "temperature": Actuator(
                unit="degC",
                minimum=self._options.min_temperature_c,
                maximum=self._options.max_temperature_c,
                resolution=RESOLUTION_C,
                write=self.set_temperature,
                read=self.read_set_point,
            )
        }

    async def _identify(self, link: Dialogue) -> Identity:
        model = (await self._unit.exchange(link, "?IF")).strip()
        if "TEC" not in model.upper():
            raise ReplyError(
                self.name,
                "this is no TEC controller: is it the instrument you configured?",
                sent="?IF",
                received=model,
            )
        serial, firmware = await self._describe(link, SERIAL), await self._describe(link, FIRMWARE)
        return Identity("Meerstetter", model, serial, firmware)

    async def _describe(self, link: Dialogue, parameter: int) -> str:
        try:
            return str(await self._unit.read_int(link, parameter))
        except RejectedError:
            return "unknown"

    async def _take_up_again(self, link: Dialogue) -> None:
        """After a lost link: see that it is still a TEC; its set point and output are read."""
        await self._identify(link)

    async def _refuse_error_state(self, link: Dialogue) -> None:
        if await self._unit.read_int(link, STATUS) == IN_ERROR:
            number = await self._unit.read_int(link, ERROR)
            raise RejectedError(
                self.name,
                f"the controller is in its error state, error {number}: see its manual, then reset",
                received=str(number),
            )

    async def _target(self, link: Dialogue) -> float:
        return round(await self._unit.read_float(link, TARGET), DECIMALS)

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        if await self._unit.read_int(link, OUTPUT) != (ON if is_on else OFF):
            await self._write_output(link, is_on=is_on)

    async def _write_output(self, link: Dialogue, *, is_on: bool) -> None:
        wanted = ON if is_on else OFF
        with unknown_if_lost(self.name, "the output"):
            await self._unit.write_int(link, OUTPUT, wanted)
            read = await self._unit.read_int(link, OUTPUT)
        if read != wanted:
            raise ReplyError(self.name, f"the output was set to {wanted} and reads {read}")
