"""Where one reply ends and the next begins."""

from dataclasses import dataclass

MAX_REPLY_BYTES = 1 << 20


@dataclass(frozen=True)
class Framing:
    """How an instrument marks the end of a command and of a reply.

    Attributes:
        write_terminator: Added to every command; may be empty.
        read_terminator: Ends every reply; None where the channel delivers whole messages (ZeroMQ).
    """

    write_terminator: bytes = b"\n"
    read_terminator: bytes | None = b"\n"

    @property
    def is_stream(self) -> bool:
        """Whether replies have to be cut out of a stream of bytes."""
        return self.read_terminator is not None


LINES = Framing()


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

    def take_reply(self, terminator: bytes) -> bytes | None:
        """Cut the first reply out, without its terminator; None while it is incomplete."""
        end = self._data.find(terminator, self._searched)
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
