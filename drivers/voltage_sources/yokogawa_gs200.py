"""Yokogawa GS200 DC voltage source, over SCPI (USB, GPIB or LAN through VISA, or a raw socket).

The driver works the source in voltage mode on one range, so that no setting changes the range by
itself: a range switched under load is a glitch. Function and range are set only while the output is
off; with the output on they must be right already, and are asked for before every voltage. An
output that is found off is switched on at its rest voltage whenever the link is opened, since a
floating electrode drifts; ``make_safe`` switches one off that somebody has set up otherwise, puts
that right and switches it on at rest.

Weak facts, to be checked on first contact with a unit: that the level reads back as it was sent,
rounded to the range's resolution; that ``:SYSTem:ERRor?`` answers ``0,"No Error"`` when empty.

Source: pymeasure (instruments/yokogawa/yokogawags200.py); resolutions from the GS200 data sheet.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import pop_errors, query_float, query_identity, query_int, tell
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue
from drivers.voltage_sources.limits import VoltageOptions
from drivers.voltage_sources.source import VoltageSource

RESOLUTION_V: Mapping[float, float] = {0.01: 1e-7, 0.1: 1e-6, 1.0: 1e-5, 10.0: 1e-4, 30.0: 1e-3}
"""Resolution of each range."""

OVERRANGE = 1.2
LARGEST_V = 32.0


class Gs200Options(VoltageOptions):
    """Options of a ``yokogawa-gs200``."""

    range_v: float = Field(10.0, description="Range, V: 0.01, 0.1, 1, 10 or 30.")
    current_limit_a: float = Field(
        0.01, ge=0.001, le=0.2, description="Current at which the source limits, A."
    )

    @model_validator(mode="after")
    def _fits_range(self) -> Self:
        if self.range_v not in RESOLUTION_V:
            offered = ", ".join(f"{each:g}" for each in RESOLUTION_V)
            raise ValueError(f"range_v {self.range_v:g} is none of {offered}")
        reach_v = min(OVERRANGE * self.range_v, LARGEST_V)
        self.check_reach(-reach_v, reach_v, f"the reach of the {self.range_v:g} V range")
        return self


@register("yokogawa-gs200", Gs200Options, "medium-high", ("visa", "tcp"))
class Gs200(VoltageSource):
    """Yokogawa GS200 DC voltage source (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Range and limits.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Gs200Options, connector: Connector
    ) -> None:
        transport = connector.transport(name, resource, timeout_s=options.timeout_s)
        super().__init__(name, transport, options, RESOLUTION_V[options.range_v])
        self._options = options

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.model.startswith("GS2"):
            raise self._another_model("GS200", sent="*IDN?", received=identity)
        return identity

    async def _forget_errors(self, link: Dialogue) -> None:
        await pop_errors(link)

    async def _ensure_function(self, link: Dialogue, *, may_set: bool) -> None:
        function = await link.query(":SOUR:FUNC?")
        if not function.upper().startswith("VOLT"):
            if not may_set:
                raise self._set_up_otherwise(":SOUR:FUNC?", function)
            await tell(link, ":SOUR:FUNC VOLT")
        await self._ensure(link, ":SOUR:RANG", self._options.range_v, may_set=may_set)

    async def _ensure_protection(self, link: Dialogue) -> None:
        limit_a = self._options.current_limit_a
        await self._ensure(link, ":SOUR:PROT:CURR", limit_a, may_set=True)

    async def _is_on(self, link: Dialogue) -> bool:
        return bool(await query_int(link, ":OUTP:STAT?"))

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        await tell(link, f":OUTP:STAT {int(is_on)}")

    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        await tell(link, f":SOUR:LEV {voltage_v:.7f}")

    async def _read_level(self, link: Dialogue) -> float:
        return await query_float(link, ":SOUR:LEV?")

    async def _ensure(self, link: Dialogue, header: str, value: float, *, may_set: bool) -> None:
        read = await query_float(link, f"{header}?")
        if abs(read - value) <= 1e-6 * abs(value):
            return
        if not may_set:
            raise self._set_up_otherwise(f"{header}?", f"{read:g}")
        await tell(link, f"{header} {value:g}")
