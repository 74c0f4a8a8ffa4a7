"""What SCPI instruments answer, well and badly."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import RejectedError, ReplyError
from drivers.roles import Identity
from drivers.scpi import (
    MAX_QUEUED_ERRORS,
    pop_errors,
    query_float,
    query_identity,
    query_int,
    refuse_errors,
)
from drivers.transport.memory import MemoryChannel
from drivers.transport.transport import Dialogue, Transport
from sim.virtual_time import run

T = TypeVar("T")


def ask(question: Callable[[Dialogue], Awaitable[T]], *replies: str) -> T:
    """Ask ``question`` of an instrument that gives ``replies``."""

    async def talk() -> T:
        channel = MemoryChannel()
        transport = Transport("voa", channel)
        await transport.open()
        async with transport.exclusive() as link:
            for reply in replies:
                channel.deliver(reply.encode() + b"\n")
            answer = await question(link)
        await transport.close()
        return answer

    return run(talk())


def test_an_identity_has_four_fields() -> None:
    identity = ask(query_identity, "Keysight Technologies, N7764A,DE4920C001 ,1.02")

    assert identity == Identity("Keysight Technologies", "N7764A", "DE4920C001", "1.02")


def test_further_commas_belong_to_the_firmware() -> None:
    assert ask(query_identity, "A,B,C,1.0,2.0").firmware == "1.0,2.0"


@pytest.mark.parametrize("reply", ["", "Keysight", "A,B,C", '+0,"No error"'])
def test_what_is_no_identity_is_told_so(reply: str) -> None:
    with pytest.raises(ReplyError, match="voa: not an identity"):
        ask(query_identity, reply)


@pytest.mark.parametrize("nothing", ['+0,"No error"', '0,"No error"', "0", ' +0 ,"No error"'])
def test_an_empty_error_queue_is_empty(nothing: str) -> None:
    assert ask(pop_errors, nothing) == []


def test_the_error_queue_is_emptied_in_order() -> None:
    entries = ['-222,"Data out of range"', '-113,"Undefined header"']

    assert ask(pop_errors, *entries, '+0,"No error"') == entries


def test_a_refused_command_is_told_with_the_first_error() -> None:
    with pytest.raises(RejectedError) as caught:
        ask(
            lambda link: refuse_errors(link, ":INP1:ATT 99"),
            '-222,"Data out of range"',
            '-350,"Queue overflow"',
            '+0,"No error"',
        )

    assert str(caught.value) == (
        "voa: refused (sent ':INP1:ATT 99', received '-222,\"Data out of range\"')"
    )


def test_an_accepted_command_passes() -> None:
    ask(lambda link: refuse_errors(link, ":INP1:ATT 9"), '+0,"No error"')


@pytest.mark.parametrize("reply", ["", "No error", '"0"', "1.5", "9" * 5000])
def test_what_is_no_error_entry_is_told_so(reply: str) -> None:
    with pytest.raises(ReplyError, match="not an error entry"):
        ask(pop_errors, reply)


def test_an_error_queue_without_end_is_given_up() -> None:
    with pytest.raises(ReplyError, match="endless"):
        ask(pop_errors, *['-350,"Queue overflow"'] * (MAX_QUEUED_ERRORS + 1))


@pytest.mark.parametrize(
    ("reply", "number"), [("+1.23400000E+001", 12.34), ("-3", -3.0), (" 0.5 ", 0.5)]
)
def test_a_number_is_read(reply: str, number: float) -> None:
    assert ask(lambda link: query_float(link, "X?"), reply) == number


@pytest.mark.parametrize("reply", ["", "12.3 dB", "nan", "inf", "9.9E37", "-9.9E37", "9.91E37"])
def test_what_is_no_finite_number_is_told_so(reply: str) -> None:
    with pytest.raises(ReplyError, match="not a finite number") as caught:
        ask(lambda link: query_float(link, "X?"), reply)

    assert caught.value.sent == "X?"


@pytest.mark.parametrize(("reply", "number"), [("+12", 12), ("3.0E+00", 3), ("-0", 0)])
def test_a_whole_number_is_read(reply: str, number: int) -> None:
    assert ask(lambda link: query_int(link, "X?"), reply) == number


def test_a_broken_number_is_not_whole() -> None:
    with pytest.raises(ReplyError, match="not a whole number"):
        ask(lambda link: query_int(link, "X?"), "2.5")


@given(st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=20))
def test_whatever_is_answered_gives_a_number_or_says_so(reply: str) -> None:
    try:
        number = ask(lambda link: query_float(link, "X?"), reply)
    except ReplyError:
        return
    assert number == float(reply)
