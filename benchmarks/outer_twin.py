"""Fast twin of a whole link: seven knobs that act together on the secret key rate.

Attenuation, bias of the intensity modulator, delay and width of the gate, bias of the detectors,
and two angles of residual misalignment. Light leaks where the bias is off its null, a gate misses
pulses or lets in dark counts, detectors trade efficiency for dark counts and afterpulses. Knobs
act on each other: what a knob does depends a little on where the others are. Counts are Poisson.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr

from calibration.measured_key import CORRECTION, SIFTING, KeyCounts, unclipped_key_rate

Array = NDArray[np.float64]

KNOBS = (
    "attenuation_db",
    "modulator_bias_v",
    "gate_delay_ps",
    "gate_width_ps",
    "detector_bias",
    "angle_1_rad",
    "angle_2_rad",
)
LOW = np.array([0.0, -2.0, -300.0, 300.0, 0.0, -0.4, -0.4])
HIGH = np.array([12.0, 2.0, 300.0, 1500.0, 1.0, 0.4, 0.4])
"""What the stages before leave open."""

SYMMETRIC = np.array([False, True, True, False, False, True, True])
"""Knobs whose optimum lies about zero."""

CLOCK_HZ = 1e8
BRIGHTEST = 3.0
"""Mean photon number of the signal without attenuation."""

HALF_WAVE_V = 5.0
EXTINCTION = 1e-3
SETTLING_S = 0.1
LONGEST_S = 10.0
"""Of an exposure: at a dark setting nobody waits for the photons that were asked for."""

EMPTY_SHARE = 0.2
"""Of the pattern's pulses that are empty; the rest is signal."""


@dataclass(frozen=True)
class OuterOptions:
    """What the twin's bench is like.

    Attributes:
        loss_db: Range of the loss from Alice to the detectors, uniform, dB.
        away: How far from the middle of its range a knob's optimum may be, as a share of the range.
        coupling: Standard deviation of how far a knob moves what another one does.
        widened: Factor of the ranges of bias, delay and angles.
    """

    loss_db: tuple[float, float] = (8.0, 20.0)
    away: float = 0.3
    coupling: float = 0.1
    widened: float = 1.0


