"""Keysight / Agilent N77xx variable optical attenuators, one slot each, over SCPI.

N7751A and N7752A (with power meters), N7761A, N7762A, N7764A, N7766A and N7768A; by raw socket
(port 5025), USB or GPIB through VISA. Source: Keysight N77xx Series Programming Guide.

``*OPC?`` does not block here: it answers 0 while the filter moves, and is polled. The shutter shuts
at full speed but opens at the transition speed, as a ramp of light. Zeroing stops every attenuator
and shuts every shutter of the box: this driver never does it. Closed-loop power control would move
the attenuation by itself, and a display offset would shift what a decibel means: both are switched
off whenever the link is opened and on the way to the safe state, the offset before every
attenuation too, since anybody may set one at the front panel.

Weak facts, to be checked on first contact with a unit:

- ``*OPT?`` lists the slots from 1 on, separated by commas, an empty one as blanks; an attenuator is
  followed by an empty slot; in an N7751A or N7752A the parts that end in ``-001`` are the power
  meters (from the guide's one example).
- The attenuation range of the N7766A and N7768A is not known here: only the configured limits hold.
- The resolution, 0.01 dB, and how far a value read back may be off, 0.1 dB, differ by model.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from drivers.attenuators.attenuation import (
    AttenuationOptions,
    check_attenuation,
    confirm_attenuation,
    ensure_value,
    wait_until_settled,
)
from drivers.errors import ReplyError, SettingError
from drivers.outputs import carry_out_all, unknown_if_lost
from drivers.registry import register
from drivers.roles import Actuator, Health, Identity
from drivers.scpi import pop_errors, query_float, query_identity, query_int, refuse_errors
from drivers.transport.connect import Connector
from drivers.transport.framing import LINES
from drivers.transport.transport import Dialogue

MAKERS = ("KEYSIGHT", "AGILENT")
# Largest attenuation, dB; None where no source was at hand.
MAX_ATTENUATION_DB: Mapping[str, float | None] = {
    "N7751A": 40.0,
    "N7752A": 40.0,
    "N7761A": 45.0,
    "N7762A": 45.0,
    "N7764A": 45.0,
    "N7766A": None,
    "N7768A": None,
}
LARGEST_ATTENUATION_DB = 45.0
METERED_MODELS = ("N7751A", "N7752A")
POWER_METER_PART = "-001"  # weak
READ_BACK_TOLERANCE_DB = 0.1  # weak
POLL_S = 0.02


class N77xxOptions(AttenuationOptions):
    """Options of a ``keysight-n77xx``: one attenuator of the box."""

    slot: int = Field(1, ge=1, le=8, description="Slot of the attenuator, as *OPT? counts.")
    min_attenuation_db: float = Field(
        0.0, ge=0, le=LARGEST_ATTENUATION_DB, description="Smallest attenuation sent, dB."
    )
    max_attenuation_db: float = Field(
        LARGEST_ATTENUATION_DB,
        ge=0,
        le=LARGEST_ATTENUATION_DB,
        description="Largest attenuation sent, dB.",
    )
    wavelength_nm: float = Field(1550.0, ge=1260, le=1640, description="Of the light, nm.")
    transition_speed_db_per_s: float | None = Field(
        None, ge=0.1, le=1000, description="Filter speed, dB/s; default: as the unit has it."
    )

    @model_validator(mode="after")
    def _time_for_a_full_move(self) -> Self:
        if self.transition_speed_db_per_s is None:
            return self
        span_db = self.max_attenuation_db - self.min_attenuation_db
        full_move_s = span_db / self.transition_speed_db_per_s
        if full_move_s > self.settle_timeout_s:
            raise ValueError(
                f"a move over {span_db:g} dB takes {full_move_s:g} s at "
                f"transition_speed_db_per_s {self.transition_speed_db_per_s:g}: raise "
                f"settle_timeout_s {self.settle_timeout_s:g} above that"
            )
        return self


def parse_attenuator_slots(model: str, reply: str) -> list[int]:
    """Find the attenuators in the reply to ``*OPT?``, whose form is weak.

    Returns:
        Numbers of the slots that hold one; may be empty.
    """
    parts = [part.strip(' "') for part in reply.split(",")]
    is_metered = model in METERED_MODELS
    return [
        slot
        for slot, part in enumerate(parts, start=1)
        if part and not (is_metered and part.endswith(POWER_METER_PART))
    ]


@register("keysight-n77xx", N77xxOptions, "high", ("tcp", "visa"))
class N77xx:
    """Keysight / Agilent N77xx optical attenuator with shutter (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where the box is.
        options: Slot, limits, wavelength.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: N77xxOptions, connector: Connector
    ) -> None:
        self.name = name
        self._options = options
        self._input = f":INP{options.slot}"
        self._output = f":OUTP{options.slot}"
        self._transport = connector.transport(name, resource, LINES, timeout_s=options.timeout_s)
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the link, check model, slot and range, switch power control and offset off.

        Raises:
            ReplyError: Not an N77xx attenuator, or none in the configured slot.
            SettingError: The configured range exceeds this model's.
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

    async def set_attenuation(self, attenuation_db: float) -> float:
        """Set the attenuation, wait until the filter stands, read it back.

        Args:
            attenuation_db: Attenuation of the filter, dB; sent with two decimals.

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
            return await query_float(link, f"{self._input}:ATT?")

    async def set_shutter(self, *, is_open: bool) -> bool:
        """Open or shut the shutter, wait for it, read it back; raises as ``set_attenuation``."""
        async with self._transport.exclusive() as link:
            return await self._move_shutter(link, is_open=is_open)

    async def read_shutter(self) -> bool:
        """Whether the shutter is open; raises as ``read_attenuation`` does."""
        async with self._transport.exclusive() as link:
            return await _query_boolean(link, f"{self._output}:STAT?")

    async def make_safe(self) -> None:
        """Shut the shutter, then attenuate; raises the first failure after trying both."""

        async def shut(link: Dialogue) -> None:
            await self._move_shutter(link, is_open=False)

        async def attenuate(link: Dialogue) -> None:
            await self._attenuate(link, self._options.rest_db)

        steps = [shut, self._open_power_loop, self._clear_offset, attenuate]
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
            )
        }

    async def _attenuate(self, link: Dialogue, attenuation_db: float) -> float:
        # The limits are whole steps of 0.01 dB, so that rounding stays inside.
        command = f"{self._input}:ATT {attenuation_db:.2f}dB"
        with unknown_if_lost(self.name, "the attenuation"):
            await self._command(link, command)
            await self._settle(link, command)
            read_db = await query_float(link, f"{self._input}:ATT?")
        return confirm_attenuation(self.name, attenuation_db, read_db, READ_BACK_TOLERANCE_DB)

    async def _move_shutter(self, link: Dialogue, *, is_open: bool) -> bool:
        command = f"{self._output}:STAT {int(is_open)}"
        with unknown_if_lost(self.name, "the shutter"):
            await self._command(link, command)
            await self._settle(link, command)
            reads_open = await _query_boolean(link, f"{self._output}:STAT?")
        if reads_open is not is_open:
            raise ReplyError(self.name, "the shutter did not move", sent=command)
        return reads_open

    async def _settle(self, link: Dialogue, sent: str) -> None:
        async def is_settled() -> bool:
            return await _query_boolean(link, "*OPC?")

        timeout_s = self._options.settle_timeout_s
        await wait_until_settled(
            self.name, is_settled, timeout_s=timeout_s, poll_s=POLL_S, sent=sent
        )

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.manufacturer.upper().startswith(MAKERS) or (
            identity.model not in MAX_ATTENUATION_DB
        ):
            raise ReplyError(
                self.name,
                "this is no N77xx attenuator: is it the instrument you configured?",
                sent="*IDN?",
                received=str(identity),
            )
        largest_db = MAX_ATTENUATION_DB[identity.model]
        if largest_db is not None and self._options.max_attenuation_db > largest_db:
            raise SettingError(
                self.name,
                f"max_attenuation_db {self._options.max_attenuation_db:g} exceeds the "
                f"{largest_db:g} dB of an {identity.model}: lower it",
            )
        return identity

    async def _take_up(self, link: Dialogue) -> Identity:
        identity = await self._identify(link)
        await pop_errors(link)  # what others left there
        slots_reply = await link.query("*OPT?")
        slots = parse_attenuator_slots(identity.model, slots_reply)
        if self._options.slot not in slots:
            raise ReplyError(
                self.name,
                f"no attenuator in slot {self._options.slot}; there are some in slots {slots}",
                sent="*OPT?",
                received=slots_reply,
            )
        await self._open_power_loop(link)
        await self._clear_offset(link)
        wavelength_nm = self._options.wavelength_nm
        text = f"{wavelength_nm:.10g}NM"
        await ensure_value(link, f"{self._input}:WAV", text, wavelength_nm * 1e-9, self._command)
        speed = self._options.transition_speed_db_per_s
        if speed is not None:
            header = f"{self._input}:ATT:SPE"
            await ensure_value(link, header, f"{speed:g}", speed, self._command)
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        await self._take_up(link)

    async def _open_power_loop(self, link: Dialogue) -> None:
        """Switch closed-loop power control off: it would move the attenuation by itself."""
        await ensure_value(link, f"{self._output}:POW:CONT", "0", 0.0, self._command)

    async def _clear_offset(self, link: Dialogue) -> None:
        """Switch the display offset off: what the unit is told and shows would include it."""
        await ensure_value(link, f"{self._input}:OFFS", "0", 0.0, self._command)

    async def _command(self, link: Dialogue, command: str) -> None:
        await link.write(command)
        await refuse_errors(link, command)


async def _query_boolean(link: Dialogue, question: str) -> bool:
    answer = await query_int(link, question)
    if answer not in (0, 1):
        raise ReplyError(link.instrument, "neither 0 nor 1", sent=question, received=str(answer))
    return bool(answer)
