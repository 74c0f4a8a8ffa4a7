"""OZ Optics DD-100 / DA-100 motor-driven attenuator, on a serial line; it has no shutter.

Sources: three public drivers, of pylablib (class ``DD100``), of QMI (``OZOptics_DD100MC``) and of
the Caltech Optical Observatories (``dd100mc``); the vendor's application note was not at hand.

Dialogue: commands end in CR LF. The unit echoes the command (unless its echo is off), prints zero
or more lines and ends with ``Done``, perhaps with an empty line after it; or it prints a line that
begins with ``Error``. A move is over when ``Done`` comes.

**Light.** After power-up the motor does not know where it is. Homing (``H``) finds out and takes up
to 40 s, in which the attenuation sweeps the *whole* range, down to the insertion loss: the light
must be shut elsewhere meanwhile. This driver homes when ``home`` is called, and by itself only if
the option ``home_on_open`` says so: when the link is opened, or opened again after it was lost, or
the unit is made safe, and it does not know its position. Homing ends at the attenuation of the safe
state. A unit that is not homed can be identified and read, but neither set nor, as long as it
refuses ``A``, made safe: both say so. Requests outside the configured range are refused, never
clamped.

Weak facts, to be checked on first contact with a unit:

- ``D`` answers ``ATTEN:unknown`` before homing (two of the drivers take it so); a missing number
  counts as unknown.
- How ``CD`` prints insertion loss (``IL:``) and largest attenuation (``MAX ATTEN:``); what
  identifies the model is that it prints both. Serial number and version are not looked for.
- What becomes of ``A`` before homing; here ``D`` is asked first.
- How far a value read back may be off, 0.05 dB.
"""

import logging
import re
from collections.abc import Sequence

from pydantic import Field

from drivers.attenuators.attenuation import AttenuationOptions, check_unit_range
from drivers.attenuators.variable import VariableAttenuator
from drivers.errors import RejectedError, ReplyError
from drivers.outputs import SafetyStep, unknown_if_lost
from drivers.ozoptics import CRLF, OzLine
from drivers.registry import register
from drivers.roles import Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

REFUSED = "error"
# ``CD`` prints the configuration; a unit that never ends is no DD-100.
MAX_REPLY_LINES = 64
LARGEST_ATTENUATION_DB = 60.0
ATTENUATION = re.compile(r"ATTEN:\s*([0-9]+(?:\.[0-9]*)?)(?![0-9.])", re.IGNORECASE)
INSERTION_LOSS = re.compile(r"\bIL:\s*([0-9]+(?:\.[0-9]*)?)(?![0-9.])", re.IGNORECASE)
MAX_ATTENUATION = re.compile(r"\bMAX ATTEN:\s*([0-9]+(?:\.[0-9]*)?)(?![0-9.])", re.IGNORECASE)

log = logging.getLogger(__name__)


class Dd100Options(AttenuationOptions):
    """Options of an ``ozoptics-dd100``."""

    min_attenuation_db: float = Field(
        2.0,
        ge=0,
        le=LARGEST_ATTENUATION_DB,
        description="Smallest attenuation sent, dB: not below the unit's insertion loss.",
    )
    max_attenuation_db: float = Field(
        LARGEST_ATTENUATION_DB,
        ge=0,
        le=LARGEST_ATTENUATION_DB,
        description="Largest attenuation sent, dB.",
    )
    home_on_open: bool = Field(
        False,
        description="Home a unit that does not know its position, whenever its link is opened or "
        "opened again. That SWEEPS THE WHOLE RANGE: the light must then be shut elsewhere.",
    )
    settle_timeout_s: float = Field(30.0, gt=0, le=600, description="Longest wait for a move, s.")
    homing_timeout_s: float = Field(60.0, gt=0, le=600, description="Longest wait for homing, s.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for other lines, s.")
    baud_rate: int = Field(9600, gt=0, description="As set on the unit, baud.")


def parse_range_db(instrument: str, lines: Sequence[str]) -> tuple[float, float]:
    """Find insertion loss and largest attenuation in the reply to ``CD``.

    Returns:
        Both, dB.

    Raises:
        ReplyError: They are not both there, or not in order.
    """
    text = "\n".join(lines)
    smallest, largest = INSERTION_LOSS.search(text), MAX_ATTENUATION.search(text)
    if not (smallest and largest and float(smallest[1]) < float(largest[1])):
        raise ReplyError(
            instrument,
            "this is not a DD-100's configuration: is it the instrument you configured?",
            sent="CD",
            received=" ".join(lines),
        )
    return float(smallest[1]), float(largest[1])