class OuterTwin:
    """One bench, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.

    Attributes:
        limits: Lowest and highest settings, shape ``(2, 7)``.
        elapsed_s: Time that settling and counting took so far.
    """

    def __init__(self, seed: int, options: OuterOptions | None = None) -> None:
        options = options if options is not None else OuterOptions()
        self.limits = np.array([LOW, HIGH]) * np.where(SYMMETRIC, options.widened, 1.0)
        self._rng = rng = np.random.default_rng([seed, 0x0E])
        self._share = 10 ** (-rng.uniform(*options.loss_db) / 10)
        self._null, self._arrival, *self._angles = rng.uniform(-2, 2, 4) * options.away
        self._jitter_ps = rng.uniform(100, 300)
        self._knee = rng.uniform(0.3, 0.6)
        self._dark_hz = 10 ** rng.uniform(2.0, 3.5)
        self._dark_growth = rng.uniform(4, 8)
        self._afterpulses = 10 ** rng.uniform(-2.5, -1.5)
        self._floor = rng.uniform(0.005, 0.015)
        self._mixing = options.coupling * rng.normal(size=(len(KNOBS), len(KNOBS)))
        np.fill_diagonal(self._mixing, 0.0)
        self.elapsed_s = 0.0

    def mean_photons(self, setting: Array) -> float:
        """Tell the mean photon number that a calibrated attenuator stands for."""
        return float(BRIGHTEST * 10 ** (-setting[0] / 10))

    def measure(self, setting: Array, photons: float) -> KeyCounts:
        """Set the knobs and count for as long as so many detections take, but not for ever.

        Args:
            setting: Knobs in the order of KNOBS, shape ``(7,)``.
            photons: Expected detections, of signal and empty pulses.
        """
        gain, qber, background = self._expected(setting)
        per_pulse = (1 - EMPTY_SHARE) * gain + EMPTY_SHARE * background
        pulses = min(photons / per_pulse, LONGEST_S * CLOCK_HZ)
        self.elapsed_s += SETTLING_S + pulses / CLOCK_HZ
        sent, empty = (1 - EMPTY_SHARE) * pulses, EMPTY_SHARE * pulses
        clicks = int(self._rng.poisson(sent * gain))
        sifted = int(self._rng.binomial(clicks, SIFTING))
        errors = int(self._rng.binomial(sifted, qber))
        empty_clicks = int(self._rng.poisson(empty * background))
        return KeyCounts(sent, clicks, sifted, errors, empty, empty_clicks)

    def key_rate(self, setting: Array) -> float:
        """Tell the true key rate of a setting, secret bits per signal pulse, also below zero."""
        expected = self._expected(setting)
        return unclipped_key_rate(expected, self.mean_photons(setting), CORRECTION, SIFTING)

    def loss(self, setting: Array) -> float:
        """Tell the share of the reachable key rate that a setting gives away."""
        return 1 - self.key_rate(setting) / self.best[1]

    @cached_property
    def best(self) -> tuple[Array, float]:
        """Setting of the best key rate within the limits, and that rate."""
        middle, half = self.limits.mean(axis=0), self._half
        felt = np.array([0.0, self._null, self._arrival, 0.0, 0.5, *self._angles])
        guess = np.clip(np.linalg.solve(np.eye(len(KNOBS)) + self._mixing, felt), -0.95, 0.95)
        found = [
            minimize(
                lambda x: -1e3 * self.key_rate(middle + half * x) / self._share,
                start,
                method="L-BFGS-B",
                bounds=[(-1, 1)] * len(KNOBS),
            )
            for start in (guess, guess + 0.05 * np.sign(0.5 - guess))
        ]
        best = middle + half * min(found, key=lambda result: float(result.fun)).x
        return best, self.key_rate(best)

    @property
    def _half(self) -> Array:
        return np.asarray(np.diff(self.limits, axis=0)[0] / 2)

    def _expected(self, setting: Array) -> Array:
        """Return gain and QBER of the signal and clicks per empty gate, shape ``(3,)``."""
        half = self._half
        scaled = (setting - self.limits.mean(axis=0)) / half
        felt = scaled + self._mixing @ scaled
        _, bias, delay, width, detector, *angles = felt
        off_null = np.sin(np.pi / 2 * half[1] * (bias - self._null) / HALF_WAVE_V)
        width_ps = max(self.limits[:, 3].mean() + half[3] * width, 10.0)
        late_ps = half[2] * (delay - self._arrival)
        edges_ps = (np.array([0.5, -0.5]) * width_ps - late_ps) / self._jitter_ps
        in_gate = float(ndtr(edges_ps[0]) - ndtr(edges_ps[1]))
        raised = (detector + 1) / 2
        efficiency = 0.8 * float(ndtr((raised - self._knee) / 0.15))
        arriving = self.mean_photons(setting) * self._share * efficiency
        gate_s = width_ps * 1e-12
        dark = 4 * self._dark_hz * np.exp(self._dark_growth * (raised - 0.5)) * gate_s
        leak = arriving * (EXTINCTION + off_null**2) * gate_s * CLOCK_HZ
        light = -np.expm1(-arriving * (1 - off_null**2) * in_gate)
        afterpulses = self._afterpulses * np.exp(4 * (raised - 0.5)) * light * gate_s * CLOCK_HZ
        background = dark + leak + afterpulses
        gain = 1 - (1 - light) * (1 - background)
        turned = np.cos(half[5] * (angles[0] - self._angles[0]))
        turned *= np.cos(half[6] * (angles[1] - self._angles[1]))
        by_light = self._floor + (1 - 2 * self._floor) * (1 - turned) / 2
        qber = (background / 2 + by_light * (gain - background)) / gain
        return np.array([gain, min(qber, 0.5), background])
