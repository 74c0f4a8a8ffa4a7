"""MeCom, the frames of Meerstetter's controllers: ASCII hex with sequence number and CRC.

A query is ``#``, address (2 hex digits), sequence (4), payload, CRC (4) and CR; an answer the same
with ``!``. The CRC is CRC-16-CCITT (polynomial 0x1021, initial 0) of everything before it. The
acknowledgement of a write has no payload and repeats the CRC of the query.
Source: meerstetter/pyMeCom.
"""

import binascii
import math
import re
import struct
from dataclasses import dataclass

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.transport.framing import Framing
from drivers.transport.transport import Dialogue

FRAMES = Framing(write_terminator=b"\r", read_terminator=b"\r")
SEQUENCES = 1 << 16
# Answers to earlier queries that may still come in before ours.
MOST_STALE = 16
ERRORS = {
    1: "command not available",
    2: "device busy",
    3: "communication error",
    4: "format error",
    5: "parameter not available",
    6: "parameter is read-only",
    7: "value out of range",
    8: "instance not available",
    9: "parameter failure",
}

_ANSWER = re.compile(r"!([0-9A-F]{2})([0-9A-F]{4})(.*)([0-9A-F]{4})")
_WORD = re.compile(r"[0-9A-F]{8}")
_ERROR = re.compile(r"\+([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        address: Of the controller.
        sequence: Of the query that it answers.
        payload: What it says; empty for an acknowledgement.
        crc: As it came.
    """

    address: int
    sequence: int
    payload: str
    crc: int


def crc(text: str) -> int:
    """Return the CRC of a frame's text."""
    return binascii.crc_hqx(text.encode("ascii"), 0)


def query_frame(address: int, sequence: int, payload: str) -> str:
    """Make a query, without the CR at its end."""
    text = f"#{address:02X}{sequence:04X}{payload}"
    return f"{text}{crc(text):04X}"


def parse_answer(instrument: str, query: str, line: str) -> Answer:
    """Read one answer and check its CRC.

    Args:
        instrument: Name in errors.
        query: Frame that was sent; the CRC of an acknowledgement is its CRC.
        line: What came back, without CR.

    Raises:
        ReplyError: Not an answer, or damaged.
    """
    found = _ANSWER.fullmatch(line)
    if found is None:
        raise ReplyError(instrument, "not a MeCom answer", sent=query, received=line)
    answer = Answer(int(found[1], 16), int(found[2], 16), found[3], int(found[4], 16))
    is_acknowledgement = not answer.payload and found[2] == query[3:7]
    right = int(query[-4:], 16) if is_acknowledgement else crc(line[:-4])
    # An acknowledgement of another query is told by its sequence; its CRC cannot be checked.
    if answer.crc != right and (answer.payload or is_acknowledgement):
        raise ReplyError(instrument, "damaged answer: wrong CRC", sent=query, received=line)
    return answer


def encode_float(value: float) -> str:
    """Write a 32-bit IEEE-754 number, big-endian, as 8 hex digits."""
    return struct.pack(">f", value).hex().upper()


def decode_float(instrument: str, payload: str) -> float:
    """Read a 32-bit IEEE-754 number.

    Raises:
        ReplyError: Not 8 hex digits, or not finite.
    """
    value = struct.unpack(">f", _word(instrument, payload))[0]
    if not math.isfinite(value):
        raise ReplyError(instrument, "not a finite number", received=payload)
    return float(value)


def encode_int(value: int) -> str:
    """Write a 32-bit signed number as 8 hex digits."""
    return struct.pack(">i", value).hex().upper()


def decode_int(instrument: str, payload: str) -> int:
    """Read a 32-bit signed number.

    Raises:
        ReplyError: Not 8 hex digits.
    """
    return int(struct.unpack(">i", _word(instrument, payload))[0])


def _word(instrument: str, payload: str) -> bytes:
    if not _WORD.fullmatch(payload):
        raise ReplyError(instrument, "not a 32-bit value", received=payload)
    return bytes.fromhex(payload)


class MeCom:
    """Queries to one controller, each with a sequence number of its own.

    Args:
        address: Of the controller; 0: whichever is on the line.
        instance: Channel of the controller, from 1.
    """

    def __init__(self, address: int, instance: int) -> None:
        self._address = address
        self._instance = instance
        self._sequence = 0

    async def read_float(self, link: Dialogue, parameter: int) -> float:
        """Read a parameter that is a floating-point number; raises as ``exchange``."""
        payload = await self.exchange(link, f"?VR{parameter:04X}{self._instance:02X}")
        return decode_float(link.instrument, payload)

    async def read_int(self, link: Dialogue, parameter: int) -> int:
        """Read a parameter that is a whole number; raises as ``exchange``."""
        payload = await self.exchange(link, f"?VR{parameter:04X}{self._instance:02X}")
        return decode_int(link.instrument, payload)

    async def write_float(self, link: Dialogue, parameter: int, value: float) -> None:
        """Write a floating-point parameter; raises as ``exchange``."""
        await self._write(link, parameter, encode_float(value))

    async def write_int(self, link: Dialogue, parameter: int, value: int) -> None:
        """Write a whole-number parameter; raises as ``exchange``."""
        await self._write(link, parameter, encode_int(value))

    async def exchange(self, link: Dialogue, payload: str) -> str:
        """Send a query and wait for the answer with its sequence number.

        Late answers to earlier queries are passed over.

        Returns:
            The answer's payload.

        Raises:
            RejectedError: The controller answers with an error.
            ReplyError: A damaged answer, or one of another controller.
            TransportError: Link lost, or no answer.
        """
        self._sequence = (self._sequence + 1) % SEQUENCES
        sent = query_frame(self._address, self._sequence, payload)
        await link.write(sent)
        for _ in range(MOST_STALE):
            received = await link.read()
            answer = parse_answer(link.instrument, sent, received)
            if answer.sequence == self._sequence:
                break
        else:
            raise TransportError(link.instrument, "nothing but stale answers", sent=sent)
        if self._address and answer.address != self._address:
            raise ReplyError(
                link.instrument, "another controller answers", sent=sent, received=received
            )
        if error := _ERROR.fullmatch(answer.payload):
            why = ERRORS.get(int(error[1], 16), "an error of its own")
            raise RejectedError(link.instrument, f"refused: {why}", sent=sent, received=received)
        return answer.payload

    async def _write(self, link: Dialogue, parameter: int, word: str) -> None:
        payload = f"VS{parameter:04X}{self._instance:02X}{word}"
        if answer := await self.exchange(link, payload):
            raise ReplyError(link.instrument, "not acknowledged", sent=payload, received=answer)
