import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sim.endpoints.service import LATE_S, Clock, ServedInstrument, UnpluggedError
from sim.virtual_time import run
from sim.wire import MAIN, Reply


class Parrot:
    """Says ``word`` 5 s after ``5 word``; acts by itself at the times it is given."""

    def __init__(self, *acts_s: float) -> None:
        self.acts_s = list(acts_s)
        self.log: list[str] = []

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        replies = []
        for line in data.decode().splitlines():
            delay, _, word = line.partition(" ")
            replies.append(Reply(word.encode(), float(delay), port))
        return replies

    def reset_line(self, now_s: float) -> None:
        self.log.append("reset line")

    def power_cycle(self, now_s: float) -> None:
        self.log.append("power cycle")

    def due_s(self) -> float | None:
        return self.acts_s[0] if self.acts_s else None

    def tick(self, now_s: float) -> list[Reply]:
        due_s = self.acts_s.pop(0)
        return [Reply(f"acted at {due_s:g}".encode(), port="events")]


def serve(*acts_s: float, **options: Any) -> ServedInstrument:
    return ServedInstrument("parrot", Parrot(*acts_s), Clock(), **options)


async def take(instrument: ServedInstrument, count: int, port: str = MAIN) -> list[Any]:
    taken = []
    for _ in range(count):
        reply = await instrument.next_reply(port)
        taken.append((asyncio.get_running_loop().time(), reply.data.decode()))
    return taken


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        run(test())

    wrapped.__name__ = test.__name__
    return wrapped


@in_virtual_time
async def test_replies_come_when_they_are_due() -> None:
    parrot = serve()
    parrot.receive(b"0 now\n1.5 later\n")

    assert await take(parrot, 2) == [(0.0, "now"), (1.5, "later")]


@in_virtual_time
async def test_a_reply_due_within_the_rounding_of_the_clock_is_not_waited_for_forever() -> None:
    async def take_next_turn(port: str) -> None:
        await asyncio.sleep(0)
        await take(parrot, 1, port)

    due_s = math.nextafter(0.55, 1)
    parrot = serve()
    for port in ("one", "two"):
        parrot.receive(f"{due_s!r} word\n".encode(), port)
    await asyncio.sleep(0.55)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take(parrot, 1, "one"))
        tasks.create_task(take_next_turn("two"))


@in_virtual_time
async def test_a_reply_far_off_does_not_hold_up_the_next_ones() -> None:
    parrot = serve()
    parrot.receive(b"60 moved\n")
    parrot.receive(b"0 one\n")
    parrot.receive(b"0 two\n")

    assert await take(parrot, 3) == [(0.0, "one"), (0.0, "two"), (60.0, "moved")]


@in_virtual_time
async def test_a_request_wakes_who_waits_for_the_reply() -> None:
    parrot = serve()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(take(parrot, 1))
        await asyncio.sleep(3)
        parrot.receive(b"1 hello\n")

    assert waiting.result() == [(4.0, "hello")]


@in_virtual_time
async def test_ports_do_not_mix() -> None:
    parrot = serve()
    parrot.receive(b"0 here\n", "other")
    parrot.receive(b"5 there\n")

    assert await take(parrot, 1) == [(5.0, "there")]
    assert await take(parrot, 1, "other") == [(5.0, "here")]


@in_virtual_time
async def test_replies_are_addressed_to_whoever_asked() -> None:
    parrot = serve(1.0)
    parrot.receive(b"0 hello\n", MAIN, "anna")

    assert (await parrot.next_reply()).peer == "anna"
    assert (await parrot.next_reply("events")).peer is None


@in_virtual_time
async def test_an_instrument_acts_by_itself_at_its_exact_times() -> None:
    parrot = serve(0.1, 7.7, 1e5)

    assert await take(parrot, 3, "events") == [
        (0.1, "acted at 0.1"),
        (7.7, "acted at 7.7"),
        (1e5, "acted at 100000"),
    ]


@in_virtual_time
async def test_an_instrument_acts_for_whoever_waits_on_any_port() -> None:
    parrot = serve(2.0)
    parrot.receive(b"4 done\n")

    assert await take(parrot, 1) == [(4.0, "done")]
    assert await take(parrot, 1, "events") == [(4.0, "acted at 2")]


@in_virtual_time
async def test_a_stalled_instrument_answers_once_it_wakes_up() -> None:
    parrot = serve()
    parrot.set_fault("stall")
    parrot.receive(b"0 hello\n")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(take(parrot, 1))
        await asyncio.sleep(20)
        parrot.set_fault("stall", is_on=False)

    assert waiting.result() == [(20.0, "hello")]


@in_virtual_time
async def test_what_is_asked_after_a_late_reply_is_answered_after_it() -> None:
    parrot = serve()
    parrot.set_fault("late")
    parrot.receive(b"0 late\n0.1 end\n")
    parrot.set_fault("late", is_on=False)
    await asyncio.sleep(LATE_S + 0.05)
    parrot.receive(b"0 new\n")

    words = [word for _, word in await take(parrot, 3)]
    assert words == ["late", "end", "new"]


