"""Instruments that follow a script: each test fixes the exact bytes both ways."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector

# Bytes that must be sent, and what comes back: bytes, several pieces, nothing, or a failure.
Exchange = tuple[bytes, bytes | Sequence[bytes] | ChannelError | None]


@dataclass
class ScriptedChannel:
    """A channel that accepts only the next bytes of its script.

    Attributes:
        remaining: Exchanges still to come.
        opened: How often it was opened.
    """

    script: Sequence[Exchange]
    remaining: list[Exchange] = field(init=False)
    opened: int = 0

    def __post_init__(self) -> None:
        self.remaining = list(self.script)
        self._arrived: asyncio.Queue[bytes | ChannelError] = asyncio.Queue()

    async def open(self) -> None:
        self.opened += 1
        self._arrived = asyncio.Queue()

    async def send(self, data: bytes) -> None:
        assert self.remaining, f"nothing more was expected, got {data!r}"
        expected, reply = self.remaining.pop(0)
        assert data == expected
        if reply is None:
            return
        for piece in [reply] if isinstance(reply, bytes | ChannelError) else reply:
            self._arrived.put_nowait(piece)

    async def receive(self) -> bytes:
        piece = await self._arrived.get()
        if isinstance(piece, ChannelError):
            raise piece
        return piece

    async def close(self) -> None:
        pass


@dataclass
class Wire:
    """One scripted channel and the connector that reaches it as ``memory:wire``."""

    channel: ScriptedChannel

    @property
    def connector(self) -> Connector:
        return Connector(memory={"wire": lambda: self.channel})


@pytest.fixture
def scripted() -> Callable[[Sequence[Exchange]], Wire]:
    """Make a wire from a script of (bytes expected, bytes answered)."""
    return lambda script: Wire(ScriptedChannel(script))
