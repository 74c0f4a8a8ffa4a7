r"""Command set of the S-Fifteen TDC1: counts of four inputs, and a stream of tags on the same line.

Commands end in ``\r\n``, ``\n`` or ``;`` and may be joined; case does not matter. Commands answer
nothing, questions one line, ``counts?`` when the window is over. In the mode ``timestamp`` it
starts the stream of tags instead, in packets of 512 bytes; ``INPKT`` hands over the one that is
being filled, ``abort`` ends the stream.

Assumed, for want of a manual: the text of ``*IDN?``; that commands it does not know, and values
out of range, are ignored without a word; the thresholds behind ``NIM`` and ``TTL``, and NIM at
power-up; that ``abort`` does not end a count; that while it counts it hears nothing else (the
setting ``hears_while_counting`` has it otherwise); that thresholds are steps of 1 mV.
"""

from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.instruments.sfifteen import SFifteenUnit, answer_line
from sim.instruments.tdc1_stream import Clicks, Stream
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

INPUTS: Final = (1, 2, 3, 4)
MAX_TIME_MS: Final = 65535
FULL_SCALE_V: Final = 3.3
NIM_V: Final = -0.5
TTL_V: Final = 1.4
MODES: Final = {"singles": 0, "pairs": 1, "timestamp": 3}
PAIRS: Final = ((1, 3), (1, 4), (2, 3), (2, 4))
TICK_S: Final = 0.005
LOST_TAGS: Final = 0x10


class Optics(Clicks, Protocol):
    """The detectors on the inputs."""

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        """Counts of a window that is over, shape ``(4,)``."""
        ...


@dataclass(frozen=True)
class Tdc1Settings:
    """One unit.

    Attributes:
        serial: Serial number.
        boot_s: Time after power-up in which it hears nothing, s.
        pulse_v: Height of the pulses on its inputs, V: a threshold on the way there sees them.
        hears_while_counting: Whether it obeys while a window runs.
        most_hz: Words a second that it can hand over.
        slip_after: Bytes of each stream after which two are lost, or None.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    serial: str = "0019"
    boot_s: float = 0.3
    pulse_v: float = -0.8
    hears_while_counting: bool = False
    most_hz: float = 1e7
    slip_after: int | None = None

    def front_end(self, name: str, twin: Twin, record: Record) -> "Tdc1":
        """Build the unit behind the link's detectors."""
        return Tdc1(name, twin, record, self)


