"""The in-process event bus: everything that happens is published once, and nobody can slow it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from calibration.clicks import Estimate, Window


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        time_s: When, seconds since the epoch.
        kind: What sort: ``state``, ``window``, ``setting``, ``progress``, ``ended`` (a
            calibration), ``calibration`` (a stage's result), ``inverted`` (which bases are, from
            now on), ``feed`` (a refusal of what the QKD stack posted, or its silence),
            ``tracking`` (what a window told the trackers, and what it cost), ``key-cost`` (its
            averages, once a minute), ``alarm``, ``note``.
        data: Details, JSON-able.
    """

    time_s: float
    kind: str
    data: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return one flat JSON-able object."""
        return {"time_s": self.time_s, "kind": self.kind, **self.data}


@dataclass
class Subscription:
    """A bounded queue of events; when it is full the oldest is lost, and the loss is counted."""

    capacity: int
    lost: int = 0
    _queue: deque[Event] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: Event) -> None:
        """Add an event, at the cost of the oldest where there is no room."""
        if len(self._queue) >= self.capacity:
            self._queue.popleft()
            self.lost += 1
        self._queue.append(event)
        self._arrived.set()

    async def get(self) -> Event:
        """Wait for the next event."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            yield await self.get()


class EventBus:
    """Hands every published event to every subscriber, without ever waiting."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def publish(self, event: Event) -> None:
        """Give the event to all subscribers."""
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextmanager
    def subscribe(self, capacity: int = 1000) -> Iterator[Subscription]:
        """Receive what is published from now on, for as long as the context lasts."""
        subscription = Subscription(capacity)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)


def estimate_dict(estimate: Estimate) -> dict[str, float | None]:
    """Write an estimate as JSON can hold it: an unknown value is null."""
    value = None if estimate.value != estimate.value else estimate.value
    return {"value": value, "low": estimate.low, "high": estimate.high}


def window_dict(window: Window) -> dict[str, Any]:
    """Summarise a window for history, status and subscribers."""
    signal = window.signal
    return {
        "start_s": window.start_s,
        "duration_s": window.duration_s,
        "source": window.source,
        "disclosure": window.disclosure,
        "photons": window.photons,
        "detection_rate_hz": window.photons / window.duration_s,
        "qber": estimate_dict(signal.qber),
        "qber_z": estimate_dict(signal.qber_z),
        "qber_x": estimate_dict(signal.qber_x),
        "singles": window.singles.tolist(),
        "double_clicks": window.double_clicks,
        "flags": sorted(window.flags),
        "inverted": list(window.inverted),
        "clicks": signal.table.tolist(),
    }
