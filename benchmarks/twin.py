"""Fast twin of a polarization link: counts per setting, without instruments or time tags.

Sent states H, V, D, A through an unknown fibre, a four-squeezer controller with unknown errors
and a second unknown fibre to a passive two-basis receiver; Poisson counts from a weak coherent
source. A model of its own: it shares no formula with the estimator that it judges.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

STOKES = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
"""Sent states and, but for their own errors, detectors: H, V, D, A."""

MAXIMUM_V = 5.0
HALF_WAVE_V = 2.5
AXES_DEG = np.array([0.0, 90, 0, 90])

SEARCHED, REFINED = 4000, 12
"""Settings among which the best reachable one is looked for, and how many are then refined."""

SLOPE_STEP = 1e-4
"""Step of the difference quotients in that search, as a share of a channel's range."""


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
        settle_s: How long a change of the setting takes.
        scale_range: Half width of the relative error of the retardance per volt, uniform.
        axis_sigma_deg: Standard deviation of each squeezer's angle in the laboratory, degrees.
        quadratic_rad: Extra retardance at full scale, growing with the square of the voltage.
        hysteresis_v: Half width of a play operator on each channel.
        one_sided: Whether every setting is approached from below, past the play; that takes the
            settling time twice, and room at the lower limit.
        detector_efficiencies: Relative, in the order of the detectors.
        receiver_angle_deg: By how much the analysers of X are turned from 45 degrees to those of Z,
            in the laboratory, degrees.
        pdl_db: Polarization-dependent loss in front of the controller.
        drift_rad: Standard deviation of the fibre's turn per axis in one second, rad.
    """

    mean_photon_number: float = 0.5
    efficiency: float = 0.2
    loss_db: float = 10.0
    dark_probability: float = 1e-6
    intrinsic_qber: float = 0.005
    clock_hz: float = 1e8
    settle_s: float = 0.01
    scale_range: float = 0.1
    axis_sigma_deg: float = 3.0
    quadratic_rad: float = 0.0
    hysteresis_v: float = 0.0
    one_sided: bool = False
    detector_efficiencies: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    receiver_angle_deg: float = 0.0
    pdl_db: float = 0.0
    drift_rad: float = 0.0


def _turn(axis: Array, angle_rad: Array | float) -> Array:
    """Rotate about unit axes, shape ``(..., 3)``, by angles, shape ``(...)``."""
    x, y, z = np.moveaxis(np.asarray(axis, dtype=float), -1, 0)
    zero = np.zeros_like(x)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
    cross = np.moveaxis(cross, (0, 1), (-2, -1))
    projector = np.asarray(axis)[..., :, None] * np.asarray(axis)[..., None, :]
    angle = np.asarray(angle_rad, dtype=float)[..., None, None]
    rotation: Array = projector + np.cos(angle) * (np.eye(3) - projector) + np.sin(angle) * cross
    return rotation


def _any_rotation(rng: np.random.Generator) -> Array:
    """Draw a rotation uniformly: the orthogonal factor of a Gaussian matrix."""
    orthogonal, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diagonal(triangle))
    rotation: Array = orthogonal * np.sign(np.linalg.det(orthogonal))
    return rotation


@dataclass(frozen=True)
class Truth:
    """What a bench with squeezers was drawn to be.

    Attributes:
        scale: Relative errors of the retardance per volt, shape ``(4,)``.
        offset_rad: Retardances at no voltage, same shape.
        azimuth_rad: Errors of the axes' Stokes azimuths, same shape.
        fibre: Rotation in front of the controller, shape ``(3, 3)``.
        receiver: Rotation behind it, same shape.
    """

    scale: Array
    offset_rad: Array
    azimuth_rad: Array
    fibre: Array
    receiver: Array


class Twin:
    """One bench, drawn at random.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.

    Attributes:
        elapsed_s: Time that its settings and counts took.
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
        if self.options.pdl_db > 0:
            self._bright = _any_rotation(draw)[0]  # the state that loses nothing
        self._analysers = STOKES.copy()
        turned = np.radians(90 + 2 * self.options.receiver_angle_deg)
        self._analysers[2] = np.cos(turned), np.sin(turned), 0.0
        self._analysers[3] = -self._analysers[2]
        self._felt = np.zeros(4)
        self._setting: Array | None = None
        self.elapsed_s = 0.0

    @property
    def limits(self) -> Array:
        """Lowest and highest drives, shape ``(2, K)``; approached from below, with room for it."""
        room = 2 * self.options.hysteresis_v if self.options.one_sided else 0.0
        return np.array([np.full(4, room - MAXIMUM_V), np.full(4, MAXIMUM_V)])

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

    def pass_night(self, rate_rad: float, duration_s: float, *, is_replugged: bool) -> None:
        """Let the fibre wander, and maybe connect another fibre to the receiver; then time is 0.

        Args:
            rate_rad: Standard deviation per axis after one second, rad.
            duration_s: For how long.
            is_replugged: Whether the rotation behind the controller is another one afterwards.
        """
        self.drift(rate_rad, duration_s)
        if is_replugged:
            self._receiver = _any_rotation(self._rng)
        self.elapsed_s = 0.0

    def measure(self, drives: Array, photons: float) -> NDArray[np.int64]:
        """Set the controller and count.

        Args:
            drives: Shape ``(K,)``.
            photons: Expected detections, which fixes the exposure.

        Returns:
            Counts, shape ``(4, 4)``: sent state by detector.
        """
        self._set(drives)
        clicks = self._click_probability(self._felt)
        gates_per_state = photons / clicks.sum()
        self._pass(4 * gates_per_state / self.options.clock_hz)
        counts: NDArray[np.int64] = self._rng.poisson(gates_per_state * clicks)
        return counts

    def qber(self, drives: Array) -> float:
        """Tell the true QBER at a setting (mean of Z and X); counts as moving there."""
        self._felt = self._felt_at(drives)
        return float(_qber(self._click_probability(self._felt)))

    def excess(self, drives: Array) -> float:
        """Tell the true QBER above the floor, were the setting approached next; moves nothing."""
        return self._qber_at(drives) - self.floor

    def excess_over_best(self, drives: Array) -> float:
        """Tell the true QBER above the best reachable one, likewise; below 0 by rounding only."""
        return self._qber_at(drives) - self.best_qber

    @property
    def floor(self) -> float:
        """QBER of perfect alignment, if the bench's only errors are rotations."""
        return float(_qber(self._clicks(STOKES @ STOKES.T, np.ones(4))))

    @cached_property
    def best_qber(self) -> float:
        """Best reachable QBER: at the best setting within the limits, of the fibre as it began.

        Found numerically from many starts; where there are enough channels for any rotation, drift
        does not change it.
        """
        low, high = self.limits
        rng = np.random.default_rng(1)
        drives = rng.uniform(low, high, size=(SEARCHED, len(low)))
        starts = drives[np.argsort(_qber(self._click_probability(drives)))[:REFINED]]
        return float(min(self._refined(start) for start in starts))

    @property
    def truth(self) -> Truth:
        """What the bench is, for whoever judges or bounds a method."""
        azimuth = np.arctan2(self._axes[:, 1], self._axes[:, 0]) - np.radians(AXES_DEG)
        return Truth(
            scale=self._rad_per_v * HALF_WAVE_V / np.pi - 1,
            offset_rad=self._offset_rad,
            azimuth_rad=(azimuth + np.pi) % (2 * np.pi) - np.pi,
            fibre=self._fibre,
            receiver=self._receiver,
        )

    @property
    def detections_hz(self) -> float:
        """Detections per second, all detectors."""
        clicks = self._clicks(STOKES @ STOKES.T, np.ones(4))
        return float(self.options.clock_hz * clicks.sum() / 4)

    def _refined(self, start: Array) -> float:
        """Go down from a setting to the nearest minimum of the QBER within the limits."""
        low, high = self.limits
        step = SLOPE_STEP * (high - low)

        def value_and_slope(share: Array) -> tuple[float, Array]:
            around = np.concatenate([np.zeros((1, len(low))), np.diag(step), -np.diag(step)])
            qber = _qber(self._click_probability(low + share * (high - low) + around))
            channels = len(low)
            slope = (qber[1 : channels + 1] - qber[channels + 1 :]) / (2 * SLOPE_STEP)
            return float(qber[0]), slope

        found = minimize(
            value_and_slope,
            (start - low) / (high - low),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * len(low),
            options={"ftol": 1e-12, "gtol": 1e-8},
        )
        return float(found.fun)

    def _set(self, drives: Array) -> None:
        if self._setting is None or not np.array_equal(drives, self._setting):
            self._pass(self.options.settle_s * (2 if self.options.one_sided else 1))
        self._setting = np.array(drives, dtype=float)
        self._felt = self._felt_at(drives)

    def _pass(self, duration_s: float) -> None:
        self.elapsed_s += duration_s
        if self.options.drift_rad > 0:
            self.drift(self.options.drift_rad, duration_s)

    def _felt_at(self, drives: Array) -> Array:
        """Tell what the channels feel of a setting when they come from the present one."""
        play, felt = self.options.hysteresis_v, self._felt
        if self.options.one_sided:
            below = np.maximum(drives - 2 * play, -MAXIMUM_V)
            felt = np.clip(felt, below - play, below + play)
        return np.clip(felt, drives - play, drives + play)

    def _qber_at(self, drives: Array) -> float:
        return float(_qber(self._click_probability(self._felt_at(drives))))

    def _controller(self, felt: Array) -> Array:
        """Compute the controller's rotation at settings of shape ``(..., K)``."""
        angle = self._rad_per_v * felt + self._offset_rad
        angle = angle + self.options.quadratic_rad * (felt / MAXIMUM_V) ** 2
        return _in_series(_turn(np.broadcast_to(self._axes, (*angle.shape, 3)), angle))

    def _click_probability(self, felt: Array) -> Array:
        """Tell the click probabilities per gate, shape ``(..., 4, 4)``: sent state by detector."""
        states, intensity = self._arriving()
        turned = states @ np.swapaxes(self._receiver @ self._controller(felt), -1, -2)
        return self._clicks(turned @ self._analysers.T, intensity)

    def _arriving(self) -> tuple[Array, Array]:
        """Give the Stokes vectors in front of the controller, ``(4, 3)``, and the intensities."""
        states = STOKES @ self._fibre.T
        if self.options.pdl_db == 0:
            return states, np.ones(4)
        least = 10 ** (-self.options.pdl_db / 10)
        mean, contrast = (1 + least) / 2, (1 - least) / (1 + least)
        along, across = states @ self._bright, np.sqrt(1 - contrast**2)
        vectors = across * states + (contrast + (1 - across) * along)[:, None] * self._bright
        return mean * vectors, mean * (1 + contrast * along)

    def _clicks(self, overlap: Array, intensity: Array) -> Array:
        options = self.options
        visibility = 1 - 2 * options.intrinsic_qber
        arriving = options.mean_photon_number * options.efficiency * 10 ** (-options.loss_db / 10)
        seen = arriving * np.array(options.detector_efficiencies)
        light = 0.5 * seen * (intensity[:, None] + visibility * overlap) / 2
        click: Array = 1 - (1 - options.dark_probability) * np.exp(-light)
        return click


def _in_series(turns: Array) -> Array:
    """Multiply rotations, shape ``(..., K, 3, 3)``, the first one met by the light on the right."""
    whole = turns[..., 0, :, :]
    for k in range(1, turns.shape[-3]):
        whole = turns[..., k, :, :] @ whole
    return whole


def _qber(clicks: Array) -> Array:
    """Compute the QBER, mean of Z and X, from click probabilities of shape ``(..., 4, 4)``."""
    by_basis = [clicks[..., 0:2, 0:2], clicks[..., 2:4, 2:4]]
    errors = [(c[..., 0, 1] + c[..., 1, 0]) / c.sum(axis=(-2, -1)) for c in by_basis]
    mean: Array = (errors[0] + errors[1]) / 2
    return mean
