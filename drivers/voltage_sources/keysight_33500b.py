"""Keysight / Agilent 33500B and 33600A waveform generators, one channel each, as DC sources.

By raw socket (port 5025), USB or LAN through VISA. A static phase or bias voltage is the function
``DC`` with ``VOLT:OFFS``. Changing the load rescales what the generator sends, so that load and
function are set only while the output is off; with the output on they must be right already, and
are asked for before every voltage. An output that is found off is switched on at its rest voltage
whenever the link is opened; ``make_safe`` switches one off that somebody has set up otherwise, puts
that right and switches it on at rest.

Weak facts, to be checked on first contact with a unit: the reach of the offset with a load, taken
as 4.995 V into 50 ohm and twice that into an open end; that ``OUTP:LOAD?`` answers 9.9E37 for an
open end.

Source: pymeasure (instruments/agilent/agilent33500.py), and the family's operating guide for the
high-impedance answer.
"""

from collections.abc import Callable
from typing import Literal, Self

from pydantic import Field, model_validator

from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import (
    SCPI_INFINITY,
    pop_errors,
    query_float,
    query_identity,
    query_int,
    tell,
)
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue
from drivers.voltage_sources.limits import VoltageOptions
from drivers.voltage_sources.source import VoltageSource

RESOLUTION_V = 1e-4
REACH_50_OHM_V = 4.995
MAKERS = ("KEYSIGHT", "AGILENT")
FAMILIES = ("335", "336")


class Keysight33500Options(VoltageOptions):
    """Options of a ``keysight-33500b``: one channel as a DC source."""

    channel: Literal[1, 2] = Field(1, description="Output, 1 or 2.")
    load: Literal["50 ohm", "open"] = Field("open", description="What the output is connected to.")

    @property
    def reach_v(self) -> float:
        """Largest voltage into this load, V."""
        return REACH_50_OHM_V if self.load == "50 ohm" else 2 * REACH_50_OHM_V

    @model_validator(mode="after")
    def _fits_load(self) -> Self:
        self.check_reach(-self.reach_v, self.reach_v, f"the reach with load {self.load!r}")
        return self


@register("keysight-33500b", Keysight33500Options, "medium-high", ("tcp", "visa"))
class Keysight33500(VoltageSource):
    """Keysight 33500B / 33600A waveform generator as a DC voltage source (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Channel, load and limits.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Keysight33500Options, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, timeout_s=options.timeout_s)
        super().__init__(name, transport, options, RESOLUTION_V)
        self._options = options
        self._source = f":SOUR{options.channel}"
        self._output = f":OUTP{options.channel}"

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        is_maker = identity.manufacturer.upper().startswith(MAKERS)
        if not (is_maker and identity.model.startswith(FAMILIES)):
            raise self._another_model("33500B or 33600A", sent="*IDN?", received=identity)
        return identity

    async def _forget_errors(self, link: Dialogue) -> None:
        await pop_errors(link)

    async def _ensure_function(self, link: Dialogue, *, may_set: bool) -> None:
        load = "INF" if self._options.load == "open" else "50"
        await self._ensure(link, f"{self._output}:LOAD", load, _load, may_set=may_set)
        await self._ensure(link, f"{self._source}:FUNC", "DC", str.upper, may_set=may_set)

    async def _is_on(self, link: Dialogue) -> bool:
        return bool(await query_int(link, f"{self._output}?"))

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        await tell(link, f"{self._output} {int(is_on)}")

    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        await tell(link, f"{self._source}:VOLT:OFFS {voltage_v:.4f}")

    async def _read_level(self, link: Dialogue) -> float:
        return await query_float(link, f"{self._source}:VOLT:OFFS?")

    async def _ensure(
        self,
        link: Dialogue,
        header: str,
        value: str,
        understood: Callable[[str], str],
        *,
        may_set: bool,
    ) -> None:
        reply = await link.query(f"{header}?")
        if understood(reply) == value:
            return
        if not may_set:
            raise self._set_up_otherwise(f"{header}?", reply)
        await tell(link, f"{header} {value}")


def _load(reply: str) -> str:
    """Say what ``OUTP:LOAD?`` tells in the words that set it, or repeat the reply."""
    try:
        ohm = float(reply)
    except ValueError:
        return reply
    return "INF" if ohm >= SCPI_INFINITY else f"{ohm:g}"
