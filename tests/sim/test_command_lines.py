from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.command_lines import LONGEST_LINE, CommandLines


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
def test_a_line_ends_at_any_mixture_of_cr_and_lf(end: bytes) -> None:
    assert CommandLines().feed(b"a?" + end + b"b?" + end) == ["a?", "b?"]


def test_an_empty_line_is_a_line() -> None:
    assert CommandLines().feed(b"\r\rx\r") == ["", "", "x"]


@given(st.binary(max_size=40), st.sets(st.integers(0, 40)))
def test_any_split_of_the_bytes_yields_the_same_lines(data: bytes, cuts: set[int]) -> None:
    lines = CommandLines()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(edges)]

    assert [line for piece in pieces for line in lines.feed(piece)] == CommandLines().feed(data)


def test_an_endless_line_is_handed_over() -> None:
    assert CommandLines().feed(b"x" * (LONGEST_LINE + 2)) == ["x" * (LONGEST_LINE + 1)]


def test_half_a_line_can_be_forgotten() -> None:
    lines = CommandLines()
    lines.feed(b"half")
    lines.clear()
    assert lines.feed(b"whole\r") == ["whole"]