class Tdc1(SFifteenUnit):
    """One counter and time tagger.

    Args:
        name: What the record calls it.
        optics: The detectors on its inputs.
        record: Where commands are noted.
        settings: The unit.
    """

    def __init__(
        self, name: str, optics: Optics, record: Record, settings: Tdc1Settings | None = None
    ) -> None:
        self._settings = settings or Tdc1Settings()
        super().__init__(name, record, self._settings.boot_s)
        self._optics = optics
        self._windows: list[tuple[float, float]] = []
        self._set_defaults()

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return the threshold, V, the mode, and whether it streams."""
        return {
            "threshold": self._threshold_v,
            "mode": self._mode,
            "streams": self._stream is not None,
        }

    def due_s(self) -> float | None:
        """When a window ends or the next piece of a stream is recorded."""
        ends_s = [end_s for _, end_s in self._windows]
        if self._stream is not None:
            ends_s.append(self._next_tick_s)
        return min(ends_s, default=None)

    def tick(self, now_s: float) -> list[Reply]:
        """End what ends by a time, and record the stream up to it."""
        over = [window for window in self._windows if window[1] <= now_s]
        self._windows = [window for window in self._windows if window[1] > now_s]
        replies = [answer_line(self._counted(*window)) for window in over]
        if self._stream is not None and self._next_tick_s <= now_s:
            replies += self._record_tags(now_s)
        return replies + self._obey_heard(now_s)

    def _start(self, now_s: float) -> None:
        """Come up with defaults; a window ends without an answer."""
        self._windows.clear()
        self._set_defaults()

    def _set_defaults(self) -> None:
        self._mode = "singles"
        self._time_ms = 1000
        self._threshold_v = NIM_V
        self._clock = 0
        self._stream: Stream | None = None
        self._next_tick_s = inf
        self._has_lost_tags = False

    def _is_free(self) -> bool:
        return self._settings.hears_while_counting or not self._windows

    def _converse(self, line: str, now_s: float) -> list[Reply]:
        match line.lower().split():
            case []:
                pass
            case [question] if question in self._answers():
                return [answer_line(self._answers()[question])]
            case ["counts?"]:
                return self._begin(now_s)
            case [("singles" | "pairs" | "timestamp") as mode]:
                self._record.tell(now_s, self._name, "mode", mode)
                self._mode = mode
            case ["time", text] if text.isdigit() and int(text) <= MAX_TIME_MS:
                self._record.tell(now_s, self._name, "integration time", int(text), "ms")
                self._time_ms = int(text)
            case ["refclk", ("0" | "1" | "2") as choice]:
                self._record.tell(now_s, self._name, "reference clock", choice)
                self._clock = int(choice)
            case ["nim" | "ttl" as level]:
                self._set_threshold(NIM_V if level == "nim" else TTL_V, now_s)
            case [("pos" | "neg") as sign, text] if self._fits(sign, text):
                self._set_threshold(float(text), now_s)
            case ["inpkt"]:
                return self._bytes(self._stream.flush()) if self._stream else []
            case ["abort"]:
                return self._abort(now_s)
            case ["*rst"]:
                self._record.tell(now_s, self._name, "reset", "defaults")
                self._set_defaults()
            case _:
                self._record.reject(now_s, self._name, line)
        return []

    def _answers(self) -> dict[str, str]:
        signed_ms = self._time_ms - (1 << 16 if self._time_ms >= 1 << 15 else 0)
        return {
            "*idn?": f"S-Fifteen Instruments USB Counter TDC1-{self._settings.serial}",
            "mode?": str(MODES[self._mode]),
            "time?": str(signed_ms),
            "level?": f"{self._threshold_v:.3f} V",
            "refclk?": str(self._clock),
            "eclock?": "0",
            "status?": f"{LOST_TAGS if self._has_lost_tags else 0:04x} ",
            "help": "singles pairs timestamp time counts? nim ttl pos neg level? refclk abort",
        }

    def _fits(self, sign: str, text: str) -> bool:
        try:
            volts = float(text)
        except ValueError:
            return False
        is_signed_right = volts <= 0 if sign == "neg" else volts >= 0
        return isfinite(volts) and is_signed_right and abs(volts) <= FULL_SCALE_V

    def _set_threshold(self, volts: float, now_s: float) -> None:
        self._record.tell(now_s, self._name, "threshold", volts, "V")
        self._threshold_v = round(volts, 3)

    def _begin(self, now_s: float) -> list[Reply]:
        """Open the gate: for a window of counts, or for a stream."""
        duration_s = self._time_ms / 1000
        if self._mode != "timestamp":
            self._windows.append((now_s, now_s + duration_s))
            return []
        self._record.tell(now_s, self._name, "stream", "begins")
        settings = self._settings
        end_s = now_s + duration_s if self._time_ms else None
        self._stream = Stream(self._optics, now_s, end_s, settings.most_hz, settings.slip_after)
        self._has_lost_tags = False
        self._next_tick_s = now_s + TICK_S
        return []

    def _counted(self, start_s: float, end_s: float) -> str:
        counts = np.zeros(len(INPUTS), np.int64)
        if self._sees_pulses and end_s > start_s:
            counts = self._optics.counts(start_s, end_s - start_s)
        pairs = [0] * len(PAIRS) if self._mode == "pairs" else []  # its 2 ns see next to none
        return " ".join(map(str, [*counts.tolist(), *pairs]))

    @property
    def _sees_pulses(self) -> bool:
        """Whether the threshold lies between the ground and the top of the pulses."""
        return 0 < self._threshold_v / self._settings.pulse_v < 1

    def _record_tags(self, now_s: float) -> list[Reply]:
        stream = self._stream
        if stream is None:
            return []
        self._next_tick_s = now_s + TICK_S
        sent = stream.advance(now_s, sees_pulses=self._sees_pulses)
        self._has_lost_tags |= stream.has_lost_tags
        if stream.end_s is not None and now_s >= stream.end_s:
            sent += stream.flush()
            self._stream = None
        return self._bytes(sent)

    def _abort(self, now_s: float) -> list[Reply]:
        stream, self._stream = self._stream, None
        if stream is None:
            return []
        self._record.tell(now_s, self._name, "stream", "aborted")
        sent = stream.advance(now_s, sees_pulses=self._sees_pulses) + stream.flush()
        self._has_lost_tags |= stream.has_lost_tags
        return self._bytes(sent)

    def _bytes(self, sent: bytes) -> list[Reply]:
        return [Reply(sent)] if sent else []
