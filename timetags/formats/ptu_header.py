"""Header of PicoQuant PTU files: a list of named, typed values.

Eight bytes ``PQTTTR``, eight bytes version, then entries of 48 bytes: 32 bytes name, 32-bit index
(-1 if there is only one), 32-bit type, and eight bytes that are the value or the length of what
follows; the entry ``Header_End`` is the last. Everything is little-endian.

Source: PicoQuant/PicoQuant-Time-Tagged-File-Format-Demos.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"PQTTTR\0\0"
VERSION = b"1.0.00\0\0"
MOST_ENTRIES = 100_000
LONGEST_VALUE = 1 << 24

EMPTY, BOOL, INT, BITS, COLOUR = 0xFFFF0008, 0x00000008, 0x10000008, 0x11000008, 0x12000008
FLOAT, TIME = 0x20000008, 0x21000008
FLOATS, ANSI, WIDE, BLOB = 0x2001FFFF, 0x4001FFFF, 0x4002FFFF, 0xFFFFFFFF

_ENTRY = struct.Struct("<32siI8s")
_TYPES = frozenset((EMPTY, BOOL, INT, BITS, COLOUR, FLOAT, TIME, FLOATS, ANSI, WIDE, BLOB))

HeaderValue = int | float | str | bool | None


class HeaderError(ValueError):
    """The header makes no sense; ``offset`` says where."""

    def __init__(self, offset: int, problem: str) -> None:
        self.offset = offset
        super().__init__(problem)


@dataclass(frozen=True)
class Header:
    """What the header says.

    Attributes:
        values: By name; entries with an index are called ``name(index)``.
        end: Where the records start, bytes.
    """

    values: dict[str, HeaderValue]
    end: int


def read_header(file: BinaryIO) -> Header:
    """Read the header from the start of a file.

    Raises:
        HeaderError: It ends early, or an entry makes no sense.
    """
    file.seek(0)
    if file.read(len(MAGIC))[:6] != MAGIC[:6]:
        raise HeaderError(0, "the file does not begin with PQTTTR")
    file.read(len(VERSION))
    values: dict[str, HeaderValue] = {}
    for _ in range(MOST_ENTRIES):
        offset = file.tell()
        raw = file.read(_ENTRY.size)
        if len(raw) < _ENTRY.size:
            raise HeaderError(offset, "the header ends early")
        name_bytes, index, kind, value = _ENTRY.unpack(raw)
        name = name_bytes.rstrip(b"\0").decode("latin-1")
        if kind not in _TYPES:
            raise HeaderError(
                offset, f"the header entry {name!r} has the unknown type {kind:#010x}"
            )
        payload = _read_payload(file, offset, name, kind, value)
        if name == "Header_End":
            return Header(values, file.tell())
        values[name if index < 0 else f"{name}({index})"] = _decode(kind, value, payload)
    raise HeaderError(offset, f"the header has more than {MOST_ENTRIES} entries")


def _read_payload(file: BinaryIO, offset: int, name: str, kind: int, value: bytes) -> bytes:
    if kind not in (FLOATS, ANSI, WIDE, BLOB):
        return b""
    length = int.from_bytes(value, "little")
    if length > LONGEST_VALUE:
        raise HeaderError(offset, f"the header entry {name!r} claims {length} bytes")
    payload = file.read(length)
    if len(payload) < length:
        raise HeaderError(offset, f"the header ends within the entry {name!r}")
    return payload


def _decode(kind: int, value: bytes, payload: bytes) -> HeaderValue:
    if kind == BOOL:
        return value != bytes(8)
    if kind in (INT, BITS, COLOUR):
        return int.from_bytes(value, "little", signed=True)
    if kind in (FLOAT, TIME):
        return float(struct.unpack("<d", value)[0])
    if kind == ANSI:
        return payload.split(b"\0")[0].decode("latin-1")
    if kind == WIDE:
        return payload.decode("utf-16-le", "replace").split("\0")[0]
    return None if kind == EMPTY else f"{len(payload)} bytes"


def encode_entry(name: str, value: HeaderValue) -> bytes:
    """Write one entry; text is padded to eight bytes."""
    if value is None:
        return _ENTRY.pack(name.encode("ascii"), -1, EMPTY, bytes(8))
    if isinstance(value, bool):
        return _ENTRY.pack(name.encode("ascii"), -1, BOOL, struct.pack("<q", -value))
    if isinstance(value, int):
        return _ENTRY.pack(name.encode("ascii"), -1, INT, struct.pack("<q", value))
    if isinstance(value, float):
        return _ENTRY.pack(name.encode("ascii"), -1, FLOAT, struct.pack("<d", value))
    text = value.encode("latin-1", "replace") + b"\0"
    text += bytes(-len(text) % 8)
    return _ENTRY.pack(name.encode("ascii"), -1, ANSI, struct.pack("<q", len(text))) + text
