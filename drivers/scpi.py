"""What SCPI instruments share: identity, error queue, numbers, settings."""

import math
import re
from collections.abc import Awaitable, Callable

from drivers.errors import RejectedError, ReplyError
from drivers.outputs import unknown_if_lost
from drivers.roles import Identity
from drivers.transport.transport import Dialogue

Send = Callable[[Dialogue, str], Awaitable[None]]
"""Sends one command and sees that the unit took it."""

NEXT_ERROR = ":SYST:ERR?"
# More entries than any instrument's queue holds: one that never says 0 is broken.
MAX_QUEUED_ERRORS = 100
# SCPI-99, 7.2.1.4: 9.9E37 stands for infinity, 9.91E37 for "not a number".
SCPI_INFINITY = 9.9e37

_ERROR_ENTRY = re.compile(r"\s*([+-]?[0-9]{1,9})\s*(?:,(.*))?")


async def query_identity(link: Dialogue) -> Identity:
    """Ask ``*IDN?``; the answer has four fields with commas between (IEEE 488.2, 10.14).

    Raises:
        ReplyError: Not four fields.
    """
    reply = await link.query("*IDN?")
    fields = [field.strip() for field in reply.split(",", maxsplit=3)]
    if len(fields) != 4:
        raise ReplyError(link.instrument, "not an identity", sent="*IDN?", received=reply)
    return Identity(*fields)


async def pop_errors(link: Dialogue, question: str = NEXT_ERROR) -> list[str]:
    """Empty the error queue; return its entries, oldest first.

    Raises:
        ReplyError: An entry starts with no number, or the queue has no end.
    """
    entries: list[str] = []
    while (entry := await _next_error(link, question)) is not None:
        entries.append(entry)
        if len(entries) > MAX_QUEUED_ERRORS:
            raise ReplyError(link.instrument, "endless error queue", sent=question, received=entry)
    return entries


async def refuse_errors(link: Dialogue, sent: str, question: str = NEXT_ERROR) -> None:
    """Empty the error queue after ``sent``, which is to blame for what is in it.

    Raises:
        RejectedError: The queue was not empty; quotes the first entry.
        ReplyError: As ``pop_errors``.
    """
    if entries := await pop_errors(link, question):
        raise RejectedError(link.instrument, "refused", sent=sent, received=entries[0])


async def tell(link: Dialogue, command: str, question: str = NEXT_ERROR) -> None:
    """Send a command and see that it was taken; raises as ``refuse_errors`` does."""
    await link.write(command)
    await refuse_errors(link, command, question)


async def query_float(link: Dialogue, question: str) -> float:
    """Ask for a number.

    Raises:
        ReplyError: Not a number, or not a finite one (9.9E37 is SCPI's infinity, 9.91E37 its NaN).
    """
    reply = await link.query(question)
    try:
        number = float(reply)
    except ValueError:
        number = math.nan
    if not abs(number) < SCPI_INFINITY:  # NaN fails this too
        raise ReplyError(link.instrument, "not a finite number", sent=question, received=reply)
    return number


async def query_int(link: Dialogue, question: str) -> int:
    """Ask for a whole number, which may be written ``+3`` or ``3.0E+00``.

    Raises:
        ReplyError: Not a number, not finite, or not whole.
    """
    number = await query_float(link, question)
    if not number.is_integer():
        raise ReplyError(
            link.instrument, "not a whole number", sent=question, received=f"{number:g}"
        )
    return int(number)


async def query_bool(link: Dialogue, question: str) -> bool:
    """Ask for 0 or 1.

    Raises:
        ReplyError: Neither.
    """
    answer = await query_int(link, question)
    if answer not in (0, 1):
        raise ReplyError(link.instrument, "neither 0 nor 1", sent=question, received=str(answer))
    return bool(answer)


async def ensure_value(
    link: Dialogue, header: str, text: str, value: float, send: Send, *, tolerance: float = 0.0
) -> bool:
    """Write a setting unless it has that value already, since some writes move something.

    Args:
        link: The dialogue.
        header: Asks with ``?`` after it, and sets with a value after it.
        text: The value as it is sent.
        value: The same as it is read.
        send: Sends the command and sees that it was taken.
        tolerance: How far off a value counts as the same, beside a relative 1e-5.

    Returns:
        Whether it was written.

    Raises:
        ReplyError: Another value is read than was set.
    """

    async def has_value() -> bool:
        read = await query_float(link, f"{header}?")
        return math.isclose(read, value, rel_tol=1e-5, abs_tol=max(tolerance, 1e-12))

    if await has_value():
        return False
    sent = f"{header} {text}"
    with unknown_if_lost(link.instrument, header):
        await send(link, sent)
        if not await has_value():
            raise ReplyError(link.instrument, "reads another value than was set", sent=sent)
    return True


async def _next_error(link: Dialogue, question: str) -> str | None:
    reply = await link.query(question)
    if not (match := _ERROR_ENTRY.fullmatch(reply)):
        raise ReplyError(link.instrument, "not an error entry", sent=question, received=reply)
    return reply.strip() if int(match[1]) else None
