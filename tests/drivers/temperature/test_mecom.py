import math
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.temperature.mecom import (
    FRAMES,
    MeCom,
    crc,
    decode_float,
    decode_int,
    encode_float,
    encode_int,
    parse_answer,
    query_frame,
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ADDRESSES, SEQUENCES = st.integers(0, 255), st.integers(0, 0xFFFF)


def answer(text: str) -> str:
    """A frame with its CRC."""
    return f"{text}{crc(text):04X}"


def test_a_query_of_the_object_temperature_is_the_published_frame() -> None:
    assert query_frame(0, 0x15AB, "?VR03E801") == "#0015AB?VR03E801C21A"


def test_the_published_answer_is_25_degrees() -> None:
    parsed = parse_answer("tec", "#0015AB?VR03E801C21A", "!0015AB41C8000023C5")
    assert (parsed.address, parsed.sequence) == (0, 0x15AB)
    assert decode_float("tec", parsed.payload) == 25.0


def test_a_set_point_of_25_degrees_is_the_published_frame() -> None:
    payload = f"VS0BB801{encode_float(25.0)}"
    assert query_frame(0, 0x15AC, payload) == "#0015ACVS0BB80141C80000186D"


def test_an_acknowledgement_repeats_the_crc_of_the_query() -> None:
    query = "#0015ACVS0BB80141C80000186D"
    assert parse_answer("tec", query, "!0015AC186D").payload == ""
    with pytest.raises(ReplyError, match="wrong CRC"):
        parse_answer("tec", query, "!0015AC186E")


@given(ADDRESSES, SEQUENCES, FLOATS)
def test_any_answer_is_read_back_whole(address: int, sequence: int, value: float) -> None:
    line = answer(f"!{address:02X}{sequence:04X}{encode_float(value)}")
    parsed = parse_answer("tec", query_frame(address, sequence, "?VR03E801"), line)
    assert (parsed.address, parsed.sequence) == (address, sequence)
    assert decode_float("tec", parsed.payload) == value


@given(SEQUENCES, FLOATS, st.data())
def test_no_single_wrong_character_goes_unnoticed(
    sequence: int, value: float, data: st.DataObject
) -> None:
    query = query_frame(0, sequence, "?VR03E801")
    line = answer(f"!00{sequence:04X}{encode_float(value)}")
    place = data.draw(st.integers(0, len(line) - 1))
    wrong = data.draw(st.characters(codec="ascii").filter(lambda each: each != line[place]))
    with pytest.raises(ReplyError):
        parse_answer("tec", query, line[:place] + wrong + line[place + 1 :])


@given(st.text(st.characters(codec="ascii")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ReplyError):
        parse_answer("tec", query_frame(0, 1, "?IF"), text)


@given(st.integers(-(2**31), 2**31 - 1))
def test_whole_numbers_survive_the_way(value: int) -> None:
    assert decode_int("tec", encode_int(value)) == value


@pytest.mark.parametrize("payload", ["", "41C8", "41C8000G", "41c80000", "41C80000FF"])
def test_what_is_no_32_bit_value_is_refused(payload: str) -> None:
    with pytest.raises(ReplyError, match="32-bit"):
        decode_float("tec", payload)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_temperature_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ReplyError, match="finite"):
        decode_float("tec", struct.pack(">f", value).hex().upper())


# Exchanges.


def query(sequence: int, payload: str = "?VR03E801", address: int = 0) -> bytes:
    return query_frame(address, sequence, payload).encode() + b"\r"


def reply(sequence: int, payload: str, address: int = 2) -> bytes:
    return answer(f"!{address:02X}{sequence:04X}{payload}").encode() + b"\r"


async def read(wire: Any, times: int = 1, address: int = 0) -> float:
    unit, value = MeCom(address, 1), math.nan
    transport = wire.connector.transport("tec", "memory:wire", FRAMES, timeout_s=0.05)
    await transport.open()
    async with transport.exclusive() as link:
        for _ in range(times):
            value = await unit.read_float(link, 1000)
    return value


async def test_each_query_has_a_sequence_number_of_its_own(scripted: Callable[..., Any]) -> None:
    wire = scripted([(query(1), reply(1, "41C80000")), (query(2), reply(2, "41D00000"))])
    assert await read(wire, times=2) == 26.0


async def test_a_late_answer_to_an_earlier_query_is_passed_over(
    scripted: Callable[..., Any],
) -> None:
    late = reply(0xFFFF, "42C80000") + b"!02FFFE186D\r"  # a value, and an acknowledgement
    wire = scripted([(query(1), late + reply(1, "41C80000"))])
    assert await read(wire) == 25.0


async def test_nothing_but_late_answers_is_no_answer(scripted: Callable[..., Any]) -> None:
    with pytest.raises(TransportError, match="stale"):
        await read(scripted([(query(1), 20 * reply(7, "41C80000"))]))


async def test_an_error_is_a_refusal_in_words(scripted: Callable[..., Any]) -> None:
    with pytest.raises(RejectedError, match="parameter not available"):
        await read(scripted([(query(1), reply(1, "+05"))]))


async def test_another_controller_on_the_line_is_noticed(scripted: Callable[..., Any]) -> None:
    script = [(query(1, address=3), reply(1, "41C80000", address=2))]
    with pytest.raises(ReplyError, match="another controller"):
        await read(scripted(script), address=3)
