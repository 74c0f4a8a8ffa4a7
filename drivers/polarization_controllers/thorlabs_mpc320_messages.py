"""Messages of the Thorlabs APT protocol, as far as MPC220 and MPC320 paddles use them.

Every message starts with a header of six bytes, little-endian: message id, then two parameters or
the length of the data that follow, then destination and source. Bit 7 of the destination tells
which of the two it is. There is neither a start mark nor a checksum: a receiver that lost its place
drops bytes until a header comes that this instrument could have sent.

Source: Thorlabs, "APT / Motion Control host-controller communications protocol"; the public drivers
PnPQ, pyLabLib and QMI, which agree on these messages.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

HOST: Final = 0x01
USB_DEVICE: Final = 0x50
# What may answer: a unit on USB, a rack's mainboard, its bays.
DEVICES: Final = frozenset({USB_DEVICE, 0x11, *range(0x21, 0x2B)})
HAS_DATA: Final = 0x80  # bit of the destination
HEADER_BYTES: Final = 6

REQUEST_INFO: Final = 0x0005
INFO: Final = 0x0006
STOP_UPDATES: Final = 0x0012
SET_ENABLED: Final = 0x0210
MOVE_HOME: Final = 0x0443
HOMED: Final = 0x0444
MOVE_ABSOLUTE: Final = 0x0453
MOVED: Final = 0x0464
STOP: Final = 0x0465
STOPPED: Final = 0x0466
REQUEST_STATUS: Final = 0x0490
STATUS: Final = 0x0491
ACKNOWLEDGE: Final = 0x0492
SET_PARAMETERS: Final = 0x0530
REQUEST_PARAMETERS: Final = 0x0531
PARAMETERS: Final = 0x0532

ENABLE: Final = 1
STOP_AT_ONCE: Final = 1

# What the unit sends, and the lengths of data that it may have; 0 is the short form.
DATA_BYTES: Final[Mapping[int, frozenset[int]]] = {
    INFO: frozenset({84}),
    0x0212: frozenset({0}),  # enabled or not
    0x0412: frozenset({6}),  # position counter
    HOMED: frozenset({0}),
    MOVED: frozenset({0, 14, 20}),  # short on these units, long on others of the family
    STOPPED: frozenset({0, 14, 20}),
    STATUS: frozenset({14}),
    PARAMETERS: frozenset({12}),
}

MOVING: Final = 0b11 << 4 | 0b11 << 6 | 1 << 9  # turning, jogging or homing
IS_HOMED: Final = 1 << 10
IS_ENABLED: Final = 1 << 31
FAULTS: Final[Mapping[int, str]] = {
    14: "position error",
    15: "instrument error",
    16: "interlock",
    17: "over-temperature",
    18: "bus-voltage fault",
    19: "commutation error",
    24: "overload",
    25: "encoder fault",
    26: "over-current",
    27: "bus-current fault",
    30: "error",
}

_HEADER: Final = struct.Struct("<HBBBB")
_INFO: Final = struct.Struct("<I8sH4B60sHHH")
_STATUS: Final = struct.Struct("<HihhI")
_MOVE: Final = struct.Struct("<Hi")
_PARAMETERS: Final = struct.Struct("<6H")


@dataclass(frozen=True)
class Message:
    """One message, without its addresses.

    Attributes:
        id: What it is about.
        param_1: First parameter of the short form, most often a channel.
        param_2: Second parameter of the short form.
        data: What follows the header in the long form; empty in the short one.
    """

    id: int
    param_1: int = 0
    param_2: int = 0
    data: bytes = b""

    def to_unit(self) -> bytes:
        """Write it as the host sends it to a unit on USB."""
        if not self.data:
            return _HEADER.pack(self.id, self.param_1, self.param_2, USB_DEVICE, HOST)
        low, high = len(self.data) & 0xFF, len(self.data) >> 8
        return _HEADER.pack(self.id, low, high, USB_DEVICE | HAS_DATA, HOST) + self.data

    @property
    def channel(self) -> int:
        """Which paddle it is about, as the bit that the protocol names it by."""
        return int.from_bytes(self.data[:2], "little") if self.data else self.param_1


class MessageBuffer:
    """Cuts what a unit sends into messages, whatever the pieces it comes in.

    Attributes:
        dropped: Bytes that fitted no message.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._data += data

    def take(self) -> Message | None:
        """Cut the next message out; None while it is incomplete."""
        while len(self._data) >= HEADER_BYTES:
            n_bytes = _data_bytes(self._data)
            if n_bytes is None:
                del self._data[0]
                self.dropped += 1
                continue
            end = HEADER_BYTES + n_bytes
            if len(self._data) < end:
                return None
            message = _message(bytes(self._data[:end]))
            del self._data[:end]
            return message
        return None

    @property
    def missing(self) -> int:
        """How many bytes, at least 1, ``take`` wants before it can say more than None."""
        if len(self._data) < HEADER_BYTES:
            return HEADER_BYTES - len(self._data)
        return max(1, HEADER_BYTES + (_data_bytes(self._data) or 0) - len(self._data))


