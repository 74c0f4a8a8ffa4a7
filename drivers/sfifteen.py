r"""What the units of S-Fifteen Instruments share: lines of text on USB, and counts that come late.

Commands and replies end in ``\r\n``; commands are not answered, questions end in ``?``. ``counts?``
is answered when the window is over. An answer that nobody waits for any more still comes, and a
line of numbers looks like any other: after a count that was cut short, nothing is asked until the
answer must have come. Source: s-fifteen-instruments/pyS15 (``serial_connection.py``).
"""

import asyncio
import math
import re

from drivers.errors import ReplyError
from drivers.linked import another_model
from drivers.measuring import Interruption
from drivers.roles import Identity
from drivers.transport.transport import Dialogue, Framing

CRLF = Framing(write_terminator=b"\r\n", read_terminator=b"\r\n")
MS_PER_S = 1000
MAX_WINDOW_MS = 65535
INTEGER = re.compile(r"([+-]?[0-9]{1,10})")


class CountQuestion:
    """Asks ``counts?``, and remembers until when its answer may still come.

    Args:
        grace_s: How much later than the end of the window the answer may come, s.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._late_until_s = -math.inf

    async def ask(self, link: Dialogue, window_ms: int, interruption: Interruption) -> str:
        """Count for one window that starts now and whose length is set already.

        Raises:
            TransportError: No answer, or the measurement was cut short.
        """
        window_s = window_ms / MS_PER_S
        loop = asyncio.get_running_loop()
        self._late_until_s = loop.time() + window_s + self._grace_s
        await link.write("counts?")
        await interruption.wait(window_s)
        reply = await link.read(timeout_s=self._grace_s)
        self._late_until_s = -math.inf
        return reply.strip()

    async def outwait(self, link: Dialogue) -> None:
        """Wait until no answer can be under way any more, and drop what has come.

        Raises:
            TransportError: Link lost.
        """
        await asyncio.sleep(self._late_until_s - asyncio.get_running_loop().time())
        self._late_until_s = -math.inf
        await link.drain()


async def query_identity(link: Dialogue, model: str, mark: re.Pattern[str]) -> Identity:
    """Ask who it is; ``mark`` is what the answer of this model has in it.

    Raises:
        ReplyError: Another model.
        TransportError: No answer.
    """
    reply = (await link.query("*IDN?")).strip()
    if not mark.search(reply):
        raise another_model(link.instrument, model, sent="*IDN?", received=reply)
    serial = re.search(rf"{model}-([0-9]+)", reply, re.IGNORECASE)  # weak
    return Identity("S-Fifteen Instruments", model, serial[1] if serial else "unknown", "unknown")


async def ask(link: Dialogue, question: str, form: re.Pattern[str]) -> re.Match[str]:
    """Ask a question whose answer has a known form.

    Raises:
        ReplyError: The answer has another form.
        TransportError: No answer.
    """
    reply = (await link.query(question)).strip()
    match = form.fullmatch(reply)
    if match is None:
        raise ReplyError(link.instrument, "not understood", sent=question, received=reply)
    return match


async def ask_integer(link: Dialogue, question: str) -> int:
    """Ask for a whole number; raises as ``ask`` does."""
    return int((await ask(link, question, INTEGER))[1])


def windows_ms(duration_s: float, longest_s: float) -> list[int]:
    """Cut a measurement into windows of whole milliseconds, about equal, none too long.

    Returns:
        Their lengths, ms; together at least ``duration_s`` and less than 1 ms more.
    """
    total_ms = math.ceil(duration_s * MS_PER_S - 1e-6)
    longest_ms = max(1, int(longest_s * MS_PER_S + 1e-6))
    n_windows = math.ceil(total_ms / longest_ms)
    short_ms, n_longer = divmod(total_ms, n_windows)
    return [short_ms + 1] * n_longer + [short_ms] * (n_windows - n_longer)
