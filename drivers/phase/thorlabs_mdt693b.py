"""Thorlabs MDT693B (three axes) and MDT694B (one): open-loop piezo controllers, 0 to 150 V.

They drive piezo stacks and fibre stretchers. Sources: the vendor's manual TTN011225-D02; the public
drivers pylablib (``MDT69xA``), mdt69x and Thorlabs_MDT; a public record of one unit's replies.

Dialogue: 115200 baud; commands end in CR. ``>`` ends a reply, ``!`` refuses, readings come in
brackets. The output follows the last of USB, panel knob and, added to both, the external input:
the limits here hold for what is sent, not for the external input. Master scan adds one more
voltage to all axes of an MDT693B: it is switched off when the line is opened, and by ``make_safe``.

The switch at the rear limits the output to 75, 100 or 150 V, and may be moved by hand at any time:
it is read when the line is opened and before every setting. A setting is confirmed by the voltage
that the unit measures, which may differ from the one set by knob and input: by no more than
``read_back_tolerance_v``. The value returned is the one measured. A large stack takes its time
(60 mA into 1.4 uF: 43 V/ms), so the voltage is read after ``settle_s``, and again until it fits.

Weak facts, to be checked on first contact with a unit:

- What ends a reply: ``>`` by the manual, ``*`` by one record of firmware 1.05 and with the
  compatibility mode on; either is taken. What follows ``!`` is read until nothing more comes.
- ``vlimit?`` answers 0, 1, 2 by the manual and 75, 100, 150 by that record; either is taken.
- Readings have two decimals, or one with older firmware: what is confirmed is then as coarse.
- ``id?`` names the model; the serial number is whatever answers ``serial?``.
- The unit is taken to come up with its echo on, and to keep no other setting; the echo is seen and
  switched off, whatever the unit keeps.
"""

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field, field_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.limits import MillivoltLimits, check_each_once
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.prompt import PromptedLine, parse_number
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Framing

Axis = Literal["x", "y", "z"]
AXES: tuple[Axis, ...] = ("x", "y", "z")
ONE_AXIS_MODEL = "MDT694B"
MODEL = re.compile(r"MDT69[34]B")
FIRMWARE = re.compile(r"Firmware Version:\s*([0-9][0-9.]*)", re.IGNORECASE)
SWITCH_V: Mapping[float, float] = {0: 75.0, 1: 100.0, 2: 150.0, 75: 75.0, 100: 100.0, 150: 150.0}
MAX_VOLTAGE_V = 150.0
RESOLUTION_V = 0.01  # of a reading; the DAC has steps of 2.75 mV
PROMPT = Framing(write_terminator=b"\r", read_terminator=b">", other_ends=b"*!")

log = logging.getLogger(__name__)


class Mdt693bOptions(MillivoltLimits):
    """Options of a ``thorlabs-mdt693b``; an MDT694B has the one axis ``x``."""

    axes: tuple[Axis, ...] = Field(AXES, description="Axes in use.")
    min_voltage_v: float = Field(0.0, ge=0, le=MAX_VOLTAGE_V, description="Lowest voltage sent, V.")
    max_voltage_v: float = Field(
        75.0, ge=0, le=MAX_VOLTAGE_V, description="Highest voltage sent, V; see the rear switch."
    )
    rest_voltage_v: float = Field(
        0.0, ge=0, le=MAX_VOLTAGE_V, description="Where the safe state is, V."
    )
    read_back_tolerance_v: float = Field(
        1.0, gt=0, le=10, description="How far the voltage read back may lie off, V."
    )
    settle_s: float = Field(0.05, ge=0, le=10, description="Wait before reading back, s.")
    settle_timeout_s: float = Field(
        1.0, gt=0, le=60, description="Longest wait for the voltage to be reached, s."
    )
    baud_rate: int = Field(115200, gt=0, description="Of the serial line, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")

    @field_validator("axes")
    @classmethod
    def _each_axis_once(cls, axes: tuple[str, ...]) -> tuple[str, ...]:
        check_each_once("axis", axes, AXES)
        return axes


