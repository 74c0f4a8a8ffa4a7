"""Fast twin of a link with interferometers: counts per setting, without instruments or time tags.

Light is followed as amplitudes through both interferometers, a model of its own: it shares no
formula with the estimator that it judges. Only clicks within the gates are drawn and paid for: the
side peaks of the interferometers do not count.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HALF_WAVE_V = 12.0
MAXIMUM_V = 75.0

SETTLING_S = 0.01
"""From a command to a phase that stands still."""


@dataclass(frozen=True)
class PhaseOptions:
    """What the twin's bench is like.

    Attributes:
        encoding: ``time-bin`` (early, late, phases 0 and pi) or ``four-phase``.
        detections_hz: Rate within the gates, all detectors.
        intrinsic_qber: Share of light that does not interfere, halved; leakage between time bins.
        dark_share: Dark counts as a share of all counts.
        scale_range: Half width of the relative error of the phase per volt, uniform.
        cubic_rad: Phase that grows with the cube of the distance from mid-range, rad at the ends.
        hysteresis_v: Half width of a play operator, V.
        one_sided: Whether every setting is approached from below, past the play.
        drift_rad: Standard deviation of the phase's walk after one second, rad.
    """

    encoding: Literal["time-bin", "four-phase"] = "four-phase"
    detections_hz: float = 1e5
    intrinsic_qber: float = 0.005
    dark_share: float = 1e-4
    scale_range: float = 0.1
    cubic_rad: float = 0.0
    hysteresis_v: float = 0.0
    one_sided: bool = False
    drift_rad: float = 0.0


class PhaseTwin:
    """One bench, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.

    Attributes:
        elapsed_s: Time that settling and counting took so far.
    """

    def __init__(self, seed: int, options: PhaseOptions | None = None) -> None:
        self.options = options if options is not None else PhaseOptions()
        self._rng = np.random.default_rng([seed, 0x9A])
        spread = self.options.scale_range
        self._rad_per_v = np.pi / HALF_WAVE_V * (1 + self._rng.uniform(-spread, spread))
        self._phase = self._rng.uniform(0, 2 * np.pi)
        self._felt_v = MAXIMUM_V / 2
        self.elapsed_s = 0.0

    @property
    def limits(self) -> Array:
        """Lowest and highest voltage, shape ``(2, 1)``; from below, with room for that."""
        room = 2 * self.options.hysteresis_v if self.options.one_sided else 0.0
        return np.array([[room], [MAXIMUM_V]])

    def measure(self, drives: Array, photons: float) -> NDArray[np.int64]:
        """Set the voltage and count.

        Args:
            drives: Shape ``(1,)``, V.
            photons: Expected detections, which fixes the exposure.

        Returns:
            Counts, shape ``(4, 4)``: sent state by detector.
        """
        self._felt_v = self._felt_at(float(drives[0]))
        duration_s = photons / self.options.detections_hz
        self._pass(SETTLING_S + duration_s / 2)
        counts = self._rng.poisson(photons * self._shares(self._theta(self._felt_v)))
        self._pass(duration_s / 2)
        return np.asarray(counts, dtype=np.int64)

    def qber(self, drives: Array) -> float:
        """Tell the true QBER that a voltage would give now, mean of Z and X."""
        return _qber(self._shares(self._theta(self._felt_at(float(drives[0])))))

    def excess_over_best(self, drives: Array) -> float:
        """Tell that QBER above the best that any phase would give."""
        return self.qber(drives) - self.best_qber()

    def best_qber(self) -> float:
        """Tell the least QBER of all phases: that of none."""
        return _qber(self._shares(0.0))

    def _felt_at(self, voltage_v: float) -> float:
        play = self.options.hysteresis_v
        felt = voltage_v - 2 * play if self.options.one_sided else self._felt_v
        return min(max(felt, voltage_v - play), voltage_v + play)

    def _theta(self, felt_v: float) -> float:
        away_v = felt_v - MAXIMUM_V / 2
        cubic = self.options.cubic_rad * (2 * away_v / MAXIMUM_V) ** 3
        return float(self._phase + self._rad_per_v * away_v + cubic)

    def _pass(self, duration_s: float) -> None:
        self.elapsed_s += duration_s
        if self.options.drift_rad > 0:
            self._phase += self.options.drift_rad * np.sqrt(duration_s) * self._rng.normal()

    def _shares(self, theta: float) -> Array:
        """Return the share of all counts of each sent state and detector, shape ``(4, 4)``."""
        coherent, mixed = 1 - 2 * self.options.intrinsic_qber, 2 * self.options.intrinsic_qber
        if self.options.encoding == "four-phase":
            sent = np.exp(1j * np.array([0, np.pi, np.pi / 2, -np.pi / 2]))
            turned = np.exp(1j * theta) * sent
            outputs = np.exp(1j * np.array([0, np.pi, np.pi / 2, -np.pi / 2]))
            power = np.abs(turned[:, None] + outputs) ** 2 / 4
        else:
            states = np.array([[1, 0], [0, 1], [1, 1], [1, -1]]) / np.sqrt([[1], [1], [2], [2]])
            late = np.exp(1j * theta)
            analysers = np.array([[1, 0], [0, 1], [1, late], [1, -late]], dtype=complex)
            analysers[2:] /= np.sqrt(2)
            power = np.abs(states @ analysers.T) ** 2
        light = coherent * power + mixed / 2
        dark = self.options.dark_share
        return np.asarray((1 - dark) * light / light.sum() + dark / 16)


def _qber(shares: Array) -> float:
    blocks = (shares[:2, :2], shares[2:, 2:])
    return float(np.mean([1 - np.trace(block) / block.sum() for block in blocks]))
