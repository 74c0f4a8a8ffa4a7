"""Waiting for instruments that were lost."""

import asyncio
import logging
from collections.abc import Iterable

from drivers.errors import InstrumentError
from drivers.roles import Instrument

log = logging.getLogger(__name__)

RECOVERY_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to reach a lost instrument; the last one repeats."""


async def wait_for_instruments(instruments: Iterable[Instrument]) -> int:
    """Try until every instrument answers to its name; return how many attempts that took."""
    wanted, attempts = list(instruments), 0
    while True:
        await asyncio.sleep(RECOVERY_DELAYS_S[min(attempts, len(RECOVERY_DELAYS_S) - 1)])
        attempts += 1
        try:
            for instrument in wanted:
                await instrument.identify()
        except InstrumentError as exc:
            log.info("still waiting: %s", exc)
        else:
            return attempts
