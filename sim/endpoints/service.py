"""One simulated instrument behind its ports: the waiting, and every fault that a link can have."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, Literal, Never, Protocol, get_args, runtime_checkable

import numpy as np

from sim.wire import MAIN, FrontEnd, Reply

Fault = Literal["unplug", "stall", "mute", "late", "garbage", "split", "power-cycle"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)

LATE_S: Final = 3.0
"""Delay that the fault ``late`` adds to every reply, s."""

SPLIT_GAP_S: Final = 0.005
"""Time between the pieces that the fault ``split`` makes of a reply, s."""

TIMER_RESOLUTION_S: Final = 1e-9
"""How much early the loop may wake whoever waits for a time, s: its clock need not move again."""

PENDING_LIMIT_BYTES: Final = 1 << 28
"""Replies of one port that wait to be sent; what comes on top is lost."""


@runtime_checkable
class SelfActing(Protocol):
    """A front end that also does things without being asked."""

    def due_s(self) -> float | None:
        """When it next acts by itself, or None."""
        ...

    def tick(self, now_s: float) -> list[Reply]:
        """Do what is due by a time, and return what that sends."""
        ...


class UnpluggedError(Exception):
    """The cable is out."""


@dataclass(frozen=True)
class Outgoing:
    """Bytes on their way out.

    Attributes:
        data: The bytes; for a message port one message.
        peer: Whoever asked, as the endpoint named it; None: nobody asked.
    """

    data: bytes
    peer: object | None


class _Outbox:
    """Replies of one port in the order in which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Outgoing]] = []
        self._entries = 0
        self._pending_bytes = 0
        self.lost = 0

    def put(self, due_s: float, item: Outgoing) -> None:
        if self._pending_bytes + len(item.data) > PENDING_LIMIT_BYTES:
            self.lost += 1
            return
        heappush(self._heap, (due_s, self._entries, item))
        self._entries += 1
        self._pending_bytes += len(item.data)

    @property
    def due_s(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Outgoing:
        _, _, item = heappop(self._heap)
        self._pending_bytes -= len(item.data)
        return item

    def clear(self) -> None:
        self._heap.clear()
        self._pending_bytes = 0


class Clock:
    """Seconds since the bench first looked at it, by the running loop's own clock."""

    def __init__(self) -> None:
        self._origin_s: float | None = None

    def now_s(self) -> float:
        """Return the bench's time, s."""
        origin_s = self.loop_s(0.0)
        return asyncio.get_running_loop().time() - origin_s

    def loop_s(self, time_s: float) -> float:
        """Return when a time of the bench is by the loop's clock, s."""
        if self._origin_s is None:
            self._origin_s = asyncio.get_running_loop().time()
        return self._origin_s + time_s


class ServedInstrument:
    """A front end with its ports, its clock and its faults; endpoints bring it the bytes.

    Replies leave in the order in which they are due, whatever the order in which they were
    promised: one that comes much later by itself holds nothing up. What the faults ``late`` and
    ``split`` delay is not overtaken on its own stream of bytes: two replies never mix.

    Args:
        name: Name on the bench.
        front_end: The command set.
        clock: The bench's clock.
        seed: Of the noise that the fault ``garbage`` puts on the line.
        message_ports: Ports that carry whole messages: ``split`` leaves them alone.
        on_exchange: Called with the time before and after every exchange.
    """

    def __init__(
        self,
        name: str,
        front_end: FrontEnd,
        clock: Clock,
        *,
        seed: int = 0,
        message_ports: Iterable[str] = (),
        on_exchange: Callable[[float], None] = lambda _now_s: None,
    ) -> None:
        self.name = name
        self.front_end = front_end
        self._self_acting = front_end if isinstance(front_end, SelfActing) else None
        self._clock = clock
        self._noise = np.random.default_rng(seed)
        self._message_ports = frozenset(message_ports)
        self._on_exchange = on_exchange
        self._outboxes: dict[str, _Outbox] = {}
        self._late_until_s: dict[tuple[str, object | None], float] = {}  # by port and peer
        self._faults: set[Fault] = set()
        self._links = 0
        self._changed = asyncio.Event()

    @property
    def faults(self) -> frozenset[Fault]:
        """Faults that are on."""
        return frozenset(self._faults)

    @property
    def is_plugged(self) -> bool:
        """Whether the cable is in."""
        return "unplug" not in self._faults

    @property
    def links(self) -> int:
        """How often the link was lost: what was opened before is dead since."""
        return self._links

    @property
    def lost_replies(self) -> int:
        """Replies that found their port's outbox full."""
        return sum(outbox.lost for outbox in self._outboxes.values())

    def set_fault(self, fault: Fault, *, is_on: bool = True) -> None:
        """Switch a fault on or off; ``power-cycle`` happens at once and does not last.

        A stalled instrument answers what it was asked once the fault is off. Unplugging loses
        half a received line and every reply under way.
        """
        if fault == "power-cycle":
            self._lose_link()
            self.front_end.power_cycle(self._clock.now_s())
        elif is_on:
            self._faults.add(fault)
            if fault == "unplug":
                self._lose_link()
        else:
            self._faults.discard(fault)
        self._announce_change()

    def receive(self, data: bytes, port: str = MAIN, peer: object | None = None) -> None:
        """Take bytes that a client sent to a port.

        Args:
            data: As they came, or one message.
            port: The port.
            peer: Who sent them; the reply is addressed so.
        """
        if not self.is_plugged:
            return
        now_s = self._clock.now_s()
        self._on_exchange(now_s)
        replies = self.front_end.handle(data, now_s, port)
        self._post(replies, port, peer)
        if self._self_acting is not None:
            self._announce_change()  # something may be due earlier now, although nothing is said
        self._on_exchange(now_s)

    def reset_line(self) -> None:
        """Forget half a received line: the client is gone."""
        self.front_end.reset_line(self._clock.now_s())

    def act(self) -> None:
        """Let the front end do what is due."""
        if self._self_acting is None:
            return
        due_s = self._self_acting.due_s()
        if due_s is not None and self._is_past(self._clock.loop_s(due_s)):
            self._post(self._self_acting.tick(max(due_s, self._clock.now_s())), None, None)

    async def next_reply(self, port: str = MAIN) -> Outgoing:
        """Wait for the next reply of a port.

        Raises:
            UnpluggedError: The link is down or goes down.
        """
        outbox, links = self._outbox(port), self._links
        while True:
            if not self.is_plugged or links != self._links:
                raise UnpluggedError(f"{self.name} is unplugged")
            self.act()
            if outbox.due_s is not None and self._is_past(outbox.due_s) and not self._is_stalled:
                return outbox.pop()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._wake_s(outbox)):
                    await self._changed.wait()

    async def plugged(self) -> None:
        """Wait until the cable is in."""
        while not self.is_plugged:
            await self._changed.wait()

    def discard_arrived(self, port: str) -> None:
        """Drop the replies that are due already: nobody had the port open."""
        outbox = self._outbox(port)
        while outbox.due_s is not None and self._is_past(outbox.due_s):
            outbox.pop()

    @property
    def _is_stalled(self) -> bool:
        return "stall" in self._faults

    def _is_past(self, loop_s: float) -> bool:
        return loop_s <= asyncio.get_running_loop().time() + TIMER_RESOLUTION_S

    def _wake_s(self, outbox: _Outbox) -> float | None:
        act_s = self._self_acting.due_s() if self._self_acting else None
        times_s = [] if act_s is None else [self._clock.loop_s(act_s)]
        if outbox.due_s is not None and not self._is_stalled:
            times_s.append(outbox.due_s)
        return min(times_s, default=None)

    def _outbox(self, port: str) -> _Outbox:
        return self._outboxes.setdefault(port, _Outbox())

    def _post(self, replies: list[Reply], port: str | None, peer: object | None) -> None:
        """Queue replies, as the faults leave them; ``peer`` asked on ``port``."""
        if not self.is_plugged or "mute" in self._faults:
            return
        loop_s = asyncio.get_running_loop().time()
        delay_s = LATE_S if "late" in self._faults else 0.0
        self._late_until_s = {at: t for at, t in self._late_until_s.items() if t > loop_s}
        sent_s: dict[str, float] = {}  # by port: pieces of one reply are not overtaken by the next
        for reply in replies:
            to = peer if reply.port == port else None
            line = reply.port, to
            earliest_s = sent_s.get(reply.port, self._late_until_s.get(line, loop_s))
            due_s = max(earliest_s, loop_s + reply.after_s + delay_s)
            pieces = self._pieces(reply)
            for number, piece in enumerate(pieces):
                due_s += SPLIT_GAP_S if number else 0.0
                self._outbox(reply.port).put(due_s, Outgoing(piece, to))
            sent_s[reply.port] = due_s
            if (delay_s or len(pieces) > 1) and reply.port not in self._message_ports:
                self._late_until_s[line] = due_s
        if replies:
            self._announce_change()

    def _pieces(self, reply: Reply) -> list[bytes]:
        data = self._garbled(reply.data) if "garbage" in self._faults else reply.data
        if "split" not in self._faults or reply.port in self._message_ports or len(data) < 2:
            return [data]
        middle = len(data) // 2
        return [data[:1], data[1:middle], data[middle:]] if middle > 1 else [data[:1], data[1:]]

    def _garbled(self, data: bytes) -> bytes:
        """Return the bytes with about every other one replaced by noise."""
        bits = np.frombuffer(data, np.uint8)
        noise = self._noise.integers(0, 256, bits.size, dtype=np.uint8)
        return np.where(self._noise.random(bits.size) < 0.5, noise, bits).tobytes()

    def _lose_link(self) -> None:
        self._links += 1
        self._late_until_s.clear()
        for outbox in self._outboxes.values():
            outbox.clear()
        self.reset_line()

    def _announce_change(self) -> None:
        """Wake everybody who waits for a reply or for the cable."""
        self._changed.set()
        self._changed = asyncio.Event()


class Endpoint(Protocol):
    """What carries one port of an instrument to its clients."""

    @property
    def resource(self) -> str:
        """Where clients find it, as a resource string."""
        ...

    async def open(self) -> None:
        """Appear to the clients, where it was before if it was there before."""
        ...

    async def close(self) -> None:
        """Disappear: clients notice, as far as their kind of link lets them."""
        ...

    async def serve(self) -> None:
        """Send replies until cancelled, through every opening and closing."""
        ...


async def deliver(
    instrument: ServedInstrument, port: str, send: Callable[[Outgoing], None]
) -> Never:
    """Hand every reply of a port to ``send``, until cancelled."""
    while True:
        try:
            send(await instrument.next_reply(port))
        except UnpluggedError:
            await instrument.plugged()
