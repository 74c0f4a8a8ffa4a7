"""Stanford Research Systems SIM928 isolated voltage source in a SIM900 mainframe.

The mainframe speaks over RS-232 (9600 baud) or GPIB; a module is spoken to through it: ``SNDT 4,
"VOLT?"`` passes text on, and ``GETN? 4,128`` fetches what the module has answered by then, as a
definite-length block that may be empty or half an answer: it is asked for again until a whole line
has come. The driver never resets the mainframe (``SRST``): that would reset its other modules.

A mainframe holds several modules on one line, but each driver opens its own: only one SIM928 of a
mainframe can be used so.

Weak facts, to be checked on first contact with a unit: ``OPON``, ``OPOF`` and ``EXON?`` (one public
driver); that ``LEXE?`` and ``LCME?`` are cleared by being read; the text of ``*IDN?``.

Source: Qcodes_contrib_drivers (drivers/StanfordResearchSystems/SIM928.py).
"""

import asyncio
from typing import Self

from pydantic import Field, model_validator

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.registry import register
from drivers.roles import Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue
from drivers.voltage_sources.limits import VoltageOptions
from drivers.voltage_sources.source import VoltageSource

REACH_V = 20.0
RESOLUTION_V = 0.001
POLL_S = 0.02
LONGEST_ANSWER = 128

EXECUTION_ERRORS = {1: "illegal value", 2: "wrong token", 3: "invalid bit"}


class Sim928Options(VoltageOptions):
    """Options of an ``srs-sim928``: one module of a SIM900."""

    slot: int = Field(1, ge=1, le=9, description="Slot of the module in the mainframe.")
    baud_rate: int = Field(9600, ge=110, le=115_200, description="Of a serial mainframe.")
    module_timeout_s: float = Field(
        1.0, gt=0, le=60, description="Longest wait for a module's answer, s."
    )

    @model_validator(mode="after")
    def _fits_module(self) -> Self:
        self.check_reach(-REACH_V, REACH_V, "the reach of a SIM928")
        return self


@register("srs-sim928", Sim928Options, "medium-high", ("serial", "visa"))
class Sim928(VoltageSource):
    """SRS SIM928 isolated voltage source in a SIM900 mainframe.

    Args:
        name: Name in the testbed file.
        resource: Where the mainframe is.
        options: Slot and limits.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Sim928Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport, options, RESOLUTION_V)
        self._slot = options.slot
        self._module_timeout_s = options.module_timeout_s

    async def _identify(self, link: Dialogue) -> Identity:
        mainframe = await link.query("*IDN?")
        if "SIM900" not in mainframe:
            raise self._another_model("SIM900", sent="*IDN?", received=mainframe)
        present = await self._present(link)
        if self._slot not in present:
            slots = ", ".join(map(str, present)) or "none"
            problem = f"no module in slot {self._slot}; there are modules in: {slots}"
            raise ReplyError(self.name, problem, sent="CTCR?")
        # What a module was asked before a lost link must not answer now.
        await link.write(f"FLSH {self._slot}")
        await self._tell(link, "TERM LF")
        answer = await self._ask(link, "*IDN?")
        fields = [field.strip() for field in answer.split(",")]
        if len(fields) != 4 or fields[1] != "SIM928":
            raise self._another_model(
                f"SIM928 (in slot {self._slot})", sent="*IDN?", received=answer
            )
        return Identity(*fields)

    async def _present(self, link: Dialogue) -> list[int]:
        """Return the slots that hold a module."""
        reply = await link.query("CTCR?")
        try:
            mask = int(reply) >> 1
        except ValueError:
            problem = "not the mask of the slots in use"
            raise ReplyError(self.name, problem, sent="CTCR?", received=reply) from None
        return [slot for slot in range(1, 10) if mask & 1 << (slot - 1)]

    async def _forget_errors(self, link: Dialogue) -> None:
        for question in ("LEXE?", "LCME?"):
            await self._ask(link, question)

    async def _is_on(self, link: Dialogue) -> bool:
        answer = await self._ask(link, "EXON?")
        if answer not in ("0", "1", "OFF", "ON"):
            raise ReplyError(self.name, "neither on nor off", sent="EXON?", received=answer)
        return answer in ("1", "ON")

    async def _switch(self, link: Dialogue, *, is_on: bool) -> None:
        await self._command(link, "OPON" if is_on else "OPOF")

    async def _send(self, link: Dialogue, voltage_v: float) -> None:
        await self._command(link, f"VOLT {voltage_v:.3f}")

    async def _read_level(self, link: Dialogue) -> float:
        answer = await self._ask(link, "VOLT?")
        try:
            return float(answer)
        except ValueError:
            raise ReplyError(self.name, "not a voltage", sent="VOLT?", received=answer) from None

    async def _command(self, link: Dialogue, command: str) -> None:
        await self._tell(link, command)
        for question in ("LEXE?", "LCME?"):
            answer = await self._ask(link, question)
            if not answer.isdecimal():
                raise ReplyError(self.name, "not an error code", sent=question, received=answer)
            if code := int(answer):
                problem = (
                    EXECUTION_ERRORS.get(code, "") if question == "LEXE?" else "not understood"
                )
                raise RejectedError(
                    self.name, f"refused: {problem}", sent=command, received=f"{question} {code}"
                )

    async def _tell(self, link: Dialogue, text: str) -> None:
        await link.write(f'SNDT {self._slot},"{text}"')

    async def _ask(self, link: Dialogue, question: str) -> str:
        """Pass a question on and fetch the answer, in as many pieces as it comes."""
        await self._tell(link, question)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._module_timeout_s
        answer = ""
        while not answer.endswith("\n"):
            if loop.time() >= deadline_s:
                problem = f"the module in slot {self._slot} did not answer"
                raise TransportError(self.name, problem, sent=question, received=answer)
            await asyncio.sleep(POLL_S)
            answer += await self._fetch(link)
        return answer.strip()

    async def _fetch(self, link: Dialogue) -> str:
        """Fetch what has come: ``#3`` and three digits, that many bytes, and a terminator."""
        command = f"GETN? {self._slot},{LONGEST_ANSWER}"
        await link.write(command)
        head = await link.read_exactly(5)
        size = head[2:]
        if head[:2] != b"#3" or not size.isdigit():
            raise ReplyError(self.name, "not a block", sent=command, received=repr(head))
        block = await link.read_exactly(int(size)) if int(size) else b""
        await link.read()  # the mainframe's own terminator
        try:
            return block.decode("ascii")
        except UnicodeDecodeError:
            problem = "the module's answer is not ASCII"
            raise ReplyError(self.name, problem, sent=command, received=repr(block)) from None
