"""Dialogues in APT messages: a pause after each, and answers picked out of what comes unasked."""

import asyncio
from collections.abc import Sequence

from drivers.errors import TransportError
from drivers.polarization_controllers.thorlabs_mpc320_messages import (
    ACKNOWLEDGE,
    PARAMETERS,
    REQUEST_PARAMETERS,
    REQUEST_STATUS,
    STATUS,
    Message,
    MessageBuffer,
    PaddleStatus,
    channel_of,
)
from drivers.transport.transport import Dialogue

# One public driver leaves this much between writes, s.
PAUSE_S = 0.003


class AptDialogue:
    """Messages both ways over one dialogue with a unit.

    Args:
        link: The dialogue.
        timeout_s: Longest wait for an answer, s.

    Attributes:
        seen: Id and channel of every message that came without being waited for.
    """

    def __init__(self, link: Dialogue, timeout_s: float) -> None:
        self.seen: set[tuple[int, int]] = set()
        self._link = link
        self._timeout_s = timeout_s
        self._buffer = MessageBuffer()

    async def send(self, message: Message) -> None:
        """Send one message and leave the pause that the unit needs.

        Raises:
            TransportError: Link lost, or the message was not taken in time.
        """
        await self._link.write_bytes(message.to_unit())
        await asyncio.sleep(PAUSE_S)

    async def ask(self, question: Message, answer_id: int) -> Message:
        """Send a question and wait for its answer; raises as ``receive`` does."""
        await self.send(question)
        return await self.receive(answer_id)

    async def receive(self, message_id: int, channel: int | None = None) -> Message:
        """Wait for one message, noting what comes before it.

        Args:
            message_id: What it is about.
            channel: Which channel it is about; None: whatever it says.

        Raises:
            TransportError: It did not come in time, or link lost.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        while (time_left_s := deadline_s - loop.time()) > 0:
            while (message := self._buffer.take()) is not None:
                if message.id == message_id and channel in (None, message.channel):
                    return message
                self.seen.add((message.id, message.channel))
            self._buffer.feed(
                await self._link.read_exactly(self._buffer.missing, timeout_s=time_left_s)
            )
        raise TransportError(
            self._link.instrument,
            f"no message {message_id:04x} within {self._timeout_s:g} s among what came unasked",
        )

    async def statuses(self, paddles: Sequence[int]) -> dict[int, PaddleStatus]:
        """Ask where some paddles are, and acknowledge: without that a unit falls silent.

        A status may also come unasked, and wait to be read for long. The parameters never do, and
        the unit answers in order: what comes after them was said after they were asked for.

        Returns:
            The status by paddle.

        Raises:
            TransportError: No answer in time, or link lost.
        """
        await self.send(Message(REQUEST_PARAMETERS))
        for paddle in paddles:
            await self.send(Message(REQUEST_STATUS, channel_of(paddle)))
        await self.receive(PARAMETERS)
        found = {}
        for paddle in paddles:
            answer = await self.receive(STATUS, channel_of(paddle))
            found[paddle] = PaddleStatus.parse(answer.data)
        await self.acknowledge()
        return found

    async def acknowledge(self) -> None:
        """Tell the unit that somebody listens; raises as ``send`` does."""
        await self.send(Message(ACKNOWLEDGE))

    async def drain(self) -> None:
        """Drop what a unit that answers in order still has to say to earlier questions."""
        await self._link.drain()
        self._buffer = MessageBuffer()
