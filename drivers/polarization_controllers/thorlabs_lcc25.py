"""Thorlabs LCC25 liquid-crystal controller: two voltages of one AC drive, 0 to 25 V rms.

Sources: the public driver InstrumentKit (class ``LCC25``) with its tests, and the vendor's sample
program; the vendor's manual was not at hand.

Dialogue: 115200 baud; commands end in CR and are echoed; ``>`` and a space end a reply. Errors are
lines with ``CMD_`` in them. The mode says what is at the output: voltage 1, voltage 2, or the two
in turn. It is set up when the line is opened; the voltages stay as found until they are set. The
output is switched on by setting a voltage, never by opening the line.

Weak facts, to be checked on first contact with a unit:

- The text that answers ``*idn?``: ``LCC25`` in it identifies the model, and its last word is taken
  for the firmware's version. The unit tells no serial number.
- That a voltage is read back to within 1 mV of the one set. What is confirmed is the set voltage:
  the unit does not measure its output.
- What ``extern`` (modulation by a TTL input) and the ``test`` ramp do in each mode: neither is
  used here, and neither is ended by ``make_safe``; with both voltages at rest, there is nothing
  to switch between.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field

from drivers.errors import ReplyError, SettingError
from drivers.limits import MillivoltLimits
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.prompt import PromptedLine, parse_number
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Framing

OUTPUTS = ("volt1", "volt2")
MAX_VOLTAGE_V = 25.0
RESOLUTION_V = 0.001
MODES: Mapping[str, int] = {"alternating": 0, "voltage 1": 1, "voltage 2": 2}
PROMPT = Framing(write_terminator=b"\r", read_terminator=b">")


class Lcc25Options(MillivoltLimits):
    """Options of a ``thorlabs-lcc25``."""

    mode: Literal["voltage 1", "voltage 2", "alternating"] = Field(
        "voltage 1", description="What is at the output."
    )
    min_voltage_v: float = Field(
        0.0, ge=0, le=MAX_VOLTAGE_V, description="Lowest voltage sent, V rms."
    )
    max_voltage_v: float = Field(
        MAX_VOLTAGE_V, ge=0, le=MAX_VOLTAGE_V, description="Highest voltage sent, V rms."
    )
    rest_voltage_v: float = Field(
        0.0, ge=0, le=MAX_VOLTAGE_V, description="Where the safe state is, V rms."
    )
    settle_s: float = Field(
        0.0, ge=0, le=60, description="How long the crystal turns after a setting, s."
    )
    baud_rate: int = Field(115200, gt=0, description="Of the serial line, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")


@register("thorlabs-lcc25", Lcc25Options, certainty="medium-high", wires=("serial",))
class Lcc25(LinkedInstrument):
    """Thorlabs LCC25 liquid-crystal retarder controller (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Mode, limits, line settings.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Lcc25Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, PROMPT, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport)
        self._options = options
        self._line = PromptedLine()

    async def set_voltage(self, output: str, voltage_v: float) -> float:
        """Set voltage ``volt1`` or ``volt2``, see to it that the output is on; return the setting.

        Raises:
            SettingError: No such voltage, or outside the limits; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: Another voltage is read back than was set.
            TransportError: Link lost; the voltage is unknown until read again.
        """
        options = self._options
        self._check_output(output)
        check_within(
            self.name, output, voltage_v, options.min_voltage_v, options.max_voltage_v, "V"
        )
        async with self._transport.exclusive() as link:
            read_v = await self._set(link, output, voltage_v)
            await self._ensure(link, "enable", 1)
        return read_v

    async def read_voltage(self, output: str) -> float:
        """Read the setting of ``volt1`` or ``volt2``, V rms.

        Raises:
            SettingError: No such voltage; nothing was sent.
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        self._check_output(output)
        async with self._transport.exclusive() as link:
            return await self._query(link, f"{output}?")

    async def make_safe(self) -> None:
        """Take both voltages to rest; raises the first failure at the end."""
        steps = [
            partial(self._set, output=output, voltage_v=self._options.rest_voltage_v)
            for output in OUTPUTS
        ]
        await carry_out_all(self._transport, steps)

    def actuators(self) -> Mapping[str, Actuator]:
        """``volt1`` and ``volt2``, V rms."""
        return {
            output: Actuator(
                unit="V",
                minimum=self._options.min_voltage_v,
                maximum=self._options.max_voltage_v,
                resolution=RESOLUTION_V,
                write=partial(self.set_voltage, output),
                read=partial(self.read_voltage, output),
                settle_s=self._options.settle_s,
            )
            for output in OUTPUTS
        }

    def _check_output(self, output: str) -> None:
        if output not in OUTPUTS:
            raise SettingError(self.name, f"{output!r} is none of {', '.join(OUTPUTS)}")

    async def _set(self, link: Dialogue, output: str, voltage_v: float) -> float:
        # The limits are whole millivolts, so that rounding stays inside.
        command = f"{output}={voltage_v:.3f}"
        with unknown_if_lost(self.name, output):
            await self._line.tell(link, command)
            read_v = await self._query(link, f"{output}?")
        if not abs(read_v - voltage_v) <= RESOLUTION_V:
            raise ReplyError(
                self.name, f"{output} was set to {voltage_v:.3f} V and reads {read_v:g} V"
            )
        return read_v

    async def _ensure(self, link: Dialogue, setting: str, value: int) -> None:
        """Make a setting, unless it is so already."""
        if await self._query(link, f"{setting}?") == value:
            return
        command = f"{setting}={value}"
        with unknown_if_lost(self.name, setting):
            await self._line.tell(link, command)
            if await self._query(link, f"{setting}?") != value:
                raise ReplyError(self.name, "reads another value than was set", sent=command)

    async def _identify_anew(self, link: Dialogue) -> Identity:
        self._line.echoes = False
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:
        """Choose what is at the output."""
        await self._ensure(link, "mode", MODES[self._options.mode])

    async def _identify(self, link: Dialogue) -> Identity:
        text = " ".join(await self._line.ask(link, "*idn?"))
        if "LCC25" not in text.upper():
            raise self._another_model("LCC25", sent="*idn?", received=text)
        return Identity("Thorlabs", "LCC25", "unknown", text.split()[-1])

    async def _query(self, link: Dialogue, question: str) -> float:
        return parse_number(self.name, question, await self._line.ask(link, question))
