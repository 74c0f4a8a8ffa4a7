"""Messages of the feed as measurement windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from calibration.clicks import STATES, Window
from calibration.folding import DARK_SIGNIFICANCE
from calibration.inversion import Inverted, exchanged
from qkdctl.feed import Errors, FeedMessage

STALE = "stale"
"""Flag of a window that stands for none: the feed is silent."""

POOLED = "pooled"
"""Flag of a window whose errors are known for both bases together only."""

_NONE = Errors(sifted=0, errors=0)


@dataclass(frozen=True)
class FeedWindow:
    """One message, with its place in the daemon's time.

    Attributes:
        message: What was posted.
        start_s: Start of the window by the daemon's clock, s.
        setting: What was in force meanwhile, dither included; None where that changed or is not
            known.
    """

    message: FeedMessage
    start_s: float
    setting: Mapping[str, float] | None

    @property
    def sequence(self) -> int:
        """Number of the window."""
        return self.message.sequence

    @property
    def duration_s(self) -> float:
        """Length of the window, s."""
        return self.message.duration_s

    @property
    def end_s(self) -> float:
        """End of the window by the daemon's clock, s."""
        return self.start_s + self.message.duration_s


def table_of(message: FeedMessage) -> NDArray[np.int64]:
    """Give the counts by bit, sent state by detector, shape ``(4, 4)``.

    Error counts become counts of alike bases, shared evenly between the two states of a basis;
    those of both bases together are shared between the bases as well.
    """
    if message.counts is not None:
        return np.array(message.counts, dtype=np.int64)
    bases = message.bases
    table = np.zeros((len(STATES), len(STATES)), dtype=np.int64)
    if bases is None:
        return table
    if bases.both is not None:
        z, x = _halves(bases.both)
    else:
        z, x = bases.Z or _NONE, bases.X or _NONE
    for first, basis in ((0, z), (2, x)):
        table[first : first + 2, first : first + 2] = _block(basis)
    return table


def window_of(
    windows: Sequence[FeedWindow], intensity: str, inverted: Inverted, dark_rate_hz: float
) -> Window:
    """Put windows together into one.

    Args:
        windows: At least one, in the order of time.
        intensity: Name of the signal intensity.
        inverted: Bases whose bits are inverted. A table of counts goes by the detectors as they are
            wired; error counts are those of the bits.
        dark_rate_hz: Counts per second while no light arrives.
    """
    messages = [each.message for each in windows]
    table = np.zeros((len(STATES), len(STATES)), dtype=np.int64)
    for message in messages:
        counts = table_of(message)
        table += counts if message.counts is not None else exchanged(counts, inverted)
    duration_s = sum(message.duration_s for message in messages)
    flags = {POOLED for message in messages if message.is_pooled}
    if poisson(dark_rate_hz * duration_s).sf(table.sum() - 1) > DARK_SIGNIFICANCE:
        flags.add("dark")
    return Window(
        start_s=windows[0].start_s,
        duration_s=duration_s,
        source="feed",
        disclosure=messages[-1].origin,
        intensities=(intensity,),
        clicks=table[np.newaxis],
        singles=sum((_singles(message) for message in messages), np.zeros(4, dtype=np.int64)),
        flags=frozenset(flags),
        inverted=inverted,
    )


def stale_window(start_s: float, duration_s: float, intensity: str, inverted: Inverted) -> Window:
    """Give the window of a time in which nothing was posted."""
    size = len(STATES)
    return Window(
        start_s=start_s,
        duration_s=duration_s,
        source="feed",
        disclosure="sampled",
        intensities=(intensity,),
        clicks=np.zeros((1, size, size), dtype=np.int64),
        singles=np.zeros(size, dtype=np.int64),
        flags=frozenset({"dark", STALE}),
        inverted=inverted,
    )


def _singles(message: FeedMessage) -> NDArray[np.int64]:
    """Return the clicks per detector: as told, else those of the table, which may be a sample."""
    if message.singles is not None:
        return np.array(message.singles, dtype=np.int64)
    singles: NDArray[np.int64] = table_of(message).sum(axis=0)
    return singles


def _halves(both: Errors) -> tuple[Errors, Errors]:
    right = both.sifted - both.errors
    z = Errors(sifted=both.errors // 2 + (right + 1) // 2, errors=both.errors // 2)
    x = Errors(sifted=both.sifted - z.sifted, errors=both.errors - z.errors)
    return z, x


def _block(basis: Errors) -> list[list[int]]:
    right, wrong = basis.sifted - basis.errors, basis.errors
    return [[(right + 1) // 2, (wrong + 1) // 2], [wrong // 2, right // 2]]
