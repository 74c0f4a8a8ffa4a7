"""From the click rates of a receiver to the key rate of an aligned link."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import STATES
from calibration.folding import Pattern
from calibration.mean_photon import signal_share
from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.link import WeakCoherentLink

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """What all detectors counted at one setting.

    Attributes:
        lit: Clicks with light, shape ``(4,)``.
        outside: Those of them outside of the gates, same shape.
        lit_s: Duration of that, s.
        dark: Clicks without light, same shape.
        dark_s: Duration of that, s.
    """

    lit: NDArray[np.int64]
    outside: NDArray[np.int64]
    lit_s: float
    dark: NDArray[np.int64]
    dark_s: float


@dataclass(frozen=True)
class LinkModel:
    """What makes a key rate of click rates.

    Attributes:
        mean_photons: Mean photon number of the signal.
        signal_share: Mean photon number over the whole pattern over that of the signal.
        clock_hz: Pulses per second.
        gate_s: Width of the gate, s.
        optical_error: Error rate of light.
    """

    mean_photons: float
    signal_share: float
    clock_hz: float
    gate_s: float
    optical_error: float

    def key_rate(self, light_hz: Floats, background_hz: Floats) -> float:
        """Return the secret bits per signal pulse.

        Args:
            light_hz: Rate of clicks by light, over the whole pattern, of each detector, Hz.
            background_hz: Rate of its other clicks, Hz.
        """
        per_pulse = float(light_hz.sum()) / self.clock_hz / self.signal_share
        link = WeakCoherentLink(
            min(per_pulse / self.mean_photons, 1.0),
            min(float(background_hz.sum()) * self.gate_s, 1.0),
            self.optical_error,
        )
        protocol = DecoyBB84(signal=self.mean_photons)
        return float(decoy_bb84(link, protocol, "infinite").bits_per_pulse)


def link_model(
    pattern: Pattern, mean_photons: Mapping[str, float], gate_s: float, optical_error: float
) -> LinkModel:
    """Describe a link by its pattern and the file's mean photon numbers."""
    return LinkModel(
        mean_photons[pattern.signal],
        signal_share(pattern, mean_photons),
        pattern.clock_hz,
        gate_s,
        optical_error,
    )


def afterpulse_share(counted: Sequence[Counted], gate_share: float) -> Floats:
    """Estimate afterpulses per click of each detector, shape ``(4,)``; 0 without a gate.

    What is outside of the gates with light and not without it, fitted to the clicks with light by
    weighted least squares: settings of many dark counts tell little.
    """
    if gate_share >= 1:
        return np.zeros(len(STATES))
    fitted, weight = np.zeros(len(STATES)), np.zeros(len(STATES))
    for each in counted:
        exposure = each.lit_s / each.dark_s
        even = each.outside / (1 - gate_share)
        variance = (even + 1) / (1 - gate_share) + exposure**2 * (each.dark + 1)
        fitted += each.lit * (even - exposure * each.dark) / variance
        weight += each.lit**2 / variance
    return np.asarray(np.clip(fitted / np.maximum(weight, 1e-12), 0.0, 0.5))
