"""Thorlabs MPC320 / MPC220: motorised fibre paddles, 0 to 170 degrees, in APT messages by serial.

Sources: Thorlabs, "APT / Motion Control host-controller communications protocol"; the public
drivers PnPQ, pyLabLib and QMI, and the one of S-Fifteen's QKDServer.

USB appears as a serial line of 115200 baud. Positions are those of the status message; the position
counter has an offset on these units and is never asked. The unit turns one paddle after the other
and says unasked when each has arrived. Every round of questions is acknowledged, or the unit falls
silent after some tens of messages.

A target sent to a paddle whose motor is off is remembered, and carried out as a jump when the motor
goes on: all paddles in use are switched on when the link is opened, and before any move if somebody
has switched one off. Paddles that are not in use are switched off with that. A paddle that is not
homed, as after a power cycle, does not know its angle: it is homed before it is set or read.

The safe state is standing still: a paddle at rest harms nothing wherever it is, so ``make_safe``
stops all of them and turns none.

Weak facts, to be checked on first contact with a unit:

- The safe part of the travel, 2 to 158 degrees by default: one public driver stays within 1.5 and
  159 degrees, the tests of another call 170 degrees too far.
- How near to its target a paddle stops: ``tolerance_deg``.
- What a unit does with a target that it cannot reach: taken to show in its status bits.
- Whether a unit is homed after power-up, and keeps its speed and home position.
- Some drivers raise RTS, purge the line and drop RTS before the first message; here the port is
  opened, which raises RTS, and purged.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from drivers.errors import RejectedError, SettingError
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, check_within, unknown_if_lost
from drivers.polarization_controllers.thorlabs_mpc320_link import AptDialogue
from drivers.polarization_controllers.thorlabs_mpc320_messages import (
    INFO,
    PARAMETERS,
    REQUEST_INFO,
    REQUEST_PARAMETERS,
    STOP_UPDATES,
    Message,
    PaddleParameters,
    UnitInfo,
)
from drivers.polarization_controllers.thorlabs_mpc320_motion import Motion, Statuses
from drivers.polarization_controllers.thorlabs_mpc320_options import (
    RESOLUTION_DEG,
    Mpc320Options,
    angle_deg,
)
from drivers.registry import register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.framing import BINARY
from drivers.transport.transport import Dialogue

BAUD_RATE = 115200
MODELS = ("MPC220", "MPC320")


@register("thorlabs-mpc320", Mpc320Options, certainty="high", wires=("serial",))
class Mpc320(LinkedInstrument):
    """Thorlabs MPC320 / MPC220 motorised fibre paddles (APT binary over serial).

    Args:
        name: Name in the testbed file.
        resource: Where the serial line is.
        options: Paddles, limits, speed.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: Mpc320Options, connector: Connector
    ) -> None:
        transport = connector.transport(
            name, resource, BINARY, timeout_s=options.timeout_s, baud_rate=BAUD_RATE
        )
        super().__init__(name, transport)
        self._options = options
        self._motion = Motion(name, options)

    async def set_drives(self, values: Mapping[int, float]) -> dict[int, float]:
        """Turn paddles, one after the other, wait until they stand, read them back.

        Args:
            values: Angle by paddle, degrees; sent as whole steps inside the limits.

        Returns:
            Where the same paddles stand, degrees.

        Raises:
            SettingError: Unknown paddle or an angle outside the limits; nothing was sent.
            RejectedError: A paddle stands elsewhere, and its status says why; the text names those
                that turned before.
            ReplyError: A paddle stands elsewhere than it was sent.
            TransportError: Link lost, or a paddle still turns; where they are is unknown.
        """
        targets = {paddle: self._target(paddle, angle) for paddle, angle in values.items()}
        if not targets:
            return {}
        async with self._transport.exclusive() as link:
            with unknown_if_lost(self.name, "the paddles"):
                return await self._turn_all(self._talk(link), targets)

    async def read_drives(self) -> dict[int, float]:
        """Read where all paddles in use are, degrees; homes those that do not know it.

        Raises:
            RejectedError: A paddle does not home.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            apt = self._talk(link)
            found: Statuses = await apt.statuses(self._options.paddles)
            if not all(each.is_homed for each in found.values()):
                found = await self._motion.make_ready(apt)
        return {paddle: angle_deg(each.steps) for paddle, each in found.items()}

    async def make_safe(self) -> None:
        """Stop all paddles where they are; raises the first failure after trying all."""
        stops = [partial(self._stop, paddle=paddle) for paddle in self._options.paddles]
        await carry_out_all(self._transport, [*stops, self._see_it_stand])

    def actuators(self) -> Mapping[str, Actuator]:
        """One per paddle in use, named ``1`` to ``3``, degrees."""
        return {str(paddle): self._actuator(paddle) for paddle in self._options.paddles}

    def _actuator(self, paddle: int) -> Actuator:
        async def write(angle: float) -> float:
            return (await self.set_drives({paddle: angle}))[paddle]

        async def read() -> float:
            return (await self.read_drives())[paddle]

        options = self._options
        return Actuator(
            unit="deg",
            minimum=options.min_angle_deg,
            maximum=options.max_angle_deg,
            resolution=RESOLUTION_DEG,
            write=write,
            read=read,
        )

    def _target(self, paddle: int, angle: float) -> int:
        options = self._options
        if paddle not in options.paddles:
            in_use = ", ".join(map(str, options.paddles))
            raise SettingError(self.name, f"paddle {paddle} is not in use (in use: {in_use})")
        lowest_deg, highest_deg = options.min_angle_deg, options.max_angle_deg
        check_within(self.name, f"paddle {paddle}", angle, lowest_deg, highest_deg, "degrees")
        return options.steps(angle)

    async def _turn_all(self, apt: AptDialogue, targets: Mapping[int, int]) -> dict[int, float]:
        found = await self._motion.make_ready(apt)
        read_deg: dict[int, float] = {}
        for paddle, steps in targets.items():
            try:
                read_steps = await self._motion.turn(apt, paddle, found[paddle].steps, steps)
            except RejectedError as exc:
                done = ", ".join(map(str, read_deg))
                before = f"; turned already: {done}" if done else ""
                raise RejectedError(
                    self.name, f"{exc.problem}{before}", sent=exc.sent, received=exc.received
                ) from exc
            read_deg[paddle] = angle_deg(read_steps)
        return read_deg

    def _talk(self, link: Dialogue) -> AptDialogue:
        return AptDialogue(link, self._options.timeout_s)

    async def _identify(self, link: Dialogue) -> Identity:
        return await self._ask_who(self._talk(link))

    async def _ask_who(self, apt: AptDialogue) -> Identity:
        question = Message(REQUEST_INFO)
        info = UnitInfo.parse((await apt.ask(question, INFO)).data)
        await apt.acknowledge()
        if info.model not in MODELS:
            sent = question.to_unit().hex(" ")
            raise self._another_model(" or ".join(MODELS), sent=sent, received=info.model)
        if missing := [paddle for paddle in self._options.paddles if paddle > info.n_channels]:
            raise SettingError(
                self.name,
                f"an {info.model} has no paddle {missing[0]}: leave it out of paddles",
            )
        return Identity("Thorlabs", info.model, info.serial, info.firmware)

    async def _identify_anew(self, link: Dialogue) -> Identity:
        apt = self._talk(link)
        await apt.send(Message(STOP_UPDATES))
        identity = await self._ask_who(apt)
        await apt.drain()  # what an earlier question was owed must not answer a later one
        return identity

    async def _set_up(self, link: Dialogue) -> None:
        """Set the speed; switch on and home what is not yet."""
        apt = self._talk(link)
        await self._set_parameters(apt)
        await self._motion.make_ready(apt, homes_all=self._options.home_on_open)

    async def _set_up_again(self, link: Dialogue) -> None:
        """Set the speed; where the paddles are is read, never assumed, and nothing turns yet."""
        await self._set_parameters(self._talk(link))

    async def _set_parameters(self, apt: AptDialogue) -> None:
        """Set speed and home position, if they are not set so; the lengths of a jog stay."""
        found = await self._read_parameters(apt)
        wanted = replace(
            found,
            velocity_percent=self._options.velocity_percent,
            home_steps=self._options.home_steps,
        )
        if found == wanted:
            return
        await apt.send(wanted.to_set())
        if (read := await self._read_parameters(apt)) != wanted:
            sent = wanted.to_set().to_unit().hex(" ")
            raise RejectedError(self.name, "speed not taken", sent=sent, received=str(read))

    async def _read_parameters(self, apt: AptDialogue) -> PaddleParameters:
        answer = await apt.ask(Message(REQUEST_PARAMETERS), PARAMETERS)
        return PaddleParameters.parse(answer.data)

    async def _stop(self, link: Dialogue, paddle: int) -> None:
        await self._motion.stop(self._talk(link), paddle)

    async def _see_it_stand(self, link: Dialogue) -> None:
        await self._motion.stand(self._talk(link))
