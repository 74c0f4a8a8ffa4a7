"""Dialogues over a wire in this process, in virtual time."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.transport.framing import BINARY, MAX_REPLY_BYTES
from drivers.transport.memory import MemoryChannel
from drivers.transport.trace import Trace
from drivers.transport.transport import Dialogue, Framing, Transport

IN_VIRTUAL_TIME = True


class Echo:
    """An instrument that answers ``X?`` with ``X``, and nothing else with nothing.

    Attributes:
        channel: The near end of its wire.
        told: Commands it got, without terminators.
        delays_s: Commands that it answers late.
    """

    def __init__(self) -> None:
        self.channel = MemoryChannel()
        self.told: list[str] = []
        self.delays_s: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            command = (await self.channel.received.get()).decode().strip()
            self.told.append(command)
            await asyncio.sleep(self.delays_s.pop(command, 0.0))
            if command.endswith("?"):
                self.channel.deliver(command[:-1].encode() + b"\r\n")


@asynccontextmanager
async def powered(trace: Trace | None = None) -> AsyncIterator[tuple[Echo, Transport]]:
    echo = Echo()
    transport = Transport("voa", echo.channel, timeout_s=1.0, trace=trace)
    async with asyncio.TaskGroup() as tasks:
        server = tasks.create_task(echo.run(), name="echo")
        await transport.open()
        yield echo, transport
        await transport.close()
        server.cancel()


@asynccontextmanager
async def silent(
    framing: Framing | None = None,
) -> AsyncIterator[tuple[MemoryChannel, Transport]]:
    """A wire whose far end is the test itself."""
    channel = MemoryChannel()
    transport = Transport("voa", channel, framing or Framing(), timeout_s=1.0)
    await transport.open()
    yield channel, transport
    await transport.close()


async def test_a_reply_comes_without_terminator_and_carriage_return() -> None:
    async with powered() as (_, transport):
        assert await transport.query("12.5?") == "12.5"


async def test_a_reply_in_pieces_is_one_reply() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        for piece in (b"1", b"2.5", b"\n"):
            channel.deliver(piece)

        assert await link.read() == "12.5"


async def test_one_chunk_with_two_replies_is_two_replies() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        channel.deliver(b"1\n2\n")

        assert [await link.read(), await link.read()] == ["1", "2"]


async def test_callers_at_the_same_time_get_their_own_answers() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {f"{n}?": 0.1 * (n % 3) for n in range(20)}

        answers = await asyncio.gather(*(transport.query(f"{n}?") for n in range(20)))

    assert answers == [str(n) for n in range(20)]


async def test_a_dialogue_is_not_interrupted_by_another() -> None:
    async with powered() as (echo, transport):

        async def talk(name: str) -> None:
            async with transport.exclusive() as link:
                for step in range(3):
                    await link.query(f"{name}{step}?")

        await asyncio.gather(talk("a"), talk("b"))

    assert echo.told == ["a0?", "a1?", "a2?", "b0?", "b1?", "b2?"]


async def test_a_timeout_says_who_was_asked_what_and_what_came() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        await link.write("ATT?")
        channel.deliver(b"12.")
        with pytest.raises(TransportError) as caught:
            await link.read(timeout_s=0.5)

    assert str(caught.value) == "voa: no reply within 0.5 s (sent 'ATT?', received '12.')"


async def test_a_late_reply_does_not_answer_the_next_question() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {"SLOW?": 1.05}
        with pytest.raises(TransportError):
            async with transport.exclusive() as link:
                await link.query("SLOW?")

        assert await transport.query("NEXT?") == "NEXT"


async def test_a_question_is_asked_once_more_after_a_timeout() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {"ATT?": 1.05}

        assert await transport.query("ATT?") == "ATT"

    assert echo.told == ["ATT?", "ATT?"]


async def test_a_command_in_a_dialogue_is_never_sent_twice() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {"ATT 3": 5.0}
        async with transport.exclusive() as link:
            await link.write("ATT 3")
            with pytest.raises(TransportError):
                await link.query("ERR?")
        await asyncio.sleep(10)

    assert echo.told.count("ATT 3") == 1


async def test_a_link_lost_between_dialogues_is_noticed_before_anything_is_sent() -> None:
    async with powered() as (echo, transport):
        echo.channel.hang_up()

        async with transport.exclusive() as link:
            await link.write("ATT 3")
            await link.query("ATT?")

    assert echo.told == ["ATT 3", "ATT?"]
    assert echo.channel.opened == 2


async def test_a_lost_link_is_heard_at_once_by_who_waits_for_a_reply() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        started_s = asyncio.get_running_loop().time()
        await link.write("ATT?")
        channel.hang_up()
        with pytest.raises(TransportError, match="closed the link"):
            await link.read()

        assert asyncio.get_running_loop().time() == started_s


async def test_a_stream_that_delivers_nothing_has_ended() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        channel.deliver(b"")
        with pytest.raises(TransportError, match="closed the link"):
            await link.read()


async def test_the_driver_is_asked_to_take_up_again_before_the_next_dialogue() -> None:
    async with powered() as (echo, transport):

        async def take_up_again(link: Dialogue) -> None:
            await link.query("IDN?")

        transport.on_reopen = take_up_again
        echo.channel.hang_up()
        await transport.query("ATT?")

    assert echo.told == ["IDN?", "ATT?"]


async def test_a_reply_that_is_later_than_the_drain_is_not_taken_for_another_model() -> None:
    async with powered() as (echo, transport):

        async def identify(link: Dialogue) -> None:
            if (reply := await link.query("IDN?")) != "IDN":
                raise ReplyError(link.instrument, "another model", received=reply)

        transport.on_reopen = identify
        echo.delays_s = {"SLOW?": 1.5}
        async with transport.exclusive() as link:
            with pytest.raises(TransportError):
                await link.query("SLOW?")

        assert await transport.query("NEXT?") == "NEXT"


async def test_a_dialogue_does_not_start_on_another_instrument() -> None:
    async with powered() as (echo, transport):

        async def refuse(link: Dialogue) -> None:
            raise ReplyError(link.instrument, "another model")

        transport.on_reopen = refuse
        echo.channel.hang_up()
        for _ in range(2):  # The line stays dirty, so it is checked again each time.
            with pytest.raises(ReplyError, match="another model"):
                await transport.query("ATT?")

    assert echo.told == []


async def test_a_failure_that_taking_up_again_hides_still_counts() -> None:
    async with powered() as (echo, transport):

        async def hide(link: Dialogue) -> None:
            try:
                await link.read(timeout_s=0.1)
            except TransportError:
                return

        transport.on_reopen = hide
        echo.channel.hang_up()
        with pytest.raises(TransportError, match="not identified again"):
            async with transport.exclusive() as link:
                await link.write("ATT 3")

    assert echo.told == []


@asynccontextmanager
async def refusing_set_up() -> AsyncIterator[tuple[Echo, Transport]]:
    """A link that was lost, to an instrument that refuses its set-up."""
    async with powered() as (echo, transport):

        async def identify(link: Dialogue) -> None:
            await link.query("IDN?")

        async def set_up(link: Dialogue) -> None:
            await link.write("WAV 1550")
            raise RejectedError(link.instrument, "refused")

        transport.on_reopen, transport.on_set_up = identify, set_up
        echo.channel.hang_up()
        yield echo, transport


async def test_an_urgent_dialogue_needs_the_identity_only() -> None:
    async with (
        refusing_set_up() as (echo, transport),
        transport.exclusive(is_urgent=True) as link,
    ):
        await link.query("SHUT?")

    assert echo.told == ["IDN?", "SHUT?"]


async def test_what_an_urgent_dialogue_left_out_comes_before_the_next() -> None:
    async with refusing_set_up() as (echo, transport):
        async with transport.exclusive(is_urgent=True) as link:
            await link.query("SHUT?")
        for _ in range(2):
            with pytest.raises(RejectedError, match="refused"):
                await transport.query("ATT?")

    assert "ATT?" not in echo.told


async def test_an_instrument_is_set_up_once_after_a_lost_link() -> None:
    async with powered() as (echo, transport):

        async def set_up(link: Dialogue) -> None:
            await link.query("WAV?")

        transport.on_set_up = set_up
        echo.channel.hang_up()
        for _ in range(2):
            await transport.query("ATT?")

    assert echo.told == ["WAV?", "ATT?", "ATT?"]


async def test_a_set_up_that_was_broken_off_is_done_before_the_next_dialogue() -> None:
    async with powered() as (echo, transport):

        async def set_up(link: Dialogue) -> None:
            await link.query("WAV?")

        transport.on_set_up = set_up
        with pytest.raises(RejectedError):
            async with transport.setting_up():
                raise RejectedError("voa", "refused")
        await transport.query("ATT?")

    assert echo.told == ["WAV?", "ATT?"]


async def test_who_could_not_be_identified_when_opened_is_asked_before_an_urgent_dialogue() -> None:
    async with powered() as (echo, transport):

        async def identify(link: Dialogue) -> None:
            await link.query("IDN?")

        transport.on_reopen = identify
        with pytest.raises(RejectedError):
            async with transport.setting_up():
                raise RejectedError("voa", "does not say who it is")
        async with transport.exclusive(is_urgent=True) as link:
            await link.query("SHUT?")

    assert echo.told == ["IDN?", "SHUT?"]


async def test_a_command_goes_out_ahead_of_a_dialogue_that_waits() -> None:
    async with powered() as (echo, transport):
        async with transport.setting_up():
            pass
        echo.delays_s = {"SLOW?": 0.5}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(transport.query("SLOW?"))
            await asyncio.sleep(0.1)
            await transport.send_ahead("SHUT")
            assert echo.channel.received.get_nowait() == b"SHUT\n"  # while SLOW? is not answered


async def test_nothing_goes_ahead_on_a_free_line_or_to_an_unknown_instrument() -> None:
    async with powered() as (echo, transport):
        async with transport.exclusive():
            await transport.send_ahead("SHUT")  # never identified
        async with transport.setting_up():
            pass
        await transport.send_ahead("SHUT")  # a dialogue can start at once

    assert echo.told == []


async def test_a_line_that_nobody_asked_for_is_dropped_and_traced() -> None:
    log = io.StringIO()
    async with powered(Trace(log)) as (echo, transport):
        echo.channel.deliver(b"EVENT 5\r\n")

        assert await transport.query("ATT?") == "ATT"

    assert r"dropped b'EVENT 5\r\n', which nobody asked for" in log.getvalue()


@pytest.mark.parametrize("n_turns", range(12))
async def test_a_cancelled_dialogue_leaves_no_reply_for_the_next(n_turns: int) -> None:
    async with powered() as (echo, transport):

        async def talk() -> None:
            async with transport.exclusive() as link:
                for n in range(3):
                    await link.query(f"A{n}?")

        async with asyncio.TaskGroup() as tasks:
            talking = tasks.create_task(talk())
            for _ in range(n_turns):
                await asyncio.sleep(0)
            was_cancelled = talking.cancel()

        assert talking.cancelled() or not was_cancelled
        assert await transport.query("B?") == "B"
        assert echo.told[-1] == "B?"


async def test_a_wait_in_a_cancelled_task_still_ends_as_a_lost_link() -> None:
    errors: list[TransportError] = []
    async with silent() as (_, transport):

        async def work() -> None:
            try:
                await asyncio.sleep(1000)
            finally:  # What making safe does on the way out.
                try:
                    async with transport.exclusive() as link:
                        await link.query("ATT?")
                except TransportError as exc:
                    errors.append(exc)

        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work())
            await asyncio.sleep(1)
            working.cancel()

    assert working.cancelled()
    assert len(errors) == 1


async def test_a_wait_that_the_driver_itself_cuts_short_counts_as_a_failure() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {"SLOW?": 0.5}
        async with transport.exclusive() as link:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.45):
                    await link.query("SLOW?")

        assert await transport.query("NEXT?") == "NEXT"


async def test_nothing_is_read_after_a_failed_exchange_but_commands_still_go_out() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        with pytest.raises(TransportError, match="no reply"):
            await link.query("ATT?")
        channel.deliver(b"late\n")
        await link.write("SHUT")
        with pytest.raises(TransportError, match="after a failed exchange"):
            await link.read()

        assert [channel.received.get_nowait() for _ in range(2)] == [b"ATT?\n", b"SHUT\n"]


@pytest.mark.parametrize(
    "error", [RejectedError("voa", "refused"), SettingError("voa", "outside the limits")]
)
async def test_a_refusal_in_good_order_leaves_the_link_alone(error: Exception) -> None:
    async with powered() as (echo, transport):
        with pytest.raises(type(error)):
            async with transport.exclusive():
                raise error
        await transport.query("ATT?")

        assert echo.channel.opened == 1


async def test_a_reply_that_the_driver_cannot_read_makes_the_link_start_anew() -> None:
    async with powered() as (echo, transport):
        with pytest.raises(ReplyError):
            async with transport.exclusive():
                raise ReplyError("voa", "not a number")
        await transport.query("ATT?")

        assert echo.channel.opened == 2


async def test_a_reply_that_is_not_ascii_is_told_so() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        await link.write("ATT?")
        channel.deliver(b"12 \xb5W\n")
        with pytest.raises(ReplyError, match="not ASCII") as caught:
            await link.read()

    assert caught.value.sent == "ATT?"
    assert caught.value.received == "12 \\xb5W"


async def test_a_reply_without_end_is_given_up_before_it_fills_the_memory() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        for _ in range(20):
            channel.deliver(bytes(MAX_REPLY_BYTES // 16))
        with pytest.raises(ReplyError, match="without end") as caught:
            await link.read()

    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("text", ["ATT 3\nATT 50", "ATT 3\r", "ATT\t3", "ATT 3 \u00b5", "\0"])
async def test_only_one_printable_command_can_be_sent(text: str) -> None:
    async with silent() as (channel, transport):
        with pytest.raises(SettingError, match="not one printable command"):
            async with transport.exclusive() as link:
                await link.write(text)

        assert channel.received.empty()
        assert channel.opened == 1


async def test_a_command_may_not_contain_its_own_terminator() -> None:
    async with silent(Framing(b";", b";")) as (channel, transport):
        with pytest.raises(SettingError):
            async with transport.exclusive() as link:
                await link.write("ATT 3;ATT 50")

        assert channel.received.empty()


async def test_a_binary_reply_and_the_line_after_it_are_told_apart() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        await link.write_bytes(b"\x05\x00\n")
        channel.deliver(b"\x0a\xff")
        channel.deliver(b"\x0a\x01OK\n")

        assert await link.read_exactly(4) == b"\x0a\xff\x0a\x01"
        assert await link.read() == "OK"
        assert channel.received.get_nowait() == b"\x05\x00\n"


async def test_what_earlier_questions_were_owed_is_dropped_until_the_line_is_quiet() -> None:
    async with silent(BINARY) as (channel, transport), transport.exclusive() as link:
        loop = asyncio.get_running_loop()
        channel.deliver(b"old")
        loop.call_later(0.08, channel.deliver, b"older")
        await link.drain()
        channel.deliver(b"new")

        assert await link.read_exactly(3) == b"new"


async def test_a_line_that_is_never_quiet_is_not_waited_for_for_ever() -> None:
    async with silent(BINARY) as (channel, transport), transport.exclusive() as link:
        loop = asyncio.get_running_loop()
        for n in range(100):
            loop.call_later(0.05 * n, channel.deliver, b"more")
        async with asyncio.timeout(1.5):
            await link.drain()


async def test_messages_are_replies_as_they_are_even_empty_ones() -> None:
    async with silent(Framing(b"", None)) as (channel, transport):
        channel.deliver(b"")
        channel.deliver(b"two\nlines")
        async with transport.exclusive() as link:
            assert [await link.read(), await link.read()] == ["", "two\nlines"]


async def test_a_transport_that_was_not_opened_says_so() -> None:
    transport = Transport("voa", MemoryChannel())

    with pytest.raises(TransportError, match="not open"):
        await transport.query("ATT?")


async def test_a_closed_transport_stays_closed() -> None:
    async with powered() as (echo, transport):
        await transport.close()
        with pytest.raises(TransportError, match="not open"):
            await transport.query("ATT?")

        assert echo.channel.opened == 1


async def test_an_instrument_that_was_off_at_the_start_is_found_later() -> None:
    async with powered() as (echo, transport):
        echo.channel.hang_up()
        echo.channel.refuses = "connection refused"
        with pytest.raises(TransportError, match="voa: connection refused"):
            await transport.open()

        echo.channel.refuses = None

        assert await transport.query("ATT?") == "ATT"


async def test_a_wire_that_never_connects_is_given_up() -> None:
    class Hanging(MemoryChannel):
        async def open(self) -> None:
            await asyncio.sleep(3600)

    with pytest.raises(TransportError, match="not connected within 5 s"):
        await Transport("voa", Hanging()).open()


async def test_a_wire_that_never_takes_a_command_is_given_up() -> None:
    class Hanging(MemoryChannel):
        async def send(self, data: bytes) -> None:
            await asyncio.sleep(3600)

    transport = Transport("voa", Hanging())
    await transport.open()
    with pytest.raises(TransportError, match="not taken within 1 s"):
        async with transport.exclusive() as link:
            await link.write("ATT 3")


async def test_an_instrument_that_never_falls_silent_does_not_hold_up_recovery() -> None:
    async with powered() as (echo, transport):

        async def chatter() -> None:
            while True:
                echo.channel.deliver(b"COUNT 5\r\n")
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as tasks:
            chattering = tasks.create_task(chatter())
            echo.channel.hang_up()
            async with transport.exclusive() as link:
                await link.write("QUIET")
            chattering.cancel()
        await asyncio.sleep(1)

    assert echo.told == ["QUIET"]


async def test_health_tells_exchanges_errors_and_reconnections() -> None:
    async with powered() as (echo, transport):
        echo.delays_s = {"ATT?": 0.25}
        await transport.query("ATT?")
        before = transport.health()
        echo.delays_s = {"ATT?": 1.05}
        await transport.query("ATT?")
        after = transport.health()

    assert (before.exchanges, before.errors, before.reconnects) == (1, 0, 0)
    assert before.last_round_trip_s == pytest.approx(0.25)
    assert before.last_error is None
    assert (after.exchanges, after.errors, after.reconnects) == (3, 1, 1)
    assert after.last_error == "no reply within 1 s"


@pytest.mark.parametrize("use", ["open", "query", "close"])
async def test_a_cancelled_wait_for_the_lock_changes_nothing(use: str) -> None:
    async with powered() as (echo, transport):
        uses: dict[str, Callable[[], Awaitable[object]]] = {
            "open": transport.open,
            "query": lambda: transport.query("B?"),
            "close": transport.close,
        }

        async def wait() -> None:
            await uses[use]()

        async with asyncio.TaskGroup() as tasks, transport.exclusive() as link:
            waiting = tasks.create_task(wait())
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.sleep(0)
            assert await link.query("A?") == "A"

        assert waiting.cancelled()
        assert echo.channel.opened == 1


async def test_a_stream_is_read_as_it_comes() -> None:
    async with silent() as (channel, transport), transport.exclusive() as link:
        channel.deliver(b"line\n\x01\x02")
        assert await link.read() == "line"
        assert await link.read_some(0.2) == b"\x01\x02"
        channel.deliver(b"\x03")
        assert await link.read_some(0.2) == b"\x03"


async def test_a_stream_may_be_silent() -> None:
    async with silent() as (channel, transport):
        async with transport.exclusive() as link:
            assert await link.read_some(0.2) == b""
            channel.deliver(b"\x01")
            assert await link.read_some(0.2) == b"\x01"
        assert transport.health().errors == 0


async def test_a_stream_that_is_cut_off_is_a_lost_link() -> None:
    async with silent() as (channel, transport):
        async with transport.exclusive() as link:
            channel.hang_up()
            with pytest.raises(TransportError):
                await link.read_some(0.2)
        assert transport.health().errors == 1
