"""Fast twin of the bias stage: an intensity modulator followed as two arms that interfere.

Time tags of four detectors are drawn slot by slot. What a laboratory script sees is simpler: the
count rate of the slots that should be empty, told apart without a doubt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from benchmarks.tasks.signal_bench import Reading

Array = NDArray[np.float64]
Tags = dict[int, NDArray[np.uint64]]

INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0}
STATES = "HVDA"
CLOCK_HZ = 1e8
SLOT_PS = 1e4
PERIOD = len(INTENSITIES) * len(STATES)
GATE_SHARE = 0.4

HALF_WAVE_V = 5.0
LIMITS_V = -10.0, 10.0
RATE_HZ = 2e5
"""Clicks at the null, all detectors."""

SETTLING_S = 0.01
JITTER_PS = 100.0
EXCESS_AT_MOST = 1e3
GRID = 2001

_DRIVEN_RAD = {name: 2 * np.arcsin(np.sqrt(mean / MEANS["signal"])) for name, mean in MEANS.items()}
"""Phase between the arms that each intensity's drive adds to that of the bias."""


@dataclass(frozen=True)
class ModulatorOptions:
    """What the twin's bench is like.

    Attributes:
        arm_imbalance: Difference of the arms' amplitudes over their sum: it limits the extinction.
        half_wave_range: Half width of the relative error of the half-wave voltage, uniform.
        drift_v: Standard deviation of the null's walk after one second, V.
        dark_hz: Dark counts, all detectors, Hz.
        dead: Letters of detectors that do not click.
    """

    arm_imbalance: float = 0.015
    half_wave_range: float = 0.1
    drift_v: float = 0.0
    dark_hz: float = 160.0
    dead: str = ""


@dataclass(frozen=True)
class ModulatorReading(Reading):
    """One exposure.

    Attributes:
        by_intensity: Counts in the gates of signal, decoy and vacuum.
        duration_s: Exposure, s.
        tags: Draws the time tags by tagger input 1 to 4, for who wants them.
    """

    by_intensity: Mapping[str, int]
    duration_s: float
    tags: Callable[[], Tags]


