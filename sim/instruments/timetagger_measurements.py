"""Measurements of the simulated Time Tagger library, by the vendor's names."""

# ruff: noqa: N802  # the vendor's names

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.instruments.timetagger_device import MISSED_EVENTS, TIME_TAG, Events
from sim.instruments.timetagger_handle import TimeTagger, TimeTaggerUnit


class _Measurement:
    """What runs on a tagger: from its making on, or for a time."""

    def __init__(self, tagger: TimeTagger, channels: Sequence[int]) -> None:
        unit = tagger.unit()
        offered = tagger.getChannelList()
        if strangers := [channel for channel in channels if channel not in offered]:
            raise unit.refuse(f"channels {strangers} are invalid")
        self.channels = tuple(channels)
        self._tagger = tagger
        unit.look()
        self._begin_ps = unit.source.position_ps
        self._end_ps: int | None = None
        self._position_ps = self._begin_ps
        self._is_running = True
        unit.listeners.append(self)

    @property
    def is_listening(self) -> bool:
        """Whether it takes in records."""
        return self._is_running

    def startFor(self, capture_duration: int, clear: bool = True) -> None:
        """Measure for a time, ps."""
        unit = self._looked()
        self._begin_ps = self._position_ps = unit.source.position_ps
        self._end_ps = self._begin_ps + capture_duration
        self._is_running = True
        if self not in unit.listeners:
            unit.listeners.append(self)
        if clear:
            self._clear()

    def isRunning(self) -> bool:
        """Whether it goes on."""
        self._looked()
        return self._is_running

    def stop(self) -> None:
        """End it."""
        unit = self._looked()
        self._is_running = False
        unit.listeners[:] = [each for each in unit.listeners if each is not self]

    def getCaptureDuration(self) -> int:
        """Exposure, ps."""
        self._looked()
        return self._position_ps - self._begin_ps

    def hear(self, events: Events, position_ps: int) -> None:
        """Take in records of the stream."""
        until_ps = position_ps if self._end_ps is None else min(position_ps, self._end_ps)
        is_timely = (events.time_ps >= self._begin_ps) & (events.time_ps < until_ps)
        is_wanted = np.isin(events.channel, self.channels) & is_timely
        is_mark = (events.event_type != TIME_TAG) & np.isin(events.channel, (0, *self.channels))
        self._collect(events.take(is_wanted | is_mark))
        self._position_ps = until_ps
        self._is_running = until_ps != self._end_ps

    def _looked(self) -> TimeTaggerUnit:
        unit = self._tagger.unit()
        unit.look()
        return unit

    def _clear(self) -> None:
        raise NotImplementedError

    def _collect(self, events: Events) -> None:
        raise NotImplementedError


class Countrate(_Measurement):
    """Counts events by channel, those that an overflow lost too."""

    def __init__(self, tagger: TimeTagger, channels: Sequence[int]) -> None:
        super().__init__(tagger, channels)
        self._counts = np.zeros(len(channels), np.int64)

    def getCountsTotal(self) -> NDArray[np.int64]:
        """Counts in the order in which the channels were named."""
        self._looked()
        return self._counts.copy()

    def _clear(self) -> None:
        self._counts[:] = 0

    def _collect(self, events: Events) -> None:
        n_each = np.where(events.event_type == TIME_TAG, 1, 0)
        n_each = np.where(events.event_type == MISSED_EVENTS, events.missed, n_each)
        for place, channel in enumerate(self.channels):
            self._counts[place] += int(n_each[events.channel == channel].sum())


class TimeTagStreamBuffer:
    """Records that a stream had collected."""

    def __init__(self, events: Events) -> None:
        self._events = events

    @property
    def size(self) -> int:
        """How many."""
        return len(self._events)

    def getChannels(self) -> NDArray[np.int32]:
        """Channels."""
        return self._events.channel

    def getTimestamps(self) -> NDArray[np.int64]:
        """Times, ps."""
        return self._events.time_ps

    def getEventTypes(self) -> NDArray[np.uint8]:
        """What each record is."""
        return self._events.event_type

    def getMissedEvents(self) -> NDArray[np.uint16]:
        """Lost events that a record tells of."""
        return self._events.missed


class TimeTagStream(_Measurement):
    """Collects records until they are fetched; what finds the buffer full is lost."""

    def __init__(self, tagger: TimeTagger, n_max_events: int, channels: Sequence[int]) -> None:
        super().__init__(tagger, channels)
        self._n_max = n_max_events
        self._collected = Events.joined([])

    def getData(self) -> TimeTagStreamBuffer:
        """Fetch what was collected."""
        self._looked()
        collected = self._collected
        self._clear()
        return TimeTagStreamBuffer(collected)

    def _clear(self) -> None:
        self._collected = Events.joined([])

    def _collect(self, events: Events) -> None:
        collected = Events.joined([self._collected, events])
        self._collected = collected.take(slice(self._n_max))
