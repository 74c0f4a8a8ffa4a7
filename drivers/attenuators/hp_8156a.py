"""HP / Agilent 8156A optical attenuator with shutter, over SCPI (GPIB, or a gateway to it).

Sources: HP / Agilent 8156A Operating and Programming Guide (08156-91011), and two public drivers.

Settling: bit 1 of the operation condition register is 1 while the motor moves the filter, and is
polled; bit 3 is 1 during a sweep, which somebody may have started at the front panel: the filter
then never stands, and that is reported. Public drivers wait about 1 s after a set besides; a knob
does so (``settle_s``).

``INP:OFFS``, the calibration factor, shifts what a decibel means but moves nothing. It is cleared
whenever the link is opened, on the way to the safe state, before every attenuation and before the
shutter opens, since anybody may set one at the front panel. The absolute power mode, in which a
power is set instead of an attenuation, is ended whenever the link is opened, before the shutter
opens and on the way to the safe state; any command or question about the attenuation ends it too.

Weak facts, to be checked on first contact with a unit:

- How far a value read back may be off, 0.02 dB.
- Whether changing the wavelength moves the filter: it is waited for anyway. The unit's user
  calibration of wavelengths is left as it is found.
- The firmware's queue of errors holds 30 entries and each error once: what is queued after a
  command is blamed on that command.
"""

from typing import ClassVar

from pydantic import Field

from drivers.attenuators.attenuation import AttenuationOptions, check_unit_range
from drivers.attenuators.variable import ShutteredAttenuator
from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import (
    ensure_value,
    pop_errors,
    query_bool,
    query_float,
    query_identity,
    query_int,
    tell,
)
from drivers.transport.connect import Connector
from drivers.transport.framing import LINES
from drivers.transport.transport import Dialogue

MAKERS = ("HEWLETT-PACKARD", "AGILENT")
MODEL = "8156A"
LARGEST_ATTENUATION_DB = 60.0
# Bits of the operation condition register.
SETTLING = 1 << 1
SWEEPING = 1 << 3


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
class Hp8156a(ShutteredAttenuator):
    """HP / Agilent 8156A optical attenuator with shutter (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Limits, wavelength, waits.
        connector: Makes the link.
    """

    tolerance_db = 0.02  # weak
    poll_s = 0.05

    def __init__(
        self, name: str, resource: str, options: Hp8156aOptions, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, LINES, timeout_s=options.timeout_s)
        super().__init__(name, transport, options, ":INP:OFFS", options.settle_s)
        self._options = options

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.manufacturer.upper().startswith(MAKERS) or MODEL not in identity.model:
            raise self._another_model("8156A attenuator", sent="*IDN?", received=identity)
        return identity

    async def _set_up(self, link: Dialogue) -> None:
        """End the power mode, clear the offset, set the wavelength, check the range."""
        await pop_errors(link)  # what others left there
        await self._end_control(link)
        await self._clear_offset(link)
        wavelength_nm = self._options.wavelength_nm
        text = f"{wavelength_nm:.10g}NM"
        if await ensure_value(link, ":INP:WAV", text, wavelength_nm * 1e-9, tell):
            await self._settle(link, f":INP:WAV {text}")
        smallest_db = await query_float(link, ":INP:ATT? MIN")
        largest_db = await query_float(link, ":INP:ATT? MAX")
        check_unit_range(self.name, self._options, smallest_db, largest_db)

    async def _end_control(self, link: Dialogue) -> None:
        """Have attenuations set, not powers; the filter stays where it is."""
        await ensure_value(link, ":OUTP:APM", "0", 0.0, tell)

    def _attenuation_command(self, attenuation_db: float) -> str:
        return f":INP:ATT {attenuation_db:.3f}DB"

    async def _read_db(self, link: Dialogue) -> float:
        return await query_float(link, ":INP:ATT?")

    def _shutter_command(self, *, is_open: bool) -> str:
        return f":OUTP:STAT {int(is_open)}"

    async def _move_shutter(self, link: Dialogue, command: str) -> None:
        await tell(link, command)  # the bits of the register are about the filter

    async def _is_open(self, link: Dialogue) -> bool:
        return await query_bool(link, ":OUTP:STAT?")

    async def _is_settled(self, link: Dialogue) -> bool:
        return not await query_int(link, ":STAT:OPER:COND?") & (SETTLING | SWEEPING)
