"""The life of a driver with one link: opened, asked who it is, taken up again, closed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from drivers.errors import ReplyError
from drivers.roles import Actuator, Health, Identity
from drivers.transport.transport import Dialogue, Transport


class LinkedInstrument(ABC):
    """One instrument behind one transport.

    What a kind adds is how it is identified, and what it is set up with whenever its link is
    opened. It fulfils a role by having the role's methods, as any driver does.

    Args:
        name: Name in the testbed file.
        transport: The link.
    """

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self._transport = transport
        self._transport.on_reopen = self._identify_anew
        self._transport.on_set_up = self._set_up_again

    async def open(self) -> Identity:
        """Open the link, check the model, set up what the instrument needs.

        Raises:
            ReplyError: Another model, or a reply does not parse.
            SettingError: The options ask for more than this unit has.
            RejectedError: The instrument refused a setting.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        async with self._transport.setting_up() as link:
            identity = await self._identify_anew(link)
            await self._set_up(link)
        return identity

    async def identify(self) -> Identity:
        """Ask who it is; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    async def close(self) -> None:
        """Close the link; the instrument's outputs and settings stay."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """None, unless the kind has some."""
        return {}

    @abstractmethod
    async def _identify(self, link: Dialogue) -> Identity:
        """Ask who it is; raise ReplyError if it is another model."""

    async def _identify_anew(self, link: Dialogue) -> Identity:
        """Ask who it is on a link that was just opened: what was learnt before may not hold.

        ``make_safe`` waits for no more than this after a lost link.
        """
        return await self._identify(link)

    async def _set_up(self, link: Dialogue) -> None:  # noqa: B027  # many kinds need none
        """When the link is opened: set up what has to be, check that the unit fits its options."""

    async def _set_up_again(self, link: Dialogue) -> None:
        """After a lost link, and perhaps a power cycle: the same, unless the kind says otherwise.

        It comes before the next dialogue that does not make safe. Outputs are read, never assumed.
        """
        await self._set_up(link)

    def _another_model(self, wanted: str, *, sent: str, received: object) -> ReplyError:
        """The error for an answer that no ``wanted`` would give."""
        return another_model(self.name, wanted, sent=sent, received=received)


def another_model(instrument: str, wanted: str, *, sent: str, received: object) -> ReplyError:
    """Return the error for an answer that no ``wanted`` would give."""
    problem = f"this is no {wanted}: is it the instrument you configured?"
    return ReplyError(instrument, problem, sent=sent, received=str(received))
