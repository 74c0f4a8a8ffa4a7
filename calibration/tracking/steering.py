"""Where the drives go: they undo a fibre that turns slowly, and keep away from their limits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from calibration import kinematics
from calibration.chain import Chain
from calibration.parameters import Parameters
from calibration.tracking.local_controller import LocalController
from calibration.tracking.turns import turn_vector

Array = NDArray[np.float64]

DITHER_DAMPING = 0.03
"""A dither moves no drive by more than three times its angle: where a controller can hardly turn
about some axis (wave plates in gimbal lock), it does without."""

CENTRED_SHARE = 0.7
"""Share of a channel's range in which it may move freely. Beyond, it is pulled back."""

FASTEST_CENTRING_RAD = 0.02
"""Centring of a channel in a window, at most, nominal rad."""

LEAST_DAMPING = 1e-9

LARGEST_STEP_RAD = 0.3
"""Step, nominal rad, up to which one Newton step is exact enough."""

IK_STEPS = 6

EDGE_SHARE = 0.03
"""Share of a channel's range at either end in which a reset is planned."""

CLEAR_SHARE = 0.08
"""Distance from both limits, as a share of the range, that a reset has to lead to."""

STARTS = 24
"""Settings from which other ways to undo the fibre are looked for."""

CALLS_BETWEEN_RESETS = 200
"""At least, so that a search without success is not repeated in every window."""

ALIGNED_RAD = 1e-3


class Steering:
    """The setting held, and how to leave it.

    Args:
        chain: The model of the controller.
        mode: What is known of the link, a batch of one.
        span: Lowest and highest drives, shape ``(2, K)``; never left.
        held: Setting in force, shape ``(K,)``.
        centre: Setting that the model of the controller was expanded about; by default that held.
    """

    def __init__(
        self,
        chain: Chain,
        mode: Parameters,
        span: Array,
        held: Array,
        centre: Array | None = None,
    ) -> None:
        self._chain, self._mode, self._span = chain, mode, span
        self._rad_per_drive = np.pi / chain.half_turn
        self._middle, self._half = span.mean(axis=0), 0.5 * (span[1] - span[0])
        self.held = np.array(held, dtype=float)
        self.local = LocalController(chain, mode, self.held if centre is None else centre)
        self.behind = self.local.behind(self.held)
        self.calls_to_reset = 0

    def follow(self, fibre: Array, centring_rad: float) -> None:
        """Hold the setting that undoes a fibre, close to the one held so far.

        Args:
            fibre: Rotation in front of the controller, shape ``(3, 3)``.
            centring_rad: Change, nominal rad, by which a channel at its limit is pulled towards the
                middle of its range while the others make up for it.
        """
        wanted = -np.array(turn_vector(fibre @ self.behind))
        axes = self.local.axes(self.held)
        pull = min(centring_rad, FASTEST_CENTRING_RAD) * self._inward()
        damping = kinematics.DAMPING_PER_RAD * math.sqrt(wanted @ wanted)
        step = pull + _shortest(axes, wanted - pull @ axes, damping)
        held = self.held + step / self._rad_per_drive
        is_short = float(step @ step) < LARGEST_STEP_RAD**2
        if not is_short or (np.abs(held - self._middle) > self._half).any():
            held = self._aligned(fibre, self.held + pull / self._rad_per_drive)
        self.held = held
        if self.calls_to_reset > 0:
            self.calls_to_reset -= 1
        elif self._clearance(self.held) < EDGE_SHARE:
            self._reset(fibre)
        self.local.centre_on(self.held)
        self.behind = self.local.behind(self.held)

    def turned(self, turn_rad: tuple[float, float, float]) -> Array:
        """Tell by how much to change the drives for a turn in front of the receiver.

        Returns:
            Shape ``(K,)``; within the limits when added to the setting held.
        """
        turn = turn_rad @ self.behind
        damping = DITHER_DAMPING + kinematics.DAMPING_PER_RAD * math.hypot(*turn_rad)
        step = _shortest(self.local.axes(self.held), turn, damping) / self._rad_per_drive
        low, high = self._span
        return np.asarray(np.minimum(np.maximum(self.held + step, low), high) - self.held)

    def _inward(self) -> Array:
        """Tell how much each channel should be pulled, -1 to 1: at its limit by 1."""
        off_centre = (self.held - self._middle) / self._half
        beyond = np.abs(off_centre) - CENTRED_SHARE
        pull = np.minimum(np.maximum(beyond, 0.0) / (1 - CENTRED_SHARE), 1.0)
        return np.asarray(np.copysign(pull, -off_centre))

    def _aligned(self, fibre: Array, start: Array) -> Array:
        """Undo a fibre by the full model, at most near a limit."""
        members = self._members(fibre, 1)
        aligned, _ = kinematics.align(
            self._chain, members, start[None], self._span, steps=IK_STEPS, is_local=True
        )
        return np.asarray(aligned[0])

    def _clearance(self, drives: Array) -> float:
        """Distance of the channel closest to a limit, as a share of its range."""
        return 0.5 - 0.5 * float((np.abs(drives - self._middle) / self._half).max())

    def _reset(self, fibre: Array) -> None:
        """Go over to a setting that does the same, far from all limits, if there is one."""
        self.calls_to_reset = CALLS_BETWEEN_RESETS
        period = self._chain.period(self._mode)[0]
        inward = np.where(self.held > self._middle, -period, period)
        at_edge = 0.5 - 0.5 * np.abs(self.held - self._middle) / self._half < EDGE_SHARE
        shifted = np.where(at_edge, self.held + inward, self.held)
        if self._clearance(shifted) > CLEAR_SHARE:
            self.held = shifted
            return
        others = self._other_solutions(fibre)
        if len(others):
            distance = np.linalg.norm((others - self.held) * self._rad_per_drive, axis=-1)
            self.held = others[np.argmin(distance)]

    def _other_solutions(self, fibre: Array) -> Array:
        """Find settings, clear of all limits, that undo a fibre, shape ``(n, K)``."""
        inset = self._middle + (1 - 2 * CLEAR_SHARE) * (self._span - self._middle)
        starts = np.random.default_rng(0).uniform(inset[0], inset[1], size=(STARTS, len(self.held)))
        found, left = kinematics.align(
            self._chain, self._members(fibre, STARTS), starts, inset, is_local=True
        )
        return np.asarray(found[left < ALIGNED_RAD])

    def _members(self, fibre: Array, count: int) -> Parameters:
        mode = self._mode[np.zeros(count, dtype=np.intp)]
        return Parameters(
            fibre=np.broadcast_to(fibre, (count, 3, 3)),
            receiver=mode.receiver,
            errors=mode.errors,
            log_floor=mode.log_floor,
        )


def _shortest(axes: Array, turn: Array, damping: float) -> Array:
    """Find the smallest change of the drives, nominal rad, that makes a turn."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = (axes.T @ axes).tolist()
    xx, yy, zz = (
        xx + damping + LEAST_DAMPING,
        yy + damping + LEAST_DAMPING,
        zz + damping + LEAST_DAMPING,
    )
    x, y, z = turn.tolist()
    # Cofactors of the symmetric metric.
    cxx, cyy, czz = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    cxy, cxz, cyz = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - yz * xx
    determinant = xx * cxx + xy * cxy + xz * cxz
    solved = [
        (cxx * x + cxy * y + cxz * z) / determinant,
        (cxy * x + cyy * y + cyz * z) / determinant,
        (cxz * x + cyz * y + czz * z) / determinant,
    ]
    step: Array = axes @ solved
    return step