@in_virtual_time
async def test_a_late_reply_of_one_client_does_not_hold_up_another() -> None:
    parrot = serve()
    parrot.set_fault("late")
    parrot.receive(b"0 late\n", peer="one")
    parrot.set_fault("late", is_on=False)
    parrot.receive(b"0 new\n", peer="two")

    assert await take(parrot, 2) == [(0.0, "new"), (LATE_S, "late")]


@in_virtual_time
async def test_the_pieces_of_one_reply_do_not_mix_with_those_of_another() -> None:
    parrot = serve()
    parrot.set_fault("split")
    parrot.receive(b"0 first\n")
    await asyncio.sleep(0.001)
    parrot.receive(b"0 second\n")

    pieces = [word for _, word in await take(parrot, 6)]
    assert "".join(pieces) == "firstsecond"


@in_virtual_time
async def test_a_late_reply_is_late() -> None:
    parrot = serve()
    parrot.set_fault("late")
    parrot.receive(b"1 hello\n")

    assert await take(parrot, 1) == [(1 + LATE_S, "hello")]


@in_virtual_time
async def test_a_mute_instrument_obeys_but_says_nothing() -> None:
    parrot = serve()
    parrot.set_fault("mute")
    parrot.receive(b"0 lost\n")
    parrot.set_fault("mute", is_on=False)
    parrot.receive(b"1 heard\n")

    assert await take(parrot, 1) == [(1.0, "heard")]


@in_virtual_time
async def test_split_replies_come_in_pieces() -> None:
    parrot = serve()
    parrot.set_fault("split")
    parrot.receive(b"0 abcdef\n")

    pieces = await take(parrot, 3)

    assert [word for _, word in pieces] == ["a", "bc", "def"]
    assert pieces[0][0] < pieces[1][0] < pieces[2][0]


@in_virtual_time
async def test_the_pieces_of_one_reply_are_not_overtaken_by_the_next() -> None:
    parrot = serve()
    parrot.set_fault("split")
    parrot.receive(b"0 abcdef\n0.001 ghijkl\n")

    pieces = await take(parrot, 6)

    assert "".join(word for _, word in pieces) == "abcdefghijkl"


@in_virtual_time
async def test_messages_are_never_split() -> None:
    parrot = serve(message_ports=[MAIN])
    parrot.set_fault("split")
    parrot.receive(b"0 abcdef\n")

    assert await take(parrot, 1) == [(0.0, "abcdef")]


@in_virtual_time
async def test_garbage_is_the_same_for_the_same_seed() -> None:
    garbled = []
    for seed in (1, 1, 2):
        parrot = serve(seed=seed)
        parrot.set_fault("garbage")
        parrot.receive(b"0 a perfectly clear answer\n")
        garbled.append((await parrot.next_reply()).data)

    assert len(garbled[0]) == len(b"a perfectly clear answer")
    assert garbled[0] == garbled[1] != garbled[2]
    assert b"a perfectly clear answer" not in garbled


@in_virtual_time
async def test_pulling_the_cable_loses_what_was_under_way() -> None:
    parrot = serve()
    parrot.receive(b"1 lost\n")
    parrot.set_fault("unplug")
    parrot.receive(b"0 unheard\n")
    with pytest.raises(UnpluggedError):
        await parrot.next_reply()
    parrot.set_fault("unplug", is_on=False)
    parrot.receive(b"2 heard\n")

    assert await take(parrot, 1) == [(2.0, "heard")]


@in_virtual_time
async def test_pulling_the_cable_wakes_who_waits_for_a_reply() -> None:
    parrot = serve()

    async def wait() -> float:
        with pytest.raises(UnpluggedError):
            await parrot.next_reply()
        await parrot.plugged()
        return asyncio.get_running_loop().time()

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait())
        await asyncio.sleep(1)
        parrot.set_fault("unplug")
        await asyncio.sleep(1)
        parrot.set_fault("unplug", is_on=False)

    assert waiting.result() == 2.0


@in_virtual_time
async def test_a_power_cycle_restarts_the_instrument_and_breaks_the_link() -> None:
    parrot = serve()
    parrot.receive(b"1 lost\n")
    links = parrot.links

    parrot.set_fault("power-cycle")

    assert isinstance(parrot.front_end, Parrot)
    assert parrot.front_end.log == ["reset line", "power cycle"]
    assert parrot.links == links + 1
    assert parrot.is_plugged


@in_virtual_time
async def test_replies_that_nobody_takes_do_not_pile_up_without_bound() -> None:
    parrot = serve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.endpoints.service.PENDING_LIMIT_BYTES", 100)
        for _ in range(30):
            parrot.receive(b"0 ten bytes!\n")

    assert parrot.lost_replies == 20


@in_virtual_time
async def test_every_exchange_is_announced_before_and_after() -> None:
    seen: list[float] = []
    parrot = serve(on_exchange=seen.append)
    await asyncio.sleep(2)

    parrot.receive(b"0 hello\n")
    await asyncio.sleep(1)
    parrot.receive(b"0 hello\n")

    assert seen == [0.0, 0.0, 1.0, 1.0]
