"""Polarization controllers as chains of linear retarders between two unknown fibres.

Whatever drives it, a controller is a chain of linear retarders with axes in the S1-S2 plane::

    R = receiver . E_N ... E_2 E_1 . fibre,   E_j = exp(retardance_j [n_j]x)
    n_j = (cos azimuth_j, sin azimuth_j, 0)

``receiver`` and ``fibre`` are any rotations. Measuring in basis ``a`` (Z, X) what was sent in
basis ``b`` errs with probability ``p_ab = (1 - V R_ab) / 2``, ``V = 1 - 2 floor``.

A model of one kind of controller is a small subclass of :class:`Chain`: it says how azimuths and
retardances follow from the drives, and what every uncertain number does to them. Redundancies
between these numbers and the two rotations are its business too: they are left out of ``free``. One
discrete redundancy remains, the mirror S3 -> -S3 of both rotations: it predicts the same counts at
every setting and is harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from calibration import rotation
from calibration.parameters import Parameters, Prior, TangentPrior

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

FLAT_PRECISION = 1e-2
"""Precision, rad^-2, that stands for no knowledge of an angle in a curvature matrix."""

LARGEST_LOG_FLOOR = float(np.log(0.45))
"""Above it there is hardly any signal, and at 0.5 the states are exchanged."""


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
    analysers = behind[..., :2, :]
    sent = np.swapaxes(in_front, -1, -2)[..., :2, :]
    block = analysers @ np.swapaxes(sent, -1, -2)
    crossing = np.swapaxes(rotation.skew(sent).reshape(*sent.shape[:-2], 6, 3), -1, -2)
    torque = analysers @ crossing
    shape = block.shape[:-2]
    return block.reshape(*shape, 4), torque.reshape(*shape, 4, 3)


@dataclass(frozen=True)
class Chain(ABC):
    """What is known of a controller before anything is measured.

    The drives of a setting are an array of K numbers in the controller's own unit; what they drive
    may be described by more than one retarder each, N in all. A *nominal radian* is the change of a
    drive that should turn its retarder, by axis or by retardance, by one radian on the Stokes
    sphere.

    Attributes:
        prior: Beliefs about the controller's errors and the floor.
    """

    prior: Prior | TangentPrior

    kind: ClassVar[str]
    """Name under which such a model is stored."""

    @property
    @abstractmethod
    def half_turn(self) -> Array:
        """Change of each drive that is pi nominal radians, shape ``(K,)``."""

    @property
    @abstractmethod
    def error_count(self) -> int:
        """Number of errors, E: the first K say how far a nominal radian may be relied on."""

    @property
    @abstractmethod
    def free(self) -> NDArray[np.intp]:
        """Errors that counts can tell, shape ``(F,)``; the others stay at zero (the gauge)."""

    @property
    @abstractmethod
    def angles(self) -> slice:
        """Those of the free errors that are angles without limits: they repeat after 2 pi."""

    @abstractmethod
    def period(self, parameters: Parameters) -> Array:
        """Give the change of a drive after which its retarder acts alike, shape ``(B, K)``."""

    @abstractmethod
    def azimuth_and_retardance(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Tell what the drives make of each retarder, rad.

        Args:
            parameters: A batch of B.
            drives: Shape ``(M, K)``, or ``(B, M, K)`` for settings of each member's own.

        Returns:
            Stokes azimuths of the axes and retardances, both broadcastable to ``(B, M, N)``.
        """

    @abstractmethod
    def drive_axes(self, parameters: Parameters, by_retardance: Array, by_azimuth: Array) -> Array:
        """Tell what a change of each drive does.

        Args:
            parameters: A batch of B.
            by_retardance: Rotation vector per radian of each retardance, shape ``(B, M, N, 3)``.
            by_azimuth: The same of each azimuth.

        Returns:
            Rotation vector per nominal radian of each drive, shape ``(B, M, K, 3)``.
        """

    @abstractmethod
    def error_axes(self, drives: Array, by_retardance: Array, by_azimuth: Array) -> list[Array]:
        """Tell what a change of each free error does.

        Args:
            drives: Settings, as for :meth:`azimuth_and_retardance`.
            by_retardance: Rotation vector per radian of each retardance, shape ``(B, M, N, 3)``.
            by_azimuth: The same of each azimuth.

        Returns:
            Rotation vectors per unit, in groups of shape ``(B, M, n, 3)`` in the order of ``free``.
        """

    @property
    def channels(self) -> int:
        """Number of drives, K."""
        return len(self.half_turn)

    @property
    def size(self) -> int:
        """Number of free parameters, P = F + 7."""
        return len(self.free) + 7

    @property
    def independent_prior(self) -> Prior:
        """The beliefs about errors and floor, without their correlations."""
        if isinstance(self.prior, Prior):
            return self.prior
        reference = self.prior.reference
        mean = np.append(reference.errors[0, self.free], reference.log_floor)
        covariance = np.linalg.inv(self.prior.precision + FLAT_PRECISION * np.eye(self.size))
        return Prior(mean, 1 / np.diagonal(covariance)[6:])

    def with_prior(self, prior: Prior | TangentPrior) -> Self:
        """Keep the hardware, change the beliefs."""
        return replace(self, prior=prior)

    def is_like(self, other: Chain) -> bool:
        """Tell whether another chain describes the same hardware, beliefs apart."""
        return self._hardware() == other._hardware()

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain lists, for storing; ``kind`` tells models apart.

        Of a :class:`TangentPrior` only :attr:`independent_prior` is kept.
        """
        prior = self.independent_prior
        return {
            "prior_mean": prior.mean.tolist(),
            "prior_precision": prior.precision.tolist(),
            **self._hardware(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Restore what :meth:`to_dict` gave, ``kind`` left out.

        Raises:
            KeyError: The prior is missing.
            TypeError: Something else is missing, or unknown.
            ValueError: Something is malformed.
        """
        values = {name: np.asarray(value, dtype=float) for name, value in stored.items()}
        prior = Prior(values.pop("prior_mean"), values.pop("prior_precision"))
        return cls(prior=prior, **values)

    def draw(self, rng: np.random.Generator, count: int) -> Parameters:
        """Draw parameters from the prior.

        Returns:
            A batch of ``count``; of independent beliefs the floor is at its median.
        """
        prior = self.prior
        if isinstance(prior, TangentPrior):
            return self._draw_around(prior, rng, count)
        known = prior.precision > 0
        sigma = np.where(known, 1 / np.sqrt(np.where(known, prior.precision, 1.0)), 0.0)
        errors = prior.mean + sigma * rng.normal(size=(count, len(sigma)))
        errors = np.where(known, errors, rng.uniform(-np.pi, np.pi, size=errors.shape))
        errors[:, -1] = prior.mean[-1]
        start = Parameters(
            fibre=rotation.random(rng, count),
            receiver=rotation.random(rng, count),
            errors=np.zeros((count, self.error_count)),
            log_floor=np.zeros(count),
        )
        return self.step(start, np.concatenate([np.zeros((count, 6)), errors], axis=-1))

    def step(self, parameters: Parameters, tangent: Array) -> Parameters:
        """Move along tangent vectors.

        Args:
            parameters: A batch of B.
            tangent: Shape ``(B, P)``, ordered: fibre (3), receiver (3), free errors (F), log floor.
        """
        moved = parameters.errors[:, self.free] + tangent[:, 6:-1]
        moved[:, self.angles] = wrap_angle(moved[:, self.angles])
        errors = parameters.errors.copy()
        errors[:, self.free] = moved
        turns = rotation.exp(tangent[:, :6].reshape(-1, 2, 3))
        return Parameters(
            fibre=turns[:, 0] @ parameters.fibre,
            receiver=parameters.receiver @ turns[:, 1],
            errors=errors,
            log_floor=np.minimum(parameters.log_floor + tangent[:, -1], LARGEST_LOG_FLOOR),
        )

    def log_prior(self, parameters: Parameters) -> tuple[Array, Array, Array]:
        """Evaluate the prior.

        Returns:
            Log density, 0 at its peak, shape ``(B,)``; its gradient, shape ``(B, P)``; the
            precision to add to a curvature matrix, shape ``(B, P, P)``, at least FLAT_PRECISION.
        """
        if isinstance(self.prior, TangentPrior):
            return self._log_tangent_prior(self.prior, parameters)
        errors = parameters.errors[:, self.free]
        away = np.concatenate([errors, parameters.log_floor[:, None]], axis=-1) - self.prior.mean
        away[:, self.angles] = wrap_angle(away[:, self.angles])
        gradient = np.zeros((len(parameters), self.size))
        gradient[:, 6:] = -self.prior.precision * away
        precision = np.full(self.size, FLAT_PRECISION)
        precision[6:] = np.maximum(self.prior.precision, FLAT_PRECISION)
        matrix = np.broadcast_to(np.diag(precision), (len(parameters), self.size, self.size))
        return 0.5 * np.sum(gradient[:, 6:] * away, axis=-1), gradient, matrix

    def away(self, parameters: Parameters, reference: Parameters) -> Array:
        """Find the tangent vectors that lead from a reference to parameters: :meth:`step` undone.

        Args:
            parameters: A batch of B.
            reference: A batch of one, or of B.

        Returns:
            Shape ``(B, P)``; rotation vectors and angles the shortest ones.
        """
        in_front = parameters.fibre @ np.swapaxes(reference.fibre, -1, -2)
        behind = np.swapaxes(reference.receiver, -1, -2) @ parameters.receiver
        errors = (parameters.errors - reference.errors)[:, self.free]
        errors[:, self.angles] = wrap_angle(errors[:, self.angles])
        log_floor = (parameters.log_floor - reference.log_floor)[:, None]
        parts = [rotation.log(in_front), rotation.log(behind), errors, log_floor]
        return np.concatenate(parts, axis=-1)

    def controller(self, parameters: Parameters, drives: Array) -> Array:
        """Compute the rotation of the controller alone, shape ``(B, M, 3, 3)``."""
        a, b = rotation.jones_of_retarders(*self._angles(parameters, drives))
        return rotation.of_jones(a[-1], b[-1])

    def rotation(self, parameters: Parameters, drives: Array) -> Array:
        """Compute the rotation from sender to receiver, shape ``(B, M, 3, 3)``."""
        controller = self.controller(parameters, drives)
        whole: Array = parameters.receiver[:, None] @ controller @ parameters.fibre[:, None]
        return whole

    def error_probability(self, parameters: Parameters, drives: Array) -> Array:
        """Predict the error probabilities ``p_ab``.

        Returns:
            Shape ``(B, M, 2, 2)``: member, setting, measured basis, sent basis.
        """
        controller = self.controller(parameters, drives)
        block = controller.reshape(*controller.shape[:2], 9) @ _shown_elements(parameters)
        probability = 0.5 * (1 - parameters.visibility[:, None, None] * block)
        return probability.reshape(*block.shape[:2], 2, 2)

    def excess(self, parameters: Parameters, drives: Array) -> Array:
        """Predict the QBER (mean of both bases) above the floor, shape ``(B, M)``."""
        controller = self.controller(parameters, drives)
        receiver, fibre = parameters.receiver[:, :2], parameters.fibre[:, :, :2]
        weight = np.swapaxes(receiver, 1, 2) @ np.swapaxes(fibre, 1, 2)
        matched = controller.reshape(*controller.shape[:2], 9) @ weight.reshape(-1, 9, 1)
        excess: Array = 0.25 * parameters.visibility[:, None] * (2 - matched[..., 0])
        return excess

    def actuator_axes(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Compute the controller and what a small change of each drive does to it.

        ``E(u + du) = E(u) exp([sum_k axis_k dx_k]x)`` with ``dx_k`` in nominal radians.

        Returns:
            The controller's rotation, shape ``(B, M, 3, 3)``, and the axes in the frame in front of
            the controller, shape ``(B, M, K, 3)``.
        """
        controller, *elements = self._elements(parameters, drives)
        return controller, self.drive_axes(parameters, *elements)

    def linearise(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Predict the error probabilities and their derivatives.

        Args:
            parameters: A batch of B.
            drives: Settings, shape ``(M, K)``.

        Returns:
            Probabilities ``p_ab``, shape ``(B, M, 4)`` with ``ab`` flattened, and derivatives along
            the tangent vectors of :meth:`step`, shape ``(B, M, P, 4)``.
        """
        controller, axes = self.tangent_axes(parameters, drives)
        behind = parameters.receiver[:, None] @ controller
        block, torque = rotated_elements(behind, parameters.fibre[:, None])
        visibility = parameters.visibility[:, None, None]
        torque *= -0.5 * visibility[..., None]
        slope = np.empty((*block.shape[:2], self.size, 4))
        np.matmul(axes, np.swapaxes(torque, -1, -2), out=slope[..., :-1, :])
        slope[..., -1, :] = parameters.floor[:, None, None] * block
        return 0.5 * (1 - visibility * block), slope

    def tangent_axes(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """See what every parameter but the floor does, as a rotation in front of the controller.

        Returns:
            The controller's rotation, shape ``(B, M, 3, 3)``, and for each tangent direction of
            :meth:`step` the rotation vector per unit, shape ``(B, M, P - 1, 3)``.
        """
        controller, *elements = self._elements(parameters, drives)
        axes = np.empty((*controller.shape[:2], self.size - 1, 3))
        axes[..., 0:3, :] = np.eye(3)
        axes[..., 3:6, :] = controller
        first = 6
        for group in self.error_axes(drives, *elements):
            axes[..., first : first + group.shape[-2], :] = group
            first += group.shape[-2]
        return controller, axes

    def _draw_around(self, prior: TangentPrior, rng: np.random.Generator, count: int) -> Parameters:
        """Draw from a belief about everything; what is not known at all may be anything."""
        covariance = np.linalg.inv(prior.precision + FLAT_PRECISION * np.eye(self.size))
        root = np.linalg.cholesky(covariance)
        tangent = rng.normal(size=(count, self.size)) @ root.T
        drawn = self.step(prior.reference[np.zeros(count, dtype=np.intp)], tangent)
        if prior.knows_fibre:
            return drawn
        return replace(drawn, fibre=rotation.random(rng, count))

    def _log_tangent_prior(
        self, prior: TangentPrior, parameters: Parameters
    ) -> tuple[Array, Array, Array]:
        away = self.away(parameters, prior.reference)
        slope = np.broadcast_to(np.eye(self.size), (len(away), self.size, self.size)).copy()
        slope[:, :3, :3] = rotation.log_slope(away[:, :3])
        slope[:, 3:6, 3:6] = np.swapaxes(rotation.log_slope(away[:, 3:6]), -1, -2)
        pull = -away @ prior.precision
        gradient = (pull[:, None] @ slope)[:, 0]
        precision = np.swapaxes(slope, -1, -2) @ prior.precision @ slope
        precision += FLAT_PRECISION * np.eye(self.size)
        return 0.5 * np.sum(pull * away, axis=-1), gradient, precision

    def _hardware(self) -> dict[str, Any]:
        names = [each.name for each in fields(self) if each.name != "prior"]
        return {"kind": self.kind, **{name: getattr(self, name).tolist() for name in names}}

    def _angles(self, parameters: Parameters, drives: Array) -> tuple[Array, Array]:
        """Give azimuths and retardances with all three axes, ``(B, M, N)``."""
        azimuth, retardance = self.azimuth_and_retardance(parameters, drives)
        return np.array(azimuth, ndmin=3), np.array(retardance, ndmin=3)

    def _elements(self, parameters: Parameters, drives: Array) -> tuple[Array, Array, Array]:
        """Compute the controller's rotation and what each retardance and azimuth does to it."""
        azimuth, retardance = self._angles(parameters, drives)
        a, b = rotation.jones_of_retarders(azimuth, retardance)
        return rotation.of_jones(a[-1], b[-1]), *_element_axes(azimuth, a, b)


def _shown_elements(parameters: Parameters) -> Array:
    """Tell how the elements ``R_ab`` follow from those of the controller, shape ``(B, 9, 4)``."""
    receiver, fibre = parameters.receiver[:, :2], parameters.fibre[:, :, :2]
    shown = np.swapaxes(receiver, 1, 2)[:, :, None, :, None] * fibre[:, None, :, None, :]
    return shown.reshape(-1, 9, 4)


def _element_axes(azimuth: Array, a: Complex, b: Complex) -> tuple[Array, Array]:
    """See changes of each retardance and each azimuth from in front of the controller.

    Args:
        azimuth: Of the axes, rad, broadcastable to ``(B, M, N)``.
        a: Of the Jones matrices up to each retarder, shape ``(N, B, M)``.
        b: The same.

    Returns:
        Rotation vectors per radian, both of shape ``(B, M, N, 3)``.
    """
    turn = np.exp(1j * azimuth.transpose(2, 0, 1))
    across = np.conj(turn * a * a) - turn * b * b  # S1 - i S2; a retarder leaves its axis alone
    along = -2 * (turn * a * b).real
    pole_across, pole_along = 2 * a.conj() * b, np.square(np.abs(a)) - np.square(np.abs(b))
    pole_across[1:] -= pole_across[:-1].copy()
    pole_along[1:] -= pole_along[:-1].copy()
    pole_along[0] -= 1
    return _vectors(across, along), _vectors(pole_across, pole_along)


def _vectors(across: Complex, along: Array) -> Array:
    """Assemble Stokes vectors from ``S1 - i S2`` and ``S3``: ``(N, B, M)`` to ``(B, M, N, 3)``."""
    vectors = np.empty((*along.shape[1:], len(along), 3))
    components = vectors.transpose(3, 2, 0, 1)
    components[0], components[1], components[2] = across.real, -across.imag, along
    return vectors
