"""Thorlabs TC200 temperature controller: one heater, 20 to 200 degrees Celsius.

Sources: the public drivers InstrumentKit (class ``TC200``) with its tests and QMI
(``Thorlabs_TC200``), and what they and others quote of the vendor's manual, which was not at hand.

Dialogue: 115200 baud; commands end in CR and are echoed; ``>`` and a space end a reply. Errors are
lines with ``CMD_`` in them. ``ens`` toggles the output: it is sent only after ``stat?`` has said,
in the same dialogue, that the output is not as wanted, and is never repeated. ``mode=normal``
answers an error although it succeeds: what counts is what ``stat?`` says afterwards.

Setting a temperature switches the output on; opening the line does not. ``make_safe`` switches it
off, unless ``heats_when_safe``: an oven that takes an hour to settle may be worth its own limits,
``tmax`` and the maximum power, which the unit itself enforces. The unit heats only: the temperature
falls as fast as its surroundings let it.

Weak facts, to be checked on first contact with a unit:

- The number that answers ``stat?`` is hexadecimal by the manual and QMI, decimal by InstrumentKit.
  Bit 0 (output on) is the same in both; bit 1 (cycle mode) is taken from the hexadecimal reading.
- Temperatures are sent in degrees Celsius whatever the display shows, and are read as the unit of
  the reply says (``C``, ``Celsius``, ``F``, ``K``, or none for Celsius).
- ``*idn?`` (``id?`` in QMI) answers four words: maker, model, ``VERSION`` and the version.
"""

import logging
import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.limits import check_order, check_whole_steps
from drivers.outputs import unknown_if_lost
from drivers.prompt import PromptedLine
from drivers.registry import Options, register
from drivers.roles import Identity
from drivers.temperature.set_point import SetPointController
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Framing

LOWEST_DEGC = 20.0
HIGHEST_DEGC = 200.0
RESOLUTION_DEGC = 0.1
OUTPUT_ON = 1 << 0
CYCLE_MODE = 1 << 1
SPURIOUS_ERROR = "CMD_ARG_RANGE_ERR"
TEMPERATURE = re.compile(
    r"([+-]?[0-9]+(?:\.[0-9]*)?)\s*(C|Celsius|F|Fahrenheit|K|Kelvin|)", re.IGNORECASE
)
STATUS = re.compile(r"(?:0x)?([0-9a-f]{1,2})", re.IGNORECASE)
PROMPT = Framing(write_terminator=b"\r", read_terminator=b">")

log = logging.getLogger(__name__)


class Tc200Options(Options):
    """Options of a ``thorlabs-tc200``."""

    min_temperature_degc: float = Field(
        LOWEST_DEGC, ge=LOWEST_DEGC, le=HIGHEST_DEGC, description="Lowest set point sent, degC."
    )
    max_temperature_degc: float = Field(
        60.0, ge=LOWEST_DEGC, le=HIGHEST_DEGC, description="Highest set point sent, degC."
    )
    stable_within_degc: float = Field(
        0.2, gt=0, le=10, description="How near the set point counts as reached, degC."
    )
    heats_when_safe: bool = Field(
        default=False, description="Whether make_safe leaves the heater as it is."
    )
    baud_rate: int = Field(115200, gt=0, description="Of the serial line, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")

    @field_validator("min_temperature_degc", "max_temperature_degc")
    @classmethod
    def _whole_steps(cls, temperature_degc: float) -> float:
        check_whole_steps(temperature_degc, RESOLUTION_DEGC, "degC")
        return temperature_degc

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        check_order(self, "temperature_degc")
        return self


def parse_temperature(instrument: str, question: str, text: str) -> float:
    """Read a temperature with its unit, or without one, degC.

    Raises:
        ReplyError: Not a number with a unit of temperature.
    """
    match = TEMPERATURE.fullmatch(text)
    if match is None:
        raise ReplyError(instrument, "not a temperature", sent=question, received=text)
    number = float(match[1])
    match match[2][:1].upper():
        case "F":
            return (number - 32.0) / 1.8
        case "K":
            return number - 273.15
    return number


def parse_status(instrument: str, text: str) -> int:
    """Read the status byte that answers ``stat?``, hexadecimal.

    Raises:
        ReplyError: Not one or two hexadecimal digits.
    """
    match = STATUS.fullmatch(text)
    if match is None:
        raise ReplyError(instrument, "not a status", sent="stat?", received=text)
    return int(match[1], 16)


