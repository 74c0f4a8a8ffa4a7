"""HP / Agilent 8156A optical attenuator with shutter, over SCPI (GPIB, or a gateway to it).

Sources: HP / Agilent 8156A Operating and Programming Guide (08156-91011), and two public drivers.

Settling: bit 1 of the operation condition register is 1 while the motor moves the filter, and is
polled; bit 3 is 1 during a sweep, which somebody may have started at the front panel: the filter
then never stands, and that is reported. Public drivers wait about 1 s after a set besides; a knob
does so (``settle_s``).

``INP:OFFS``, the calibration factor, shifts what a decibel means but moves nothing. It is cleared
whenever the link is opened, on the way to the safe state and before every attenuation, since
anybody may set one at the front panel. The absolute power mode, in which a power is set instead of
an attenuation, is ended whenever the link is opened and on the way to the safe state; any command
or question about the attenuation ends it too.

Weak facts, to be checked on first contact with a unit:

- How far a value read back may be off, 0.02 dB.
- Whether changing the wavelength moves the filter: it is waited for anyway. The unit's user
  calibration of wavelengths is left as it is found.
- The firmware's queue of errors holds 30 entries and each error once: what is queued after a
  command is blamed on that command.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from drivers.attenuators.attenuation import (
    AttenuationOptions,
    check_attenuation,
    check_unit_range,
    confirm_attenuation,
    ensure_value,
    wait_until_settled,
)
from drivers.errors import ReplyError
from drivers.outputs import carry_out_all, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Health, Identity
from drivers.scpi import pop_errors, query_float, query_identity, query_int, refuse_errors
from drivers.transport.connect import Connector
from drivers.transport.framing import LINES
from drivers.transport.transport import Dialogue

MAKERS = ("HEWLETT-PACKARD", "AGILENT")
MODEL = "8156A"
LARGEST_ATTENUATION_DB = 60.0
READ_BACK_TOLERANCE_DB = 0.02  # weak
# Bits of the operation condition register.
SETTLING = 1 << 1
SWEEPING = 1 << 3
POLL_S = 0.05


class Hp8156aOptions(AttenuationOptions):
    """Options of an ``hp-8156a``."""

    resolution_db: ClassVar[float] = 0.001

    min_attenuation_db: float = Field(
        0.0, ge=0, le=LARGEST_ATTENUATION_DB, description="Smallest attenuation sent, dB."
    )
    max_attenuation_db: float = Field(
        LARGEST_ATTENUATION_DB,
        ge=0,
        le=LARGEST_ATTENUATION_DB,
        description="Largest attenuation sent, dB.",
    )
    wavelength_nm: float = Field(1550.0, ge=1200, le=1650, description="Of the light, nm.")
    settle_s: float = Field(
        1.0, ge=0, le=60, description="How long a knob waits once the filter stands, s."
    )


@register("hp-8156a", Hp8156aOptions, "high", ("visa", "tcp"))
class Hp8156a:
    """HP / Agilent 8156A optical attenuator with shutter (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Limits, wavelength, waits.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Hp8156aOptions, connector: Connector
    ) -> None:
        self.name = name
        self._options = options
        self._transport = connector.transport(name, resource, LINES, timeout_s=options.timeout_s)
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the link, check model and range, end the power mode, clear the offset.

        Raises:
            ReplyError: Not an 8156A, or a reply does not parse.
            SettingError: The configured range exceeds this unit's.
            RejectedError: The unit refused a setting.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.exclusive() as link:
            return await self._take_up(link)

    async def identify(self) -> Identity:
        """Ask who it is.

        Raises:
            ReplyError: Not an 8156A.
            TransportError: No link, or no answer.
        """
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the attenuation, wait until the filter stands, read it back.

        Args:
            attenuation_db: Attenuation of the filter, dB; sent with three decimals.

        Returns:
            Attenuation read back, dB.

        Raises:
            SettingError: Outside the limits; nothing was sent.
            RejectedError: The unit refused; the old setting stands.
            ReplyError: A reply does not parse, or another value was read back than was set.
            TransportError: Link lost or filter not settled in time; the attenuation is unknown.
        """
        check_attenuation(self.name, self._options, attenuation_db)
        async with self._transport.exclusive() as link:
            await self._clear_offset(link)
            return await self._attenuate(link, attenuation_db)

    async def read_attenuation(self) -> float:
        """Read the attenuation, dB.

        Raises:
            ReplyError: The reply does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await query_float(link, ":INP:ATT?")

    async def set_shutter(self, *, is_open: bool) -> bool:
        """Open or shut the shutter and read it back; raises as ``set_attenuation``."""
        async with self._transport.exclusive() as link:
            return await self._move_shutter(link, is_open=is_open)

    async def read_shutter(self) -> bool:
        """Whether the shutter is open; raises as ``read_attenuation`` does."""
        async with self._transport.exclusive() as link:
            return await _query_is_open(link)

    async def make_safe(self) -> None:
        """Shut the shutter, then attenuate; raises the first failure after trying both."""

        async def shut(link: Dialogue) -> None:
            await self._move_shutter(link, is_open=False)

        async def attenuate(link: Dialogue) -> None:
            await self._attenuate(link, self._options.rest_db)

        steps = [shut, self._end_power_mode, self._clear_offset, attenuate]
        await carry_out_all(self._transport, steps)

    async def close(self) -> None:
        """Close the link; attenuation and shutter stay."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """The one output, ``attenuation``, dB."""
        return {
            "attenuation": Actuator(
                unit="dB",
                minimum=self._options.min_attenuation_db,
                maximum=self._options.max_attenuation_db,
                resolution=self._options.resolution_db,
                write=self.set_attenuation,
                read=self.read_attenuation,
                settle_s=self._options.settle_s,
            )
        }

    async def _attenuate(self, link: Dialogue, attenuation_db: float) -> float:
        # The limits are whole steps of 0.001 dB, so that rounding stays inside.
        command = f":INP:ATT {attenuation_db:.3f}DB"
        with unknown_if_lost(self.name, "the attenuation"):
            await self._command(link, command)
            await self._settle(link, command)
            read_db = await query_float(link, ":INP:ATT?")
        return confirm_attenuation(self.name, attenuation_db, read_db, READ_BACK_TOLERANCE_DB)

    async def _move_shutter(self, link: Dialogue, *, is_open: bool) -> bool:
        command = f":OUTP:STAT {int(is_open)}"
        with unknown_if_lost(self.name, "the shutter"):
            await self._command(link, command)
            reads_open = await _query_is_open(link)
        if reads_open is not is_open:
            raise ReplyError(self.name, "the shutter did not move", sent=command)
        return reads_open

    async def _settle(self, link: Dialogue, sent: str) -> None:
        async def is_settled() -> bool:
            return not await query_int(link, ":STAT:OPER:COND?") & (SETTLING | SWEEPING)

        timeout_s = self._options.settle_timeout_s
        await wait_until_settled(
            self.name, is_settled, timeout_s=timeout_s, poll_s=POLL_S, sent=sent
        )

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.manufacturer.upper().startswith(MAKERS) or MODEL not in identity.model:
            raise ReplyError(
                self.name,
                "this is no 8156A attenuator: is it the instrument you configured?",
                sent="*IDN?",
                received=str(identity),
            )
        return identity

    async def _take_up(self, link: Dialogue) -> Identity:
        identity = await self._identify(link)
        await pop_errors(link)  # what others left there
        await self._end_power_mode(link)
        await self._clear_offset(link)
        wavelength_nm = self._options.wavelength_nm
        text = f"{wavelength_nm:.10g}NM"
        if await ensure_value(link, ":INP:WAV", text, wavelength_nm * 1e-9, self._command):
            await self._settle(link, f":INP:WAV {text}")
        smallest_db = await query_float(link, ":INP:ATT? MIN")
        largest_db = await query_float(link, ":INP:ATT? MAX")
        check_unit_range(self.name, self._options, smallest_db, largest_db)
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        await self._take_up(link)

    async def _end_power_mode(self, link: Dialogue) -> None:
        """Have attenuations set, not powers; the filter stays where it is."""
        await ensure_value(link, ":OUTP:APM", "0", 0.0, self._command)

    async def _clear_offset(self, link: Dialogue) -> None:
        """Switch the offset off: what the unit is told and shows would include it."""
        await ensure_value(link, ":INP:OFFS", "0", 0.0, self._command)

    async def _command(self, link: Dialogue, command: str) -> None:
        await link.write(command)
        await refuse_errors(link, command)


async def _query_is_open(link: Dialogue) -> bool:
    question = ":OUTP:STAT?"
    answer = await query_int(link, question)
    if answer not in (0, 1):
        raise ReplyError(link.instrument, "neither 0 nor 1", sent=question, received=str(answer))
    return bool(answer)
