"""How one talks to an ID900: requests of text, each of which is answered, sets too."""

import re

from drivers.errors import RejectedError, ReplyError
from drivers.linked import another_model
from drivers.outputs import unknown_if_lost
from drivers.roles import Identity
from drivers.transport.transport import Dialogue

MODEL = re.compile(r"ID[ -]?(900|1000)|TIME ?CONTROLLER", re.IGNORECASE)  # punctuation is weak
SERIAL = re.compile(r"(?:SERIAL|S/?N)\W*(?:NUMBER\W*)?(\w+)", re.IGNORECASE)
WHOLE_NUMBER = re.compile(r"([0-9]{1,18})(?:\s*TB)?", re.IGNORECASE)  # the unit is weak
VOLTAGE = re.compile(r"([+-]?[0-9]{1,6}(?:\.[0-9]{1,9})?)\s*(mV|V)", re.IGNORECASE)
SET_CONFIRMED = "value set to"
# Errors end in SCPI_ERR_...; a bad link answers "No ..." and a failed recalibration says so.
REFUSED = re.compile(r"SCPI_ERR|^No\b|failed", re.IGNORECASE)


def parse_identity(instrument: str, reply: str) -> Identity:
    """Read the reply to ``*IDN?``, whose punctuation is weak.

    Raises:
        ReplyError: It names no ID900, ID1000 or Time Controller.
    """
    model = MODEL.search(reply)
    if model is None:
        raise another_model(instrument, "ID900 or ID1000", sent="*IDN?", received=reply)
    match [field.strip() for field in reply.split(",")]:
        case [_, _, serial, firmware]:
            return Identity("ID Quantique", model.group(), serial, firmware)
    serial_number = SERIAL.search(reply)
    return Identity(
        "ID Quantique",
        model.group(),
        serial_number.group(1) if serial_number else "unknown",
        "unknown",
    )


def parse_count(instrument: str, question: str, reply: str) -> int:
    """Read a whole number, as counters, error counters and integration times answer.

    Raises:
        RejectedError: The unit answers with an error.
        ReplyError: Not a whole number.
    """
    check_accepted(instrument, question, reply)
    found = WHOLE_NUMBER.fullmatch(reply.strip())
    if found is None:
        raise ReplyError(instrument, "not a whole number", sent=question, received=reply)
    return int(found.group(1))


def parse_voltage(instrument: str, question: str, reply: str) -> float:
    """Read a voltage such as ``0.500V`` or ``500mV``, V.

    Raises:
        RejectedError: The unit answers with an error.
        ReplyError: Not a voltage with its unit.
    """
    check_accepted(instrument, question, reply)
    found = VOLTAGE.fullmatch(reply.strip())
    if found is None:
        raise ReplyError(instrument, "not a voltage", sent=question, received=reply)
    scale = 1e-3 if found.group(2).lower() == "mv" else 1.0
    return float(found.group(1)) * scale


def check_accepted(instrument: str, sent: str, reply: str) -> None:
    """Raise RejectedError if the reply is one of the unit's ways to refuse."""
    if REFUSED.search(reply.strip()):
        raise RejectedError(instrument, "refused", sent=sent, received=reply)


async def tell(link: Dialogue, command: str) -> None:
    """Set a value; the unit confirms every set.

    Raises:
        RejectedError: The unit refused.
        ReplyError: It did not confirm.
        TransportError: Link lost; what was set may have changed.
    """
    reply = await act(link, command)
    if SET_CONFIRMED not in reply.lower():
        raise ReplyError(link.instrument, "not confirmed", sent=command, received=reply)


async def act(link: Dialogue, command: str) -> str:
    """Do something; the form of the reply is weak, but a refusal shows.

    Raises:
        RejectedError: The unit refused.
        TransportError: Link lost; it may have been done.
    """
    with unknown_if_lost(link.instrument, command):
        reply = await link.query(command)
    check_accepted(link.instrument, command, reply)
    return reply
