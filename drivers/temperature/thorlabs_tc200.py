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
from collections.abc import Mapping
from typing import Self

from pydantic import Field, field_validator, model_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.prompt import PromptedLine
from drivers.registry import Options, register
from drivers.roles import Actuator, Health, Identity
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
        steps = temperature_degc / RESOLUTION_DEGC
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"{temperature_degc} degC is no multiple of {RESOLUTION_DEGC} degC")
        return temperature_degc

    @model_validator(mode="after")
    def _ordered_limits(self) -> Self:
        if not self.min_temperature_degc < self.max_temperature_degc:
            raise ValueError(
                f"min_temperature_degc {self.min_temperature_degc:g} must be below "
                f"max_temperature_degc {self.max_temperature_degc:g}"
            )
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
class Tc200:
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
        self.name = name
        self._options = options
        self._line = PromptedLine()
        self._transport = connector.transport(
            name, resource, PROMPT, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the line, check the model and its limit, end the cycle mode.

        Raises:
            ReplyError: Not a TC200.
            SettingError: The unit's own limit, ``tmax``, is below the configured one.
            RejectedError: The unit stays in its cycle mode.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.exclusive() as link:
            identity = await self._take_up(link)
            await self._check_tmax(link, self._options.max_temperature_degc)
        return identity

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    async def set_temperature(self, temperature_degc: float) -> float:
        """Set the set point, then switch the output on; return the set point read back, degC.

        Does not wait for the temperature: ``is_stable`` tells when it is reached.

        Raises:
            SettingError: Outside the limits, or above the unit's ``tmax``; nothing was set.
            RejectedError: The unit refused the set point, or keeps its output off.
            ReplyError: Another set point is read back than was set.
            TransportError: Link lost; set point and output are unknown until read again.
        """
        options = self._options
        check_within(
            self.name,
            "temperature",
            temperature_degc,
            options.min_temperature_degc,
            options.max_temperature_degc,
            "degC",
        )
        async with self._transport.exclusive() as link:
            await self._check_tmax(link, temperature_degc)
            read_degc = await self._set_point(link, temperature_degc)
            await self._switch(link, is_on=True)
        return read_degc

    async def read_set_point(self) -> float:
        """Read the set point, degC.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._temperature(link, "tset?")

    async def read_temperature(self) -> float:
        """Measure the temperature, degC; raises as ``read_set_point`` does."""
        async with self._transport.exclusive() as link:
            return await self._temperature(link, "tact?")

    async def is_stable(self) -> bool:
        """Whether the output is on and the temperature near the set point at this moment.

        Raises:
            ReplyError: A reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            is_on = bool(await self._status(link) & OUTPUT_ON)
            set_degc = await self._temperature(link, "tset?")
            actual_degc = await self._temperature(link, "tact?")
        return is_on and abs(actual_degc - set_degc) <= self._options.stable_within_degc

    async def make_safe(self) -> None:
        """Switch the output off, unless ``heats_when_safe``."""

        async def switch_off(link: Dialogue) -> None:
            await self._switch(link, is_on=False)

        await carry_out_all(self._transport, [] if self._options.heats_when_safe else [switch_off])

    async def close(self) -> None:
        """Close the line; set point and output stay."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """The set point, ``temperature``, degC."""
        return {
            "temperature": Actuator(
                unit="degC",
                minimum=self._options.min_temperature_degc,
                maximum=self._options.max_temperature_degc,
                resolution=RESOLUTION_DEGC,
                write=self.set_temperature,
                read=self.read_set_point,
            )
        }

    async def _check_tmax(self, link: Dialogue, temperature_degc: float) -> None:
        tmax_degc = await self._temperature(link, "tmax?")
        if temperature_degc > tmax_degc:
            raise SettingError(
                self.name,
                f"the unit's own limit tmax is {tmax_degc:g} degC, below the "
                f"{temperature_degc:g} degC wanted: raise it there, or lower max_temperature_degc",
            )

    async def _set_point(self, link: Dialogue, temperature_degc: float) -> float:
        # The limits are whole steps of 0.1 degC, so that rounding stays inside.
        command = f"tset={temperature_degc:.1f}"
        with unknown_if_lost(self.name, "the set point"):
            await self._line.tell(link, command)
            read_degc = await self._temperature(link, "tset?")
        if not abs(read_degc - temperature_degc) <= RESOLUTION_DEGC:
            raise ReplyError(
                self.name, f"was set to {temperature_degc:.1f} degC and reads {read_degc:.1f} degC"
            )
        return read_degc

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

    async def _take_up(self, link: Dialogue) -> Identity:
        self._line.echoes = False
        identity = await self._identify(link)
        if await self._status(link) & CYCLE_MODE:
            await self._end_cycle_mode(link)
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        """After a lost link: same model, same mode; set point and output are left as found.

        A ``tmax`` that is too low is told, but must not keep ``make_safe`` from its work.
        """
        await self._take_up(link)
        tmax_degc = await self._temperature(link, "tmax?")
        if tmax_degc < self._options.max_temperature_degc:
            log.warning("%s: the unit's own limit tmax is now %g degC", self.name, tmax_degc)

    async def _end_cycle_mode(self, link: Dialogue) -> None:
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
            raise ReplyError(
                self.name,
                "this is no TC200: is it the instrument you configured?",
                sent="*idn?",
                received=text,
            )
        return Identity("Thorlabs", "TC200", "unknown", text.split()[-1])

    async def _status(self, link: Dialogue) -> int:
        return parse_status(self.name, " ".join(await self._line.ask(link, "stat?")))

    async def _temperature(self, link: Dialogue, question: str) -> float:
        text = " ".join(await self._line.ask(link, question))
        return parse_temperature(self.name, question, text)
