"""Fast twin of a polarization link: counts per setting, without instruments or time tags.

Sent states H, V, D, A through an unknown fibre, a four-squeezer controller with unknown errors
and a second unknown fibre to a passive two-basis receiver; Poisson counts from a weak coherent
source. A model of its own: it shares no formula with the estimator that it judges.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STOKES = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
"""Sent states and detectors H, V, D, A."""

MAXIMUM_V = 5.0
HALF_WAVE_V = 2.5
AXES_DEG = np.array([0.0, 90, 0, 90])


@dataclass(frozen=True)
class TwinOptions:
    """What the twin's bench is like.

    Attributes:
        mean_photon_number: Of the source, per pulse.
        efficiency: Of each detector, relative to ``detector_efficiencies``.
        loss_db: Of the channel.
        dark_probability: Dark counts per gate and detector.
        intrinsic_qber: Floor of the optics, without dark counts.
        clock_hz: Pulses per second.
        scale_range: Half width of the relative error of the retardance per volt, uniform.
        axis_sigma_deg: Standard deviation of each squeezer's angle in the laboratory, degrees.
        quadratic_rad: Extra retardance at full scale, growing with the square of the voltage.
        hysteresis_v: Half width of a play operator on each channel.
        one_sided: Whether every setting is approached from below, past the play.
        detector_efficiencies: Relative, in the order of the detectors.
    """

    mean_photon_number: float = 0.5
    efficiency: float = 0.2
    loss_db: float = 10.0
    dark_probability: float = 1e-6
    intrinsic_qber: float = 0.005
    clock_hz: float = 1e8
    scale_range: float = 0.1
    axis_sigma_deg: float = 3.0
    quadratic_rad: float = 0.0
    hysteresis_v: float = 0.0
    one_sided: bool = False
    detector_efficiencies: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)


def _turn(axis: Array, angle_rad: float) -> Array:
    """Rotate about a unit axis."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    projector = np.outer(axis, axis)
    across = np.cos(angle_rad) * (np.eye(3) - projector)
    rotation: Array = projector + across + np.sin(angle_rad) * cross
    return rotation


def _any_rotation(rng: np.random.Generator) -> Array:
    """Draw a rotation uniformly: the orthogonal factor of a Gaussian matrix."""
    orthogonal, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diagonal(triangle))
    rotation: Array = orthogonal * np.sign(np.linalg.det(orthogonal))
    return rotation


class Twin:
    """One bench, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.
    """

    def __init__(self, seed: int, options: TwinOptions | None = None) -> None:
        self.options = options if options is not None else TwinOptions()
        self._rng = np.random.default_rng([seed, 0x7B])
        draw = self._rng
        scale = draw.uniform(-self.options.scale_range, self.options.scale_range, 4)
        self._rad_per_v = np.pi / HALF_WAVE_V * (1 + scale)
        self._offset_rad = draw.uniform(0, 2 * np.pi, 4)
        axes = np.radians(AXES_DEG + 2 * draw.normal(0, self.options.axis_sigma_deg, 4))
        self._axes = np.column_stack([np.cos(axes), np.sin(axes), np.zeros(4)])
        self._fibre = _any_rotation(draw)
        self._receiver = _any_rotation(draw)
        self._felt_v = np.zeros(4)

    def drift(self, rate_rad: float, duration_s: float) -> None:
        """Let the fibre in front of the controller wander.

        Args:
            rate_rad: Standard deviation per axis after one second, rad.
            duration_s: For how long.
        """
        self.kick(rate_rad * np.sqrt(duration_s) * self._rng.normal(size=3))

    def kick(self, turn_rad: Array) -> None:
        """Turn the fibre by a rotation vector, shape ``(3,)``, at once."""
        angle = float(np.linalg.norm(turn_rad))
        if angle > 0:
            self._fibre = _turn(turn_rad / angle, angle) @ self._fibre

    def measure(self, voltages: Array, photons: float) -> NDArray[np.int64]:
        """Set the controller and count.

        Args:
            voltages: Shape ``(4,)``, V.
            photons: Expected detections, which fixes the exposure.

        Returns:
            Counts, shape ``(4, 4)``: sent state by detector.
        """
        self._set(voltages)
        clicks = self._click_probability(self._whole())
        gates_per_state = photons / clicks.sum()
        counts: NDArray[np.int64] = self._rng.poisson(gates_per_state * clicks)
        return counts

    def qber(self, voltages: Array) -> float:
        """Tell the true QBER at a setting (mean of Z and X); counts as moving there."""
        self._set(voltages)
        return self._qber(self._whole())

    @property
    def floor(self) -> float:
        """Best reachable QBER."""
        return self._qber(np.eye(3))

    def excess(self, voltages: Array) -> float:
        """Tell the true QBER at a setting above the best reachable one."""
        return self.qber(voltages) - self.floor

    @property
    def detections_hz(self) -> float:
        """Detections per second, all detectors."""
        return float(self.options.clock_hz * self._click_probability(np.eye(3)).sum() / 4)

    def _set(self, voltages: Array) -> None:
        play = self.options.hysteresis_v
        if self.options.one_sided:
            self._felt_v = voltages - 2 * play
        self._felt_v = np.clip(self._felt_v, voltages - play, voltages + play)

    def _whole(self) -> Array:
        felt = self._felt_v
        angle = self._rad_per_v * felt + self._offset_rad
        angle = angle + self.options.quadratic_rad * (felt / MAXIMUM_V) ** 2
        whole = self._fibre
        for axis, turned in zip(self._axes, angle, strict=True):
            whole = _turn(axis, turned) @ whole
        return self._receiver @ whole

    def _click_probability(self, whole: Array) -> Array:
        options = self.options
        visibility = 1 - 2 * options.intrinsic_qber
        arriving = options.mean_photon_number * options.efficiency * 10 ** (-options.loss_db / 10)
        overlap = STOKES @ whole.T @ STOKES.T  # sent state by detector
        seen = arriving * np.array(options.detector_efficiencies)
        light = 0.5 * seen * (1 + visibility * overlap) / 2
        click: Array = 1 - (1 - options.dark_probability) * np.exp(-light)
        return click

    def _qber(self, whole: Array) -> float:
        clicks = self._click_probability(whole).reshape(2, 2, 2, 2)
        by_basis = [clicks[b, :, b, :] for b in (0, 1)]
        return float(np.mean([(c[0, 1] + c[1, 0]) / c.sum() for c in by_basis]))
