import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.polarization_controllers.thorlabs_mpc320_messages import (
    DATA_BYTES,
    HOMED,
    MOVED,
    REQUEST_INFO,
    REQUEST_STATUS,
    SET_ENABLED,
    STATUS,
    STOP_UPDATES,
    Message,
    MessageBuffer,
    PaddleParameters,
    PaddleStatus,
    UnitInfo,
    move_to,
)

STATUS_AT_685 = bytes.fromhex("91 04 0e 00 81 50 01 00 ad 02 00 00 00 00 00 00 00 04 00 80")
MOVED_1 = bytes.fromhex("64 04 01 00 01 50")
# Bytes that no header of a unit has: it never comes from 0xff, nor goes there.
NOISE = st.binary(max_size=40).map(lambda data: bytes(b | 0x80 for b in data))


def taken(pieces: list[bytes]) -> tuple[list[Message], int]:
    buffer, messages = MessageBuffer(), []
    for piece in pieces:
        buffer.feed(piece)
        while (message := buffer.take()) is not None:
            messages.append(message)
    return messages, buffer.dropped


def from_unit(message: Message, source: int = 0x50) -> bytes:
    if not message.data:
        return struct.pack("<HBBBB", message.id, message.param_1, message.param_2, 1, source)
    header = struct.pack("<HHBB", message.id, len(message.data), 0x81, source)
    return header + message.data


@st.composite
def messages_of_units(draw: st.DrawFn) -> Message:
    message_id = draw(st.sampled_from(sorted(DATA_BYTES)))
    n_bytes = draw(st.sampled_from(sorted(DATA_BYTES[message_id])))
    if n_bytes:
        return Message(message_id, data=draw(st.binary(min_size=n_bytes, max_size=n_bytes)))
    return Message(message_id, draw(st.integers(0, 255)), draw(st.integers(0, 255)))


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (Message(REQUEST_INFO), "05 00 00 00 50 01"),
        (Message(STOP_UPDATES), "12 00 00 00 50 01"),
        (Message(SET_ENABLED, 1, 1), "10 02 01 01 50 01"),
        (Message(REQUEST_STATUS, 1), "90 04 01 00 50 01"),
        (move_to(1, 685), "53 04 06 00 d0 01 01 00 ad 02 00 00"),
        (move_to(3, 16), "53 04 06 00 d0 01 04 00 10 00 00 00"),
        (
            PaddleParameters(50, 685, (25, 25, 25)).to_set(),
            "30 05 0c 00 d0 01 00 00 32 00 ad 02 19 00 19 00 19 00",
        ),
    ],
)
def test_messages_are_written_as_the_protocol_has_them(message: Message, sent: str) -> None:
    assert message.to_unit() == bytes.fromhex(sent)


def test_a_status_tells_position_and_bits() -> None:
    (message,), _ = taken([STATUS_AT_685])

    assert message.id == STATUS
    assert message.channel == 1
    status = PaddleStatus.parse(message.data)
    assert (status.steps, status.is_moving, status.is_homed, status.is_enabled) == (
        685,
        False,
        True,
        True,
    )
    assert status.faults == []


@pytest.mark.parametrize("bit", [4, 5, 6, 7, 9])
def test_a_paddle_that_turns_jogs_or_homes_is_moving(bit: int) -> None:
    assert PaddleStatus(0, 1 << bit).is_moving


def test_fault_bits_have_names() -> None:
    assert PaddleStatus(0, 1 << 14 | 1 << 26 | 1 << 31).faults == [
        "position error",
        "over-current",
    ]


def test_an_info_tells_model_serial_and_firmware() -> None:
    data = struct.pack("<I8sH4B60sHHH", 38000042, b"MPC320", 44, 4, 0, 1, 0, b"notes", 1, 0, 3)
    assert UnitInfo.parse(data) == UnitInfo("38000042", "MPC320", "1.0.4", 3)


def test_a_completion_is_understood_short_and_long() -> None:
    long = from_unit(Message(MOVED, data=b"\x01\x00" + bytes(18)))
    messages, _ = taken([MOVED_1 + long])
    assert [(each.id, each.channel) for each in messages] == [(MOVED, 1), (MOVED, 1)]


def test_a_message_to_somebody_else_is_none() -> None:
    to_the_unit = Message(HOMED, 1).to_unit()
    messages, dropped = taken([to_the_unit + MOVED_1])
    assert [each.id for each in messages] == [MOVED]
    assert dropped == len(to_the_unit)


def test_a_bay_of_a_rack_may_answer() -> None:
    messages, _ = taken([from_unit(Message(HOMED, 2), source=0x22)])
    assert messages == [Message(HOMED, 2)]


def test_half_a_message_is_waited_for_by_the_byte() -> None:
    buffer = MessageBuffer()
    buffer.feed(STATUS_AT_685[:2])
    assert (buffer.take(), buffer.missing) == (None, 4)
    buffer.feed(STATUS_AT_685[2:8])
    assert (buffer.take(), buffer.missing) == (None, 12)
    buffer.feed(STATUS_AT_685[8:])
    assert buffer.take() == Message(STATUS, data=STATUS_AT_685[6:])


@given(st.lists(messages_of_units(), max_size=6), st.data())
def test_any_messages_in_any_pieces_are_read_whole(
    messages: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(map(from_unit, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]

    assert taken(pieces) == (messages, 0)


@given(NOISE, messages_of_units(), NOISE, messages_of_units())
def test_noise_before_a_message_is_dropped_and_the_message_read(
    noise: bytes, first: Message, more_noise: bytes, second: Message
) -> None:
    stream = noise + from_unit(first) + more_noise + from_unit(second)

    messages, dropped = taken([stream])

    assert messages == [first, second]
    assert dropped == len(noise) + len(more_noise)


@given(st.integers(1, 19), messages_of_units())
def test_it_is_in_step_again_after_the_end_of_a_message_whose_start_was_lost(
    lost: int, following: Message
) -> None:
    messages, dropped = taken([STATUS_AT_685[lost:] + from_unit(following)])

    assert messages == [following]
    assert dropped == len(STATUS_AT_685) - lost


@given(st.binary(max_size=200))
def test_it_never_wants_nothing_while_a_message_is_incomplete(noise: bytes) -> None:
    buffer = MessageBuffer()
    buffer.feed(noise)
    while buffer.take() is not None:
        pass
    assert 1 <= buffer.missing <= 84 + 6
