from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.command_lines import LONGEST_LINE, EndedLines, Lines, TypedLines


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\n\r"])
def test_a_line_ends_at_any_mixture_of_cr_and_lf(end: bytes) -> None:
    assert TypedLines().feed(b"a?" + end + b"b?" + end) == ["a?", "b?"]


def test_an_empty_line_is_a_line() -> None:
    assert TypedLines().feed(b"\r\rx\r") == ["", "", "x"]


@given(
    st.sampled_from([TypedLines, lambda: EndedLines(rb"\r\n|\n|;")]),
    st.binary(max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_any_split_of_the_bytes_yields_the_same_lines(
    make: Callable[[], Lines], data: bytes, cuts: set[int]
) -> None:
    lines = make()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(edges)]

    assert [line for piece in pieces for line in lines.feed(piece)] == make().feed(data)


def test_a_line_may_end_in_one_way_only() -> None:
    assert EndedLines(b"\r\n").feed(b"a\rb\nc\r\nd") == ["a\rb\nc"]


@pytest.mark.parametrize("lines", [TypedLines(), EndedLines(b"\n", LONGEST_LINE)])
def test_an_endless_line_is_handed_over(lines: Lines) -> None:
    assert lines.feed(b"x" * (LONGEST_LINE + 1)) == ["x" * (LONGEST_LINE + 1)]


@pytest.mark.parametrize("lines", [TypedLines(), EndedLines(b"\n")])
def test_half_a_line_can_be_forgotten(lines: Lines) -> None:
    lines.feed(b"half")
    lines.clear()
    assert lines.feed(b"whole\n") == ["whole"]
