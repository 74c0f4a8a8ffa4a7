"""Fast twin of the detector stage: four detectors whose bias buys efficiency with dark counts.

The key rate is summed over photon numbers, with perfect knowledge of every yield. What a laboratory
script sees of a setting are counts with light, in and out of the gates, and counts without.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, poisson

from benchmarks.tasks.signal_bench import Reading
from calibration.folding import Pattern
from calibration.link_model import Counted, LinkModel, link_model

Array = NDArray[np.float64]

INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
STATES = "HVDA"
CLOCK_HZ = 1e8
GATE_SHARE = 0.4
OPTICAL_ERROR = 0.01
CORRECTION = 1.16

LIMITS_UA = 4.0, 22.0
START_UA = 9.0
DARK_REFERENCE_UA = 15.0
RETRAP_UA = 4.5
"""Bias below which a latched wire recovers."""

DARK_S = 1.0
SETTLING_S = 0.01
SHUTTER_S = 0.05
GRID = 721
PRICES = np.append(0.0, np.geomspace(1e-3, 1e4, 400))
"""What a dark count may be worth, in counts of light, at the best biases."""

MOST_PHOTON_NUMBER = 12
LONGEST_S = 4.0


@dataclass(frozen=True)
class DetectorOptions:
    """What the twin's bench is like; what has a range is drawn for each detector.

    Attributes:
        plateau_hz: Light counts of a detector on its plateau, range, Hz.
        onset_ua: Bias of half the efficiency, range, uA.
        width_ua: How gradually the plateau is reached, range, uA.
        slope: Growth of the efficiency above the onset that never ends, per uA.
        dark_hz: Dark counts of a detector at 15 uA, range, Hz.
        dark_scale_ua: Bias by which they grow e-fold, uA.
        stray_hz: Background that no bias changes, Hz.
        afterpulses: Share of clicks that another one follows, out of step with the light.
        latching_ua: Bias above which the third detector latches.
        dead: Letters of detectors that do not click.
    """

    plateau_hz: tuple[float, float] = (1000.0, 3000.0)
    onset_ua: tuple[float, float] = (7.0, 10.0)
    width_ua: tuple[float, float] = (1.0, 2.5)
    slope: float = 0.0
    dark_hz: tuple[float, float] = (10.0, 100.0)
    dark_scale_ua: float = 1.5
    stray_hz: float = 0.0
    afterpulses: float = 0.0
    latching_ua: float = math.inf
    dead: str = ""


@dataclass(frozen=True)
class DetectorReading(Reading):
    """One look with light and one without.

    Attributes:
        counted: What the detectors counted; zero seconds where it was not looked.
    """

    counted: Counted


class DetectorTwin:
    """One bench, drawn at random; a setting is the bias of each detector, uA.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.

    Attributes:
        link: What a script makes a key rate with; the twin judges by a sum of its own.
    """

    def __init__(self, seed: int, options: DetectorOptions | None = None) -> None:
        self.options = options if options is not None else DetectorOptions()
        self._rng = np.random.default_rng([seed, 0xDC])
        self._plateau_hz = self._drawn(self.options.plateau_hz)
        self._onset_ua = self._rng.uniform(*self.options.onset_ua, 4)
        self._width_ua = self._rng.uniform(*self.options.width_ua, 4)
        self._dark_hz = self._drawn(self.options.dark_hz)
        self._alive = np.array([letter not in self.options.dead for letter in STATES])
        self.limits = np.tile(np.array([LIMITS_UA]).T, 4)
        self.start = np.full(4, START_UA)
        self.elapsed_s = 0.0
        self._is_latched, self._was_lit = False, True
        self._now_ua: Array | None = None
        self._best = self._best_key_rate()
        pattern = Pattern(STATES, INTENSITIES, CLOCK_HZ)
        self.link: LinkModel = link_model(pattern, MEANS, GATE_SHARE / CLOCK_HZ, OPTICAL_ERROR)

    def look(
        self,
        setting: Array,
        amount: float,
        *,
        lit: bool = True,
        dark_s: float = DARK_S,
        **_: object,
    ) -> DetectorReading:
        """Set the biases; count with light, shut it, count without, and open it.

        Args:
            setting: Biases, uA.
            amount: Detections wanted with light.
            lit: Whether to look with light at all.
            dark_s: How long to count without light, s; 0 for not at all.
        """
        self._set(setting)
        light_hz, dark_hz = self._rates_hz(setting)
        if self._is_latched:
            light_hz[2] = dark_hz[2] = 0.0
        follows = self.options.afterpulses
        even_hz = dark_hz * (1 + follows) + light_hz * follows
        seen_hz = max(float((light_hz + even_hz).sum()), 1.0)
        lit_s = min(amount / seen_hz, LONGEST_S) if lit else 0.0
        inside = self._rng.poisson((light_hz + GATE_SHARE * even_hz) * lit_s)
        outside = self._rng.poisson((1 - GATE_SHARE) * even_hz * lit_s)
        dark = self._rng.poisson(dark_hz * (1 + follows) * dark_s)
        turns = (lit and not self._was_lit) + (dark_s > 0 and (lit or self._was_lit))
        self._was_lit = lit and dark_s == 0
        self.elapsed_s += lit_s + dark_s + turns * SHUTTER_S
        counted = Counted(inside + outside, outside, lit_s, dark, dark_s)
        paid = int(counted.lit.sum() + dark.sum())
        if not (lit and dark_s):
            return DetectorReading(paid, np.zeros(4), 0.0, counted)
        costs, cost = self._costs(counted)
        return DetectorReading(paid, costs, cost, counted)

    def excess(self, setting: Array) -> float:
        """Tell the share of the best reachable key rate that a setting loses."""
        return 1 - self.truth(setting) / self._best

    def truth(self, setting: Array) -> float:
        """Tell the key rate, secret bits a pulse."""
        light_hz, dark_hz = self._rates_hz(setting)
        if setting[2] > self.options.latching_ua:
            light_hz[2] = dark_hz[2] = 0.0
        background_hz = dark_hz + self.options.afterpulses * (light_hz + dark_hz)
        return _key_rate(float(light_hz.sum()), float(background_hz.sum()))

    def remarks(self, setting: Array) -> Mapping[str, float]:
        """Tell whether a detector was left latched."""
        return {"left_latched": float(setting[2] > self.options.latching_ua)}

    def _drawn(self, limits: tuple[float, float]) -> Array:
        """Draw a value for each detector, its logarithm uniform."""
        low, high = limits
        return np.asarray(low * (high / low) ** self._rng.uniform(size=4))

    def _set(self, setting: Array) -> None:
        if self._now_ua is None or not np.array_equal(setting, self._now_ua):
            self.elapsed_s += SETTLING_S
        self._now_ua = setting
        third_ua = float(setting[2])
        stays = self._is_latched and third_ua > RETRAP_UA
        self._is_latched = stays or third_ua > self.options.latching_ua

    def _rates_hz(self, bias_ua: Array) -> tuple[Array, Array]:
        """Return the rates of light and of dark counts of all detectors, one row per detector."""
        above = (bias_ua.T - self._onset_ua).T
        efficiency = norm.cdf(np.sqrt(2) * (above.T / self._width_ua).T)
        efficiency *= 1 + self.options.slope * np.maximum(above, 0.0)
        light_hz = ((self._plateau_hz * self._alive) * efficiency.T).T
        grown = np.exp((bias_ua - DARK_REFERENCE_UA) / self.options.dark_scale_ua)
        dark_hz = ((self._dark_hz * self._alive) * grown.T).T
        return light_hz, (dark_hz.T + self._alive * self.options.stray_hz / 4).T

    def _best_key_rate(self) -> float:
        """Go through what a dark count may be worth; at each price every bias stands by itself."""
        biases = np.tile(np.linspace(*LIMITS_UA, GRID), (4, 1))
        light_hz, dark_hz = self._rates_hz(biases)
        background_hz = dark_hz + self.options.afterpulses * (light_hz + dark_hz)
        latches = biases[2] > self.options.latching_ua
        light_hz[2, latches], background_hz[2, latches] = 0.0, 0.0
        best, rows = 0.0, np.arange(4)
        for price in PRICES:
            chosen = np.argmax(light_hz - price * background_hz, axis=1)
            totals = light_hz[rows, chosen].sum(), background_hz[rows, chosen].sum()
            best = max(best, _key_rate(*map(float, totals)))
        return best

    def _costs(self, counted: Counted) -> tuple[Array, float]:
        """Return minus the key rate that a script makes of the counts, each detector's, and all."""
        dark_hz, lit_hz = counted.dark / counted.dark_s, counted.lit / counted.lit_s
        light_hz = np.maximum(lit_hz - dark_hz, 0.0)
        # Of what is even in time, the clicks outside of the gates tell more than darkness.
        even_hz = np.maximum(counted.outside / counted.lit_s / (1 - GATE_SHARE), dark_hz)
        alone = [
            -self.link.key_rate(light_hz[k : k + 1], even_hz[k : k + 1]) for k in range(len(STATES))
        ]
        return np.array(alone), -self.link.key_rate(light_hz, even_hz)


def _key_rate(light_hz: float, background_hz: float) -> float:
    """Sum the key of decoy-state BB84 over photon numbers, all yields known."""
    mean = sum(MEANS[name] for name in INTENSITIES) / len(INTENSITIES)
    transmittance = light_hz / (CLOCK_HZ * mean)
    even = background_hz * GATE_SHARE / CLOCK_HZ
    photons = np.arange(MOST_PHOTON_NUMBER + 1)
    sent = poisson.pmf(photons, MEANS["signal"])
    arrives = 1 - (1 - transmittance) ** photons
    clicks = arrives + even - arrives * even
    errs = OPTICAL_ERROR * arrives + even / 2
    gain, wrong = float(sent @ clicks), float(sent @ errs)
    if gain <= 0:
        return 0.0
    single = float(sent[1] * clicks[1]) * (1 - _entropy(float(errs[1] / clicks[1])))
    return max((single - CORRECTION * gain * _entropy(wrong / gain)) / 2, 0.0)


def _entropy(share: float) -> float:
    share = min(max(share, 1e-15), 0.5)
    return float(-(share * np.log2(share) + (1 - share) * np.log2(1 - share)))
