"""Seconds since the epoch, as the event loop's clock counts them on from the start."""

import asyncio
from collections.abc import Callable


def epoch_clock(epoch_s: float) -> Callable[[], float]:
    """Return a clock that reads ``epoch_s`` now and follows the running loop's time.

    A loop with virtual time thus gives a virtual date, and a step of the system clock never
    disorders the record.
    """
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    return lambda: epoch_s + loop.time() - start_s
