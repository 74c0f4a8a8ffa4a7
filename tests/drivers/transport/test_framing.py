"""Replies are cut out of the stream alike, however the bytes arrive."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drivers.transport.framing import ReceiveBuffer

TERMINATORS = st.sampled_from([b"\n", b"\r\n", b"\r", b"> ", b"\xff\x00\xff"])


@st.composite
def pieces(draw: st.DrawFn) -> tuple[bytes, bytes, list[bytes]]:
    """A terminator, a stream that is full of it, and the stream cut anywhere."""
    terminator = draw(TERMINATORS)
    part = st.one_of(st.just(terminator), st.just(terminator[:1]), st.binary(max_size=8))
    stream = b"".join(draw(st.lists(part, max_size=20)))
    cuts = draw(st.sets(st.integers(0, len(stream))))
    edges = [0, *sorted(cuts), len(stream)]
    return terminator, stream, [stream[start:end] for start, end in pairwise(edges)]


@given(pieces())
def test_any_split_of_the_bytes_yields_the_same_replies(
    case: tuple[bytes, bytes, list[bytes]],
) -> None:
    terminator, stream, chunks = case
    *expected, rest = stream.split(terminator)
    buffer = ReceiveBuffer()
    replies = []
    for chunk in chunks:
        buffer.feed(chunk)
        while (reply := buffer.take_reply(terminator)) is not None:
            replies.append(reply)

    assert replies == expected
    assert buffer.take_all() == rest


@given(st.binary(min_size=1), st.integers(1, 20))
def test_a_block_is_taken_when_all_of_it_has_arrived(data: bytes, n_bytes: int) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(data)

    taken = buffer.take_exactly(n_bytes)

    assert taken == (data[:n_bytes] if n_bytes <= len(data) else None)
    assert len(buffer) == len(data) - len(taken or b"")


def test_a_line_after_a_block_is_found_though_the_block_was_searched() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"abcdef")
    assert buffer.take_reply(b"\n") is None

    assert buffer.take_exactly(4) == b"abcd"
    buffer.feed(b"\n")

    assert buffer.take_reply(b"\n") == b"ef"


OTHERS = b"\r!"


@given(st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r", b"!", b"\r\n"]), max_size=20))
def test_other_ends_cut_replies_too_and_stay_on_them(chunks: list[bytes]) -> None:
    stream, buffer, replies = b"".join(chunks), ReceiveBuffer(), []
    for chunk in chunks:
        buffer.feed(chunk)
        while (reply := buffer.take_reply(b"\n", OTHERS)) is not None:
            replies.append(reply)

    *expected, rest = re.split(rb"(?<=[\n\r!])", stream)
    assert replies == [each.removesuffix(b"\n") for each in expected]
    assert buffer.take_all() == rest
