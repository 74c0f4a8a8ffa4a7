"""The tag stream of the TDC1: words of 32 bits, dummy events, packets, bytes that go missing."""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

UNIT_PS: Final = 2000
ROLLOVER: Final = 1 << 27
DUMMY: Final = 0x10
PACKET_BYTES: Final = 512


class Clicks(Protocol):
    """Where the clicks come from."""

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        """Clicks per input 1 to 4 in a window that is over, ps since its start."""
        ...


def words(arrivals_ps: dict[int, NDArray[np.float64]], begin_ps: float, end_ps: float) -> bytes:
    """Return the words of one stretch of a stream.

    Clicks within one unit of 2 ns share a word. A dummy event comes whenever half a rollover is
    over.

    Args:
        arrivals_ps: Clicks by input, ps since ``begin_ps``.
        begin_ps: Start of the stretch, since that of the stream.
        end_ps: Its end; clicks behind it are left out.
    """
    times, bits = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, since_ps in arrivals_ps.items():
        at_ps = begin_ps + since_ps
        units = (at_ps[at_ps < end_ps] // UNIT_PS).astype(np.int64)
        times.append(units)
        bits.append(np.full(units.size, 1 << (number - 1), np.int64))
    half_ps = ROLLOVER // 2 * UNIT_PS
    dummies = np.arange(begin_ps // half_ps + 1, end_ps // half_ps + 1).astype(np.int64)
    units, where = np.unique(np.concatenate(times), return_inverse=True)
    patterns = np.zeros(units.size, np.int64)
    np.bitwise_or.at(patterns, where, np.concatenate(bits))
    units = np.concatenate((dummies * (ROLLOVER // 2), units))
    patterns = np.concatenate((np.full(dummies.size, DUMMY), patterns))
    order = np.argsort(units, kind="stable")
    return (units[order] % ROLLOVER << 5 | patterns[order]).astype("<u4").tobytes()


class Stream:
    """One running stream.

    Args:
        clicks: Where the clicks come from.
        start_s: When it began.
        end_s: When it ends by itself, or None.
        most_hz: Words a second that the unit can hand over; it drops the others.
        slip_after: Bytes after which two are lost, once, or None.
    """

    def __init__(
        self,
        clicks: Clicks,
        start_s: float,
        end_s: float | None,
        most_hz: float,
        slip_after: int | None,
    ) -> None:
        self._clicks = clicks
        self._start_s = start_s
        self._until_s = start_s
        self._most_hz = most_hz
        self._slip_after = slip_after
        self._sent_bytes = 0
        self._packet = b""
        self.end_s = end_s
        self.has_lost_tags = False

    def advance(self, now_s: float, *, sees_pulses: bool) -> bytes:
        """Record up to a time; return the packets that are full by then."""
        begin_s, until_s = self._until_s, now_s if self.end_s is None else min(now_s, self.end_s)
        if until_s <= begin_s:
            return b""
        self._until_s = until_s
        arrivals_ps = self._clicks.arrivals(begin_s, until_s - begin_s) if sees_pulses else {}
        begin_ps, end_ps = ((t - self._start_s) * 1e12 for t in (begin_s, until_s))
        data = words(arrivals_ps, begin_ps, end_ps)
        most = 4 * max(1, int(self._most_hz * (until_s - begin_s)))
        self.has_lost_tags |= len(data) > most
        self._packet += self._slipped(data[:most])
        full = len(self._packet) // PACKET_BYTES * PACKET_BYTES
        sent, self._packet = self._packet[:full], self._packet[full:]
        return sent

    def flush(self) -> bytes:
        """Return the packet that is not full yet."""
        sent, self._packet = self._packet, b""
        return sent

    def _slipped(self, data: bytes) -> bytes:
        at, self._sent_bytes = self._sent_bytes, self._sent_bytes + len(data)
        if self._slip_after is None or not at <= self._slip_after < at + len(data):
            return data
        cut = self._slip_after - at
        return data[:cut] + data[cut + 2 :]
