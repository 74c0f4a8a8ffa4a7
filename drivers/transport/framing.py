"""Where one reply ends and the next begins."""

from dataclasses import dataclass

MAX_REPLY_BYTES = 1 << 20


@dataclass(frozen=True)
class Framing:
    """How an instrument marks the end of a command and of a reply.

    Attributes:
        write_terminator: Added to every command; may be empty.
        read_terminator: Ends every reply; None where the channel delivers whole messages (ZeroMQ),
            empty where a reply tells its own length and is read by the byte.
        other_ends: Single bytes that end a reply too, and stay on it to be told apart.
    """

    write_terminator: bytes = b"\n"
    read_terminator: bytes | None = b"\n"
    other_ends: bytes = b""

    @property
    def is_stream(self) -> bool:
        """Whether replies have to be cut out of a stream of bytes."""
        return self.read_terminator is not None


LINES = Framing()
BINARY = Framing(write_terminator=b"", read_terminator=b"")


class ReceiveBuffer:
    """Bytes that have arrived and were not yet read."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what the channel delivered."""
        self._data += data

    def take_reply(self, terminator: bytes, other_ends: bytes = b"") -> bytes | None:
        """Cut the first reply out, without its terminator; None while it is incomplete.

        Args:
            terminator: Ends a reply, and is taken off.
            other_ends: Bytes of which each ends a reply too, and stays on it.
        """
        end = self._data.find(terminator, self._searched)
        others = [self._data.find(other, self._searched) for other in other_ends]
        if found := [other for other in others if other >= 0 and not 0 <= end <= other]:
            return self._take(min(found) + 1)
        if end < 0:
            # A terminator may have come in half; everything before that half is searched.
            self._searched = max(0, len(self._data) - len(terminator) + 1)
            return None
        reply = self._take(end + len(terminator))
        return reply[:end]

    def take_exactly(self, n_bytes: int) -> bytes | None:
        """Cut ``n_bytes`` out; None while fewer have arrived."""
        return self._take(n_bytes) if len(self._data) >= n_bytes else None

    def take_all(self) -> bytes:
        """Empty the buffer."""
        return self._take(len(self._data))

    def _take(self, n_bytes: int) -> bytes:
        taken = bytes(self._data[:n_bytes])
        del self._data[:n_bytes]
        self._searched = 0
        return taken