@dataclass(frozen=True)
class UnitInfo:
    """Who a unit says it is.

    Attributes:
        serial: Eight digits; 38 at the start for paddles.
        model: Such as ``MPC320``.
        firmware: Major, interim and minor number.
        n_channels: How many paddles it drives.
    """

    serial: str
    model: str
    firmware: str
    n_channels: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the 84 bytes of ``INFO``."""
        serial, model, _, minor, interim, major, _, _, _, _, n_channels = _INFO.unpack(data)
        name = model.split(b"\0")[0].decode("ascii", "replace").strip()
        return cls(f"{serial:08d}", name, f"{major}.{interim}.{minor}", n_channels)


@dataclass(frozen=True)
class PaddleStatus:
    """Where a paddle is and how it fares.

    Attributes:
        steps: Position, steps.
        bits: Status bits.
    """

    steps: int
    bits: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the 14 bytes of ``STATUS``; velocity and motor current are of no use here."""
        _, steps, _, _, bits = _STATUS.unpack(data)
        return cls(steps, bits)

    @property
    def is_moving(self) -> bool:
        """Whether it turns."""
        return bool(self.bits & MOVING)

    @property
    def is_homed(self) -> bool:
        """Whether its position counts from its home."""
        return bool(self.bits & IS_HOMED)

    @property
    def is_enabled(self) -> bool:
        """Whether its motor is on."""
        return bool(self.bits & IS_ENABLED)

    @property
    def faults(self) -> list[str]:
        """Names of the status bits that report a fault."""
        return [name for bit, name in FAULTS.items() if self.bits >> bit & 1]


@dataclass(frozen=True)
class PaddleParameters:
    """What ``PARAMETERS`` holds for all paddles together.

    Attributes:
        velocity_percent: Share of the full speed, 10 to 100 %.
        home_steps: Where homing ends, steps.
        jog_steps: Lengths of a jog of each paddle, steps.
    """

    velocity_percent: int
    home_steps: int
    jog_steps: tuple[int, int, int]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the 12 bytes of ``PARAMETERS``."""
        _, velocity_percent, home_steps, *jog_steps = _PARAMETERS.unpack(data)
        return cls(velocity_percent, home_steps, (jog_steps[0], jog_steps[1], jog_steps[2]))

    def to_set(self) -> Message:
        """Write the message that sets them."""
        data = _PARAMETERS.pack(0, self.velocity_percent, self.home_steps, *self.jog_steps)
        return Message(SET_PARAMETERS, data=data)


def channel_of(paddle: int) -> int:
    """Return the bit that the protocol names a paddle by."""
    return 1 << (paddle - 1)


def move_to(paddle: int, steps: int) -> Message:
    """Write the message that turns a paddle to a position."""
    return Message(MOVE_ABSOLUTE, data=_MOVE.pack(channel_of(paddle), steps))


def _data_bytes(received: bytearray) -> int | None:
    """Tell from a header how many bytes follow it; None if no unit sends such a header."""
    message_id, low, high, destination, source = _HEADER.unpack_from(received)
    n_bytes = low | high << 8 if destination & HAS_DATA else 0
    is_for_us = destination & ~HAS_DATA == HOST and source in DEVICES
    # A long form without data is none: its length would be zero.
    is_long = bool(destination & HAS_DATA)
    is_known = n_bytes in DATA_BYTES.get(message_id, frozenset()) and is_long == bool(n_bytes)
    return n_bytes if is_for_us and is_known else None


def _message(received: bytes) -> Message:
    message_id, first, second, destination, _ = _HEADER.unpack_from(received)
    if destination & HAS_DATA:
        return Message(message_id, data=received[HEADER_BYTES:])
    return Message(message_id, first, second)
