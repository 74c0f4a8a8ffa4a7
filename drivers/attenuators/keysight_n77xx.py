"""Keysight / Agilent N77xx variable optical attenuators, one slot each, over SCPI.

N7751A and N7752A (with power meters), N7761A, N7762A, N7764A, N7766A and N7768A; by raw socket
(port 5025), USB or GPIB through VISA. Source: Keysight N77xx Series Programming Guide.

``*OPC?`` does not block here: it answers 0 while the filter moves, and is polled. The shutter shuts
at full speed but opens at the transition speed, as a ramp of light. Zeroing stops every attenuator
and shuts every shutter of the box: this driver never does it. Closed-loop power control would move
the attenuation by itself, and a display offset would shift what a decibel means: both are switched
off whenever the link is opened, before the shutter opens and on the way to the safe state, the
offset before every attenuation too, since anybody may set one at the front panel.

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

from drivers.attenuators.attenuation import AttenuationOptions
from drivers.attenuators.variable import ShutteredAttenuator
from drivers.errors import ReplyError, SettingError
from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import ensure_value, pop_errors, query_bool, query_float, query_identity, tell
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
class N77xx(ShutteredAttenuator):
    """Keysight / Agilent N77xx optical attenuator with shutter (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where the box is.
        options: Slot, limits, wavelength.
        connector: Makes the link.
    """

    tolerance_db = 0.1  # weak
    poll_s = 0.02

    def __init__(
        self, name: str, resource: str, options: N77xxOptions, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, LINES, timeout_s=options.timeout_s)
        self._input = f":INP{options.slot}"
        self._output = f":OUTP{options.slot}"
        super().__init__(name, transport, options, f"{self._input}:OFFS")
        self._options = options
        self._model = ""  # as it was identified last

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.manufacturer.upper().startswith(MAKERS) or (
            identity.model not in MAX_ATTENUATION_DB
        ):
            raise self._another_model("N77xx attenuator", sent="*IDN?", received=identity)
        self._model = identity.model
        return identity

    async def _set_up(self, link: Dialogue) -> None:
        """Check range and slot, switch power control and offset off, set the wavelength."""
        largest_db = MAX_ATTENUATION_DB[self._model]
        if largest_db is not None and self._options.max_attenuation_db > largest_db:
            raise SettingError(
                self.name,
                f"max_attenuation_db {self._options.max_attenuation_db:g} exceeds the "
                f"{largest_db:g} dB of an {self._model}: lower it",
            )
        await pop_errors(link)  # what others left there
        slots_reply = await link.query("*OPT?")
        slots = parse_attenuator_slots(self._model, slots_reply)
        if self._options.slot not in slots:
            raise ReplyError(
                self.name,
                f"no attenuator in slot {self._options.slot}; there are some in slots {slots}",
                sent="*OPT?",
                received=slots_reply,
            )
        await self._end_control(link)
        await self._clear_offset(link)
        wavelength_nm = self._options.wavelength_nm
        text = f"{wavelength_nm:.10g}NM"
        await ensure_value(link, f"{self._input}:WAV", text, wavelength_nm * 1e-9, tell)
        speed = self._options.transition_speed_db_per_s
        if speed is not None:
            header = f"{self._input}:ATT:SPE"
            await ensure_value(link, header, f"{speed:g}", speed, tell)

    async def _end_control(self, link: Dialogue) -> None:
        """Switch closed-loop power control off: it would move the attenuation by itself."""
        await ensure_value(link, f"{self._output}:POW:CONT", "0", 0.0, tell)

    def _attenuation_command(self, attenuation_db: float) -> str:
        return f"{self._input}:ATT {attenuation_db:.2f}dB"

    async def _read_db(self, link: Dialogue) -> float:
        return await query_float(link, f"{self._input}:ATT?")

    def _shutter_command(self, *, is_open: bool) -> str:
        return f"{self._output}:STAT {int(is_open)}"

    async def _is_open(self, link: Dialogue) -> bool:
        return await query_bool(link, f"{self._output}:STAT?")

    async def _is_settled(self, link: Dialogue) -> bool:
        return await query_bool(link, "*OPC?")