@register("thorlabs-mdt693b", Mdt693bOptions, certainty="high", wires=("serial",))
class Mdt693b(LinkedInstrument):
    """Thorlabs MDT693B or MDT694B open-loop piezo controller (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Axes, limits, line settings.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Mdt693bOptions, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, PROMPT, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport)
        self._options = options
        self._has_master_scan = True
        self._line = PromptedLine()

    async def set_voltage(self, axis: str, voltage_v: float) -> float:
        """Set one axis, wait until it is reached, return the voltage measured, V.

        Raises:
            SettingError: An axis that is not in use, or a voltage outside the limits or above what
                the rear switch allows now; no setting was sent.
            RejectedError: The unit refused, by its own limits for the axis; the old setting stands.
            ReplyError: Another voltage is measured than was set.
            TransportError: Link lost; the voltage is unknown until read again.
        """
        options = self._options
        self._check_axis(axis)
        check_within(
            self.name, f"axis {axis}", voltage_v, options.min_voltage_v, options.max_voltage_v, "V"
        )
        async with self._transport.exclusive() as link:
            await self._check_switch(link, voltage_v)
            return await self._set(link, axis, voltage_v)

    async def read_voltage(self, axis: str) -> float:
        """Measure the voltage of one axis, V.

        Raises:
            SettingError: The axis is not in use; nothing was sent.
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        self._check_axis(axis)
        async with self._transport.exclusive() as link:
            return await self._query(link, f"{axis}voltage?")

    async def make_safe(self) -> None:
        """End the master scan, take every axis in use to rest; raises the first failure at the end.

        What the external input adds stays: nothing that is sent can take it away.
        """
        steps = [
            partial(self._set, axis=axis, voltage_v=self._options.rest_voltage_v)
            for axis in self._options.axes
        ]
        await carry_out_all(self._transport, [self._stop_master_scan, *steps])

    def actuators(self) -> Mapping[str, Actuator]:
        """One per axis in use, named ``x``, ``y``, ``z``, V."""
        return {
            axis: Actuator(
                unit="V",
                minimum=self._options.min_voltage_v,
                maximum=self._options.max_voltage_v,
                resolution=RESOLUTION_V,
                write=partial(self.set_voltage, axis),
                read=partial(self.read_voltage, axis),
            )
            for axis in self._options.axes
        }

    def _check_axis(self, axis: str) -> None:
        if axis not in self._options.axes:
            in_use = ", ".join(self._options.axes)
            raise SettingError(self.name, f"axis {axis} is not in use (in use: {in_use})")

    async def _check_switch(self, link: Dialogue, voltage_v: float) -> None:
        """Refuse a voltage above what the rear switch allows now."""
        switch_v = await self._read_switch(link)
        if voltage_v > switch_v:
            raise SettingError(
                self.name,
                f"the switch at the rear stands at {switch_v:g} V, below the {voltage_v:g} V "
                "wanted: move it, or lower max_voltage_v",
            )

    async def _read_switch(self, link: Dialogue) -> float:
        position = await self._query(link, "vlimit?")
        if position not in SWITCH_V:
            raise ReplyError(
                self.name, "no position of the switch", sent="vlimit?", received=f"{position:g}"
            )
        return SWITCH_V[position]

    async def _set(self, link: Dialogue, axis: str, voltage_v: float) -> float:
        # The limits are whole millivolts, so that rounding stays inside.
        command = f"{axis}voltage={voltage_v:.3f}"
        with unknown_if_lost(self.name, f"axis {axis}"):
            await self._line.tell(link, command)
            return await self._reach(link, axis, voltage_v, command)

    async def _reach(self, link: Dialogue, axis: str, voltage_v: float, command: str) -> float:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.settle_timeout_s
        while True:
            await asyncio.sleep(self._options.settle_s)
            read_v = await self._query(link, f"{axis}voltage?")
            if abs(read_v - voltage_v) <= self._options.read_back_tolerance_v:
                return read_v
            if loop.time() >= deadline_s:
                raise ReplyError(
                    self.name,
                    f"axis {axis} was set to {voltage_v:.3f} V and reads {read_v:g} V: does the "
                    "external input or master scan add to it?",
                    sent=command,
                )

    async def _identify_anew(self, link: Dialogue) -> Identity:
        self._line.echoes = False
        identity = await self._identify(link)
        self._has_master_scan = identity.model != ONE_AXIS_MODEL
        return identity

    async def _set_up(self, link: Dialogue) -> None:
        """Check axes and rear switch, switch echo and master scan off."""
        await self._quieten(link)
        await self._check_switch(link, self._options.max_voltage_v)

    async def _set_up_again(self, link: Dialogue) -> None:
        """After a lost link: the same; the voltages are read, never assumed.

        A switch that stands too low is told; only what exceeds it is refused.
        """
        await self._quieten(link)
        switch_v = await self._read_switch(link)
        if switch_v < self._options.max_voltage_v:
            log.warning("%s: the switch at the rear now stands at %g V", self.name, switch_v)

    async def _quieten(self, link: Dialogue) -> None:
        """Switch echo and master scan off, where there are such."""
        if self._line.echoes:
            await self._line.tell(link, "echo=0")
            self._line.echoes = False
        if not self._has_master_scan and self._options.axes != ("x",):
            raise SettingError(self.name, f'an {ONE_AXIS_MODEL} has one axis: set axes = ["x"]')
        if self._has_master_scan and await self._query(link, "msenable?"):
            await self._stop_master_scan(link)

    async def _identify(self, link: Dialogue) -> Identity:
        text = " ".join(await self._line.ask(link, "id?"))
        if not (model := MODEL.search(text)):
            raise self._another_model("MDT693B or MDT694B", sent="id?", received=text)
        firmware = FIRMWARE.search(text)
        serial = await self._read_serial(link)
        return Identity("Thorlabs", model[0], serial, firmware[1] if firmware else "unknown")

    async def _read_serial(self, link: Dialogue) -> str:
        try:
            text = " ".join(await self._line.ask(link, "serial?"))
        except RejectedError:
            return "unknown"
        if "[" in text or "MDT" in text:
            raise ReplyError(self.name, "not a serial number", sent="serial?", received=text)
        return text

    async def _stop_master_scan(self, link: Dialogue) -> None:
        if not self._has_master_scan:
            return
        with unknown_if_lost(self.name, "master scan"):
            await self._line.tell(link, "msenable=0")
            if await self._query(link, "msenable?"):
                raise ReplyError(self.name, "master scan is still on", sent="msenable=0")

    async def _query(self, link: Dialogue, question: str) -> float:
        return parse_number(self.name, question, await self._line.ask(link, question))
