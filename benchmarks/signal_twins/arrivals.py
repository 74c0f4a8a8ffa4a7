"""Fast twin of the delay stage: four detectors behind cables of unknown length.

What a laboratory script sees of a setting is how many clicks fall into the gates; the stamps of
every exposure may be looked at as well. Whole slots are known to all methods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import exponnorm, norm

from benchmarks.tasks.signal_bench import Reading

Array = NDArray[np.float64]

INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
STATES = "HVDA"
CLOCK_HZ = 5e8
SLOT_PS = 2000.0
PERIOD_PS = len(INTENSITIES) * len(STATES) * SLOT_PS
GATE_PS = 500.0
MOST_OFF_PS = 900.0
RATE_HZ = 2e5
LOOKUP_PS = np.arange(-1000.0, 1000.0, 0.25)


@dataclass(frozen=True)
class ArrivalOptions:
    """What the twin's bench is like.

    Attributes:
        jitter_ps: Standard deviation of the normal part of the jitter, ps.
        tail_ps: Mean of an exponential delay on top, as of avalanche diodes, ps; 0 for none.
        dark_share: Share of all clicks that are spread evenly.
        weights: Relative rates of the detectors.
    """

    jitter_ps: float = 120.0
    tail_ps: float = 0.0
    dark_share: float = 0.02
    weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ArrivalReading(Reading):
    """One exposure.

    Attributes:
        stamps: Clicks by tagger input 1 to 4, since START, ps.
        duration_s: Exposure, s.
    """

    stamps: Mapping[int, NDArray[np.uint64]]
    duration_s: float


class ArrivalTwin:
    """One bench, drawn at random; a setting is the delay of each detector, ps.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: ArrivalOptions | None = None) -> None:
        self.options = options if options is not None else ArrivalOptions()
        self._rng = np.random.default_rng([seed, 0xDE])
        self._arrives_ps = self._rng.uniform(-MOST_OFF_PS, MOST_OFF_PS, 4)
        self.limits = np.tile([[-1000.0], [1000.0]], 4)
        self.start = np.zeros(4)
        self.elapsed_s = 0.0
        self._in_gate = _in_gate(self.options)
        self._best_ps = float(LOOKUP_PS[np.argmax(self._in_gate)])

    def look(self, setting: Array, amount: float, **how: object) -> ArrivalReading:
        """Stamp about so many clicks, and count those in the gates at a setting."""
        duration_s = amount / RATE_HZ
        self.elapsed_s += duration_s
        weights = np.array(self.options.weights)
        numbers = self._rng.poisson(amount * weights / weights.sum())
        stamps = {k + 1: self._stamps(k, int(number)) for k, number in enumerate(numbers)}
        outside = np.array(
            [_outside(stamps[k + 1], float(setting[k])) for k in range(len(numbers))]
        )
        total = int(numbers.sum())
        lost = float(outside @ numbers) / max(total, 1)
        return ArrivalReading(total, outside, lost, stamps, duration_s)

    def excess(self, setting: Array) -> float:
        """Tell how far the worst gate lies from where it would catch most light, ps."""
        return float(np.abs(self._off_ps(setting)).max())

    def truth(self, setting: Array) -> float:
        """Tell the same: the timing error of the worst detector, ps."""
        return self.excess(setting)

    def remarks(self, setting: Array) -> Mapping[str, float]:
        """Tell the share of the light in the best gates that is lost, of all detectors."""
        caught = np.interp(self._off_ps(setting) + self._best_ps, LOOKUP_PS, self._in_gate)
        weights = np.array(self.options.weights)
        return {"counts_lost": 1 - float(caught @ weights / weights.sum()) / self._in_gate.max()}

    def _off_ps(self, setting: Array) -> Array:
        off = setting - self._arrives_ps - self._best_ps
        return np.asarray((off + SLOT_PS / 2) % SLOT_PS - SLOT_PS / 2)

    def _stamps(self, detector: int, number: int) -> NDArray[np.uint64]:
        lit = self._rng.binomial(number, 1 - self.options.dark_share)
        levels = np.tile([MEANS[name] for name in INTENSITIES], len(STATES))
        slots = self._rng.choice(len(levels), size=lit, p=levels / levels.sum())
        late = self._rng.exponential(self.options.tail_ps, lit) if self.options.tail_ps else 0.0
        light = (slots + 0.5) * SLOT_PS + self._arrives_ps[detector] + late
        light += self.options.jitter_ps * self._rng.standard_normal(lit)
        even = self._rng.uniform(0, PERIOD_PS, number - lit)
        return np.asarray(np.concatenate([light, even]) % PERIOD_PS, dtype=np.uint64)


def median_bound(options: ArrivalOptions, threshold_ps: float) -> float:
    """Return the detections, median, below which no method places the worst gate so well.

    Cramer-Rao for the arrival alone, shape and background known, by numerical integration. Errors
    are normal and independent, so the median of the worst one is where all of them stay below with
    a probability of one half.
    """
    density = (1 - options.dark_share) * _arrival(options).pdf(LOOKUP_PS)
    density += options.dark_share / SLOT_PS
    step = LOOKUP_PS[1] - LOOKUP_PS[0]
    told = float((np.gradient(density, step) ** 2 / density).sum() * step)  # a click, 1/ps^2
    shares = np.array(options.weights) / sum(options.weights)

    def median_above(photons: float) -> bool:
        sigmas = threshold_ps * np.sqrt(photons * shares * told)
        return bool(np.prod(2 * norm.cdf(sigmas) - 1) >= 0.5)

    low, high = 1.0, 1e9
    for _ in range(100):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if median_above(middle) else (middle, high)
    return float(high)


def _arrival(options: ArrivalOptions) -> Any:
    """Return the distribution of a click of light about the middle of its slot, ps."""
    if options.tail_ps == 0:
        return norm(scale=options.jitter_ps)
    return exponnorm(options.tail_ps / options.jitter_ps, scale=options.jitter_ps)


def _in_gate(options: ArrivalOptions) -> Array:
    """Return the share of light in a gate by where its centre is, in steps of LOOKUP_PS."""
    arrival = _arrival(options)
    half = GATE_PS / 2
    return np.asarray(arrival.cdf(LOOKUP_PS + half) - arrival.cdf(LOOKUP_PS - half))


def _outside(stamps: NDArray[np.uint64], delay_ps: float) -> float:
    """Return the share of clicks outside of the gates."""
    if len(stamps) == 0:
        return 1.0
    offset = (stamps.astype(np.float64) - delay_ps) % SLOT_PS - SLOT_PS / 2
    return float((np.abs(offset) > GATE_PS / 2).mean())
