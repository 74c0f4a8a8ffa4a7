"""How one talks to units of OZ Optics: a command, its echo, lines, and ``Done`` or an error.

Commands end in CR LF. A unit that echoes one command echoes all: its echo tells a late reply to an
earlier command from the right one.
"""

from collections.abc import Callable

from drivers.errors import RejectedError, ReplyError
from drivers.transport.transport import Dialogue, Framing

CRLF = Framing(write_terminator=b"\r\n", read_terminator=b"\r\n")
ACCEPTED = "Done"


class OzLine:
    """Exchanges of one unit; knows whether it echoes, once it has been seen to.

    Args:
        is_refusal: Whether a line of a reply says that the unit refuses.
        max_reply_lines: More lines than the longest reply has: a unit that never ends is another.
    """

    def __init__(self, is_refusal: Callable[[str], bool], max_reply_lines: int) -> None:
        self._is_refusal = is_refusal
        self._max_reply_lines = max_reply_lines
        self._echoes = False  # until it is seen to; one that does always does

    async def exchange(
        self, link: Dialogue, command: str, *, timeout_s: float | None = None
    ) -> list[str]:
        """Send one command and collect its reply lines, without echo and without ``Done``.

        Args:
            link: The dialogue.
            command: What to send.
            timeout_s: Longest wait for one line, s; default: the link's.

        Raises:
            RejectedError: The unit refused.
            ReplyError: Another command was echoed, or the reply has no end.
            TransportError: No reply in time, or link lost.
        """
        await link.write(command)
        lines: list[str] = []
        for _ in range(self._max_reply_lines):
            line = (await link.read(timeout_s=timeout_s)).strip()
            if not lines:
                self._heed_echo(link, command, line)
            if line == ACCEPTED:
                return lines[1:] if lines[:1] == [command] else lines
            if self._is_refusal(line):
                raise RejectedError(link.instrument, "refused", sent=command, received=line)
            if line:
                lines.append(line)
        raise ReplyError(
            link.instrument,
            f"{self._max_reply_lines} lines without {ACCEPTED!r}: is this the instrument you "
            "configured?",
            sent=command,
            received=" ".join(lines),
        )

    def _heed_echo(self, link: Dialogue, command: str, line: str) -> None:
        if line == command:
            self._echoes = True
        elif line and self._echoes:
            raise ReplyError(link.instrument, "echoes another command", sent=command, received=line)
