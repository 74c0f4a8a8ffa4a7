"""What variable attenuators do, with and without a shutter; each kind adds its own dialogue."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from drivers.attenuators.attenuation import (
    AttenuationOptions,
    check_attenuation,
    confirm_attenuation,
    wait_until_settled,
)
from drivers.errors import RejectedError, ReplyError
from drivers.linked import LinkedInstrument
from drivers.outputs import SafetyStep, carry_out_all, unknown_if_lost
from drivers.roles import Actuator
from drivers.scpi import ensure_value, query_float, tell
from drivers.transport.transport import Dialogue, Transport


class VariableAttenuator(LinkedInstrument):
    """One filter in the light; where it stands is read, never remembered.

    Args:
        name: Name in the testbed file.
        transport: The link.
        options: Limits, safe place, waits.
        settle_s: How long the filter still moves once it says that it stands, s.

    Attributes:
        tolerance_db: How far the attenuation read back may lie off, dB.
    """

    tolerance_db: ClassVar[float]

    def __init__(
        self, name: str, transport: Transport, options: AttenuationOptions, settle_s: float = 0.0
    ) -> None:
        super().__init__(name, transport)
        self._limits = options
        self._settle_s = settle_s

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the attenuation, wait until the filter stands, read it back.

        Args:
            attenuation_db: Attenuation, dB; sent in steps of the options' ``resolution_db``.

        Returns:
            Attenuation read back, dB.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: A reply does not parse, or another value was read back than was set.
            TransportError: Link lost or filter not settled in time; the attenuation is unknown.
        """
        check_attenuation(self.name, self._limits, attenuation_db)
        async with self._transport.exclusive() as link:
            await self._prepare(link)
            return await self._attenuate(link, attenuation_db)

    async def read_attenuation(self) -> float:
        """Read the attenuation, dB.

        Raises:
            RejectedError: The unit does not know it, or what it shows is shifted by an offset.
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read_true_db(link)

    async def make_safe(self) -> None:
        """Attenuate as far as configured; raises the first failure after all was tried."""
        await carry_out_all(self._transport, self._steps_to_safety())

    def actuators(self) -> Mapping[str, Actuator]:
        """The one output, ``attenuation``, dB."""
        return {
            "attenuation": Actuator(
                unit="dB",
                minimum=self._limits.min_attenuation_db,
                maximum=self._limits.max_attenuation_db,
                resolution=self._limits.resolution_db,
                write=self.set_attenuation,
                read=self.read_attenuation,
                settle_s=self._settle_s,
            )
        }

    @abstractmethod
    async def _prepare(self, link: Dialogue) -> None:
        """Before an attenuation is set: see that the unit will take it for what it is."""

    @abstractmethod
    def _attenuation_command(self, attenuation_db: float) -> str:
        """The command that moves the filter; the limits are whole steps, so rounding is safe."""

    @abstractmethod
    async def _move(self, link: Dialogue, command: str) -> None:
        """Give a command, see that it was taken, wait until what it moves stands."""

    @abstractmethod
    async def _read_db(self, link: Dialogue) -> float:
        """Read the attenuation, dB."""

    async def _read_true_db(self, link: Dialogue) -> float:
        """Read the attenuation, whatever somebody may have done to the unit, dB."""
        return await self._read_db(link)

    def _steps_to_safety(self) -> list[SafetyStep]:
        async def attenuate(link: Dialogue) -> None:
            await self._attenuate(link, self._limits.rest_db)

        return [attenuate]

    async def _attenuate(self, link: Dialogue, attenuation_db: float) -> float:
        with unknown_if_lost(self.name, "the attenuation"):
            await self._move(link, self._attenuation_command(attenuation_db))
            read_db = await self._read_db(link)
        return confirm_attenuation(self.name, attenuation_db, read_db, self.tolerance_db)


class ShutteredAttenuator(VariableAttenuator):
    """The same with a shutter, which is shut before the filter moves to its safe place.

    A display offset shifts what a decibel means but moves nothing. Anybody may set one at the front
    panel: it is cleared before every attenuation, before the shutter opens, and on the way to the
    safe state. As long as one is in force no attenuation is read.

    Args:
        name: Name in the testbed file.
        transport: The link.
        options: Limits, safe place, waits.
        offset: Header of the display offset.
        settle_s: How long the filter still moves once it says that it stands, s.

    Attributes:
        shutter: What the shutter is called, in errors.
        poll_s: Time between two questions whether filter or shutter stand, s.
    """

    shutter: ClassVar[str] = "the shutter"
    poll_s: ClassVar[float]

    def __init__(
        self,
        name: str,
        transport: Transport,
        options: AttenuationOptions,
        offset: str,
        settle_s: float = 0.0,
    ) -> None:
        super().__init__(name, transport, options, settle_s)
        self._offset = offset

    async def set_shutter(self, *, is_open: bool) -> bool:
        """Open or shut the shutter, wait for it, read it back.

        Before it opens, whatever moves the filter by itself is ended and a display offset cleared,
        and the attenuation is read.

        Raises:
            RejectedError: The unit refused, or the attenuation is outside the limits: set it first.
                The shutter stays as it is.
            ReplyError: A reply does not parse, or the shutter did not move.
            TransportError: Link lost or not settled in time; the shutter is unknown.
        """
        async with self._transport.exclusive() as link:
            if is_open:
                await self._prepare_to_open(link)
            return await self._set_shutter(link, is_open=is_open)

    async def read_shutter(self) -> bool:
        """Whether the shutter is open; raises as ``read_attenuation`` does."""
        async with self._transport.exclusive() as link:
            return await self._is_open(link)

    async def make_safe(self) -> None:
        """Shut the shutter, then attenuate; raises the first failure after trying both."""
        await super().make_safe()

    @abstractmethod
    async def _is_settled(self, link: Dialogue) -> bool:
        """Whether nothing moves."""

    @abstractmethod
    def _shutter_command(self, *, is_open: bool) -> str:
        """The command that moves the shutter."""

    @abstractmethod
    async def _is_open(self, link: Dialogue) -> bool:
        """Whether the shutter is open."""

    async def _tell(self, link: Dialogue, command: str) -> None:
        """Give a command and see that it was taken; over SCPI unless the kind says otherwise."""
        await tell(link, command)

    async def _end_control(self, link: Dialogue) -> None:
        """End whatever moves the filter by itself, or has it follow anything but attenuations."""

    async def _move_shutter(self, link: Dialogue, command: str) -> None:
        await self._move(link, command)

    async def _prepare(self, link: Dialogue) -> None:
        await self._clear_offset(link)

    async def _clear_offset(self, link: Dialogue) -> None:
        """Switch the display offset off: what the unit is told and shows would include it."""
        await ensure_value(link, self._offset, "0", 0.0, self._tell)

    async def _move(self, link: Dialogue, command: str) -> None:
        await self._tell(link, command)
        await self._settle(link, command)

    async def _prepare_to_open(self, link: Dialogue) -> None:
        """See to it that no more light comes than the limits allow."""
        await self._end_control(link)
        await self._clear_offset(link)
        await self._settle(link, f"{self._offset} 0")
        read_db = await self._read_true_db(link)
        smallest_db, largest_db = self._limits.min_attenuation_db, self._limits.max_attenuation_db
        if not smallest_db - self.tolerance_db <= read_db <= largest_db + self.tolerance_db:
            raise RejectedError(
                self.name,
                f"{self.shutter} stays shut: the attenuation is {read_db:.2f} dB, outside "
                f"{smallest_db:g} to {largest_db:g} dB; set it first",
            )

    async def _read_true_db(self, link: Dialogue) -> float:
        question = f"{self._offset}?"
        offset_db = await query_float(link, question)
        if abs(offset_db) >= self._limits.resolution_db / 2:
            raise RejectedError(
                self.name,
                f"somebody has set a display offset of {offset_db:g} dB, which hides the "
                "attenuation: set the attenuation or make it safe, which clears the offset",
                sent=question,
                received=f"{offset_db:g}",
            )
        return await super()._read_true_db(link)

    def _steps_to_safety(self) -> list[SafetyStep]:
        async def shut(link: Dialogue) -> None:
            await self._set_shutter(link, is_open=False)

        return [shut, self._end_control, self._clear_offset, *super()._steps_to_safety()]

    async def _set_shutter(self, link: Dialogue, *, is_open: bool) -> bool:
        command = self._shutter_command(is_open=is_open)
        with unknown_if_lost(self.name, self.shutter):
            await self._move_shutter(link, command)
            reads_open = await self._is_open(link)
        if reads_open is not is_open:
            raise ReplyError(self.name, f"{self.shutter} did not move", sent=command)
        return reads_open

    async def _settle(self, link: Dialogue, sent: str) -> None:
        async def is_settled() -> bool:
            return await self._is_settled(link)

        timeout_s = self._limits.settle_timeout_s
        await wait_until_settled(
            self.name, is_settled, timeout_s=timeout_s, poll_s=self.poll_s, sent=sent
        )
