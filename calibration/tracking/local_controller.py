"""The controller close to a setting: a second-order model, cheap enough for every window."""

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain
from calibration.parameters import Parameters
from calibration.tracking.turns import turn_matrix

Array = NDArray[np.float64]

REACH_RAD = 0.1
"""Distance of the held setting, nominal rad, beyond which the model is made anew. What is left out
is of the third order, less than 0.001 rad."""

FARTHEST_RAD = 0.4
"""Distance beyond which the full model is asked instead."""

DIFFERENCE_RAD = 1e-3
"""Step of the difference quotients."""


class LocalController:
    """Rotations near a centre: ``E(centre + d) = E(centre) exp([axes d + d' bend d / 2]x)``.

    Args:
        chain: The model of the controller.
        mode: What is known of the link, a batch of one.
        centre: Setting to expand about, shape ``(K,)``.
    """

    def __init__(self, chain: Chain, mode: Parameters, centre: Array) -> None:
        self._chain, self._mode = chain, mode
        self._rad_per_drive = np.pi / chain.half_turn
        self.expand(centre)

    def expand(self, centre: Array) -> None:
        """Make the model anew about a setting, shape ``(K,)``."""
        channels = len(centre)
        steps = DIFFERENCE_RAD * np.vstack(
            [np.zeros(channels), np.eye(channels), -np.eye(channels)]
        )
        drives = centre + steps / self._rad_per_drive
        controller, axes = self._chain.actuator_axes(self._mode, drives)
        change = (axes[0, 1 : channels + 1] - axes[0, channels + 1 :]) / (2 * DIFFERENCE_RAD)
        self.centre = centre.copy()
        self._behind = self._mode.receiver[0] @ controller[0, 0]
        self._axes = axes[0, 0]
        # Of drive, changed drive and component: rows of axes by the drive that is changed.
        self._slope = np.moveaxis(change, 0, -1).reshape(-1, channels)

    def centre_on(self, drives: Array) -> None:
        """Expand about another setting if that is far from the present centre."""
        away = (drives - self.centre) * self._rad_per_drive
        if float(away @ away) > REACH_RAD**2:
            self.expand(drives)

    def behind(self, drives: Array) -> Array:
        """Compute the rotation of controller and receiver, shape ``(3, 3)``."""
        away = (drives - self.centre) * self._rad_per_drive
        if float(away @ away) > FARTHEST_RAD**2:
            controller = self._chain.controller(self._mode, drives[None])[0, 0]
            exact: Array = self._mode.receiver[0] @ controller
            return exact
        turn = away @ (self._axes + 0.5 * (self._slope @ away).reshape(-1, 3))
        near: Array = self._behind @ turn_matrix(*turn.tolist())
        return near

    def axes(self, drives: Array) -> Array:
        """Tell what each drive does there, as a rotation in front of the controller.

        Returns:
            Rotation vectors per nominal radian, shape ``(K, 3)``.
        """
        away = (drives - self.centre) * self._rad_per_drive
        axes: Array = self._axes + (self._slope @ away).reshape(-1, 3)
        return axes
