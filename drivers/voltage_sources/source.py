"""What all sources of one voltage have in common; each adds its own dialogue."""

from abc import abstractmethod
from collections.abc import Mapping

from drivers.errors import InstrumentError, RejectedError, ReplyError
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.roles import Actuator
from drivers.transport.transport import Dialogue, Transport
from drivers.voltage_sources.limits import VoltageOptions, inward


class VoltageSource(LinkedInstrument):
    """One output that holds a voltage.

    An output that is found off is switched on at its rest voltage whenever the link is opened: a
    floating electrode drifts. One that is on stays as it is.

    A number means volts at the output only with the right function, range and load, and anybody may
    change those at the front panel. They are asked for before every voltage is set or read, and
    never changed under an output that is on: ``make_safe`` switches it off first, and leaves it off
    where they cannot be put right.

    Args:
        name: Name in the testbed file.
        transport: The link.
        options: Limits and rest voltage.
        resolution_v: Grid of the voltages that are sent, V.
        tolerance_v: How far the voltage read back may lie off, V.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        options: VoltageOptions,
        resolution_v: float,
        *,
        tolerance_v: float | None = None,
    ) -> None:
        super().__init__(name, transport)
        self._limits = options
        self._resolution_v = resolution_v
        self._tolerance_v = resolution_v if tolerance_v is None else tolerance_v

    async def set_voltage(self, voltage_v: float) -> float:
        """Set the voltage and return what was read back, V.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused, or somebody has set it up otherwise; nothing changed.
            ReplyError: Another voltage was read back than was set.
            TransportError: Link lost; the voltage is unknown until read again.
        """
        limits = self._limits
        span_v = limits.min_voltage_v, limits.max_voltage_v
        check_within(self.name, "voltage", voltage_v, *span_v, "V")
        async with self._transport.exclusive() as link:
            await self._ensure_function(link, may_set=False)
            with unknown_if_lost(self.name, "the voltage"):
                await self._send_inward(link, voltage_v)
                return await self._confirm(link, voltage_v)

    async def read_voltage(self) -> float:
        """Read the voltage in force, V; 0 while the output is off.

        Raises:
            RejectedError: Somebody has set the unit up otherwise: it may give anything.
            ReplyError: A reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read(link)

    async def make_safe(self) -> None:
        """Take the output to its rest voltage, or off if that fails; raises the first failure."""
        await carry_out_all(self._transport, [self._rest])

    def actuators(self) -> Mapping[str, Actuator]:
        """The one output, ``voltage``, V."""
        limits = self._limits
        return {
            "voltage": Actuator(
                "V",
                limits.min_voltage_v,
                limits.max_voltage_v,
                self._resolution_v,
                self.set_voltage,
                self.read_voltage,
                limits.settle_s,
            )
        }

    async def _forget_errors(self, link: Dialogue) -> None:
        """Drop the errors that others left in the unit, where it keeps any."""

    async def _ensure_function(self, link: Dialogue, *, may_set: bool) -> None:
        """See to it that a number means volts at the output: function, range, load.

        Raises:
            RejectedError: It does not, and may not be set since the output may be on; or the unit
                refused.
        """

    async def _ensure_protection(self, link: Dialogue) -> None:
        """Set what protects the load and may be set at any time, where there is such."""

    @abstractmethod
    async def _is_on(self, link: Dialogue) -> bool:
        """Whether the output is on."""

    @abstractmethod
    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        """Switch the output on or off."""

    @abstractmethod
    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        """Send a voltage on the grid, and raise RejectedError if it was refused."""

    @abstractmethod
    async def _read_level(self, link: Dialogue) -> float:
        """Read the voltage that is set, V, whether the output is on or off."""

    async def _read(self, link: Dialogue) -> float:
        if not await self._is_on(link):
            return 0.0
        await self._ensure_function(link, may_set=False)
        return await self._read_level(link)

    async def _set_up(self, link: Dialogue) -> None:
        is_on = await self._is_on(link)
        await self._forget_errors(link)
        await self._ensure_function(link, may_set=not is_on)
        await self._ensure_protection(link)
        if not is_on:
            await self._go_to_rest(link)

    async def _rest(self, link: Dialogue) -> None:
        """Go to the rest voltage, in any state."""
        try:
            await self._ensure_function(link, may_set=False)
        except InstrumentError:
            await self._switch(link, is_on=False)  # nobody knows what another number would do
            await self._ensure_function(link, may_set=True)
            await self._ensure_protection(link)
        await self._go_to_rest(link)

    async def _go_to_rest(self, link: Dialogue) -> None:
        """Go to the rest voltage, and switch the output on if it was off."""
        rest_v = self._limits.rest_voltage_v
        await self._send_inward(link, rest_v)
        if not await self._is_on(link):
            await self._switch(link, is_on=True)
        await self._confirm(link, rest_v)

    async def _send_inward(self, link: Dialogue, voltage_v: float) -> None:
        await self._send(link, inward(voltage_v, self._resolution_v, self._limits))

    async def _confirm(self, link: Dialogue, voltage_v: float) -> float:
        read_v = await self._read(link)
        if not abs(read_v - voltage_v) <= self._tolerance_v:
            problem = f"set to {voltage_v:g} V, reads {read_v:g} V (0 while the output is off)"
            raise ReplyError(self.name, problem)
        return read_v

    def _set_up_otherwise(self, question: str, answer: str) -> RejectedError:
        problem = (
            "set up otherwise than configured, which is not changed while the output may be on; "
            "make it safe, switch the output off at the front panel, or correct the file"
        )
        return RejectedError(self.name, problem, sent=question, received=answer)
