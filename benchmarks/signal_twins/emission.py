"""Fast twin of the attenuation stage: laser, attenuator, shutter, tap and a meter that errs.

No photon is detected on the way: a reading of the meter is what a look costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.signal_bench import Reading

Array = NDArray[np.float64]

INTENSITIES = ("signal", "signal", "signal", "decoy", "vacuum")
MEANS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
STATES = "HVDA"
CLOCK_HZ = 1e8
WAVELENGTH_NM = 1550.0
PHOTON_J = 1.98644586e-25 / 1.55e-6
"""Planck's constant times the speed of light, over the wavelength."""

TAP_DB = 50.0
SAFE = 1.2
"""Level that should never be exceeded, over the signal's."""

LIMITS_DB = 3.0, 45.0
RESOLUTION_DB = 0.01
SETTLING_S, READING_S, SHUTTER_S = 0.1, 0.03, 0.05

METER_SIGMA, TAP_SIGMA_DB = 0.03, 0.05


@dataclass(frozen=True)
class EmissionOptions:
    """What the twin's bench is like.

    Attributes:
        start_off_db: Half width of how far the level of the start is off, uniform, dB.
        noise_w: Noise of a reading, W; the signal is about 5e-8 W at the tap.
        flicker: Noise of a reading, relative.
        offset_w: What the meter reads in the dark, W.
        step_error: Half width of the relative error of the attenuator's scale, uniform.
        drift: Standard deviation of the laser's power after one second, relative.
    """

    start_off_db: float = 8.0
    noise_w: float = 3e-12
    flicker: float = 2e-4
    offset_w: float = 1e-10
    step_error: float = 0.0
    drift: float = 0.0


@dataclass(frozen=True)
class EmissionReading(Reading):
    """One reading of the meter.

    Attributes:
        power_w: What it says, W.
    """

    power_w: float


class EmissionTwin:
    """One bench, drawn at random; a setting is an attenuation, dB.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: EmissionOptions | None = None) -> None:
        self.options = options if options is not None else EmissionOptions()
        self._rng = np.random.default_rng([seed, 0xA7])
        start_db = self._rng.uniform(12.0, 30.0)
        off_db = self._rng.uniform(-1, 1) * self.options.start_off_db
        spread = self.options.step_error
        self._db_per_db = 1 + self._rng.uniform(-spread, spread)
        self._bright = float(MEANS["signal"] * 10 ** ((start_db * self._db_per_db + off_db) / 10))
        tap = 10 ** (self._rng.normal(0, TAP_SIGMA_DB) / 10)
        self._reads = float((1 + self._rng.normal(0, METER_SIGMA)) * tap)
        self.limits = np.array([LIMITS_DB]).T
        self.start = np.array([round(start_db, 2)])
        self.elapsed_s = 0.0
        self.brightest = 0.0
        self._now_db: float | None = None
        self._was_lit = False

    def look(
        self, setting: Array, amount: float, *, lit: bool = True, **_: object
    ) -> EmissionReading:
        """Set the attenuation and read the meter, once whatever the amount.

        Args:
            setting: Attenuation, dB.
            amount: Of no meaning.
            lit: Whether the shutter is open.
        """
        attenuation_db = self.rounded_db(float(setting[0]))
        if attenuation_db != self._now_db:
            self._pass(SETTLING_S)
        if lit != self._was_lit:
            self._pass(SHUTTER_S)
        self._now_db, self._was_lit = attenuation_db, lit
        self._pass(READING_S)
        level = self._level(attenuation_db) if lit else 0.0
        self.brightest = max(self.brightest, level)
        shake, noise = self._rng.normal(size=2)
        power_w = level * self.watts_per_photon * self._reads * (1 + self.options.flicker * shake)
        power_w += self.options.offset_w + self.options.noise_w * noise
        cost = abs(np.log(max((power_w - self.options.offset_w) / self.wanted_w, 1e-9)))
        return EmissionReading(1, np.array([cost]), float(cost), power_w)

    def excess(self, setting: Array) -> float:
        """Tell how far the level is off, relative, as an ideal reading of this meter tells it."""
        return abs(self._level(self.rounded_db(float(setting[0]))) * self._reads / self.wanted - 1)

    def truth(self, setting: Array) -> float:
        """Tell the true mean photon number of the signal."""
        return self._level(self.rounded_db(float(setting[0])))

    def remarks(self, setting: Array) -> Mapping[str, float]:
        """Tell whether more than the safe level left Alice on the way, as this meter has it."""
        return {"exceeded_safe": float(self.brightest * self._reads > SAFE * self.wanted)}

    @property
    def wanted(self) -> float:
        """Mean photon number that the signal should have."""
        return MEANS["signal"]

    @property
    def wanted_w(self) -> float:
        """Power at the tap that a script aims at, W."""
        return self.wanted * self.watts_per_photon

    @property
    def watts_per_photon(self) -> float:
        """Power at the tap, as data sheets have it, for a signal of one photon a pulse, W."""
        mean = sum(MEANS[name] for name in INTENSITIES) / len(INTENSITIES) / MEANS["signal"]
        return float(PHOTON_J * CLOCK_HZ * mean * 10 ** (TAP_DB / 10))

    @staticmethod
    def rounded_db(attenuation_db: float) -> float:
        """Return what the attenuator settles on, dB."""
        return round(round(attenuation_db / RESOLUTION_DB) * RESOLUTION_DB, 6)

    def _level(self, attenuation_db: float) -> float:
        return float(self._bright * 10 ** (-attenuation_db * self._db_per_db / 10))

    def _pass(self, duration_s: float) -> None:
        self.elapsed_s += duration_s
        if self.options.drift > 0:
            self._bright *= 1 + self.options.drift * np.sqrt(duration_s) * self._rng.normal()
