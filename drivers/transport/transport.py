"""Dialogues with one instrument: one lock, and recovery of a line that got out of step."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import Health
from drivers.transport.channel import Channel
from drivers.transport.framing import LINES, Framing
from drivers.transport.line import Line
from drivers.transport.trace import Trace

__all__ = ["Dialogue", "Framing", "Hook", "Transport"]


class Dialogue:
    """The right to talk to one instrument, undisturbed, until the block ends.

    After a failure nothing more is read in the same dialogue, since a late reply would answer the
    wrong question; commands may still be sent, which is what making an instrument safe needs.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._sent: str | None = None
        self._has_failed = False

    @property
    def instrument(self) -> str:
        """Name of the instrument, for errors."""
        return self._line.instrument

    @property
    def has_failed(self) -> bool:
        """Whether an exchange failed, so that the line needs recovery."""
        return self._has_failed

    async def write(self, text: str) -> None:
        """Send one command; the transport adds the terminator.

        Raises:
            SettingError: Not printable ASCII, or it contains the terminator; nothing was sent.
            TransportError: Link lost, or the command was not taken in time.
        """
        terminator = self._line.framing.write_terminator
        command = text.encode("ascii", "replace")
        if not (text.isascii() and text.isprintable()) or (terminator and terminator in command):
            raise SettingError(self.instrument, f"{text!r} is not one printable command")
        await self._send(command + terminator, text)

    async def write_bytes(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            TransportError: Link lost, or the bytes were not taken in time.
        """
        await self._send(data, data.hex(" "))

    async def read(self, *, timeout_s: float | None = None) -> str:
        r"""Wait for one reply; return it without terminator and trailing ``\r``.

        Raises:
            TransportError: No whole reply in time, or link lost.
            ReplyError: Not ASCII, or longer than any reply may be.
        """
        with self._watched(is_read=True):
            reply = await self._line.receive_reply(self._timeout_s(timeout_s), self._sent)
            if not reply.isascii():
                raise self._line.garbled("reply is not ASCII", self._sent, reply)
        return reply.decode("ascii").rstrip("\r")

    async def read_exactly(self, n_bytes: int, *, timeout_s: float | None = None) -> bytes:
        """Wait for ``n_bytes`` of a binary reply.

        Raises:
            TransportError: Not all came in time, or link lost.
        """
        with self._watched(is_read=True):
            return await self._line.receive_exactly(n_bytes, self._timeout_s(timeout_s), self._sent)

    async def read_some(self, within_s: float) -> bytes:
        """Wait for the next bytes of a stream, however many come; none if none came in time.

        Silence is no failure here: whoever reads a stream knows how long it may be silent.

        Raises:
            TransportError: Link lost.
        """
        with self._watched(is_read=True):
            return await self._line.receive_some(within_s, self._sent)

    async def drain(self) -> None:
        """Drop what comes, until nothing has for a while.

        An instrument that answers in order has then said all that earlier questions were owed.

        Raises:
            TransportError: Link lost.
        """
        with self._watched(is_read=True):
            await self._line.drain()

    async def query(self, text: str, *, timeout_s: float | None = None) -> str:
        """Send one command and wait for its reply; raises what ``write`` and ``read`` raise."""
        await self.write(text)
        return await self.read(timeout_s=timeout_s)

    async def _send(self, data: bytes, shown: str) -> None:
        self._sent = shown
        with self._watched():
            await self._line.send(data, shown)

    def _timeout_s(self, timeout_s: float | None) -> float:
        return self._line.timeout_s if timeout_s is None else timeout_s

    @contextmanager
    def _watched(self, *, is_read: bool = False) -> Iterator[None]:
        """Note that an exchange failed, however it did, cancellation included."""
        if is_read and self._has_failed:
            raise TransportError(
                self._line.instrument, "not read after a failed exchange", sent=self._sent
            )
        try:
            yield
        except BaseException:
            self._has_failed = True
            self._line.is_dirty = True
            raise


Hook = Callable[[Dialogue], Awaitable[object]]
"""What a driver does before a dialogue starts; it raises where the dialogue must not."""


class Transport:
    """The link to one instrument, shared by whoever holds its driver.

    A failed link is not given up: the next dialogue closes it, opens it again, waits until it is
    quiet and sees whether it is still the same instrument. If that fails, the dialogue does not
    start. What the instrument has to be set up with follows before anything else, but for an
    urgent dialogue, which does without: it is then left for the next one that is not.

    Args:
        instrument: Name in errors and in the trace.
        channel: The wire; the transport is its only user.
        framing: Terminators.
        timeout_s: Longest wait for one reply, and for a command to be taken, s.
        trace: Traffic log, if wanted.

    Attributes:
        on_reopen: Set by the driver: identify the instrument again. Like the next one it talks
            through the dialogue that it gets, since the transport itself is locked for the
            dialogue that waits.
        on_set_up: Set by the driver: put back what a power cycle would have lost.
    """

    def __init__(
        self,
        instrument: str,
        channel: Channel,
        framing: Framing = LINES,
        *,
        timeout_s: float = 1.0,
        trace: Trace | None = None,
    ) -> None:
        self.instrument = instrument
        self.on_reopen: Hook | None = None
        self.on_set_up: Hook | None = None
        self._line = Line(instrument, channel, framing, timeout_s, trace)
        self._lock = asyncio.Lock()
        self._is_identified = False
        self._is_set_up = True

    async def open(self) -> None:
        """Connect; nothing happens on a line that is connected and in step.

        Raises:
            TransportError: No connection. Later dialogues try again until ``close``.
        """
        async with self._lock:
            self._line.is_wanted = True
            self._line.drop_stale()
            if self._line.is_dirty:
                await self._reopen()
                self._line.is_dirty = False

    async def close(self) -> None:
        """Disconnect, after the dialogue in progress if there is one."""
        async with self._lock:
            self._line.is_wanted = self._is_identified = False
            await self._line.close()

    @asynccontextmanager
    async def exclusive(self, *, is_urgent: bool = False) -> AsyncIterator[Dialogue]:
        """Hold one dialogue under the lock.

        Whatever ends the block early leaves the line dirty, except errors that end an exchange in
        good order: the instrument refused, or nothing was sent.

        Args:
            is_urgent: It needs no more than that this is the right instrument: what makes it safe
                must not depend on whether it takes its set-up.

        Raises:
            TransportError: Not open, or the line could not be recovered.
            InstrumentError: Another instrument, or one that could not be set up again.
        """
        async with self._lock:
            await self._put_in_step(is_urgent=is_urgent)
            with self._doubted_if_broken():
                yield Dialogue(self._line)

    @asynccontextmanager
    async def setting_up(self) -> AsyncIterator[Dialogue]:
        """Hold the dialogue in which the driver sets the instrument up, after ``open``.

        If it fails, however it does, the next dialogue begins as after a lost link.
        """
        async with self.exclusive(is_urgent=True) as dialogue:
            self._is_set_up = False
            try:
                yield dialogue
            except BaseException:
                self._line.is_dirty = True
                raise
            self._is_identified = self._is_set_up = True

    async def send_ahead(self, text: str) -> None:
        """Send a command at once, although a dialogue waits for a reply or the line is dirty.

        For what must not wait so long. Nobody knows whether it was heard: say it again in a
        dialogue, before which the line is then recovered. Nothing is sent where a dialogue starts
        at once, nor to an instrument that has not been identified since the link was opened.

        Raises:
            SettingError: Not one printable command; nothing was sent.
        """
        if not self._is_identified or not (self._lock.locked() or self._line.is_dirty):
            return
        self._line.is_dirty = True
        with suppress(TransportError):
            await Dialogue(self._line).write(text)

    async def query(self, text: str, *, timeout_s: float | None = None) -> str:
        """Ask one question that changes nothing; asked once more if the first try is lost.

        Raises:
            TransportError: Both tries were lost.
            ReplyError: Not ASCII, or endless.
        """
        try:
            return await self._query_once(text, timeout_s)
        except TransportError:
            return await self._query_once(text, timeout_s)

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._line.health()

    async def _query_once(self, text: str, timeout_s: float | None) -> str:
        async with self.exclusive() as dialogue:
            return await dialogue.query(text, timeout_s=timeout_s)

    async def _put_in_step(self, *, is_urgent: bool) -> None:
        if not self._line.is_wanted:
            raise TransportError(self.instrument, "the link is not open")
        self._line.drop_stale()
        try:
            await self._take_up_again(is_urgent=is_urgent)
        except ReplyError:
            # An instrument that was slower than the drain has answered an old question. It answers
            # in order, so this time only another instrument gives a wrong reply.
            await self._take_up_again(is_urgent=is_urgent)

    async def _take_up_again(self, *, is_urgent: bool) -> None:
        if self._line.is_dirty:
            await self._reopen()
            await self._run(self.on_reopen, "not identified again after a lost link")
            if self._line.framing.is_stream:
                await self._line.drain()  # it may have answered what was asked before the loss
            self._is_identified = True
            self._line.is_dirty = False
        if not (is_urgent or self._is_set_up):
            with self._doubted_if_broken():
                await self._run(self.on_set_up, "not set up again after a lost link")
            self._is_set_up = True

    async def _reopen(self) -> None:
        self._is_identified = self._is_set_up = False
        await self._line.reopen()

    async def _run(self, hook: Hook | None, problem: str) -> None:
        if hook is None:
            return
        dialogue = Dialogue(self._line)
        await hook(dialogue)
        if dialogue.has_failed:
            raise TransportError(self.instrument, problem)

    @contextmanager
    def _doubted_if_broken(self) -> Iterator[None]:
        """Leave the line dirty, unless the block ends in good order, refused perhaps."""
        try:
            yield
        except (SettingError, RejectedError):
            raise
        except BaseException:
            self._line.is_dirty = True
            raise
