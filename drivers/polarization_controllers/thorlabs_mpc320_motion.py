"""How Thorlabs motorised paddles are switched on, homed, turned and stopped, each wait bounded."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from drivers.errors import RejectedError, ReplyError, TransportError
from drivers.polarization_controllers.thorlabs_mpc320_link import AptDialogue
from drivers.polarization_controllers.thorlabs_mpc320_messages import (
    ENABLE,
    HOMED,
    MOVE_HOME,
    MOVED,
    SET_ENABLED,
    STOP,
    STOP_AT_ONCE,
    STOPPED,
    Message,
    PaddleStatus,
    channel_of,
    move_to,
)
from drivers.polarization_controllers.thorlabs_mpc320_options import Mpc320Options, angle_deg

POLL_S = 0.02
# A unit that is not asked wants to hear from its host every second.
LONGEST_SILENCE_S = 0.5
# A paddle that still stands elsewhere this long after it was sent off is not going to move.
START_S = 0.5

Statuses = Mapping[int, PaddleStatus]
"""By paddle."""

log = logging.getLogger(__name__)


class Motion:
    """The paddles in use of one unit.

    Args:
        instrument: Name of the unit, for errors.
        options: Paddles, speed, tolerances.
    """

    def __init__(self, instrument: str, options: Mpc320Options) -> None:
        self._instrument = instrument
        self._options = options

    async def make_ready(self, apt: AptDialogue, *, homes_all: bool = False) -> Statuses:
        """Have all paddles stand, with their motors on, and know where they are.

        Args:
            apt: The dialogue.
            homes_all: Whether to home those that are homed, too.

        Raises:
            RejectedError: A motor stays off, or a paddle does not home.
            TransportError: Link lost, or a paddle does not come to rest.
        """
        found: Statuses = await apt.statuses(self._options.paddles)
        if moving := [paddle for paddle, each in found.items() if each.is_moving]:
            for paddle in moving:
                await self.stop(apt, paddle)
            found = await self.stand(apt)
        if not all(each.is_enabled for each in found.values()):
            found = await self._switch_on(apt)
        if to_home := [n for n, each in found.items() if homes_all or not each.is_homed]:
            for paddle in to_home:
                await self._home(apt, paddle)
            found = await apt.statuses(self._options.paddles)
        return found

    async def turn(self, apt: AptDialogue, paddle: int, start_steps: int, target_steps: int) -> int:
        """Turn one paddle and wait until it stands.

        Args:
            apt: The dialogue.
            paddle: Its number; it stands, and its motor is on.
            start_steps: Where it is.
            target_steps: Where it is to go.

        Returns:
            Where it stands, steps.

        Raises:
            RejectedError: It stands elsewhere, and its status says why.
            ReplyError: It stands elsewhere.
            TransportError: Link lost, or it still turns.
        """
        loop = asyncio.get_running_loop()
        channel, message = channel_of(paddle), move_to(paddle, target_steps)
        apt.seen.clear()
        await apt.send(message)
        at_rest_s = loop.time() + START_S
        travel_deg = angle_deg(abs(target_steps - start_steps))
        await asyncio.sleep(min(travel_deg / self._options.speed_deg_per_s, LONGEST_SILENCE_S))

        def has_ended(found: Statuses) -> bool:
            is_told = bool({(MOVED, channel), (STOPPED, channel)} & apt.seen)
            is_over = is_told or loop.time() > at_rest_s
            status = found[paddle]
            return not status.is_moving and (is_over or status.steps == target_steps)

        found = await self._watch(apt, [paddle], has_ended, self._options.move_timeout_s)
        self._check_arrival(paddle, found[paddle], target_steps, message)
        return found[paddle].steps

    async def stop(self, apt: AptDialogue, paddle: int) -> None:
        """Stop one paddle at once; raises TransportError if the link is lost."""
        await apt.send(Message(STOP, channel_of(paddle), STOP_AT_ONCE))

    async def stand(self, apt: AptDialogue) -> Statuses:
        """Wait until all paddles stand.

        Raises:
            TransportError: Link lost, or a paddle still turns.
        """

        def stand(found: Statuses) -> bool:
            return not any(each.is_moving for each in found.values())

        within_s = self._options.move_timeout_s
        found = await self._watch(apt, self._options.paddles, stand, within_s)
        if not stand(found):
            problem = f"the paddles do not stand within {within_s:g} s"
            raise TransportError(self._instrument, problem, received=_shown(found))
        return found

    async def _switch_on(self, apt: AptDialogue) -> Statuses:
        """Switch the motors in use on, and with the same message all others off."""
        message = Message(SET_ENABLED, sum(map(channel_of, self._options.paddles)), ENABLE)
        await apt.send(message)

        def are_on(found: Statuses) -> bool:
            return all(each.is_enabled for each in found.values())

        found = await self._watch(apt, self._options.paddles, are_on, START_S)
        if not are_on(found):
            sent = message.to_unit().hex(" ")
            raise RejectedError(
                self._instrument, "motors stay off", sent=sent, received=_shown(found)
            )
        return await self.stand(apt)  # a target that was remembered is carried out now

    async def _home(self, apt: AptDialogue, paddle: int) -> None:
        loop = asyncio.get_running_loop()
        message = Message(MOVE_HOME, channel_of(paddle))
        apt.seen.clear()
        await apt.send(message)
        at_rest_s = loop.time() + START_S

        def has_ended(found: Statuses) -> bool:
            is_over = (HOMED, channel_of(paddle)) in apt.seen or loop.time() > at_rest_s
            return is_over and not found[paddle].is_moving

        found = await self._watch(apt, [paddle], has_ended, self._options.move_timeout_s)
        if not (has_ended(found) and found[paddle].is_homed):
            raise RejectedError(
                self._instrument,
                f"paddle {paddle} did not come home",
                sent=message.to_unit().hex(" "),
                received=_shown(found),
            )

    def _check_arrival(
        self, paddle: int, status: PaddleStatus, target_steps: int, message: Message
    ) -> None:
        sent, received = message.to_unit().hex(" "), _shown({paddle: status})
        if status.is_moving:
            problem = f"paddle {paddle} did not arrive within {self._options.move_timeout_s:g} s"
            raise TransportError(self._instrument, problem, sent=sent, received=received)
        faults = ", ".join(status.faults)
        if abs(status.steps - target_steps) <= self._options.tolerance_steps:
            if faults:
                log.warning(
                    "%s: paddle %d arrived, but reports %s", self._instrument, paddle, faults
                )
            return
        if faults:
            problem = f"paddle {paddle} did not arrive: {faults}"
            raise RejectedError(self._instrument, problem, sent=sent, received=received)
        problem = (
            f"paddle {paddle} was sent to {angle_deg(target_steps):.2f} degrees "
            f"and stands at {angle_deg(status.steps):.2f} degrees"
        )
        raise ReplyError(self._instrument, problem, sent=sent, received=received)

    async def _watch(
        self,
        apt: AptDialogue,
        paddles: Sequence[int],
        is_done: Callable[[Statuses], bool],
        within_s: float,
    ) -> Statuses:
        """Ask again and again until ``is_done``, or for so long; return the last answers."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while True:
            found = await apt.statuses(paddles)
            if is_done(found) or loop.time() > until_s:
                return found
            await asyncio.sleep(POLL_S)


def _shown(found: Statuses) -> str:
    """Statuses for an error text."""
    return "; ".join(
        f"paddle {paddle} at {angle_deg(each.steps):.2f} degrees, status {each.bits:08x}"
        for paddle, each in found.items()
    )
