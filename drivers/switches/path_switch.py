"""What optical switches do: lead light along one of several paths; each kind adds its dialogue."""

from abc import abstractmethod
from collections.abc import Sequence

from drivers.errors import SettingError
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all
from drivers.transport.transport import Dialogue, Transport


class PathSwitch(LinkedInstrument):
    """One path out of several; which one is read, never remembered.

    Args:
        name: Name in the testbed file.
        transport: The link.
        paths: Names of the paths.
        rest_path: The one of the safe state.
    """

    def __init__(
        self, name: str, transport: Transport, paths: Sequence[str], rest_path: str
    ) -> None:
        super().__init__(name, transport)
        self._paths = tuple(paths)
        self._rest_path = rest_path

    def paths(self) -> Sequence[str]:
        """Names of the paths."""
        return self._paths

    async def set_path(self, path: str) -> str:
        """Choose a path, wait until it is made, return what was read back.

        Raises:
            SettingError: There is no such path; nothing was sent.
            RejectedError: The unit refused.
            ReplyError: Not made, or an answer does not parse.
            TransportError: Link lost; the path is unknown until read again.
        """
        if path not in self._paths:
            raise SettingError(self.name, f"path {path!r} is none of {', '.join(self._paths)}")
        async with self._transport.exclusive() as link:
            return await self._choose(link, path)

    async def read_path(self) -> str:
        """Read which path is made.

        Raises:
            ReplyError: The answer does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read(link)

    async def make_safe(self) -> None:
        """Choose the path of the safe state."""
        await carry_out_all(self._transport, [self._rest])

    @abstractmethod
    async def _choose(self, link: Dialogue, path: str) -> str:
        """Choose a path, wait until it is made, return what was read back."""

    async def _rest(self, link: Dialogue) -> None:
        """Choose the path of the safe state."""
        await self._choose(link, self._rest_path)

    @abstractmethod
    async def _read(self, link: Dialogue) -> str:
        """Read which path is made."""
