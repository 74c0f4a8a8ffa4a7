"""From counts per slot to the table of sent state by detector, for each intensity."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from timetags.fold import Folded


def sift(
    folded: Folded,
    state_of_slot: Sequence[int] | NDArray[np.integer],
    intensity_of_slot: Sequence[int] | NDArray[np.integer] | None = None,
    *,
    states: int = 4,
) -> NDArray[np.int64]:
    """Add the slots up by what was sent in them.

    Args:
        folded: Counts per slot and detector.
        state_of_slot: Number of the state sent in each slot, shape ``(period,)``.
        intensity_of_slot: Number of the intensity sent in each slot, same shape; None for one.
        states: How many states there are.

    Returns:
        Counts by intensity, sent state and detector, shape ``(n_intensities, states,
        n_detectors)``; with four detectors, each intensity has its 4 x 4 table.

    Raises:
        ValueError: A pattern is not as long as the period, or a number in it is not possible.
    """
    period, detectors = folded.counts.shape
    state = np.asarray(state_of_slot, dtype=np.intp)
    intensity = np.asarray(np.zeros(period) if intensity_of_slot is None else intensity_of_slot)
    intensity = intensity.astype(np.intp)
    for what, numbers in (("states", state), ("intensities", intensity)):
        if numbers.shape != (period,):
            raise ValueError(f"{len(numbers)} {what} do not fill a period of {period} slots")
        if numbers.min() < 0:
            raise ValueError(f"{numbers.min()} is not the number of one of the {what}")
    if state.max() >= states:
        raise ValueError(f"{state.max()} is not the number of one of {states} states")
    table = np.zeros((int(intensity.max()) + 1, states, detectors), dtype=np.int64)
    np.add.at(table, (intensity, state), folded.counts)
    return table
