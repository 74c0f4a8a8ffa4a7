"""Lines on which a prompt ends every reply, and a command may be echoed before its answer.

Thorlabs builds many controllers so. A prompt has no line ending: what follows it is the next reply.
Framing: the prompt is the terminator of a reply; spaces and line ends around it are dropped here.
"""

import re

from drivers.errors import RejectedError, ReplyError
from drivers.transport.transport import Dialogue

# Prompts without answer before the answer to a question: what an earlier command left behind, and
# the one that some firmware prints between echo and answer.
MAX_BARE_PROMPTS = 4
REFUSED = re.compile(r"CMD_[A-Z_]+|Command error", re.IGNORECASE)
REFUSED_WITHOUT_PROMPT = "!"
_BLANKS = " \t*"


class PromptedLine:
    """Asks and tells; knows whether the instrument echoes, once it has been seen to.

    An echo tells a late reply to an earlier command from the right one. Without one, only the form
    of the answer does.

    Attributes:
        echoes: Whether every reply must begin with the command; set as soon as one does.
    """

    def __init__(self) -> None:
        self.echoes = False

    async def ask(self, link: Dialogue, question: str) -> list[str]:
        """Ask and return the lines of the answer, at least one, without echo and prompt.

        Raises:
            RejectedError: The instrument refused.
            ReplyError: Prompts without answer, or another command was echoed.
            TransportError: No prompt in time, or link lost.
        """
        await link.write(question)
        has_echoed = False
        for _ in range(MAX_BARE_PROMPTS + 1):
            lines, echoed = await self._read(link, question, has_echoed=has_echoed)
            has_echoed |= echoed
            if lines:
                return lines
        raise ReplyError(link.instrument, "a prompt, but no answer", sent=question)

    async def tell(self, link: Dialogue, command: str) -> list[str]:
        """Give a command and wait until it is taken; return what it answered, mostly nothing.

        Raises:
            RejectedError: The instrument refused.
            ReplyError: Another command was echoed.
            TransportError: No prompt in time, or link lost.
        """
        await link.write(command)
        for _ in range(MAX_BARE_PROMPTS + 1):
            lines, echoed = await self._read(link, command, has_echoed=False)
            if lines or echoed or not self.echoes:
                return lines
        raise ReplyError(link.instrument, "prompts, but no echo", sent=command)

    async def _read(
        self, link: Dialogue, command: str, *, has_echoed: bool
    ) -> tuple[list[str], bool]:
        """Read up to a prompt; return the lines before it, and whether one of them was the echo."""
        reply = await link.read()
        lines = [line for each in re.split(r"[\r\n]+", reply) if (line := each.strip(_BLANKS))]
        echoed = bool(lines) and lines[0].lower() == command.strip(_BLANKS).lower()
        if echoed:
            self.echoes = True
            del lines[0]
        elif lines and self.echoes and not has_echoed:
            received = " ".join(lines)
            raise ReplyError(
                link.instrument, "echoes another command", sent=command, received=received
            )
        await _heed_refusal(link, command, " ".join(lines))
        return lines, echoed


async def _heed_refusal(link: Dialogue, command: str, reply: str) -> None:
    if reply.endswith(REFUSED_WITHOUT_PROMPT):
        await link.drain()  # a prompt may follow, or none
    elif not REFUSED.search(reply):
        return
    raise RejectedError(link.instrument, "refused", sent=command, received=reply)


def parse_number(instrument: str, question: str, lines: list[str]) -> float:
    """Read the one number of an answer, in brackets or not.

    Raises:
        ReplyError: Not one finite number.
    """
    text = " ".join(lines)
    match = re.fullmatch(r"\[?\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*\]?", text)
    if match is None:
        raise ReplyError(instrument, "not a number", sent=question, received=text)
    return float(match[1])
