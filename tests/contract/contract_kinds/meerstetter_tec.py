"""Meerstetter TEC controllers."""

import re
from binascii import crc_hqx
from collections.abc import Callable

from contract_kinds.manners import Manners

SET_POINT = rb"(#[0-9A-F]{6}VS0BB801)[0-9A-F]{12}"


def laser_driver(reply: bytes) -> bytes:
    """The same answer from a laser diode driver."""
    if b"TEC" not in reply:
        return reply
    return renewed(reply[:-5].replace(b"TEC", b"LDD")) + b"\r"


def set_to(word: bytes) -> Callable[[re.Match[bytes]], bytes]:
    """The same frame with another set point."""
    return lambda match: renewed(match[1] + word)


def renewed(text: bytes) -> bytes:
    """A frame's text with its CRC."""
    return text + b"%04X" % crc_hqx(text, 0)


MANNERS = Manners(
    kind="meerstetter-tec",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Meerstetter_TEC-1161",
        "min_temperature_c": 10.0,
        "max_temperature_c": 40.0,
    },
    impostor=laser_driver,
    is_safe=lambda outputs, options: not outputs["enabled"],
    other={SET_POINT: set_to(b"41C80000")},  # 25
    refused={SET_POINT: set_to(b"447A0000")},  # 1000
    gist=lambda frame: frame[:3] + frame[7:-5],  # without sequence number and CRC
    meddling=[renewed(b"#000001VS07DA0100000001") + b"\r"],
    is_set_up=False,
)
