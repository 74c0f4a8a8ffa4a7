"""What came over a wire while nobody was waiting for it."""

from typing import Protocol, runtime_checkable

from drivers.transport.channel import Channel


@runtime_checkable
class NoticesArrivals(Protocol):
    """A channel that receives all the time, and so can tell what it has before anyone asks."""

    def take_arrived(self) -> bytes:
        """Take the bytes that have arrived, perhaps none.

        Raises:
            ChannelError: Nothing is left and the link is known to be lost.
        """
        ...


def take_arrived(channel: Channel) -> bytes:
    """Take what has arrived on ``channel``; nothing where the channel cannot tell."""
    return channel.take_arrived() if isinstance(channel, NoticesArrivals) else b""
