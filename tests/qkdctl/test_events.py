"""The event bus."""

from qkdctl.events import Event, EventBus


def event(number: int) -> Event:
    return Event(float(number), "note", {"number": number})


async def test_every_subscriber_receives_every_event() -> None:
    bus = EventBus()
    with bus.subscribe() as first, bus.subscribe() as second:
        bus.publish(event(1))
        assert (await first.get(), await second.get()) == (event(1), event(1))


async def test_a_slow_subscriber_loses_its_oldest_events_and_the_loss_is_counted() -> None:
    bus = EventBus()
    with bus.subscribe(capacity=2) as slow:
        for number in range(5):
            bus.publish(event(number))
        assert [(await slow.get()).data["number"] for _ in range(2)] == [3, 4]
        assert slow.lost == 3


async def test_nothing_is_kept_for_a_subscriber_that_has_left() -> None:
    bus = EventBus()
    with bus.subscribe() as gone:
        pass
    bus.publish(event(1))
    assert gone.lost == 0
    assert not gone._queue
