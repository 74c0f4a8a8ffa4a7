"""Siglent SDG waveform generators, one channel each, as DC sources.

By USB or LAN through VISA, or a raw socket. Not plain SCPI: the channel is a prefix of the command,
and an answer is one list of keys and values, with units, whose keys depend on the waveform: it is
read by key, never by place. There is no error queue worth trusting across the family; a value that
the unit clips or ignores shows in what is read back.

Weak facts, to be checked on first contact with a unit: the reach of the offset, taken as 5 V into
50 ohm and twice that into an open end; the resolution, 1 mV (later models have less).

Source: Qcodes_contrib_drivers (drivers/Siglent/sdg.py, sdg_channel.py).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from drivers.errors import ReplyError
from drivers.registry import register
from drivers.roles import Identity
from drivers.scpi import query_identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue
from drivers.voltage_sources.limits import VoltageOptions
from drivers.voltage_sources.source import VoltageSource

RESOLUTION_V = 0.001
REACH_50_OHM_V = 5.0


class SdgOptions(VoltageOptions):
    """Options of a ``siglent-sdg``: one channel as a DC source."""

    channel: Literal[1, 2] = Field(1, description="Output, 1 or 2.")
    load: Literal["50 ohm", "open"] = Field("open", description="What the output is connected to.")

    @model_validator(mode="after")
    def _fits_load(self) -> Self:
        reach_v = REACH_50_OHM_V if self.load == "50 ohm" else 2 * REACH_50_OHM_V
        self.check_reach(-reach_v, reach_v, f"the reach with load {self.load!r}")
        return self


def parse_pairs(reply: str, header: str) -> dict[str, str]:
    """Read ``C1:BSWV WVTP,DC,OFST,0.5V`` as keys and values.

    Args:
        reply: The answer.
        header: What it must begin with, such as ``C1:BSWV``.

    Raises:
        ValueError: Another header, or a key without a value.
    """
    found, _, rest = reply.strip().partition(" ")
    words = [word.strip() for word in rest.split(",")]
    if found.upper() != header.upper() or len(words) % 2 or not words[0]:
        raise ValueError(f"not a list of keys and values of {header}")
    return dict(zip([key.upper() for key in words[::2]], words[1::2], strict=True))


@register("siglent-sdg", SdgOptions, "medium-high", ("visa", "tcp"))
class Sdg(VoltageSource):
    """Siglent SDG waveform generator as a DC voltage source.

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Channel, load and limits.
        connector: Makes the link.
    """

    def __init__(self, name: str, resource: str, options: SdgOptions, connector: Connector) -> None:
        transport = connector.transport(name, resource, timeout_s=options.timeout_s)
        super().__init__(name, transport, options, RESOLUTION_V)
        self._channel = f"C{options.channel}"
        self._load = "HZ" if options.load == "open" else "50"

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if not identity.model.upper().startswith("SDG"):
            raise self._another_model("SDG", sent="*IDN?", received=identity)
        return identity

    async def _ensure_function(self, link: Dialogue, *, may_set: bool) -> None:
        for node, key, wanted in (("OUTP", "LOAD", self._load), ("BSWV", "WVTP", "DC")):
            found = await self._value(link, node, key)
            if found == wanted:
                continue
            if not may_set:
                raise self._set_up_otherwise(f"{self._channel}:{node}?", found)
            command = f"{self._channel}:{node} {key},{wanted}"
            await link.write(command)
            if (found := await self._value(link, node, key)) != wanted:
                raise ReplyError(self.name, "not taken", sent=command, received=found)

    async def _value(self, link: Dialogue, node: str, key: str) -> str:
        pairs = await self._pairs(link, node, {key}, skips_state=node == "OUTP")
        return pairs[key].upper()

    async def _is_on(self, link: Dialogue) -> bool:
        question = f"{self._channel}:OUTP?"
        reply = await link.query(question)
        state = reply.strip().partition(" ")[2].partition(",")[0].upper()
        if state not in ("ON", "OFF") or not reply.upper().startswith(f"{self._channel}:OUTP "):
            raise ReplyError(self.name, "neither on nor off", sent=question, received=reply)
        return state == "ON"

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        state = "ON" if is_on else "OFF"
        await link.write(f"{self._channel}:OUTP {state}")
        if await self._is_on(link) is not is_on:
            raise ReplyError(self.name, f"the output is not {state}", sent=f"OUTP {state}")

    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        await link.write(f"{self._channel}:BSWV OFST,{voltage_v:.3f}")

    async def _read_level(self, link: Dialogue) -> float:
        waveform = await self._pairs(link, "BSWV", {"WVTP", "OFST"})
        try:
            return float(waveform["OFST"].upper().removesuffix("V"))
        except ValueError:
            raise ReplyError(
                self.name,
                "the offset is no number of volts",
                sent=f"{self._channel}:BSWV?",
                received=waveform["OFST"],
            ) from None

    async def _pairs(
        self, link: Dialogue, node: str, wanted: set[str], *, skips_state: bool = False
    ) -> dict[str, str]:
        """Ask for a node; the answer of ``OUTP?`` begins with its state, which has no key."""
        question = f"{self._channel}:{node}?"
        reply = await link.query(question)
        text = reply
        if skips_state:
            header, _, rest = reply.strip().partition(" ")
            text = f"{header} {rest.partition(',')[2]}"
        try:
            pairs = parse_pairs(text, f"{self._channel}:{node}")
        except ValueError as exc:
            raise ReplyError(self.name, str(exc), sent=question, received=reply) from None
        if missing := wanted - set(pairs):
            problem = f"{', '.join(sorted(missing))} is not in the answer"
            raise ReplyError(self.name, problem, sent=question, received=reply)
        return pairs
