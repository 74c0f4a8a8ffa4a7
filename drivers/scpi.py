"""What SCPI instruments share: identity, error queue, numbers."""

import math
import re

from drivers.errors import RejectedError, ReplyError
from drivers.roles import Identity
from drivers.transport.transport import Dialogue

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


async def _next_error(link: Dialogue, question: str) -> str | None:
    reply = await link.query(question)
    if not (match := _ERROR_ENTRY.fullmatch(reply)):
        raise ReplyError(link.instrument, "not an error entry", sent=question, received=reply)
    return reply.strip() if int(match[1]) else None
