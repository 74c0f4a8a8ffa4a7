"""Lines cut out of the bytes of a link, for instruments that are typed at."""

import re
from typing import Final, Protocol

LONGEST_LINE: Final = 255


class Lines(Protocol):
    """Cuts what an instrument receives into lines."""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they arrived; return the lines that they complete, empty ones too.

        A line that grows too long is handed over as it is, so that memory stays bounded.
        """
        ...

    def clear(self) -> None:
        """Forget half a line."""
        ...


class EndedLines:
    """Lines with one kind of end.

    Args:
        end: What ends a line, a regular expression.
        longest: Most characters of a line that has not ended yet.
    """

    def __init__(self, end: bytes, longest: int = LONGEST_LINE) -> None:
        self._end = re.compile(end)
        self._longest = longest
        self._received = b""

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they arrived; return the lines that they complete."""
        *lines, self._received = self._end.split(self._received + data)
        if len(self._received) > self._longest:
            lines.append(self._received)
            self._received = b""
        return [line.decode("latin-1") for line in lines]

    def clear(self) -> None:
        """Forget half a line."""
        self._received = b""


class TypedLines:
    """Lines that end in CR, in LF, or in both in either order."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._last_end: int | None = None  # the byte that ended the line before, if just read

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they arrived; return the lines that they complete."""
        lines: list[str] = []
        for byte in data:
            if byte in b"\r\n":
                if self._last_end in (None, byte):
                    lines.append(self._take())
                    self._last_end = byte
                else:
                    self._last_end = None  # the other half of one line end
                continue
            self._last_end = None
            self._received.append(byte)
            if len(self._received) > LONGEST_LINE:
                lines.append(self._take())
        return lines

    def clear(self) -> None:
        """Forget half a line."""
        self._received.clear()
        self._last_end = None

    def _take(self) -> str:
        line = self._received.decode("latin-1")
        self._received.clear()
        return line