@register("thorlabs-tc200", Tc200Options, certainty="medium-high", wires=("serial",))
class Tc200(SetPointController):
    """Thorlabs TC200 heater temperature controller (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits, safe state, line settings.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Tc200Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, PROMPT, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(
            name,
            transport,
            (options.min_temperature_degc, options.max_temperature_degc),
            RESOLUTION_DEGC,
            is_off_when_safe=not options.heats_when_safe,
        )
        self._options = options
        self._line = PromptedLine()

    async def is_stable(self) -> bool:
        """Whether the output is on and the temperature near the set point at this moment.

        Raises:
            ReplyError: A reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            is_on = bool(await self._status(link) & OUTPUT_ON)
            set_degc = await self._read_set_point(link)
            actual_degc = await self._measure(link)
        return is_on and abs(actual_degc - set_degc) <= self._options.stable_within_degc

    async def _prepare(self, link: Dialogue, temperature_degc: float) -> None:
        await self._check_tmax(link, temperature_degc)

    async def _check_tmax(self, link: Dialogue, temperature_degc: float) -> None:
        tmax_degc = await self._temperature(link, "tmax?")
        if temperature_degc > tmax_degc:
            raise SettingError(
                self.name,
                f"the unit's own limit tmax is {tmax_degc:g} degC, below the "
                f"{temperature_degc:g} degC wanted: raise it there, or lower max_temperature_degc",
            )

    async def _set(self, link: Dialogue, temperature_degc: float) -> float:
        # The limits are whole steps of 0.1 degC, so that rounding stays inside.
        command = f"tset={temperature_degc:.1f}"
        with unknown_if_lost(self.name, "the set point"):
            await self._line.tell(link, command)
            read_degc = await self._read_set_point(link)
        if not abs(read_degc - temperature_degc) <= RESOLUTION_DEGC:
            raise ReplyError(
                self.name, f"was set to {temperature_degc:.1f} degC and reads {read_degc:.1f} degC"
            )
        return read_degc

    async def _read_set_point(self, link: Dialogue) -> float:
        return await self._temperature(link, "tset?")

    async def _measure(self, link: Dialogue) -> float:
        return await self._temperature(link, "tact?")

    async def _switch_on(self, link: Dialogue) -> None:
        await self._switch(link, is_on=True)

    async def _switch_off(self, link: Dialogue) -> None:
        await self._switch(link, is_on=False)

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        """Toggle the output if it is not as wanted, and only then."""
        if bool(await self._status(link) & OUTPUT_ON) is is_on:
            return
        with unknown_if_lost(self.name, "the output"):
            await self._line.tell(link, "ens")
            status = await self._status(link)
        if bool(status & OUTPUT_ON) is not is_on:
            stays = "off: is the sensor connected?" if is_on else "on"
            raise RejectedError(
                self.name, f"the output stays {stays}", sent="ens", received=f"{status:x}"
            )

    async def _identify_anew(self, link: Dialogue) -> Identity:
        self._line.echoes = False
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """End the cycle mode, check the unit's own limit."""
        await self._leave_cycle_mode(link)
        await self._check_tmax(link, self._options.max_temperature_degc)

    async def _set_up_again(self, link: Dialogue) -> None:
        """After a lost link: same mode; set point and output are left as found.

        A ``tmax`` that is too low is told; only what exceeds it is refused.
        """
        await self._leave_cycle_mode(link)
        tmax_degc = await self._temperature(link, "tmax?")
        if tmax_degc < self._options.max_temperature_degc:
            log.warning("%s: the unit's own limit tmax is now %g degC", self.name, tmax_degc)

    async def _leave_cycle_mode(self, link: Dialogue) -> None:
        if not await self._status(link) & CYCLE_MODE:
            return
        with unknown_if_lost(self.name, "the mode"):
            try:
                await self._line.tell(link, "mode=normal")
            except RejectedError as exc:
                if SPURIOUS_ERROR not in (exc.received or ""):
                    raise
            status = await self._status(link)
        if status & CYCLE_MODE:
            raise RejectedError(
                self.name, "stays in its cycle mode", sent="mode=normal", received=f"{status:x}"
            )

    async def _identify(self, link: Dialogue) -> Identity:
        text = " ".join(await self._line.ask(link, "*idn?"))
        if "TC200" not in text.upper():
            raise self._another_model("TC200", sent="*idn?", received=text)
        return Identity("Thorlabs", "TC200", "unknown", text.split()[-1])

    async def _status(self, link: Dialogue) -> int:
        return parse_status(self.name, " ".join(await self._line.ask(link, "stat?")))

    async def _temperature(self, link: Dialogue, question: str) -> float:
        text = " ".join(await self._line.ask(link, question))
        return parse_temperature(self.name, question, text)
