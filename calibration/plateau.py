"""What a bias does to a detector: efficiency that levels off, dark counts that grow.

Model over the bias ``x`` of one detector: light counts at ``S (1 + erf((x - x_0) / w)) / 2`` and
dark counts at ``d exp((x - x_m) / l)``. It holds for the bias current of superconducting nanowires
(efficiency: M. Caloz et al., Appl. Phys. Lett. 110, 083106 (2017); dark counts: H. Bartolf et al.,
Phys. Rev. B 81, 024502 (2010)), and over a small range for the excess bias of avalanche diodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erf

Floats = NDArray[np.float64]

ONSET_STARTS = 4
"""Fits begin with the onset at as many places of the range."""


@dataclass(frozen=True)
class BiasLook:
    """What one detector counted at one bias.

    Attributes:
        bias: In the knob's unit.
        lit: Counts with light.
        lit_s: Duration of that, s.
        dark: Counts without light.
        dark_s: Duration of that, s.
    """

    bias: float
    lit: int
    lit_s: float
    dark: int
    dark_s: float


@dataclass(frozen=True)
class PlateauCurve:
    """Rates of one detector over its bias.

    Attributes:
        plateau_hz: Light counts on the plateau, Hz.
        onset: Bias at which they are half of that.
        width: How gradually the plateau is reached.
        dark_hz: Dark counts at the reference, Hz.
        dark_scale: Bias by which they grow ``e``-fold; infinite if they do not.
        reference: Bias of ``dark_hz``.
    """

    plateau_hz: float
    onset: float
    width: float
    dark_hz: float
    dark_scale: float
    reference: float

    def light_hz(self, bias: Floats) -> Floats:
        """Return the rate of light counts."""
        return np.asarray(self.plateau_hz * (1 + erf((bias - self.onset) / self.width)) / 2)

    def darkness_hz(self, bias: Floats) -> Floats:
        """Return the rate of dark counts."""
        return np.asarray(self.dark_hz * np.exp((bias - self.reference) / self.dark_scale))


def fit_plateau(looks: Sequence[BiasLook]) -> PlateauCurve:
    """Fit the curve to counts by their Poisson likelihood, with wide priors on its shape.

    Args:
        looks: At three or more different biases.

    Raises:
        ValueError: Too few biases, or no counts.
    """
    bias = np.array([look.bias for look in looks])
    lit = np.array([look.lit for look in looks], dtype=float)
    dark = np.array([look.dark for look in looks], dtype=float)
    lit_s = np.array([look.lit_s for look in looks])
    dark_s = np.array([look.dark_s for look in looks])
    if len(set(bias.tolist())) < 3 or lit.sum() == 0:
        raise ValueError("a plateau needs counts at three biases or more")
    span, middle = float(np.ptp(bias)), float((bias.max() + bias.min()) / 2)
    # Dark counts at a high bias may be many times the light: what is surely more than those.
    sigma_hz = np.sqrt((lit + 1) / lit_s**2 + (dark + 1) / dark_s**2)
    brightest_hz = max(float((lit / lit_s - dark / dark_s - sigma_hz).max()), 1 / lit_s.sum())
    darkest_hz = float((dark.sum() + 0.5) / dark_s.sum())

    def curve(parameters: Floats) -> PlateauCurve:
        log_plateau, onset, log_width, log_dark, growth = np.clip(parameters, -20, 20)
        return PlateauCurve(
            plateau_hz=brightest_hz * math.exp(log_plateau),
            onset=middle + span * onset,
            width=span * math.exp(log_width),
            dark_hz=darkest_hz * math.exp(log_dark),
            dark_scale=span / growth if growth else math.inf,
            reference=middle,
        )

    def cost(parameters: Floats) -> float:
        model = curve(parameters)
        darkness_hz = model.darkness_hz(bias)
        expected_lit = (model.light_hz(bias) + darkness_hz) * lit_s + 1e-9
        expected_dark = darkness_hz * dark_s + 1e-9
        likelihood = expected_lit - lit * np.log(expected_lit)
        likelihood += expected_dark - dark * np.log(expected_dark)
        log_plateau, onset, log_width, log_dark, growth = parameters
        # Priors: bright as seen within a factor 2; onset in or near the range; soft edge; dark
        # counts that grow by a few e-foldings over the range at most.
        prior = (log_plateau / 0.7) ** 2 + (onset + 0.3) ** 2 + ((log_width + 1.5) / 1.0) ** 2
        prior += (log_dark / 3) ** 2 + (growth / 6) ** 2
        return float(likelihood.sum() + prior / 2)

    # Dark counts alone tell their growth; a fit that has to find it as well may lose its way.
    log_dark_hz, seen = np.log((dark + 0.5) / dark_s), np.sqrt(dark + 0.5)
    slope, at_middle = np.polyfit((bias - middle) / span, log_dark_hz, 1, w=seen)
    starts = [
        np.array([0.1, onset, -1.5, at_middle - math.log(darkest_hz), slope])
        for onset in np.linspace(-0.8, 0.3, ONSET_STARTS)
    ]
    fits = [minimize(cost, start, method="BFGS") for start in starts]
    return curve(min(fits, key=lambda fit: float(fit.fun)).x)