class ModulatorTwin:
    """One bench, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: ModulatorOptions | None = None) -> None:
        self.options = options if options is not None else ModulatorOptions()
        self._rng = np.random.default_rng([seed, 0xB1])
        spread = self.options.half_wave_range
        self.half_wave_v = HALF_WAVE_V * (1 + self._rng.uniform(-spread, spread))
        self.null_v = self._rng.uniform(-1, 1) * HALF_WAVE_V
        self.delays_ps = self._rng.uniform(0, 2.4 * SLOT_PS, 4)
        self.limits = np.array([LIMITS_V]).T
        self.start = np.zeros(1)
        self.elapsed_s = 0.0
        self._now_v = 0.0

    def look(self, setting: Array, amount: float, **how: object) -> ModulatorReading:
        """Set the bias and count for as long as so many detections take at the null."""
        if setting[0] != self._now_v:
            self._pass(SETTLING_S)
        self._now_v = float(setting[0])
        duration_s = amount / RATE_HZ
        self._pass(duration_s / 2)
        light_hz = self._light_hz(self._now_v)
        alive = np.array([letter not in self.options.dead for letter in STATES])
        mean = np.tile(np.array([light_hz[name] for name in INTENSITIES]) / PERIOD, len(STATES))
        per_slot = self._rng.poisson(alive[:, None] * mean * duration_s / len(STATES))
        dark = self._rng.poisson(alive * self.options.dark_hz * duration_s / len(STATES))
        self._pass(duration_s / 2)
        dark_share = {name: GATE_SHARE * INTENSITIES.count(name) / 5 for name in MEANS}
        places = np.array(INTENSITIES * len(STATES))
        seen = {
            name: int(per_slot[:, places == name].sum())
            + int(self._rng.binomial(int(dark.sum()), dark_share[name]))
            for name in MEANS
        }
        rate = seen["vacuum"] / duration_s
        paid = int(per_slot.sum() + dark.sum())
        tags = partial(self._tags, per_slot, dark)
        return ModulatorReading(paid, np.array([rate]), rate, seen, duration_s, tags)

    def excess(self, setting: Array) -> float:
        """Tell light in the empty pulses over that of the signal, above the least reachable."""
        period_v = 2 * self.half_wave_v
        away_v = (float(setting[0]) - self.null_v + period_v / 2) % period_v - period_v / 2
        biases = self.null_v + np.append(np.linspace(-0.02, 0.02, 401) * self.half_wave_v, away_v)
        found = self._vacuum_over_signal(biases)
        return float(min(found[-1] - found.min(), EXCESS_AT_MOST))

    def truth(self, setting: Array) -> float:
        """Tell the extinction, dB."""
        return float(-10 * np.log10(self._vacuum_over_signal(np.array([setting[0]]))[0]))

    def remarks(self, setting: Array) -> Mapping[str, float]:
        """Tell nothing more."""
        return {}

    def _tags(self, per_slot: NDArray[np.int64], dark: NDArray[np.int64]) -> Tags:
        return {
            number + 1: self._stamps(number, counts, int(dark[number]))
            for number, counts in enumerate(per_slot)
        }

    def _stamps(self, number: int, counts: NDArray[np.int64], dark: int) -> NDArray[np.uint64]:
        slots = np.repeat(np.arange(PERIOD), counts)
        light = (slots + 0.5) * SLOT_PS + self.delays_ps[number]
        light += JITTER_PS * self._rng.standard_normal(len(slots))
        even = self._rng.uniform(0, PERIOD * SLOT_PS, dark)
        return np.asarray(np.concatenate([light, even]) % (PERIOD * SLOT_PS), dtype=np.uint64)

    def _light_hz(self, bias_v: float) -> dict[str, float]:
        """Return the rate that each intensity would have if all slots carried it."""
        passed = _passed(np.array([bias_v]), self.null_v, self.half_wave_v, self.options)
        at_null = _passed(np.zeros(1), 0.0, 1.0, self.options)
        scale = RATE_HZ / np.mean([at_null[name][0] for name in INTENSITIES])
        return {name: float(scale * each[0]) for name, each in passed.items()}

    def _vacuum_over_signal(self, bias_v: Array) -> Array:
        passed = _passed(bias_v, self.null_v, self.half_wave_v, self.options)
        return passed["vacuum"] / passed["signal"]

    def _pass(self, duration_s: float) -> None:
        self.elapsed_s += duration_s
        if self.options.drift_v > 0:
            self.null_v += self.options.drift_v * np.sqrt(duration_s) * self._rng.normal()


def median_bound(options: ModulatorOptions, threshold: float) -> float:
    """Return the detections, median, below which no method finds the null so well.

    Cramer-Rao for the null alone, everything else known, every slot told apart, and all exposures
    at the bias where a detection tells most. The excess is the square of the null's error; the
    median of a chi-square of one degree of freedom is 0.455 of its mean.
    """
    biases = np.linspace(-1, 1, GRID)  # half-wave voltages from the null
    step = biases[1] - biases[0]
    passed = _passed(biases, 0.0, 1.0, options)
    scale = 5 / sum(INTENSITIES.count(name) * passed[name][GRID // 2] for name in MEANS)
    told, spent = np.zeros(GRID), np.full(GRID, options.dark_hz / RATE_HZ)
    for name in MEANS:
        share = INTENSITIES.count(name) / 5
        light = scale * share * passed[name]
        slope = np.gradient(light, step)
        told += slope**2 / (light + GATE_SHARE * share * options.dark_hz / RATE_HZ + 1e-12)
        spent += light
    best = float((told / spent)[1:-1].max())  # 1 / V_pi^2 and detection
    ratio = passed["vacuum"] / passed["signal"]
    curvature = float(np.gradient(np.gradient(ratio, step), step)[GRID // 2]) / 2
    return float(chi2.median(1)) * curvature / (best * threshold)


def _passed(
    bias_v: Array, null_v: float, half_wave_v: float, options: ModulatorOptions
) -> dict[str, Array]:
    """Return the share of light that each intensity passes: two arms in antiphase at the null."""
    weak, strong = (1 - options.arm_imbalance) / 2, (1 + options.arm_imbalance) / 2
    bias_rad = np.pi * (bias_v - null_v) / half_wave_v
    return {
        name: np.abs(strong - weak * np.exp(1j * (bias_rad + driven))) ** 2
        for name, driven in _DRIVEN_RAD.items()
    }
