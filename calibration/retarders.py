"""Model of a polarization controller made of voltage-driven retarders between two unknown fibres.

The controller is a chain of K linear retarders (fibre squeezers) with axes in the S1-S2 plane::

    R(v) = receiver . E_K ... E_2 E_1 . fibre,   E_k = exp(theta_k [n_k]x)
    theta_k = pi (v_k - centre_k) / half_wave_k (1 + scale_k) + offset_k

``receiver`` and ``fibre`` are any rotations. Measuring in basis ``a`` (Z, X) what was sent in
basis ``b`` errs with probability ``p_ab = (1 - V R_ab) / 2``, ``V = 1 - 2 floor``.

Three parameters are redundant and fixed at zero (the gauge): the offsets of the first and of the
last retarder and the azimuth error of the first one, which the two rotations absorb. One discrete
redundancy remains, the mirror S3 -> -S3 of both rotations: it predicts the same counts at every
setting and is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration import rotation

Array = NDArray[np.float64]

FLAT_PRECISION = 1e-2
"""Precision, rad^-2, that stands for no knowledge of an angle in a curvature matrix."""

LARGEST_LOG_FLOOR = float(np.log(0.45))
"""Above it there is hardly any signal, and at 0.5 the states are exchanged."""

DEFAULT_AZIMUTH_DEG = (0.0, 90.0, 0.0, 90.0)
"""Nominal Stokes azimuths of a four-squeezer controller (fibre squeezed at 0 and 45 degrees)."""


@dataclass(frozen=True)
class Parameters:
    """Values of the model's parameters, a batch of B.

    Attributes:
        fibre: Rotation in front of the controller, shape ``(B, 3, 3)``.
        receiver: Rotation behind it, shape ``(B, 3, 3)``.
        scale: Relative error of the retardance per volt, shape ``(B, K)``.
        offset: Retardance at the centre voltage, rad, shape ``(B, K)``.
        azimuth: Stokes azimuth error of the axes, rad, shape ``(B, K)``.
        log_floor: Logarithm of the QBER at perfect alignment, shape ``(B,)``.
    """

    fibre: Array
    receiver: Array
    scale: Array
    offset: Array
    azimuth: Array
    log_floor: Array

    def __len__(self) -> int:
        return len(self.log_floor)

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Parameters:
        return Parameters(**{name: value[index] for name, value in vars(self).items()})

    @property
    def floor(self) -> Array:
        """QBER at perfect alignment, shape ``(B,)``."""
        return np.exp(self.log_floor)

    @property
    def visibility(self) -> Array:
        """Visibility at perfect alignment, shape ``(B,)``."""
        return 1 - 2 * self.floor

    def step(self, tangent: Array) -> Parameters:
        """Move along tangent vectors.

        Args:
            tangent: Shape ``(B, P)``, ordered: fibre (3), receiver (3), scale (K), offset of all
                but the first and last retarder, azimuth of all but the first, log floor.
        """
        channels = self.scale.shape[-1]
        rest = np.split(tangent, np.cumsum([3, 3, channels, channels - 2, channels - 1]), axis=-1)
        fibre, receiver, scale, offset, azimuth, log_floor = rest
        offsets, azimuths = self.offset.copy(), self.azimuth.copy()
        offsets[:, 1:-1] = wrap_angle(offsets[:, 1:-1] + offset)
        azimuths[:, 1:] += azimuth
        return Parameters(
            fibre=rotation.exp(fibre) @ self.fibre,
            receiver=self.receiver @ rotation.exp(receiver),
            scale=self.scale + scale,
            offset=offsets,
            azimuth=azimuths,
            log_floor=np.minimum(self.log_floor + log_floor[:, 0], LARGEST_LOG_FLOOR),
        )

    @staticmethod
    def concatenate(parts: Sequence[Parameters]) -> Parameters:
        """Join batches."""
        names = vars(parts[0])
        return Parameters(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def to_dict(self) -> dict[str, Any]:
        """Give the values as plain lists, for storing."""
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Parameters:
        """Restore what :meth:`to_dict` gave."""
        return cls(**{name: np.asarray(value, dtype=float) for name, value in stored.items()})


def wrap_angle(angle: Array) -> Array:
    """Bring angles into [-pi, pi)."""
    wrapped: Array = np.mod(angle + np.pi, 2 * np.pi) - np.pi
    return wrapped


def rotated_elements(behind: Array, in_front: Array) -> tuple[Array, Array]:
    """Compute the elements ``R_ab`` that counts show, and how they change.

    A rotation ``x`` inserted between the two parts changes ``R_ab = l_a . r_b`` by
    ``x . (r_b x l_a)``, with ``r_b`` the sent state and ``l_a`` the analyser both seen there.

    Args:
        behind: Rotation behind that place, shape ``(..., 3, 3)``.
        in_front: Rotation in front of it, same shape or broadcastable.

    Returns:
        ``R_ab``, shape ``(..., 4)``, and ``r_b x l_a``, shape ``(..., 4, 3)``; ``ab`` flattened,
        measured basis by sent basis.
    """
    analysers = behind[..., :2, None, :]
    sent = np.swapaxes(in_front, -1, -2)[..., None, :2, :]
    block = np.sum(analysers * sent, axis=-1)
    torque = rotation.cross(sent, analysers)
    shape = block.shape[:-2]
    return block.reshape(*shape, 4), torque.reshape(*shape, 4, 3)


@dataclass(frozen=True)
class Prior:
    """Independent Gaussian beliefs about everything but the two fibres, which may be anything.

    Attributes:
        mean: Shape ``(P - 6,)``, ordered as the tangent vectors of :meth:`Parameters.step`.
        precision: Same shape; 0 where nothing is known.
    """

    mean: Array
    precision: Array

    @classmethod
    def of_widths(
        cls,
        channels: int,
        *,
        scale: float = 0.06,
        azimuth_deg: float = 6.0,
        floor: float = 0.008,
        floor_log_sigma: float = 0.6,
    ) -> Prior:
        """Describe a characterised controller with unknown offsets.

        Args:
            channels: Number of retarders K, at least 3.
            scale: Standard deviation of the relative error of the retardance per volt.
            azimuth_deg: Standard deviation of the Stokes azimuth errors, degrees.
            floor: Median QBER at perfect alignment, 0 to 0.5.
            floor_log_sigma: Standard deviation of its natural logarithm.
        """
        sizes = [channels, channels - 2, channels - 1, 1]
        sigma = [scale, np.inf, np.radians(azimuth_deg), floor_log_sigma]
        mean = np.zeros(sum(sizes))
        mean[-1] = np.log(floor)
        return cls(mean, np.repeat(1 / np.square(sigma), sizes))


@dataclass(frozen=True)
class RetarderChain:
    """What is known of the controller before anything is measured.

    Attributes:
        half_wave_v: Nominal voltage per half wave of retardance, shape ``(K,)``, K >= 3.
        azimuth_rad: Nominal Stokes azimuths of the axes, shape ``(K,)``.
        centre_v: Voltages at which the offsets count, shape ``(K,)``.
        prior: Beliefs about the errors of all these.
    """

    half_wave_v: Array
    azimuth_rad: Array
    centre_v: Array
    prior: Prior

    def __post_init__(self) -> None:
        shapes = {self.half_wave_v.shape, self.azimuth_rad.shape, self.centre_v.shape}
        if len(shapes) != 1 or self.channels < 3:
            raise ValueError("a controller needs three or more retarders, all described alike")
        if not np.all(self.half_wave_v > 0):
            raise ValueError("half-wave voltages must be positive")

    @classmethod
    def nominal(
        cls,
        half_wave_v: ArrayLike,
        *,
        azimuth_deg: Sequence[float] = DEFAULT_AZIMUTH_DEG,
        centre_v: ArrayLike = 0.0,
        prior: Prior | None = None,
    ) -> RetarderChain:
        """Describe a controller by its data sheet.

        Args:
            half_wave_v: Nominal half-wave voltage, one for all or one per retarder, V.
            azimuth_deg: Nominal Stokes azimuth of each axis (twice the laboratory angle), degrees.
            centre_v: Middle of the voltage range, one for all or one per retarder, V.
            prior: Beliefs about the errors; by default those of a characterised device.
        """
        azimuth = np.radians(np.asarray(azimuth_deg, dtype=float))
        return cls(
            half_wave_v=np.broadcast_to(np.asarray(half_wave_v, dtype=float), azimuth.shape),
            azimuth_rad=azimuth,
            centre_v=np.broadcast_to(np.asarray(centre_v, dtype=float), azimuth.shape),
            prior=prior if prior is not None else Prior.of_widths(len(azimuth)),
        )

    @property
    def channels(self) -> int:
        """Number of retarders, K."""
        return len(self.half_wave_v)

    @property
    def size(self) -> int:
        """Number of free parameters, P = 3 K + 4."""
        return 3 * self.channels + 4

    def with_prior(self, prior: Prior) -> RetarderChain:
        """Keep the hardware, change the beliefs."""
        return replace(self, prior=prior)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw parameters from the prior.

        Returns:
            A batch of ``count``; the floor is at its prior median.
        """
        channels, prior = self.channels, self.prior
        known = prior.precision > 0
        sigma = np.where(known, 1 / np.sqrt(np.where(known, prior.precision, 1.0)), 0.0)
        errors = prior.mean + sigma * rng.normal(size=(count, len(sigma)))
        errors = np.where(known, errors, rng.uniform(-np.pi, np.pi, size=errors.shape))
        errors[:, -1] = prior.mean[-1]
        start = Parameters(
            fibre=rotation.random(rng, count),
            receiver=rotation.random(rng, count),
            scale=np.zeros((count, channels)),
            offset=np.zeros((count, channels)),
            azimuth=np.zeros((count, channels)),
            log_floor=np.zeros(count),
        )
        return start.step(np.concatenate([np.zeros((count, 6)), errors], axis=-1))

    def log_prior(self, parameters: Parameters) -> tuple[Array, Array, Array]:
        """Evaluate the prior.

        Returns:
            Log density up to a constant, shape ``(B,)``; its gradient, shape ``(B, P)``; the
            precision to add to the diagonal of a curvature matrix, shape ``(P,)``.
        """
        offset = parameters.offset[:, 1:-1]
        away = np.concatenate(
            [parameters.scale, offset, parameters.azimuth[:, 1:], parameters.log_floor[:, None]],
            axis=-1,
        )
        away -= self.prior.mean
        turns = slice(self.channels, 2 * self.channels - 2)
        away[:, turns] = wrap_angle(away[:, turns])
        gradient = np.zeros((len(parameters), self.size))
        gradient[:, 6:] = -self.prior.precision * away
        precision = np.full(self.size, FLAT_PRECISION)
        precision[6:] = np.maximum(self.prior.precision, FLAT_PRECISION)
        return 0.5 * np.sum(gradient[:, 6:] * away, axis=-1), gradient, precision

    def period_v(self, parameters: Parameters) -> Array:
        """Give the voltage after which a retarder acts alike, shape ``(B, K)``."""
        return 2 * self.half_wave_v / (1 + parameters.scale)

    def retarders(self, parameters: Parameters, voltages: Array) -> Array:
        """Compute each retarder's rotation.

        Args:
            parameters: A batch of B.
            voltages: Shape ``(M, K)``, or ``(B, M, K)`` for settings of each member's own.

        Returns:
            Shape ``(B, M, K, 3, 3)``.
        """
        nominal_rad = np.pi * (voltages - self.centre_v) / self.half_wave_v
        angle = nominal_rad * (1 + parameters.scale[:, None]) + parameters.offset[:, None]
        return rotation.in_plane((self.azimuth_rad + parameters.azimuth)[:, None], angle)

    def controller(self, parameters: Parameters, voltages: Array) -> Array:
        """Compute the rotation of the controller alone, shape ``(B, M, 3, 3)``."""
        retarders = self.retarders(parameters, voltages)
        product = retarders[..., 0, :, :]
        for channel in range(1, self.channels):
            product = retarders[..., channel, :, :] @ product
        return product

    def rotation(self, parameters: Parameters, voltages: Array) -> Array:
        """Compute the rotation from sender to receiver, shape ``(B, M, 3, 3)``."""
        controller = self.controller(parameters, voltages)
        whole: Array = parameters.receiver[:, None] @ controller @ parameters.fibre[:, None]
        return whole

    def error_probability(self, parameters: Parameters, voltages: Array) -> Array:
        """Predict the error probabilities ``p_ab``.

        Returns:
            Shape ``(B, M, 2, 2)``: member, setting, measured basis, sent basis.
        """
        block = self.rotation(parameters, voltages)[..., :2, :2]
        return 0.5 * (1 - parameters.visibility[:, None, None, None] * block)

    def excess(self, parameters: Parameters, voltages: Array) -> Array:
        """Predict the QBER (mean of both bases) above the floor, shape ``(B, M)``."""
        block = self.rotation(parameters, voltages)
        matched = block[..., 0, 0] + block[..., 1, 1]
        return 0.25 * parameters.visibility[:, None] * (2 - matched)

    def actuator_axes(self, parameters: Parameters, voltages: Array) -> tuple[Array, Array]:
        """Compute the controller and what a small change of each retardance does to it.

        ``E(v + dv) = E(v) exp([sum_k axis_k dtheta_k]x)``.

        Returns:
            The controller's rotation, shape ``(B, M, 3, 3)``, and the axes in the frame in front of
            the controller, shape ``(B, M, K, 3)``.
        """
        _, products = self._products(parameters, voltages)
        return products[-1], self._axes(parameters, products)

    def linearise(self, parameters: Parameters, voltages: Array) -> tuple[Array, Array]:
        """Predict the error probabilities and their derivatives.

        Args:
            parameters: A batch of B.
            voltages: Settings, shape ``(M, K)``.

        Returns:
            Probabilities ``p_ab``, shape ``(B, M, 4)`` with ``ab`` flattened, and derivatives along
            the tangent vectors of :meth:`Parameters.step`, shape ``(B, M, P, 4)``.
        """
        controller, axes = self.tangent_axes(parameters, voltages)
        behind = parameters.receiver[:, None] @ controller
        block, torque = rotated_elements(behind, parameters.fibre[:, None])
        visibility = parameters.visibility[:, None, None]
        slope = np.empty((*block.shape[:2], self.size, 4))
        slope[..., :-1, :] = axes @ np.swapaxes(torque, -1, -2)
        slope[..., :-1, :] *= -0.5 * visibility[..., None]
        slope[..., -1, :] = parameters.floor[:, None, None] * block
        return 0.5 * (1 - visibility * block), slope

    def tangent_axes(self, parameters: Parameters, voltages: Array) -> tuple[Array, Array]:
        """See what every parameter but the floor does, as a rotation in front of the controller.

        Returns:
            The controller's rotation, shape ``(B, M, 3, 3)``, and for each tangent direction of
            :meth:`Parameters.step` the rotation vector per unit, shape ``(B, M, P - 1, 3)``.
        """
        nominal_rad, products = self._products(parameters, voltages)
        thetas = self._axes(parameters, products)
        normals = np.stack([product[..., 2, :] for product in products], axis=-2)
        axes = np.empty((*thetas.shape[:2], self.size - 1, 3))
        channels = self.channels
        axes[..., 0:3, :] = np.eye(3)
        axes[..., 3:6, :] = products[-1]
        axes[..., 6 : 6 + channels, :] = thetas * nominal_rad[..., None]
        axes[..., 6 + channels : 4 + 2 * channels, :] = thetas[..., 1:-1, :]
        axes[..., 4 + 2 * channels :, :] = normals[..., 1:, :] - normals[..., :-1, :]
        return products[-1], axes

    def _products(self, parameters: Parameters, voltages: Array) -> tuple[Array, list[Array]]:
        """Multiply up the chain: nominal retardances and ``E_1``, ``E_2 E_1``, and so on."""
        retarders = self.retarders(parameters, voltages)
        products = [retarders[..., 0, :, :]]
        for channel in range(1, self.channels):
            products.append(retarders[..., channel, :, :] @ products[-1])
        return np.pi * (voltages - self.centre_v) / self.half_wave_v, products

    def _axes(self, parameters: Parameters, products: list[Array]) -> Array:
        """See each retarder's axis from in front of the controller, shape ``(B, M, K, 3)``."""
        azimuth = (self.azimuth_rad + parameters.azimuth)[:, None, :, None]
        cosine, sine = np.cos(azimuth), np.sin(azimuth)
        axes = np.empty((*products[0].shape[:2], self.channels, 3))
        for k, product in enumerate(products):  # an axis is unchanged by its own retarder
            axes[..., k, :] = (
                cosine[..., k, :] * product[..., 0, :] + sine[..., k, :] * product[..., 1, :]
            )
        return axes
