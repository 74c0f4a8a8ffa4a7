"""What all sources of one voltage have in common; each adds its own dialogue."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from drivers.errors import ReplyError
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.roles import Actuator, Health, Identity
from drivers.transport.transport import Dialogue, Transport
from drivers.voltage_sources.limits import VoltageOptions, inward


class VoltageSource(ABC):
    """One output that holds a voltage.

    An output that is found off is switched on at its rest voltage whenever the link is opened: a
    floating electrode drifts. One that is on stays as it is.

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
        self.name = name
        self._limits = options
        self._resolution_v = resolution_v
        self._tolerance_v = resolution_v if tolerance_v is None else tolerance_v
        self._transport = transport
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the link, check the model and set up what the output needs.

        Raises:
            ReplyError: Another model, or its output is on and set up otherwise than configured.
            RejectedError: The unit refused a setting.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.exclusive() as link:
            return await self._take_up(link)

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    async def set_voltage(self, voltage_v: float) -> float:
        """Set the voltage and return what was read back, V.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused; the old voltage stands.
            ReplyError: Another voltage was read back than was set.
            TransportError: Link lost; the voltage is unknown until read again.
        """
        limits = self._limits
        span_v = limits.min_voltage_v, limits.max_voltage_v
        check_within(self.name, "voltage", voltage_v, *span_v, "V")
        async with self._transport.exclusive() as link:
            with unknown_if_lost(self.name, "the voltage"):
                await self._send_inward(link, voltage_v)
                return await self._confirm(link, voltage_v)

    async def read_voltage(self) -> float:
        """Read the voltage in force, V; 0 while the output is off."""
        async with self._transport.exclusive() as link:
            return await self._read(link)

    async def make_safe(self) -> None:
        """Take the output to its rest voltage; raises the first failure at the end."""
        await carry_out_all(self._transport, [self._rest])

    async def close(self) -> None:
        """Close the link; the output stays."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

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

    @abstractmethod
    async def _identify(self, link: Dialogue) -> Identity:
        """Ask who it is; raise ReplyError if it is another model."""

    @abstractmethod
    async def _set_up(self, link: Dialogue, *, is_on: bool) -> None:
        """Choose function, range and the like; raise where that cannot be done with output on."""

    @abstractmethod
    async def _is_on(self, link: Dialogue) -> bool:
        """Whether the output is on."""

    @abstractmethod
    async def _switch_on(self, link: Dialogue) -> None:
        """Switch the output on."""

    @abstractmethod
    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        """Send a voltage on the grid, and raise RejectedError if it was refused."""

    @abstractmethod
    async def _read_level(self, link: Dialogue) -> float:
        """Read the voltage that is set, V, whether the output is on or off."""

    async def _read(self, link: Dialogue) -> float:
        is_on = await self._is_on(link)
        return await self._read_level(link) if is_on else 0.0

    async def _take_up(self, link: Dialogue) -> Identity:
        identity = await self._identify(link)
        is_on = await self._is_on(link)
        await self._set_up(link, is_on=is_on)
        if not is_on:
            await self._rest(link)
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        await self._take_up(link)

    async def _rest(self, link: Dialogue) -> None:
        """Go to the rest voltage, and switch the output on if it was off."""
        rest_v = self._limits.rest_voltage_v
        await self._send_inward(link, rest_v)
        if not await self._is_on(link):
            await self._switch_on(link)
        await self._confirm(link, rest_v)

    async def _send_inward(self, link: Dialogue, voltage_v: float) -> None:
        await self._send(link, inward(voltage_v, self._resolution_v, self._limits))

    async def _confirm(self, link: Dialogue, voltage_v: float) -> float:
        read_v = await self._read(link)
        if not abs(read_v - voltage_v) <= self._tolerance_v:
            problem = f"set to {voltage_v:g} V, reads {read_v:g} V (0 while the output is off)"
            raise ReplyError(self.name, problem)
        return read_v

    def _is_on_otherwise(self, question: str, answer: str) -> ReplyError:
        problem = (
            "its output is on and set up otherwise than configured; switch the output off at the "
            "front panel, or correct the file"
        )
        return ReplyError(self.name, problem, sent=question, received=answer)

    def _is_another(self, identity: object, wanted: str) -> ReplyError:
        problem = f"this is no {wanted}: is it the instrument you configured?"
        return ReplyError(self.name, problem, sent="*IDN?", received=str(identity))
