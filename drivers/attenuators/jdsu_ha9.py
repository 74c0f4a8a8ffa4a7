"""JDS Uniphase HA9 programmable attenuator with beam block, by serial line or GPIB.

Sources: pages of the HA9 user's manual (SD000257) that are public, two public drivers, and, where
those end, the manual of the maker's SB switch (SD000153), whose HA-like command set, registers and
interfaces agree with the HA9's wherever both are known.

The unit must be set to its HA or HP command set, not to SCPI. A message holds at most 100
characters: each command goes out alone. Over RS-232 (1200 baud, 8N1) commands end in CR and are
taken at any time, so that a reading says nothing until ``CNB?`` says that the filter stands. Over
GPIB they end in CR LF and the bus is held while the filter moves: there ``timeout_s`` must be
longer than the longest move.

``D 1`` puts the beam block in and ``D 0`` takes it out. ``CAL`` shifts what a decibel means but
moves nothing: it is cleared whenever the link is opened, on the way to the safe state, before every
attenuation and before the block goes out, since anybody may set one at the front panel. A changed
output is confirmed by reading it back; refusals show in the status register, which is cleared
before each command.

Weak facts, to be checked on first contact with a unit:

- ``STB?``: bit 0 tells of an impossible parameter and bit 5 of a syntax error (SB switch). Were
  they to mean something else, settings would be reported as refused; read-back would still hold.
- ``CLR`` clears the status register (used by a public HA9 driver, described for the SB switch).
- ``IDN?`` answers in the HA and HP sets (SB switch), with ``HA9`` in its second field, as ``*IDN?``
  does in the SCPI set.
- ``D?`` answers 1 when the block is in (the EXFO FVA-3150, which has copied the set).
- ``ATT? MIN`` and ``ATT? MAX`` tell the filter's range once ``CAL`` is 0.
- Replies end in LF, with or without CR before it.
- How long the filter moves, and whether changing the wavelength moves it: it is waited for anyway.
- A power mode chosen at the front panel is left alone: the manual's SCPI part has it end at the
  first command about the attenuation.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from drivers.attenuators.attenuation import AttenuationOptions, check_unit_range
from drivers.attenuators.variable import ShutteredAttenuator
from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import ensure_value, query_bool, query_float, query_int
from drivers.transport.connect import Connector
from drivers.transport.framing import Framing
from drivers.transport.transport import Dialogue

MAKER = "JDS"
MODEL = "HA9"
LARGEST_ATTENUATION_DB = 100.0  # the HA9; an HA9W ends at 60 dB and says so
# The wavelength is printed with four decimals of a micrometre.
WAVELENGTH_TOLERANCE_M = 0.1e-9
SETTLED = 1 << 2
# Bits of the status register that tell of a refusal (weak), and what they tell.
REFUSALS = {1 << 0: "impossible parameter", 1 << 5: "syntax error"}
# Answers that may be under way when a line is opened again: never more than one dialogue's.
MAX_LATE_REPLIES = 8

Terminator = Literal["cr", "lf", "crlf"]
TERMINATORS: Mapping[Terminator, bytes] = {"cr": b"\r", "lf": b"\n", "crlf": b"\r\n"}


class Ha9Options(AttenuationOptions):
    """Options of a ``jdsu-ha9``."""

    min_attenuation_db: float = Field(
        0.0, ge=0, le=LARGEST_ATTENUATION_DB, description="Smallest attenuation sent, dB."
    )
    max_attenuation_db: float = Field(
        60.0,
        ge=0,
        le=LARGEST_ATTENUATION_DB,
        description="Largest attenuation sent, dB: at most 60 for an HA9W, 100 for an HA9.",
    )
    wavelength_nm: float = Field(1550.0, ge=1200, le=1700, description="Of the light, nm.")
    settle_timeout_s: float = Field(
        20.0, gt=0, le=600, description="Longest wait for the filter or beam block, s."
    )
    timeout_s: float = Field(
        3.0,
        gt=0,
        le=60,
        description="Longest wait for a reply, s; over GPIB longer than the longest move.",
    )
    baud_rate: int = Field(1200, gt=0, description="Of the serial line, baud.")
    write_terminator: Terminator | None = Field(
        None, description="Ends a command; default: cr, over GPIB crlf."
    )
    read_terminator: Terminator = Field("lf", description="Ends a reply; a CR before it may be.")

    def framing(self, resource: str) -> Framing:
        """Terminators on the wire that a resource names."""
        usual: Terminator = "crlf" if resource.upper().startswith("VISA://GPIB") else "cr"
        return Framing(
            write_terminator=TERMINATORS[self.write_terminator or usual],
            read_terminator=TERMINATORS[self.read_terminator],
        )


def parse_identity(reply: str) -> Identity | None:
    """Read the answer to ``IDN?``: maker, model, perhaps a serial number, firmware.

    Returns:
        Who it is, or None if this is no HA9.
    """
    fields = [field.strip() for field in reply.split(",")]
    if len(fields) < 2 or not (fields[0].upper().startswith(MAKER) and MODEL in fields[1]):
        return None
    serial = fields[2] if len(fields) > 3 else "unknown"
    firmware = fields[-1] if len(fields) > 2 else "unknown"
    return Identity(fields[0], fields[1], serial, firmware)


@register("jdsu-ha9", Ha9Options, "medium-high", ("serial", "visa", "tcp"))
class Ha9(ShutteredAttenuator):
    """JDS Uniphase HA9 optical attenuator with beam block (HA command set).

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Limits, wavelength, line settings.
        connector: Makes the link.
    """

    tolerance_db = 0.02
    poll_s = 0.1
    shutter = "the beam block"

    def __init__(self, name: str, resource: str, options: Ha9Options, connector: Connector) -> None:
        transport = connector.transport(
            name,
            resource,
            options.framing(resource),
            timeout_s=options.timeout_s,
            baud_rate=options.baud_rate,
        )
        super().__init__(name, transport, options, "CAL")
        self._options = options

    async def _read_true_db(self, link: Dialogue) -> float:
        await self._settle(link, "ATT?")  # before that a reading says nothing
        return await super()._read_true_db(link)

    def _attenuation_command(self, attenuation_db: float) -> str:
        return f"ATT {attenuation_db:.2f}"

    async def _read_db(self, link: Dialogue) -> float:
        return await query_float(link, "ATT?")

    def _shutter_command(self, *, is_open: bool) -> str:
        return f"D {int(not is_open)}"

    async def _is_open(self, link: Dialogue) -> bool:
        return not await query_bool(link, "D?")

    async def _is_settled(self, link: Dialogue) -> bool:
        return bool(await query_int(link, "CNB?") & SETTLED)

    async def _tell(self, link: Dialogue, command: str) -> None:
        await link.write("CLR")  # what earlier commands left in the status register
        await link.write(command)
        status = await query_int(link, "STB?")
        refusals = [meaning for bit, meaning in REFUSALS.items() if status & bit]
        if refusals:
            raise RejectedError(
                self.name,
                f"refused: {', '.join(refusals)}",
                sent=command,
                received=f"status {status}",
            )

    async def _identify(self, link: Dialogue) -> Identity:
        reply = await link.query("IDN?")
        identity = parse_identity(reply)
        if identity is None:
            raise self._not_an_ha9(reply)
        return identity

    async def _identify_anew(self, link: Dialogue) -> Identity:
        """Find who it is behind late answers: the line is slow, and GPIB is held in motion."""
        first = reply = await link.query("IDN?")
        for _ in range(MAX_LATE_REPLIES):
            if (identity := parse_identity(reply)) is not None:
                return identity
            try:
                reply = await link.read()
            except TransportError as exc:
                raise self._not_an_ha9(first) from exc
        raise self._not_an_ha9(first)

    def _not_an_ha9(self, reply: str) -> ReplyError:
        return self._another_model("HA9 in its HA command set", sent="IDN?", received=reply)

    async def _set_up(self, link: Dialogue) -> None:
        """Clear the offset, set the wavelength, check the range."""
        await self._clear_offset(link)
        wavelength_nm = self._options.wavelength_nm
        text = f"{wavelength_nm:.10g}NM"
        if await ensure_value(
            link,
            "WVL",
            text,
            wavelength_nm * 1e-9,
            self._tell,
            tolerance=WAVELENGTH_TOLERANCE_M,
        ):
            await self._settle(link, f"WVL {text}")
        smallest_db = await query_float(link, "ATT? MIN")
        largest_db = await query_float(link, "ATT? MAX")
        check_unit_range(self.name, self._options, smallest_db, largest_db)
