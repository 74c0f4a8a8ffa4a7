"""Automatic calibration of a WebSQ's bias: the unit itself looks for so many dark counts.

Weak fact, to be checked on first contact with a unit: ``StartAutoIV`` is true no later than half a
second after a calibration was started.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from drivers.detectors.singlequantum_websq_labels import Labels
from drivers.detectors.singlequantum_websq_messages import State, truth
from drivers.detectors.singlequantum_websq_options import WebSqOptions
from drivers.errors import RejectedError, TransportError
from drivers.measuring import Interruption
from drivers.outputs import unknown_if_lost

MAX_DARK_COUNTS = 1e9
POLL_S = 0.5


async def start_calibration(
    instrument: str, labels: Labels, dark_counts: float, n_detectors: int
) -> None:
    """Have the unit look for the bias at which each detector has so many dark counts.

    Args:
        instrument: Name, for errors.
        labels: Of the unit, whose detectors are on.
        dark_counts: Wanted in one measurement period.
        n_detectors: How many detectors the unit has.

    Raises:
        RejectedError: The unit refused.
        TransportError: Link lost; the bias is unknown.
    """
    levels = {"command": "DarkCountsAutoIV", "label": "DarkCountsAutoIV"}
    start = json.dumps({"command": "AutoCaliBiasCurrents", "value": True})
    with unknown_if_lost(instrument, "the bias"):
        await labels.send(json.dumps({**levels, "value": [dark_counts] * n_detectors}))
        await labels.send(start)
        await labels.state(after=start)


async def wait_for_calibration(
    instrument: str,
    dialogue: Callable[[], AbstractAsyncContextManager[Labels]],
    interruption: Interruption,
    longest_s: float,
) -> None:
    """Wait until the unit has found the bias; others may use it meanwhile.

    Args:
        instrument: Name, for errors.
        dialogue: Begins a dialogue about the labels.
        interruption: Ends the wait.
        longest_s: Longest wait, s.

    Raises:
        TransportError: Link lost, not finished in time, or cut short.
    """
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + longest_s
    is_running = True
    while is_running:
        if loop.time() > give_up_s:
            raise TransportError(instrument, f"bias not calibrated within {longest_s:g} s")
        await asyncio.sleep(POLL_S)
        async with dialogue() as labels:
            is_running = truth(instrument, await labels.ask("StartAutoIV"))
        interruption.check()


async def accept_calibration(
    instrument: str, labels: Labels, options: WebSqOptions, before: State
) -> dict[int, float]:
    """Read the currents that were found; put those from before back if one is outside the limits.

    Returns:
        Bias found, by detector in use, uA.

    Raises:
        RejectedError: One is outside the limits.
        TransportError: Link lost.
    """
    state = await labels.state()
    found_ua = {n: state.bias_ua[n - 1] for n in options.inputs}
    low_ua, high_ua = options.min_bias_ua, options.max_bias_ua
    outside = [n for n, ua in found_ua.items() if not low_ua <= ua <= high_ua]
    if not outside:
        return found_ua
    await labels.set_bias(state, dict(enumerate(before.bias_ua, start=1)))
    raise RejectedError(
        instrument,
        f"a bias of {found_ua[outside[0]]:g} uA was found for detector {outside[0]}, outside "
        f"{low_ua:g} to {high_ua:g} uA; the currents from before are back",
    )
