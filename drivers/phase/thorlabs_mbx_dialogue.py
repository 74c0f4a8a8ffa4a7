"""How one talks to a Thorlabs MBX: sets that may be answered or not, and questions that always are.

Which sets answer ``1`` depends on who is asked: the vendor's guide says all of them (firmware 1.9.4
and later), the public driver pymeasure found ``1`` after these only:

    ==================  ==========  =====================
    set                 pymeasure   guide, 1.9.4 or later
    ==================  ==========  =====================
    ``MZM:RESET``       ``1``       ``1``
    ``VOA:MODE:``       ``1``       ``1``
    ``MZM:MODE:``       nothing     ``1``
    ``MZM:HOLD:…:``     nothing     ``1``
    ``VOA:ATTEN:``      nothing     ``1``
    ``VOA:POWER:``      nothing     ``1``
    ==================  ==========  =====================

So nothing is assumed: every set is followed by ``*IDN?``, whose answer cannot be mistaken, and what
comes before it is the answer to the set. This also shows that the set was heard and is done with.
"""

import re

from drivers.errors import RejectedError, ReplyError
from drivers.linked import another_model
from drivers.roles import Identity
from drivers.transport.transport import Dialogue, Framing

# Commands may end in CR or LF. Replies end in LF by the guide, in CR by two public drivers.
CR_OR_LF = Framing(write_terminator=b"\r", read_terminator=b"\n", other_ends=b"\r")
IDENTITY = "*IDN?"
ACCEPTED = "1"
REFUSED = "Err"
MODEL = re.compile(r"\b(?:MBX[0-9]*[A-Z]*|MX[0-9]+[A-Z]?)(?=[^A-Z0-9]|$)")
# Between the two halves of CR LF there is nothing; more than that is no reply.
MAX_EMPTY_LINES = 3
# Answers to a set that nobody waits for any more, and the one to this set.
MAX_ANSWERS = 4


async def ask(link: Dialogue, question: str) -> str:
    """Ask and return the answer.

    Raises:
        RejectedError: The unit answered with an error.
        ReplyError: Nothing but line ends.
        TransportError: No answer in time, or link lost.
    """
    await link.write(question)
    reply = await _read(link, question)
    if reply.startswith(REFUSED):
        raise RejectedError(link.instrument, "refused", sent=question, received=reply)
    return reply


async def tell(link: Dialogue, command: str) -> None:
    """Set something and wait until the unit has dealt with it.

    Raises:
        RejectedError: The unit answered with an error.
        ReplyError: Neither ``1``, nor an error, nor the identity came back.
        TransportError: No answer to the identity in time, or link lost.
    """
    await link.write(command)
    await link.write(IDENTITY)
    error: str | None = None
    for _ in range(MAX_ANSWERS):
        reply = await _read(link, command)
        if MODEL.search(reply):
            break
        if reply.startswith(REFUSED):
            error = reply
        elif reply != ACCEPTED:
            raise ReplyError(link.instrument, "not an answer", sent=command, received=reply)
    else:
        raise ReplyError(link.instrument, "answers, but no identity", sent=command)
    if error is not None:
        raise RejectedError(link.instrument, "refused", sent=command, received=error)


async def ask_number(link: Dialogue, question: str) -> float:
    """Ask for a number.

    Raises:
        ReplyError: Not a finite number.
        RejectedError, TransportError: As ``ask``.
    """
    reply = await ask(link, question)
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?", reply):
        raise ReplyError(link.instrument, "not a number", sent=question, received=reply)
    return float(reply)


async def ask_whole(link: Dialogue, question: str) -> int:
    """Ask for a whole number; raises as ``ask_number`` does."""
    number = await ask_number(link, question)
    if not number.is_integer():
        raise ReplyError(
            link.instrument, "not a whole number", sent=question, received=f"{number:g}"
        )
    return int(number)


async def identify(link: Dialogue) -> Identity:
    """Ask who it is.

    Raises:
        ReplyError: No MBX, nor an MX transmitter, whose bias controller and VOA are the same.
        RejectedError, TransportError: As ``ask``.
    """
    reply = await ask(link, IDENTITY)
    if not (model := MODEL.search(reply)):
        raise another_model(link.instrument, "MBX or MX", sent=IDENTITY, received=reply)
    fields = [field.strip() for field in reply.split(",")]
    if len(fields) == 4:
        return Identity(*fields)
    return Identity("Thorlabs", model[0], "unknown", "unknown")


async def _read(link: Dialogue, sent: str) -> str:
    for _ in range(MAX_EMPTY_LINES):
        if reply := (await link.read()).strip():
            return reply
    raise ReplyError(link.instrument, "line ends, but no reply", sent=sent)