def parse_attenuation_db(instrument: str, lines: Sequence[str]) -> float | None:
    """Find the attenuation in the reply to ``D``.

    Returns:
        Attenuation, dB; None if the unit does not know it: it has not been homed.

    Raises:
        ReplyError: No ``ATTEN:`` in it.
    """
    text = "\n".join(lines)
    if "ATTEN:" not in text.upper():
        raise ReplyError(instrument, "no attenuation", sent="D", received=" ".join(lines))
    found = ATTENUATION.search(text)
    return float(found[1]) if found else None


@register("ozoptics-dd100", Dd100Options, "medium-high", ("serial",))
class Dd100(VariableAttenuator):
    """OZ Optics DD-100 / DA-100 motor-driven attenuator, without shutter (serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Limits, homing, line settings.
        connector: Makes the link.
    """

    tolerance_db = 0.05  # weak

    def __init__(
        self, name: str, resource: str, options: Dd100Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, CRLF, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport, options)
        self._options = options
        self._range_db = (0.0, 0.0)  # as it was identified last
        self._line = OzLine(lambda line: line.lower().startswith(REFUSED), MAX_REPLY_LINES)

    async def home(self) -> float:
        """Find the home position, then attenuate as in the safe state.

        The attenuation sweeps the whole range meanwhile: shut the light elsewhere first.

        Returns:
            Attenuation read back, dB.

        Raises:
            RejectedError: The unit could not home.
            ReplyError: A reply does not parse.
            TransportError: Link lost or not done in time; the attenuation is unknown.
        """
        async with self._transport.exclusive() as link:
            return await self._home(link)

    async def make_safe(self) -> None:
        """Attenuate as far as configured; homes a lost unit only if ``home_on_open``.

        Raises:
            RejectedError: The unit refused, as one may that is not homed: shut the light elsewhere.
        """
        await super().make_safe()

    async def _prepare(self, link: Dialogue) -> None:
        await self._read_db(link)  # refuses where it is not homed

    def _attenuation_command(self, attenuation_db: float) -> str:
        return f"A{attenuation_db:.2f}"

    async def _move(self, link: Dialogue, command: str) -> None:
        await self._line.exchange(link, command, timeout_s=self._options.settle_timeout_s)

    async def _read_db(self, link: Dialogue) -> float:
        lines = await self._line.exchange(link, "D")
        attenuation_db = parse_attenuation_db(self.name, lines)
        if attenuation_db is None:
            raise RejectedError(
                self.name,
                "not homed since power-up: shut the light elsewhere, then home it",
                sent="D",
                received=" ".join(lines),
            )
        return attenuation_db

    async def _home(self, link: Dialogue) -> float:
        log.warning("%s: homing; the attenuation sweeps the whole range", self.name)
        with unknown_if_lost(self.name, "the attenuation"):
            await self._line.exchange(link, "H", timeout_s=self._options.homing_timeout_s)
        return await self._attenuate(link, self._options.rest_db)

    async def _identify(self, link: Dialogue) -> Identity:
        try:
            lines = await self._line.exchange(link, "CD")
        except RejectedError as exc:  # an EPC-400, say, which ends its lines the same way
            lines = [exc.received or ""]
        self._range_db = parse_range_db(self.name, lines)
        return Identity("OZ Optics", "DD-100", "unknown", "unknown")

    async def _set_up(self, link: Dialogue) -> None:
        """Check the range; home the unit if need be and ``home_on_open``."""
        check_unit_range(self.name, self._options, *self._range_db)
        await self._home_if_lost(link)

    async def _home_if_lost(self, link: Dialogue) -> None:
        """Home a unit that does not know its position, if ``home_on_open`` allows it."""
        if parse_attenuation_db(self.name, await self._line.exchange(link, "D")) is not None:
            return
        if self._options.home_on_open:
            await self._home(link)
        else:
            log.warning("%s: not homed since power-up; it cannot be set", self.name)

    def _steps_to_safety(self) -> list[SafetyStep]:
        steps = super()._steps_to_safety()
        return [*steps, self._home_if_lost] if self._options.home_on_open else steps
