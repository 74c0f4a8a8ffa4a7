"""Commands cut out of the bytes of a serial line, for instruments that are typed at."""

from typing import Final

LONGEST_LINE: Final = 255


class CommandLines:
    """Cuts bytes into lines at CR, at LF, or at both in either order.

    A line that grows too long is handed over as it is, so that memory stays bounded.
    """

    def __init__(self) -> None:
        self._received = bytearray()
        self._last_end: int | None = None  # the byte that ended the line before, if just read

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they arrived; return the lines that they complete, empty ones too."""
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
