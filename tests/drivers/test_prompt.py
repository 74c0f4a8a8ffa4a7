import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.errors import InstrumentError, RejectedError, ReplyError, TransportError
from drivers.prompt import PromptedLine, parse_number
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Framing
from sim import virtual_time

PROMPT = Framing(write_terminator=b"\r", read_terminator=b">", other_ends=b"*!")


async def within(wire: Any, story: Callable[[Dialogue], Awaitable[Any]]) -> Any:
    transport = wire.connector.transport("unit", "memory:wire", PROMPT, timeout_s=0.02)
    await transport.open()
    async with transport.exclusive() as link:
        return await story(link)


@pytest.mark.parametrize(
    "reply",
    [
        b"freq?\r20\r> ",
        b"> freq?\r20\r> ",
        b"20\r>",
        b"\r\n20\r\n>",
        b"freq?\r*20\r*",
        b"20 >",
        b"FREQ?\r20\r>",
    ],
)
async def test_an_answer_is_found_with_and_without_echo(
    scripted: Callable[..., Any], reply: bytes
) -> None:
    wire = scripted([(b"freq?\r", reply)])
    assert await within(wire, lambda link: PromptedLine().ask(link, "freq?")) == ["20"]


async def test_an_answer_may_have_several_lines(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"id?\r", b"id?\r\r\rModel A\rVersion 1\r>")])
    lines = await within(wire, lambda link: PromptedLine().ask(link, "id?"))
    assert lines == ["Model A", "Version 1"]


async def test_an_echo_is_noticed(scripted: Callable[..., Any]) -> None:
    line = PromptedLine()
    await within(scripted([(b"*idn?\r", b"*idn?\rA B\r> ")]), lambda link: line.ask(link, "*idn?"))
    assert line.echoes


async def test_the_echo_of_another_command_is_a_late_reply(scripted: Callable[..., Any]) -> None:
    line = PromptedLine()
    line.echoes = True
    with pytest.raises(ReplyError, match="echoes another command"):
        await within(scripted([(b"a?\r", b"b?\r5\r> ")]), lambda link: line.ask(link, "a?"))


async def test_a_late_prompt_is_not_taken_for_the_end_of_an_echoing_command(
    scripted: Callable[..., Any],
) -> None:
    line = PromptedLine()
    line.echoes = True
    wire = scripted([(b"a=1\r", b"> a=1\r> ")])
    assert await within(wire, lambda link: line.tell(link, "a=1")) == []


async def test_a_bare_prompt_takes_a_command_without_echo(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"a=1\r", b">")])
    assert await within(wire, lambda link: PromptedLine().tell(link, "a=1")) == []


async def test_prompts_without_an_answer_come_to_an_end(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"a?\r", b">" * 20)])
    with pytest.raises(ReplyError, match="no answer"):
        await within(wire, lambda link: PromptedLine().ask(link, "a?"))


async def test_no_prompt_is_a_lost_exchange(scripted: Callable[..., Any]) -> None:
    wire = scripted([(b"a?\r", b"a?\r20\r")])
    with pytest.raises(TransportError, match="no reply"):
        await within(wire, lambda link: PromptedLine().ask(link, "a?"))


@pytest.mark.parametrize(
    "reply",
    [
        b"!",
        b"\n\r!",
        b"!\r>",
        b"CMD_NOT_DEFINED>",
        b"a=1\rCommand error CMD_ARG_RANGE_ERR\n\r> ",
        b"a=1\r!\r>",
    ],
)
async def test_a_refusal_is_told_and_leaves_the_line_in_step(
    scripted: Callable[..., Any], reply: bytes
) -> None:
    line = PromptedLine()

    async def story(link: Dialogue) -> list[str]:
        with pytest.raises(RejectedError) as caught:
            await line.tell(link, "a=1")
        assert caught.value.received
        line.echoes = False
        return await line.ask(link, "b?")

    assert await within(scripted([(b"a=1\r", reply), (b"b?\r", b"7\r>")]), story) == ["7"]


@pytest.mark.parametrize("text", ["25.00", "[ 25.00]", "[25]", "+25.", "25.0 "])
def test_numbers_are_read_in_brackets_or_not(text: str) -> None:
    assert parse_number("unit", "x?", [text.strip()]) == 25.0


@pytest.mark.parametrize("text", ["", "25 V", "25, 26", "nan", "inf", "[]", "٣", "1e3"])
def test_anything_else_is_no_number(text: str) -> None:
    with pytest.raises(ReplyError):
        parse_number("unit", "x?", [text])


class AnyReplies:
    """A unit that answers every command with the next of some bytes, or not at all."""

    def __init__(self, replies: list[bytes]) -> None:
        self._replies = replies
        self._arrived = asyncio.Queue[bytes]()

    async def open(self) -> None:
        self._arrived = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        if self._replies and (answer := self._replies.pop(0)):
            self._arrived.put_nowait(answer)

    async def receive(self) -> bytes:
        return await self._arrived.get()

    async def close(self) -> None:
        pass


PIECES = st.sampled_from([b">", b"*", b"!", b"\r", b"a?", b"20", b"CMD_X", b" ", b"\xff"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=6), st.booleans())
def test_any_replies_lead_to_an_answer_or_an_instrument_error(
    replies: list[bytes], echoes: bool
) -> None:
    async def run() -> None:
        channel = AnyReplies(replies)
        connector = Connector(memory={"wire": lambda: channel})
        transport = connector.transport("unit", "memory:wire", PROMPT)
        line = PromptedLine()
        line.echoes = echoes
        await transport.open()
        for exchange in (line.ask, line.tell, line.ask):
            try:
                async with transport.exclusive() as link:
                    await exchange(link, "a?")
            except InstrumentError:
                continue

    virtual_time.run(run())
