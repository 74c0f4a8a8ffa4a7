"""A simulated Time Tagger as its vendor's library hands it out: settings by the vendor's names."""

# ruff: noqa: N802  # the vendor's names

from typing import Final, Protocol

from sim.instruments.timetagger_device import Listener, TagSource

LEVEL_STEP_V: Final = 0.002
"""Step of the converters behind the trigger levels, V."""

LONGEST_WORD: Final = 1 << 63


class TimeTaggerUnit(Protocol):
    """The unit, as its library sees it."""

    serial: str
    model: str
    version: str
    n_inputs: int
    level_bounds_v: tuple[float, float]
    dead_time_bounds_ps: tuple[int, int]
    levels_v: dict[int, float]
    delays_ps: dict[int, int]
    dead_times_ps: dict[int, int]
    dividers: dict[int, int]
    tested: set[int]
    generation: int
    owner: "TimeTagger | None"
    listeners: list[Listener]
    source: TagSource

    def look(self) -> None:
        """Let the stream come up to now."""
        ...

    def restore_defaults(self) -> None:
        """Take all settings back."""
        ...

    def tell(self, what: str, value: float | str, unit: str, channel: int) -> None:
        """Note what the unit was told."""
        ...

    def refuse(self, text: str) -> ValueError:
        """Note what the unit refuses, and return what the library raises."""
        ...


class TimeTagger:
    """A tagger that somebody holds."""

    def __init__(self, unit: TimeTaggerUnit) -> None:
        self._unit = unit
        self._generation: int | None = unit.generation

    def unit(self) -> TimeTaggerUnit:
        """Return the unit, as long as it is held.

        Raises:
            RuntimeError: It was freed, unplugged or switched off.
        """
        if self._generation != self._unit.generation:
            raise RuntimeError("The Time Tagger is not connected any more.")
        return self._unit

    def let_go(self) -> None:
        """Let the unit go."""
        self._generation = None

    def getModel(self) -> str:
        """Model."""
        return self.unit().model

    def getSerial(self) -> str:
        """Serial number."""
        return self.unit().serial

    def getChannelList(self) -> tuple[int, ...]:
        """Channels, falling edges too."""
        inputs = range(1, self.unit().n_inputs + 1)
        return (*inputs, *(-number for number in inputs))

    def sync(self, timeout: int = -1) -> bool:
        """Wait until all that came before is dealt with, ms; no time passes here."""
        self.unit().look()
        return True

    def setTriggerLevel(self, channel: int, voltage: float) -> None:
        """Set a trigger level, V."""
        unit = self._with_channel(channel)
        unit.tell("trigger level", voltage, "V", abs(channel))
        low_v, high_v = unit.level_bounds_v
        if not low_v <= voltage <= high_v:
            raise unit.refuse(f"trigger level {voltage} V is out of range")
        unit.levels_v[abs(channel)] = round(voltage / LEVEL_STEP_V) * LEVEL_STEP_V

    def getTriggerLevel(self, channel: int) -> float:
        """Read a trigger level, V."""
        return self._with_channel(channel).levels_v[abs(channel)]

    def setInputDelay(self, channel: int, delay: int) -> None:
        """Set a delay, ps."""
        unit = self._with_channel(channel)
        unit.tell("delay", delay, "ps", abs(channel))
        if not -LONGEST_WORD <= delay < LONGEST_WORD:
            unit.refuse(f"delay {delay} ps")
            raise OverflowError("in method 'setInputDelay', argument 3 of type 'long long'")
        unit.look()
        unit.delays_ps[channel] = delay

    def getInputDelay(self, channel: int) -> int:
        """Read a delay, ps."""
        return self._with_channel(channel).delays_ps.get(channel, 0)

    def setDeadtime(self, channel: int, deadtime: int) -> int:
        """Set a dead time, ps; return what it is."""
        unit = self._with_channel(channel)
        unit.tell("dead time", deadtime, "ps", abs(channel))
        shortest_ps, longest_ps = unit.dead_time_bounds_ps
        if deadtime > longest_ps:
            raise unit.refuse(f"dead time {deadtime} ps is out of range")
        unit.dead_times_ps[channel] = max(deadtime, shortest_ps)
        return unit.dead_times_ps[channel]

    def getDeadtime(self, channel: int) -> int:
        """Read a dead time, ps."""
        unit = self._with_channel(channel)
        return unit.dead_times_ps.get(channel, unit.dead_time_bounds_ps[0])

    def setEventDivider(self, channel: int, divider: int) -> None:
        """Have only every so many-th pulse let through."""
        unit = self._with_channel(channel)
        unit.tell("divider", divider, "", abs(channel))
        if not 1 <= divider <= 65535:
            raise unit.refuse(f"divider {divider} is out of range")
        unit.look()
        unit.dividers[channel] = divider

    def getEventDivider(self, channel: int) -> int:
        """Read the divider."""
        return self._with_channel(channel).dividers.get(channel, 1)

    def setTestSignal(self, channel: int, enabled: bool) -> None:
        """Put an input on the test signal, or on its socket."""
        unit = self._with_channel(channel)
        unit.tell("test signal", "on" if enabled else "off", "", abs(channel))
        unit.look()
        if enabled:
            unit.tested.add(abs(channel))
        else:
            unit.tested.discard(abs(channel))

    def getTestSignal(self, channel: int) -> bool:
        """Whether an input is on the test signal."""
        return abs(channel) in self._with_channel(channel).tested

    def _with_channel(self, channel: int) -> TimeTaggerUnit:
        unit = self.unit()
        if not 1 <= abs(channel) <= unit.n_inputs:
            raise unit.refuse(f"channel {channel} is invalid")
        return unit
