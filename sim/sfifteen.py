r"""The command line of S-Fifteen's USB units: ``\r\n``, ``\n`` or ``;`` end a command."""

import re
from collections import deque
from typing import Final

LONGEST_LINE: Final = 256

_END: Final = re.compile(rb"\r\n|\n|;")


class CommandLine:
    """What was received and not obeyed yet."""

    def __init__(self) -> None:
        self._received = b""
        self._commands: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    def take(self, data: bytes) -> None:
        """Take bytes as they come; a line that does not end is taken for a command."""
        *lines, self._received = _END.split(self._received + data)
        if len(self._received) > LONGEST_LINE:
            lines.append(self._received)
            self._received = b""
        self._commands += [line.decode("latin-1") for line in lines]

    def pop(self) -> str:
        """Return the next command."""
        return self._commands.popleft()

    def forget_half(self) -> None:
        """Forget half a command."""
        self._received = b""

    def forget(self) -> None:
        """Forget everything."""
        self._received = b""
        self._commands.clear()
