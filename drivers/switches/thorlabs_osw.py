"""Thorlabs OSW12-xxxxE and OSW22-xxxxE optical switches, by serial.

Source: the public driver PnPQ, tested by its authors on an OSW22-1310E, and a second public driver
with the same commands.

USB appears as a serial line of 115200 baud. Commands end in LF, answers in CR LF. ``S 1`` and
``S 2`` choose bar or cross and answer nothing, whether they are obeyed or not: ``S?`` is asked
until it agrees, every 0.3 s for up to 3 s, as PnPQ does. There is no error report.

Weak facts, to be checked on first contact with a unit:

- The text that answers ``I?``, said to be the board's name and firmware version: it must contain
  ``OSW``, or whatever ``identity_contains`` says, and is shown as it is.
- Whether a switch keeps its path through a power cycle: it is read, never assumed.
"""

import asyncio
import re
from typing import Literal

from pydantic import Field

from drivers.errors import ReplyError
from drivers.outputs import unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Identity
from drivers.switches.path_switch import PathSwitch
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

BAUD_RATE = 115200
PATHS = ("1", "2")
POLL_S = 0.3
VERSION = re.compile(r"\b[vV]?[0-9]+(?:\.[0-9]+)+\b")


class OswOptions(Options):
    """Options of a ``thorlabs-osw``."""

    rest_path: Literal["1", "2"] = Field("1", description="Path of the safe state: 1 bar, 2 cross.")
    identity_contains: str = Field(
        "OSW", min_length=1, description="What the answer to I? must contain."
    )
    switch_timeout_s: float = Field(
        3.0, gt=0, le=60, description="Longest wait for the path to be made, s."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for an answer, s.")


@register("thorlabs-osw", OswOptions, certainty="medium-high", wires=("serial",))
class Osw(PathSwitch):
    """Thorlabs OSW 1x2 or 2x2 optical switch (serial).

    Path ``1`` is bar (1 to 3, and 2 to 4), path ``2`` is cross (1 to 4, and 2 to 3).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Safe path and line settings.
        connector: Makes the link.
    """

    def __init__(self, name: str, resource: str, options: OswOptions, connector: Connector) -> None:
        transport = connector.transport(
            name, resource, timeout_s=options.timeout_s, baud_rate=BAUD_RATE
        )
        super().__init__(name, transport, PATHS, options.rest_path)
        self._options = options

    async def _identify(self, link: Dialogue) -> Identity:
        text = (await link.query("I?")).strip()
        if self._options.identity_contains not in text:
            raise ReplyError(
                self.name,
                f"no {self._options.identity_contains!r} in its name: is this the instrument you "
                "configured?",
                sent="I?",
                received=text,
            )
        version = VERSION.search(text)
        return Identity("Thorlabs", text, "unknown", version[0] if version else "unknown")

    async def _choose(self, link: Dialogue, path: str) -> str:
        command = f"S {path}"
        loop = asyncio.get_running_loop()
        with unknown_if_lost(self.name, "the path"):
            await link.write(command)
            until_s = loop.time() + self._options.switch_timeout_s
            while True:
                await asyncio.sleep(POLL_S)
                if (read := await self._read(link)) == path:
                    return read
                if loop.time() > until_s:
                    problem = f"not on path {path} within {self._options.switch_timeout_s:g} s"
                    raise ReplyError(self.name, problem, sent=command, received=read)

    async def _read(self, link: Dialogue) -> str:
        path = (await link.query("S?")).strip()
        if path not in PATHS:
            raise ReplyError(self.name, "neither path 1 nor 2", sent="S?", received=path)
        return path
