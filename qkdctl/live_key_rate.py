"""The secret key rate of the link as it is held now, from the windows of the last half minute."""

import math
from typing import Any

import numpy as np

from calibration.clicks import Clicks, Window
from keyrate.measured import DecoyCounts, measured_rate
from qkdctl.config import LinkConfig
from qkdctl.receiver import pattern_of

MEMORY_S = 30.0
"""Time over which counts fade, s."""


class LiveKeyRate:
    """Adds up the counts of each intensity; knows windows, no instrument and no clock.

    What it tells is the rate of an endless key of decoy-state BB84, were the pulses key: to be
    watched, not a security statement. Two decoys are needed, the brightest and the dimmest of those
    there are, dimmer together than the signal; their mean photon numbers are taken from the file.

    Args:
        link: What Alice sends.
    """

    def __init__(self, link: LinkConfig) -> None:
        pattern = pattern_of(link)
        self._names = pattern.intensity_names
        means = np.array([link.intensities[name] for name in self._names])
        decoys = 1 + np.argsort(-means[1:])
        used = np.array([0, *decoys[:1], *decoys[1:][-1:]])
        is_enough = len(used) == 3 and means[used[1:]].sum() < means[0]
        self._used = used if is_enough else None
        self._means = means
        self._pulses_hz = (
            link.clock_hz
            * np.bincount(pattern.intensity_of_slot, minlength=len(means))
            / pattern.period
        )
        self._counts: DecoyCounts | None = None

    def forget(self) -> None:
        """Begin anew: the link is not what it was."""
        self._counts = None

    def take(self, window: Window) -> None:
        """Add a window's counts, unless it tells intensities apart in no way that is known here."""
        if self._used is None or window.intensities != self._names or window.flags:
            return
        clicks = [Clicks(table).inverted(window.inverted) for table in window.clicks[self._used]]
        counts = DecoyCounts(
            self._pulses_hz[self._used] * window.duration_s,
            np.array([float(each.photons) for each in clicks]),
            np.array([float(each.sifted) for each in clicks]),
            np.array([float(each.errors) for each in clicks]),
        )
        fading = math.exp(-window.duration_s / MEMORY_S)
        self._counts = counts if self._counts is None else self._counts.plus(counts, fading)

    def as_dict(self) -> dict[str, Any] | None:
        """Give bits per signal pulse and per second, with 90 % intervals; None without counts."""
        counts = self._counts
        if counts is None or self._used is None or not np.all(counts.sifted[:2] > 0):
            return None
        rate = vars(measured_rate(counts, self._means[self._used]))
        signal_hz = float(self._pulses_hz[0])
        per_s = {name: bits * signal_hz for name, bits in rate.items()}
        return {"bits_per_pulse": rate, "bits_per_s": per_s}
