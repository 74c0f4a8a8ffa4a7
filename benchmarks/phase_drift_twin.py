"""Lean twin of a phase that drifts while key is made: counts per window, no instruments.

It shares no formula with the tracker that it judges. Only counts that see the phase are drawn.
With ``four-phase`` half of them are of matched bases, whose errors see the cosine, and half of
mismatched ones, which see the sine; with ``errors-only`` all are of one matched basis.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HALF_WAVE_V = 12.0
MAXIMUM_V = 75.0

_COSINE = np.kron(np.eye(2), [[1, -1], [-1, 1]])
_SINE = np.kron([[0, 1], [-1, 0]], [[1, -1], [-1, 1]])
_ONE_BASIS = np.kron([[0, 0], [0, 1]], np.ones((2, 2)))


@dataclass(frozen=True)
class DriftOptions:
    """What the link is like.

    Attributes:
        encoding: Which counts see the phase.
        drift: Variance that the phase's random walk gains, rad^2/s.
        rate_hz: Counts that see the phase.
        floor: Error probability at phase zero.
        half_wave_error: Relative error of the nominal half-wave voltage, standard deviation.
        first_error_rad: Phase left over by the calibration before, standard deviation.
        hysteresis_share: Half width of a play operator, share of the half-wave voltage.
        play_error: Relative error of the half width that the knob's play inverse works with,
            standard deviation.
        slips_per_s: Rate of jumps by pi.
        rad_per_kelvin: Response of the phase to temperature.
        swing_k: Amplitude of a sinusoidal temperature.
        swing_s: Its period.
        sensor_noise_k: Standard deviation of a reading.
    """

    encoding: Literal["four-phase", "errors-only"] = "four-phase"
    drift: float = 1e-2
    rate_hz: float = 1e5
    floor: float = 0.005
    half_wave_error: float = 0.05
    first_error_rad: float = 0.03
    hysteresis_share: float = 0.0
    play_error: float = 0.2
    slips_per_s: float = 0.0
    rad_per_kelvin: float = 0.0
    swing_k: float = 5.0
    swing_s: float = 600.0
    sensor_noise_k: float = 1e-3

    @property
    def visibility(self) -> float:
        """Contrast of the errors."""
        return 1 - 2 * self.floor


@dataclass(frozen=True)
class Held:
    """What one window brought.

    Attributes:
        table: Counts, shape ``(4, 4)``: sent state by detector.
        temperature_c: Mean over the window as the sensor reads it, deg C.
        excess: True QBER above the floor in the bases that see the phase, averaged over the window.
        is_flipped: Whether the window ended nearer to pi than to zero.
        slipped_s: When the phase jumped by pi; None where it did not.
    """

    table: NDArray[np.int64]
    temperature_c: float
    excess: float
    is_flipped: bool
    slipped_s: float | None


class DriftingPhase:
    """One link, drawn at random.

    Args:
        seed: Fixes the link and all its noise.
        options: What it is like.
        inverts_play: Whether the knob takes the play off, as far as it is known.

    Attributes:
        now_s: Time since the start.
        play_v: Half width of the play, V, as a laboratory would know it.
    """

    def __init__(self, seed: int, options: DriftOptions, *, inverts_play: bool = True) -> None:
        self.options = options
        self.now_s = 0.0
        self._rng = np.random.default_rng([seed, 0xD1])
        self._rad_per_v = np.pi / HALF_WAVE_V * (1 + options.half_wave_error * self._rng.normal())
        self._play_v = options.hysteresis_share * HALF_WAVE_V
        self.play_v = self._play_v * max(1 + options.play_error * self._rng.normal(), 0.0)
        self._inverted_v = self.play_v if inverts_play else 0.0
        self._asked_v = self._felt_v = MAXIMUM_V / 2
        self._side = 1.0
        self._walk = options.first_error_rad * self._rng.normal() - self._rad_per_v * self._felt_v
        self._to_slip_s = self._waiting_s()

    @property
    def limits_v(self) -> tuple[float, float]:
        """Lowest and highest voltage that may be asked for."""
        return self._inverted_v, MAXIMUM_V - self._inverted_v

    def hold(self, asked_v: float, duration_s: float) -> Held:
        """Set a voltage and count."""
        options, rng = self.options, self._rng
        self._move(asked_v)
        walked = np.sqrt(options.drift * duration_s) * rng.normal()
        within = options.drift * duration_s / 12
        average = self._walk + walked / 2 + np.sqrt(within) * rng.normal()
        temperature_k = self._temperature_k(self.now_s + duration_s / 2)
        turned = self._rad_per_v * self._felt_v
        middle = average + turned + options.rad_per_kelvin * temperature_k
        after = self._slipped_share(duration_s)
        contrast = options.visibility * np.exp(-within) * (1 - 2 * (after or 0.0))
        cosine, sine = contrast * np.cos(middle), contrast * np.sin(middle)
        self._walk += walked + np.pi * (after is not None)
        self.now_s += duration_s
        end = self._walk + turned + options.rad_per_kelvin * self._temperature_k(self.now_s)
        return Held(
            table=rng.poisson(self._expected(duration_s, cosine, sine)).astype(np.int64),
            temperature_c=20 + temperature_k + options.sensor_noise_k * rng.normal(),
            excess=float((options.visibility - cosine) / 2),
            is_flipped=bool(np.cos(end) < 0),
            slipped_s=None if after is None else self.now_s - after * duration_s,
        )

    def aligned_v(self) -> float:
        """Tell the voltage of phase zero that is nearest to the middle of the range."""
        temperature_k = self._temperature_k(self.now_s)
        theta = self._walk + self.options.rad_per_kelvin * temperature_k
        theta += self._rad_per_v * MAXIMUM_V / 2
        return float(MAXIMUM_V / 2 - np.angle(np.exp(1j * theta)) / self._rad_per_v)

    def _move(self, asked_v: float) -> None:
        """Let the knob take the play off, as far as it knows it, and the output follow."""
        if asked_v != self._asked_v:
            self._side = float(np.sign(asked_v - self._asked_v))
        self._asked_v = asked_v
        drive_v = asked_v + self._side * self._inverted_v
        play_v = self._play_v
        self._felt_v = min(max(self._felt_v, drive_v - play_v), drive_v + play_v)

    def _expected(self, duration_s: float, cosine: float, sine: float) -> NDArray[np.float64]:
        expected = self.options.rate_hz * duration_s
        if self.options.encoding == "errors-only":
            return np.asarray(expected / 4 * (_ONE_BASIS * (1 + cosine * _COSINE)))
        return np.asarray(expected / 16 * (1 + cosine * _COSINE + sine * _SINE))

    def _temperature_k(self, now_s: float) -> float:
        return float(self.options.swing_k * np.sin(2 * np.pi * now_s / self.options.swing_s))

    def _waiting_s(self) -> float:
        rate = self.options.slips_per_s
        return float(self._rng.exponential(1 / rate)) if rate > 0 else np.inf

    def _slipped_share(self, duration_s: float) -> float | None:
        """Return the share of a window that lies after a slip, or None."""
        self._to_slip_s -= duration_s
        if self._to_slip_s > 0:
            return None
        after = min(-self._to_slip_s / duration_s, 1.0)
        self._to_slip_s = self._waiting_s()
        return after
