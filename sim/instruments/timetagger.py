"""A simulated Swabian Time Tagger, reached through a library in memory.

There is no wire to serve it on: its clients are in this process, and make calls of ``library``.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from sim.instruments.timetagger_device import Clicks, Listener, TagSource
from sim.instruments.timetagger_handle import TimeTagger
from sim.instruments.timetagger_library import TimeTaggerLibrary
from sim.library_calls import LibraryCalls
from sim.record import Record
from sim.twin import Twin
from sim.wire import MAIN, Reply

DEFAULT_LEVEL_V: Final = 0.5


@dataclass(frozen=True)
class TimeTaggerSettings:
    """One unit; detectors at inputs 1 to 4.

    Attributes:
        sync_input: Input of the START pulses; 0: they are not connected.
        model: Model.
        serial: Serial number.
        version: Version of the library.
        n_inputs: Inputs.
        level_bounds_v: Trigger levels that it takes, V.
        dead_time_bounds_ps: Dead times that it has, ps.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    sync_input: int = 8
    model: str = "Time Tagger Ultra"
    serial: str = "2104000Y0K"
    version: str = "2.22.6"
    n_inputs: int = 18
    level_bounds_v: tuple[float, float] = (-2.5, 2.5)
    dead_time_bounds_ps: tuple[int, int] = (2_100, 2_147_000_000)

    def front_end(self, name: str, twin: Twin, record: Record) -> "SimulatedTimeTagger":
        """Build the unit at the twin's detectors."""
        return SimulatedTimeTagger(name, twin, record, self)


class SimulatedTimeTagger:
    """The unit: its settings, its stream of tags, and the calls that reach it.

    Args:
        name: Its name on the bench.
        clicks: The detectors.
        record: What the bench was told.
        settings: Which unit it is.

    Attributes:
        library: The vendor's library on the client's computer.
        calls: Calls of that library, as they pass.
        generation: Counts how often the link was lost: what was taken up before is dead.
    """

    def __init__(
        self, name: str, clicks: Clicks, record: Record, settings: TimeTaggerSettings
    ) -> None:
        self.serial, self.model = settings.serial, settings.model
        self.version = settings.version
        self.n_inputs = settings.n_inputs
        self.level_bounds_v = settings.level_bounds_v
        self.dead_time_bounds_ps = settings.dead_time_bounds_ps
        self.levels_v: dict[int, float] = {}
        self.delays_ps: dict[int, int] = {}
        self.dead_times_ps: dict[int, int] = {}
        self.dividers: dict[int, int] = {}
        self.tested: set[int] = set()
        self.generation = 0
        self.owner: TimeTagger | None = None
        self.listeners: list[Listener] = []
        self.source = TagSource(clicks, settings.sync_input)
        self.library = TimeTaggerLibrary(self)
        self.calls = LibraryCalls(_Bystander(self))
        self.now_s = 0.0
        self._name = name
        self._record = record
        self._received = b""
        self.restore_defaults()

    def handle(self, data: bytes, now_s: float, port: str = MAIN) -> list[Reply]:
        """Carry out calls that reach the unit, one a line."""
        self.now_s = now_s
        *lines, self._received = (self._received + data).split(b"\n")
        replies = []
        for line in lines:
            reply = self.calls.carry_out(line.decode("ascii", "backslashreplace"))
            if reply is not None:
                replies.append(Reply(f"{reply}\n".encode()))
        return replies

    def reset_line(self, now_s: float) -> None:
        """The unit was unplugged: what the library has of it is dead."""
        self._received = b""
        self.generation += 1
        self.owner = None
        self.listeners.clear()

    def power_cycle(self, now_s: float) -> None:
        """Start again."""
        self.now_s = now_s
        self.restore_defaults()
        self.source.restart(now_s)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return trigger levels, delays and test signals, and whether anybody measures."""
        inputs = range(1, self.n_inputs + 1)
        return {
            **{f"level-{n}": self.levels_v[n] for n in inputs},
            **{f"delay-{n}": float(self.delays_ps.get(n, 0)) for n in inputs},
            **{f"test-{n}": n in self.tested for n in inputs},
            "measures": any(each.is_listening for each in self.listeners),
        }

    def look(self) -> None:
        """Let the stream come up to now."""
        self.source.advance(self.now_s, self.listeners, self.delays_ps, self.dividers, self.tested)

    def restore_defaults(self) -> None:
        """Take all settings back."""
        self.levels_v = dict.fromkeys(range(1, self.n_inputs + 1), DEFAULT_LEVEL_V)
        self.delays_ps, self.dead_times_ps, self.dividers = {}, {}, {}
        self.tested = set()

    def tell(self, what: str, value: float | str, unit: str, channel: int) -> None:
        """Note what the unit was told."""
        self._record.tell(self.now_s, self._name, what, value, unit, channel)

    def refuse(self, text: str) -> ValueError:
        """Note what the unit refuses, and return what the library raises."""
        self._record.reject(self.now_s, self._name, text)
        return ValueError(text)


class _Bystander:
    """Somebody else who uses the unit, through its server."""

    def __init__(self, unit: SimulatedTimeTagger) -> None:
        self._unit = unit

    def __getattr__(self, name: str) -> object:
        return getattr(TimeTagger(self._unit), name)
