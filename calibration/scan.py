"""A window from plain counters: Alice holds each state in turn while the detectors are counted."""

import math
from collections.abc import Mapping

import numpy as np
from scipy.stats import poisson

from calibration.clicks import STATES, Window
from calibration.folding import DARK_SIGNIFICANCE


def scan_window(
    counts: Mapping[str, Mapping[int, int]],
    inputs: Mapping[str, int],
    duration_s: float,
    start_s: float,
    *,
    intensity: str = "signal",
    dark_rate_hz: float = 0.0,
    max_rate_hz: float = math.inf,
) -> Window:
    """Put the counts of a scan over the four states into one window.

    Every state is held equally long: unequal exposures would weigh the two states of a basis
    unequally, and their detector efficiencies would no longer cancel.

    The window is flagged ``dark`` when all counts together are no more than the detectors' dark
    counts would give (exact Poisson test), and ``saturated`` when a detector counts faster than
    ``max_rate_hz`` in one of the states. Timing and double clicks are unknown to counters.

    Args:
        counts: Counts by sent state, then by counter input.
        inputs: Counter input of each detector, by detector letter.
        duration_s: Exposure of each state, s.
        start_s: Start of the scan, seconds since the epoch.
        intensity: Name of the intensity that Alice sends, the signal.
        dark_rate_hz: Dark count rate of one detector, Hz.
        max_rate_hz: Rate of one detector above which its counts are not to be trusted, Hz.

    Raises:
        ValueError: A state or a detector is missing, or the exposure is not positive.
    """
    if not 0 < duration_s < math.inf:
        raise ValueError(f"an exposure of {duration_s} s is not possible")
    table = np.array(
        [[_count(counts, inputs, state, detector) for detector in STATES] for state in STATES],
        dtype=np.int64,
    )
    whole_s = len(STATES) * duration_s
    darkness = poisson(len(STATES) * dark_rate_hz * whole_s)
    flags = set()
    if darkness.sf(table.sum() - 1) > DARK_SIGNIFICANCE:
        flags.add("dark")
    if table.max() > max_rate_hz * duration_s:
        flags.add("saturated")
    return Window(
        start_s=start_s,
        duration_s=whole_s,
        source="scan",
        disclosure="calibration",
        intensities=(intensity,),
        clicks=table[np.newaxis],
        singles=table.sum(axis=0),
        double_clicks=None,
        flags=frozenset(flags),
    )


def _count(
    counts: Mapping[str, Mapping[int, int]], inputs: Mapping[str, int], state: str, detector: str
) -> int:
    if state not in counts:
        raise ValueError(f"state {state} was not scanned")
    if detector not in inputs:
        raise ValueError(f"detector {detector} has no counter input")
    if inputs[detector] not in counts[state]:
        raise ValueError(f"no counts of detector {detector} (input {inputs[detector]})")
    return counts[state][inputs[detector]]
